"""The sandbox as an ASGI app and as a server on a socket. Refuses to listen on anything but loopback."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from whop_middleware.errors import ConfigError

from .faults import ConnectionCut

_STARTS_WITHIN = 10.0  # seconds; a bound socket needs milliseconds


_log = logging.getLogger("whop_middleware.sandbox")


def _is_an_accident(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], ConnectionCut))


_log.addFilter(_is_an_accident)


class _Protocol(H11Protocol):
    """HTTP/1.1 with a log of its own: uvicorn's is shared with whatever server runs the app in this process."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _log
        self.access_log = False


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to a loopback address. Raises `ConfigError` for any other."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        ip = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        ip = None
    if ip is None or not ip.is_loopback:
        raise ConfigError(
            f"the sandbox lets anyone be anyone, so it listens on loopback only; host {host!r} is not: use 127.0.0.1"
        )
    listener = socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(ip), port))
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def running(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    """Serve an ASGI app on a bound socket, in a thread of its own, until the block ends."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="whop-sandbox", daemon=True)
    try:
        thread.start()
        _wait_for(server, thread)
        yield
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _wait_for(server: uvicorn.Server, thread: threading.Thread) -> None:
    until = time.monotonic() + _STARTS_WITHIN
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until:
            raise RuntimeError("the sandbox's server did not start")
        time.sleep(0.005)

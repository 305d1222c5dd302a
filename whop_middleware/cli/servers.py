"""Servers for the demo: uvicorn for an ASGI app, waitress for a WSGI app, until a signal. Binds to loopback only."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from whop_middleware.apps import speaks
from whop_middleware.errors import ConfigError

if TYPE_CHECKING:
    import uvicorn

GRACEFUL_SHUTDOWN = 2
"""Seconds that open connections get at the end."""
_LOOK_EVERY = 0.2
"""Seconds between two looks at whether a signal came."""
STOPPING = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal has asked for the end. The second one insists: it raises `KeyboardInterrupt`.

    The first raises nothing: where an exception comes out of nowhere, such as in an import, some code swallows it.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self.server: uvicorn.Server | None = None

    def __call__(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Take a signal."""
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True
        if self.server is not None:
            self.server.should_exit = True


@contextmanager
def stopping_on_signals() -> Iterator[Stop]:
    """Handle SIGINT and SIGTERM by a `Stop`; also SIGINT, which shells make background jobs ignore."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """Take the app's port first: its number is part of the Callback URL, and early visitors wait in the queue."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # On POSIX, a port just left can be had again; elsewhere the option would let two servers share one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(os.name == "posix"))
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(f"port {port} cannot be had ({error.strerror}): name another with --port") from error
        listener.listen(128)
        yield listener


def serve(app: Any, listener: socket.socket, stop: Stop) -> int:
    """Serve an app until `stop`; return the exit status."""
    return _serve_asgi(app, listener, stop) if speaks(app, "asgi") else _serve_wsgi(app, listener, stop)


def _serve_asgi(app: Any, listener: socket.socket, stop: Stop) -> int:
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, proxy_headers=False, timeout_graceful_shutdown=GRACEFUL_SHUTDOWN
    )
    # uvicorn takes the signals over while it runs; one that comes before that finds the server here.
    stop.server = server = uvicorn.Server(config)
    if stop.is_requested:
        server.should_exit = True
    # When an app does not start, some versions exit and others return; uvicorn has logged why.
    with suppress(SystemExit):
        server.run(sockets=[listener])
    return 0 if server.started or stop.is_requested else 1


def _serve_wsgi(app: Any, listener: socket.socket, stop: Stop) -> int:
    from waitress import wasyncore  # type: ignore[import-untyped]
    from waitress.server import create_server  # type: ignore[import-untyped]

    channels: dict[int, Any] = {}
    server = create_server(app, map=channels, sockets=[listener], threads=8)
    # `server.run()` ends by an exception only: see `Stop`.
    while not stop.is_requested:
        wasyncore.loop(timeout=_LOOK_EVERY, map=channels, count=1)
    server.task_dispatcher.shutdown(timeout=GRACEFUL_SHUTDOWN)
    for channel in list(channels.values()):
        channel.close()
    return 0

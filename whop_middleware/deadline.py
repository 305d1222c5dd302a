"""An `httpx.Client` whose every call ends at a fixed moment, however slowly bytes arrive. Starts no thread.

httpx's own timeouts bound each read, not the call: a server that sends one byte a second would hold a worker for hours.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl


class DeadlineClient(httpx.Client):
    """A client with `ends` (monotonic seconds): no wait for the network goes past it."""

    ends: float = 0.0


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, backend: _Backend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._backend.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._backend.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._backend.left(httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    def __init__(self) -> None:
        self.client: DeadlineClient | None = None

    def left(self, expired: type[Exception]) -> float:
        seconds = (self.client.ends if self.client is not None else 0) - time.monotonic()
        if seconds <= 0:
            raise expired("the call took too long")
        return seconds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = self.left(httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, left, local_address, socket_options), self)


class _Transport(httpx.HTTPTransport):
    def __init__(self, context: ssl.SSLContext, backend: _Backend, proxy: str | None = None) -> None:
        super().__init__(verify=context, proxy=proxy)
        # The one place where httpx offers no setting: the pool's network backend.
        self._pool._network_backend = backend


class _ByEnvironment(httpx.BaseTransport):
    """Chooses the direct way or the proxy as the usual variables say (`HTTPS_PROXY`, `NO_PROXY`, …)."""

    def __init__(self, context: ssl.SSLContext, backend: _Backend) -> None:
        self._context = context
        self._backend = backend
        self._proxies = getproxies()
        self._opened: dict[str | None, _Transport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        proxy = self._proxies.get(request.url.scheme) or self._proxies.get("all")
        if proxy is not None and proxy_bypass(request.url.host):
            proxy = None
        if proxy not in self._opened:
            self._opened[proxy] = _Transport(self._context, self._backend, proxy)
        return self._opened[proxy].handle_request(request)

    def close(self) -> None:
        for transport in self._opened.values():
            transport.close()


def client(context: ssl.SSLContext) -> DeadlineClient:
    """Return a client for one sign-in."""
    backend = _Backend()
    backend.client = DeadlineClient(transport=_ByEnvironment(context, backend))
    return backend.client

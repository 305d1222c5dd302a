"""HTTP clients whose calls end at a fixed moment, however slowly bytes arrive. Starts no thread, leaves nothing open.

httpx's own timeouts bound each read, not the call: a server that sends one byte a second would hold a worker for hours.
"""

from __future__ import annotations

import socket
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
        """Try each address of a host in turn; one that is silent must leave time for the next."""
        addresses = self._addresses(host, port)
        for tried, address in enumerate(addresses, 1):
            left = self.left(httpcore.ConnectTimeout) / (len(addresses) - tried + 1)
            try:
                return _Stream(super().connect_tcp(address, port, left, local_address, socket_options), self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if tried == len(addresses):
                    raise
        raise httpcore.ConnectError("the host has no address")

    @staticmethod
    def _addresses(host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _AsyncStream(httpcore.AsyncNetworkStream):
    """Breaks off an over-long answer from below: who leaves httpx's generators half-way, trio warns of each."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._read = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        self._read += len(data)
        if self._read > self._limit:
            raise httpcore.RemoteProtocolError("the answer is too long")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._read = 0
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _AsyncStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._limit)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _AsyncBackend(httpcore.AnyIOBackend):
    """Remembers its connections: httpcore loses one whose TLS handshake is cancelled, and the loop keeps it open."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._opened: list[httpcore.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        self._opened.append(stream)
        return _AsyncStream(stream, self._limit)

    async def aclose(self) -> None:
        for stream in self._opened:
            await stream.aclose()


class _Transport(httpx.HTTPTransport):
    def __init__(self, context: ssl.SSLContext, backend: _Backend, proxy: str | None) -> None:
        super().__init__(verify=context, proxy=proxy)
        # The one thing for which httpx offers no setting: the pool's network backend.
        self._pool._network_backend = backend


class _AsyncTransport(httpx.AsyncHTTPTransport):
    def __init__(self, context: ssl.SSLContext, backend: _AsyncBackend, proxy: str | None) -> None:
        super().__init__(verify=context, proxy=proxy)
        self._pool._network_backend = backend


class _ByEnvironment(httpx.BaseTransport):
    """Chooses the direct way or the proxy as the usual variables say (`HTTPS_PROXY`, `NO_PROXY`, …)."""

    def __init__(self, context: ssl.SSLContext, backend: _Backend) -> None:
        self._context = context
        self._backend = backend
        self._opened: dict[str | None, _Transport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        proxy = _proxy_for(request.url)
        if proxy not in self._opened:
            self._opened[proxy] = _Transport(self._context, self._backend, proxy)
        return self._opened[proxy].handle_request(request)

    def close(self) -> None:
        for transport in self._opened.values():
            transport.close()


class _AsyncByEnvironment(httpx.AsyncBaseTransport):
    def __init__(self, context: ssl.SSLContext, limit: int) -> None:
        self._context = context
        self._backend = _AsyncBackend(limit)
        self._opened: dict[str | None, _AsyncTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        proxy = _proxy_for(request.url)
        if proxy not in self._opened:
            self._opened[proxy] = _AsyncTransport(self._context, self._backend, proxy)
        return await self._opened[proxy].handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._opened.values():
            await transport.aclose()
        await self._backend.aclose()


def _proxy_for(url: httpx.URL) -> str | None:
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy is None or proxy_bypass(url.host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def client(context: ssl.SSLContext) -> DeadlineClient:
    """Return a client for one sign-in."""
    backend = _Backend()
    backend.client = DeadlineClient(transport=_ByEnvironment(context, backend))
    return backend.client


def async_client(context: ssl.SSLContext, limit: int) -> httpx.AsyncClient:
    """Return a client for one sign-in in an event loop, where cancelling a call ends it at its moment.

    An answer of more than `limit` bytes, head and all, is broken off.
    """
    return httpx.AsyncClient(transport=_AsyncByEnvironment(context, limit))

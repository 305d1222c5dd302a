"""The ASGI adapter: turns a scope into the core's words and its decision into messages. Decides nothing itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from .apps import refuse_other
from .config import WhopConfig
from .drive import Driver
from .gate import Gate
from .identity import forwarded_headers
from .messages import Reply, Request
from .responses import preflight_headers, private_headers
from .user import KEY

if TYPE_CHECKING:
    from asgiref.typing import ASGI3Application

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = "Callable[[Scope, Receive, Send], Awaitable[None]] | ASGI3Application"
"""An ASGI 3 app, typed as Starlette's or as asgiref's."""

_STARTS = {"http.response.start", "websocket.http.response.start", "websocket.accept"}
_CLOSE_CODES = {403: 4403}
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}


class WhopMiddleware:
    """Put sign-in with Whop in front of an ASGI app: `app = WhopMiddleware(app)`.

    `options` are `WhopConfig` fields and win over `config`; without a `config` the `WHOP_*` variables fill the rest.
    Sets `scope["whop_user"]` to a `WhopUser` or `None`. Raises `ConfigError` when a setting is missing or wrong.
    """

    # Starlette's typed `add_middleware` wants `app` positional-only, other frameworks pass it by name.
    @overload
    def __init__(self, app: App, /, config: WhopConfig | None = None, **options: Any) -> None: ...
    @overload
    def __init__(self, *, app: App, config: WhopConfig | None = None, **options: Any) -> None: ...
    def __init__(  # type: ignore[misc]  # an option named "app" cannot come both ways
        self, app: App, config: WhopConfig | None = None, **options: Any
    ) -> None:
        self.app: Any = app
        refuse_other(app, "asgi", "WhopWSGIMiddleware")
        self.config = WhopConfig.build(config, options)
        self._gate = Gate(self.config)
        self._at_once = self._gate.at_once
        self._driver = Driver(self.config.timeout)
        self._identity = self.config.identity_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or forward one connection (ASGI 3)."""
        decision = None
        if scope["type"] == "http":
            path, prefix, cookie = scope["path"], scope.get("root_path", ""), b""
            for name, value in scope["headers"]:
                if name == b"cookie":
                    cookie = cookie + b"; " + value if cookie else value
            if prefix or not path:
                path = route_path(path, prefix)
            decision = self._at_once(scope["method"], path, prefix, scope.get("scheme", "http"), cookie)
        elif scope["type"] != "websocket":
            if "path" in scope:
                raise RuntimeError(f"whop_middleware lets nobody through the unknown ASGI scope type {scope['type']!r}")
            await self.app(scope, receive, send)
            return
        if decision is not None:
            user = decision.user
            if user is not None:
                send = _private(send, decision.public, ())
        else:
            request = read_request(scope)
            answer = await self._driver.arun(self._gate.handle(request), self._gate.budget(request))
            if isinstance(answer, Reply):
                await send_reply(answer, scope, receive, send)
                return
            user = answer.user
            if answer.preflight:
                scope, send = {**scope, "extensions": {}}, _without_body(send)
            elif user is not None or answer.set_cookies:
                send = _private(send, answer.public, answer.set_cookies)
        inner = {**scope, KEY: user}
        if self._identity:
            inner["headers"] = forwarded_headers(scope["headers"], user)
        await self.app(inner, receive, send)


def route_path(path: str, prefix: str) -> str:
    """Return the path below the prefix, as Starlette's `get_route_path` does; an empty one is `/`."""
    if prefix and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
        path = path[len(prefix) :]
    return path or "/"


def read_request(scope: Scope) -> Request:
    """Return an ASGI scope in the core's words."""
    websocket = scope["type"] == "websocket"
    headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
    server = scope.get("server")
    if server and not any(name == "host" for name, _ in headers):
        headers = (*headers, ("host", f"{server[0]}:{server[1]}" if server[1] else str(server[0])))
    prefix = scope.get("root_path", "")
    scheme: str = scope.get("scheme", "http")
    return Request(
        method="GET" if websocket else scope["method"],
        path=route_path(scope["path"], prefix),
        headers=headers,
        prefix=prefix,
        query=scope.get("query_string", b"").decode("latin-1"),
        scheme=_HTTP_SCHEMES.get(scheme, scheme),
        websocket=websocket,
    )


def _private(send: Send, public: bool, cookies: tuple[str, ...]) -> Send:
    """Wrap `send` so that no cache keeps a signed-in person's page for the next one."""
    is_shared = public and not cookies

    def private_send(message: Message) -> Awaitable[None]:
        if message["type"] in _STARTS:
            headers = private_headers(message.get("headers", ()), public=is_shared)
            if cookies:
                headers += [(b"set-cookie", value.encode("latin-1")) for value in cookies]
            message = {**message, "headers": headers}
        return send(message)

    return private_send


def _without_body(send: Send) -> Send:
    """Wrap `send` for a preflight: an app that does not look at the method would show a stranger the whole page."""

    def bodiless_send(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": preflight_headers(message.get("headers", ()))}
        elif message["type"] == "http.response.body":
            message = {**message, "body": b""}
        return send(message)

    return bodiless_send


async def send_reply(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a reply to a request, or refuse a WebSocket before the handshake with it.

    The refusal goes by the denial response extension where the server has it, else by a close code.
    """
    if scope["type"] == "http":
        await _send_response("http.response", reply, b"" if scope["method"] == "HEAD" else reply.body, send)
    elif "websocket.http.response" in (scope.get("extensions") or {}):
        await _send_response("websocket.http.response", reply, reply.body, send)
    else:
        await receive()
        await send({"type": "websocket.close", "code": _CLOSE_CODES.get(reply.status, 4401), "reason": ""})


async def _send_response(kind: str, reply: Reply, body: bytes, send: Send) -> None:
    await send({"type": f"{kind}.start", "status": reply.status, "headers": _raw_headers(reply)})
    await send({"type": f"{kind}.body", "body": body})


def _raw_headers(reply: Reply) -> list[tuple[bytes, bytes]]:
    headers: Iterable[tuple[str, str]] = reply.headers
    if reply.status != 204:
        headers = (*headers, ("Content-Length", str(len(reply.body))))
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]

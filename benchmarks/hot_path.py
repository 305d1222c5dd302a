"""What a request costs: ns added over the bare app, beside Starlette's and Flask's own sessions in the same run.

Prints medians over interleaved rounds, so that a busy machine slows all alike; asserts nothing, fails no build.
"""

from __future__ import annotations

import base64
import io
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flask
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import TimestampSigner
from starlette.middleware.sessions import SessionMiddleware

from whop_middleware import WhopConfig, WhopMiddleware, WhopUser, WhopWSGIMiddleware
from whop_middleware.sessions import Session, Sessions

ROUNDS, CALLS = 31, 1000
CONFIG = WhopConfig(
    client_id="client_1",
    client_secret="client-secret-0123456789",
    redirect_uri="https://app.example/callback/whop",
    public=("/static/*",),
)
PERSON: dict[str, Any] = {"username": "alice", "name": "Alice Liddell", "email": "alice@example.com"}


async def bare(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def loads_session(scope: Any, receive: Any, send: Any) -> None:
    scope["session"].get("user")
    await bare(scope, receive, send)


async def receive() -> Any:
    return {"type": "http.request"}


async def send(message: Any) -> None:
    return None


def drive(app: Any, scope: dict[str, Any]) -> None:
    """Step a coroutine that never waits, without an event loop."""
    try:
        app(scope, receive, send).send(None)
    except StopIteration:
        return
    raise RuntimeError("the app waited for something")


def scope_of(path: str, cookie: bytes | None) -> dict[str, Any]:
    headers = [(b"host", b"app.example"), (b"accept", b"*/*"), (b"user-agent", b"benchmark")]
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": headers if cookie is None else [*headers, (b"cookie", cookie)],
        "server": ("app.example", 443), "client": ("127.0.0.1", 1),
    }  # fmt: skip


def environ_of(path: str, cookie: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "app.example",
        "SERVER_PORT": "443", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "app.example", "HTTP_COOKIE": cookie,
        "wsgi.url_scheme": "https", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(), "wsgi.version": (1, 0),
        "wsgi.multithread": False, "wsgi.multiprocess": False, "wsgi.run_once": False,
    }  # fmt: skip


def measure(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return, for each call, the median over interleaved rounds of its mean time in nanoseconds."""
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.perf_counter_ns()
            for _ in range(CALLS):
                call()
            rounds[name].append((time.perf_counter_ns() - began) / CALLS)
    return {name: statistics.median(times) for name, times in rounds.items()}


def whop_cookies(people: int) -> Iterator[bytes]:
    """Yield the session cookies of so many people."""
    sessions, at = Sessions(CONFIG), int(time.time())
    for number in range(people):
        user = WhopUser(id=f"user_{number}", signed_in_at=at, **PERSON)
        yield f"{sessions.name(True)}={sessions.seal_session(Session(user))}".encode()


def asgi() -> None:
    """Print the ASGI figures."""
    (cookie,) = whop_cookies(1)
    fresh = iter(list(whop_cookies(ROUNDS * CALLS)))
    payload = base64.b64encode(json.dumps({"user": {"id": "user_1", **PERSON}}).encode())
    loaded = b"session=" + TimestampSigner("x" * 32).sign(payload)
    starlette = SessionMiddleware(loads_session, secret_key="x" * 32)
    whop = WhopMiddleware(bare, config=CONFIG)
    drive(whop, scope_of("/login/whop", None))
    signed, theirs, static = scope_of("/", cookie), scope_of("/", loaded), scope_of("/static/a.css", None)
    times = measure(
        {
            "bare": lambda: drive(bare, {**signed}),
            "Starlette SessionMiddleware, loaded session": lambda: drive(starlette, {**theirs}),
            "Starlette SessionMiddleware, no cookie": lambda: drive(starlette, {**static}),
            "signed in": lambda: drive(whop, {**signed}),
            "signed in, cookie seen for the first time": lambda: drive(whop, scope_of("/", next(fresh))),
            "bare, new scope": lambda: drive(bare, scope_of("/", cookie)),
            "public path, no cookie": lambda: drive(whop, {**static}),
        }
    )
    base = times["bare"]
    loaded_added = times["Starlette SessionMiddleware, loaded session"] - base
    empty_added = times["Starlette SessionMiddleware, no cookie"] - base
    row("Starlette SessionMiddleware, loaded session", loaded_added)
    row("signed in", times["signed in"] - base, loaded_added, 0.16)
    first = times["signed in, cookie seen for the first time"] - times["bare, new scope"]
    row("signed in, cookie seen for the first time", first, loaded_added, 0.8)
    row("Starlette SessionMiddleware, no cookie", empty_added)
    row("public path, no cookie", times["public path, no cookie"] - base, empty_added, 0.4)


def wsgi() -> None:
    """Print the WSGI figures."""

    def bare_app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        return None

    site, plain = flask.Flask("site"), flask.Flask("plain")
    site.secret_key = "x" * 32
    site.add_url_rule("/", view_func=lambda: "ok" if flask.session.get("user") else "no", endpoint="home")
    plain.add_url_rule("/", view_func=lambda: "ok", endpoint="home")
    serializer = SecureCookieSessionInterface().get_signing_serializer(site)
    if serializer is None:
        raise RuntimeError("Flask signs no session")
    theirs = environ_of("/", f"session={serializer.dumps({'user': {'id': 'user_1', **PERSON}})}")
    (cookie,) = whop_cookies(1)
    ours = environ_of("/", cookie.decode())
    whop = WhopWSGIMiddleware(bare_app, config=CONFIG)
    whop(environ_of("/login/whop", ""), start_response)
    times = measure(
        {
            "bare": lambda: bare_app({**ours}, start_response),
            "signed in": lambda: whop({**ours}, start_response),
            "Flask": lambda: list(plain({**theirs}, start_response)),
            "Flask's session": lambda: list(site({**theirs}, start_response)),
        }
    )
    session_added = times["Flask's session"] - times["Flask"]
    row("Flask's session, over bare Flask", session_added)
    row("signed in (WSGI)", times["signed in"] - times["bare"], session_added, 0.03)


def row(what: str, added: float, reference: float | None = None, target: float | None = None) -> None:
    ratio = f"{added / reference:8.3f}x  (target: at most {target}x)" if reference is not None else ""
    print(f"{what:46}{added:10,.0f} ns{ratio}")


def main() -> None:
    """Print all figures."""
    asgi()
    wsgi()


if __name__ == "__main__":
    main()

"""What a request costs: nanoseconds added over the bare app, beside Starlette's and Flask's own sessions in the same run.

    python benchmarks/hot_path.py

Prints medians; asserts nothing, so that a busy machine fails no build.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import flask
from itsdangerous import TimestampSigner
from starlette.middleware.sessions import SessionMiddleware

from whop_middleware import WhopConfig, WhopMiddleware, WhopWSGIMiddleware
from whop_middleware.sessions import Session, Sessions
from whop_middleware.testing import session_cookie
from whop_middleware.user import WhopUser

ROUNDS, CALLS = 15, 4000
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


def scope(path: str, cookie: str | None) -> dict[str, Any]:
    headers = [(b"host", b"app.example"), (b"accept", b"*/*"), (b"user-agent", b"benchmark")]
    if cookie is not None:
        headers.append((b"cookie", cookie.encode()))
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": headers,
        "server": ("app.example", 443), "client": ("127.0.0.1", 1),
    }  # fmt: skip


def nanoseconds(call: Callable[[], object]) -> float:
    """Return the median over rounds of the mean time of one call."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        for _ in range(CALLS):
            call()
        rounds.append((time.perf_counter_ns() - began) / CALLS)
    return statistics.median(rounds)


def warmed(app: Any) -> Any:
    drive(app, scope("/login/whop", None))
    return app


def fresh_cookies() -> Callable[[], str]:
    """Return a maker of valid cookies that no process has seen."""
    sessions, numbers, at = Sessions(CONFIG), count(), int(time.time())
    total = (ROUNDS + 1) * CALLS
    name = sessions.name(True)
    cookies = iter(
        [
            f"{name}={sessions.seal_session(Session(WhopUser(id=f'user_{next(numbers)}', signed_in_at=at, **PERSON)))}"
            for _ in range(total)
        ]
    )
    return lambda: next(cookies)


def asgi() -> None:
    """Print the ASGI figures."""
    import base64
    import json

    name, value = next(iter(session_cookie(CONFIG, **PERSON).items()))
    cookie = f"{name}={value}"
    payload = base64.b64encode(json.dumps({"user": {"id": "user_1", **PERSON}}).encode())
    loaded = f"session={TimestampSigner('x' * 32).sign(payload).decode()}"
    starlette = SessionMiddleware(loads_session, secret_key="x" * 32)
    whop = warmed(WhopMiddleware(bare, config=CONFIG))
    base = nanoseconds(lambda: drive(bare, scope("/", cookie)))
    base_empty = nanoseconds(lambda: drive(bare, scope("/static/a.css", None)))
    next_cookie = fresh_cookies()
    scopes = nanoseconds(lambda: scope("/", "x"))
    reference = nanoseconds(lambda: drive(starlette, scope("/", loaded))) - base
    reference_empty = nanoseconds(lambda: drive(starlette, scope("/static/a.css", None))) - base_empty
    signed_in = nanoseconds(lambda: drive(whop, scope("/", cookie))) - base
    first_seen = nanoseconds(lambda: drive(whop, scope("/", next_cookie()))) - base
    public = nanoseconds(lambda: drive(whop, scope("/static/a.css", None))) - base_empty
    row("bare app (with building its scope)", base)
    row("  of which the scope", scopes)
    row("Starlette SessionMiddleware, loaded session", reference)
    row("signed in", signed_in, reference, 0.16)
    row("signed in, cookie seen for the first time", first_seen, reference, 0.8)
    row("Starlette SessionMiddleware, no cookie", reference_empty)
    row("public path, no cookie", public, reference_empty, 0.4)


def wsgi() -> None:
    """Print the WSGI figures."""
    name, value = next(iter(session_cookie(CONFIG, **PERSON).items()))

    def bare_app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    def environ(cookie: str) -> dict[str, Any]:
        return {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "", "SERVER_NAME": "app.example",
            "SERVER_PORT": "443", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "app.example", "HTTP_COOKIE": cookie,
            "wsgi.url_scheme": "https", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(), "wsgi.version": (1, 0),
            "wsgi.multithread": False, "wsgi.multiprocess": False, "wsgi.run_once": False,
        }  # fmt: skip

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        return None

    site, plain = flask.Flask("site"), flask.Flask("plain")
    site.secret_key = "x" * 32
    site.add_url_rule("/", view_func=lambda: flask.session.get("user", "") and "ok", endpoint="home")
    plain.add_url_rule("/", view_func=lambda: "ok", endpoint="home")
    with site.test_request_context():
        serializer = flask.sessions.SecureCookieSessionInterface().get_signing_serializer(site)
    assert serializer is not None
    session = f"session={serializer.dumps({'user': {'id': 'user_1', **PERSON}})}"
    whop = WhopWSGIMiddleware(bare_app, config=CONFIG)
    cookie = f"{name}={value}"
    whop(environ("") | {"PATH_INFO": "/login/whop"}, start_response)
    bare_flask = nanoseconds(lambda: list(plain(environ(session), start_response)))
    reference = nanoseconds(lambda: list(site(environ(session), start_response))) - bare_flask
    base = nanoseconds(lambda: bare_app(environ(cookie), start_response))
    signed_in = nanoseconds(lambda: whop(environ(cookie), start_response)) - base
    row("Flask's session over bare Flask", reference)
    row("signed in (WSGI)", signed_in, reference, 0.03)


def row(what: str, added: float, reference: float | None = None, target: float | None = None) -> None:
    ratio = f"{added / reference:8.3f}x  (target <= {target}x)" if reference is not None else ""
    print(f"{what:48}{added:10,.0f} ns{ratio}")


if __name__ == "__main__":
    asgi()
    wsgi()

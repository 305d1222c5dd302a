"""What the adapters add around real frameworks and servers: users in every kind of request, streams, uploads."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import httpx
import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from werkzeug.wrappers import Request as WerkzeugRequest

from whop_middleware import ConfigError, WhopConfig, WhopMiddleware, WhopUser, WhopWSGIMiddleware, current_user
from whop_middleware.testing import session_cookie

from .served import member, serve

CONFIG = WhopConfig(client_id="client_1", client_secret="client-secret-0123456789", public=("/open",))
ADA = session_cookie(CONFIG, id="user_ada", name="Ada")
UPLOAD = 50 * 1024 * 1024
"""Bytes."""


def fetch(app: Any, path: str, *, method: str = "GET", signed_in: bool = True, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        cookies = ADA if signed_in else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", cookies=cookies) as client:
            return await client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return asyncio.run(ask())


async def who(request: HTTPConnection) -> Response:
    user = current_user(request)
    return JSONResponse({"id": user.id if user else None})


# --- Starlette and FastAPI ---


def starlette_app(**options: Any) -> Starlette:
    app = Starlette(routes=[Route("/", who), Route("/open", who)])
    app.add_middleware(WhopMiddleware, **options)
    return app


@pytest.mark.parametrize(
    "app",
    [
        starlette_app(config=CONFIG),
        starlette_app(client_id="client_1", client_secret="client-secret-0123456789", public="/open"),
        Starlette(
            routes=[Route("/", who), Route("/open", who)], middleware=[Middleware(WhopMiddleware, config=CONFIG)]
        ),
    ],
    ids=["add_middleware", "options", "Middleware"],
)
def test_starlette_takes_the_middleware_in_each_of_its_ways(app: Starlette) -> None:
    assert fetch(app, "/").json() == {"id": "user_ada"}
    assert fetch(app, "/open", signed_in=False).json() == {"id": None}
    assert fetch(app, "/", signed_in=False).headers["location"] == "/login/whop?next=/"


def test_a_config_from_the_environment_fails_where_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WHOP_CLIENT_ID", "WHOP_APP_ID", "WHOP_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="WHOP_CLIENT_ID"):
        Starlette().add_middleware(WhopMiddleware, config=WhopConfig.from_env())


def test_a_refusal_carries_cors_headers_when_cors_is_added_last() -> None:
    app = starlette_app(config=CONFIG)
    app.add_middleware(CORSMiddleware, allow_origins=["https://front.example"], allow_credentials=True)
    answer = fetch(app, "/", signed_in=False, origin="https://front.example", accept="application/json")
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "https://front.example"


def test_a_mounted_part_is_closed_alone_and_its_redirects_carry_the_prefix() -> None:
    shop = WhopMiddleware(Starlette(routes=[Route("/", who), Route("/open", who)]), config=CONFIG)
    app = Starlette(routes=[Mount("/shop", shop), Route("/", who)])
    assert fetch(app, "/", signed_in=False).json() == {"id": None}
    assert fetch(app, "/shop/open", signed_in=False).json() == {"id": None}
    assert fetch(app, "/shop/", signed_in=False).headers["location"] == "/shop/login/whop?next=/"


def test_fastapi_finds_the_user_in_requests_and_websockets() -> None:
    app = FastAPI()
    app.add_middleware(WhopMiddleware, config=CONFIG)
    app.add_api_route("/", who)
    heard: list[WhopUser | None] = []

    @app.websocket("/talk")
    async def talk(websocket: WebSocket) -> None:
        heard.append(current_user(websocket))
        await websocket.close()

    assert fetch(app, "/").json() == {"id": "user_ada"}
    asyncio.run(_connect(app, "/talk"))
    assert [user.id for user in heard if user] == ["user_ada"]


async def _connect(app: Any, path: str) -> None:
    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        pass

    cookie = "; ".join(f"{name}={value}" for name, value in ADA.items())
    headers = [(b"host", b"testserver"), (b"cookie", cookie.encode())]
    await app(
        {"type": "websocket", "scheme": "ws", "path": path, "query_string": b"", "headers": headers}, receive, send
    )


# --- Flask ---


def flask_app() -> flask.Flask:
    app = flask.Flask(__name__)
    app.wsgi_app = WhopWSGIMiddleware(app.wsgi_app, config=CONFIG)  # type: ignore[method-assign]

    @app.get("/")
    def hello() -> dict[str, str | None]:
        user = current_user(flask.request)
        return {"id": user.id if user else None, "remote_user": flask.request.remote_user}

    app.add_url_rule("/open", view_func=hello)
    return app


def test_flask_finds_the_user_in_its_request_and_as_remote_user() -> None:
    client = flask_app().test_client()
    for name, value in ADA.items():
        client.set_cookie(name, value)
    assert client.get("/").get_json() == {"id": "user_ada", "remote_user": "user_ada"}


def test_flask_sees_no_user_on_a_public_path_whatever_a_client_or_layer_says() -> None:
    answer = flask_app().test_client().get("/open", environ_overrides={"REMOTE_USER": "admin", "whop_user": "admin"})
    assert answer.get_json() == {"id": None, "remote_user": None}


def test_flask_redirects_a_stranger() -> None:
    answer = flask_app().test_client().get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login/whop?next=/")


# --- current_user ---

USER = WhopUser(id="user_ada")
SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "query_string": b"",
    "headers": [],
    "whop_user": USER,
}
ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/",
    "SERVER_NAME": "testserver",
    "SERVER_PORT": "80",
    "wsgi.url_scheme": "http",
    "wsgi.input": io.BytesIO(),
    "whop_user": USER,
}


@pytest.mark.parametrize(
    "request_of_a_framework",
    [Request(SCOPE), HTTPConnection(SCOPE), WerkzeugRequest(ENVIRON), SCOPE, ENVIRON],
    ids=["starlette", "connection", "werkzeug", "scope", "environ"],
)
def test_current_user_knows_each_kind_of_request(request_of_a_framework: object) -> None:
    assert current_user(request_of_a_framework) is USER


def test_current_user_knows_djangos_requests_under_both_protocols() -> None:
    # Django brings no types.
    django: Any = {
        name: importlib.import_module(f"django.{name}") for name in ("conf", "core.handlers.asgi", "core.handlers.wsgi")
    }
    if not django["conf"].settings.configured:
        django["conf"].settings.configure()
    assert current_user(django["core.handlers.asgi"].ASGIRequest(SCOPE, io.BytesIO())) is USER
    assert current_user(django["core.handlers.wsgi"].WSGIRequest(ENVIRON)) is USER


def test_current_user_finds_nobody_elsewhere() -> None:
    forged = {"whop_user": "user_ada"}
    assert [current_user(x) for x in (None, {}, forged, object(), flask.request, "whop_user")] == [None] * 6


# --- Streams and uploads, in process ---


def test_asgi_passes_each_chunk_on_before_the_next_is_produced() -> None:
    produced: list[bytes] = []
    seen: list[tuple[bytes, int]] = []

    async def chunks() -> Any:
        for chunk in (b"one", b"two", b"three"):
            produced.append(chunk)
            yield chunk

    async def stream(request: Request) -> Response:
        return StreamingResponse(chunks())

    async def send(message: Any) -> None:
        if message.get("body"):
            seen.append((message["body"], len(produced)))

    async def receive() -> Any:
        await asyncio.sleep(60)

    app = WhopMiddleware(Starlette(routes=[Route("/", stream)]), config=CONFIG)
    cookie = "; ".join(f"{name}={value}" for name, value in ADA.items()).encode()
    asyncio.run(app({**SCOPE, "headers": [(b"cookie", cookie)]}, receive, send))
    assert seen == [(b"one", 1), (b"two", 2), (b"three", 3)]


def test_wsgi_hands_over_the_apps_own_iterable() -> None:
    produced: list[bytes] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        for chunk in (b"one", b"two"):
            produced.append(chunk)
            yield chunk

    cookie = "; ".join(f"{name}={value}" for name, value in ADA.items())
    environ = {**ENVIRON, "HTTP_COOKIE": cookie, "HTTP_HOST": "testserver"}
    answer = iter(WhopWSGIMiddleware(app, config=CONFIG)(environ, lambda *_: lambda _data: None))
    assert (next(answer), produced) == (b"one", [b"one"])
    assert (next(answer), produced) == (b"two", [b"one", b"two"])


# --- Streams and uploads, over sockets ---

ASGI_PROGRAM = """
import hashlib
import pathlib

import anyio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from whop_middleware import WhopMiddleware


async def chunks():
    yield b"one\\n"
    with anyio.fail_after(20):
        while not pathlib.Path("go-on").exists():
            await anyio.sleep(0.02)
    yield b"two\\n"


async def stream(request):
    return StreamingResponse(chunks())


async def upload(request):
    digest = hashlib.sha256()
    async for chunk in request.stream():
        digest.update(chunk)
    return PlainTextResponse(digest.hexdigest())


app = WhopMiddleware(Starlette(routes=[Route("/stream", stream), Route("/upload", upload, methods=["POST"])]))
"""

WSGI_PROGRAM = """
import hashlib
import pathlib
import time

from flask import Flask, Response, request

from whop_middleware import WhopWSGIMiddleware

app = Flask(__name__)


def chunks():
    yield b"one\\n"
    end = time.monotonic() + 20
    while not pathlib.Path("go-on").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    yield b"two\\n"


@app.get("/stream")
def stream():
    return Response(chunks())


@app.post("/upload")
def upload():
    digest = hashlib.sha256()
    while chunk := request.stream.read(65536):
        digest.update(chunk)
    return digest.hexdigest()


app.wsgi_app = WhopWSGIMiddleware(app.wsgi_app)
"""


@pytest.fixture(params=["uvicorn", "gunicorn"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[httpx.Client]:
    program = ASGI_PROGRAM if request.param == "uvicorn" else WSGI_PROGRAM
    (tmp_path / "streaming.py").write_text(program)
    with serve(request.param, "streaming:app", tmp_path) as client:
        yield client


def test_a_server_sends_a_chunk_before_the_next_is_produced(server: httpx.Client, tmp_path: Path) -> None:
    server.cookies.update(member())
    with server.stream("GET", "/stream") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "one"
        (tmp_path / "go-on").touch()
        assert next(lines) == "two"


def test_a_server_passes_an_upload_of_50_megabytes_on(server: httpx.Client) -> None:
    server.cookies.update(member())
    block = bytes(range(256)) * 4096
    answer = server.post("/upload", content=(block for _ in range(UPLOAD // len(block))))
    assert answer.text == hashlib.sha256(block * (UPLOAD // len(block))).hexdigest()


def test_a_server_refuses_a_strangers_upload_without_reading_it(server: httpx.Client) -> None:
    answer = server.post("/upload", content=b"x" * 1000, headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_required")

"""Tests of the example: who sees what. Calls neither Whop nor the network."""

import asyncio
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from whop_middleware import WhopConfig
from whop_middleware.testing import session_cookie


def ada(access: dict[str, str]) -> dict[str, str]:
    """Return the cookie of Ada, who owns that much."""
    return session_cookie(WhopConfig.from_env(), id="user_ada", username="ada", name="Ada <Lovelace>", access=access)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Starlette]:
    monkeypatch.setenv("WHOP_CLIENT_ID", "client")
    monkeypatch.setenv("WHOP_CLIENT_SECRET", "a secret for tests only")
    monkeypatch.setenv("WHOP_REQUIRE", '{"/vip/*": "prod_captain"}')
    yield importlib.import_module("examples.starlette_app.app").app
    del sys.modules["examples.starlette_app.app"]


def get(app: Starlette, path: str, *, access: dict[str, str] | None = None, **headers: str) -> httpx.Response:
    """Ask for a page, as nobody or, with `access`, as Ada who owns that much."""
    cookies = {} if access is None else ada(access)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", cookies=cookies) as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def test_landing_page_is_open_to_all(app: Starlette) -> None:
    assert "Sign in with Whop" in get(app, "/").text


def test_landing_page_knows_who_is_signed_in(app: Starlette) -> None:
    assert "Welcome back, Ada" in get(app, "/", access={}).text


def test_stranger_is_sent_to_sign_in(app: Starlette) -> None:
    answer = get(app, "/members")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login/whop?next=/members")


def test_members_page_shows_name_and_purchases_escaped(app: Starlette) -> None:
    text = get(app, "/members", access={"prod_captain": "customer"}).text
    assert "Ada &lt;Lovelace&gt;" in text
    assert "<Lovelace>" not in text
    assert "prod_captain (customer)" in text


def test_fetch_without_session_is_told_where_to_sign_in(app: Starlette) -> None:
    answer = get(app, "/api/me", accept="application/json")
    assert (answer.status_code, answer.json()["login_url"]) == (401, "/login/whop")


def test_fetch_of_a_member_gets_json(app: Starlette) -> None:
    assert get(app, "/api/me", access={"prod_captain": "customer"}, accept="application/json").json() == {
        "id": "user_ada",
        "username": "ada",
        "name": "Ada <Lovelace>",
        "access": {"prod_captain": "customer"},
    }


def test_vip_page_needs_its_own_product(app: Starlette) -> None:
    assert get(app, "/vip", access={}).status_code == 403
    assert "charts are for captains" in get(app, "/vip", access={"prod_captain": "customer"}).text


def test_websocket_answers_a_member_by_name(app: Starlette) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in ada({}).items())
    assert talk(app, cookie, "ahoy") == ["websocket.accept", "Ada <Lovelace>: ahoy"]


def test_websocket_refuses_a_stranger(app: Starlette) -> None:
    assert talk(app, "", "ahoy") == ["websocket.close"]


def talk(app: Starlette, cookie: str, text: str) -> list[str]:
    """Connect, say `text`, hang up; return what came back."""
    said = iter(
        [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": text},
            {"type": "websocket.disconnect", "code": 1000},
        ]
    )
    heard: list[str] = []

    async def receive() -> Any:
        return next(said)

    async def send(message: Any) -> None:
        heard.append(message.get("text", message["type"]))

    headers = [(b"host", b"testserver"), (b"cookie", cookie.encode())]
    scope = {"type": "websocket", "scheme": "ws", "path": "/radio", "query_string": b"", "headers": headers}
    asyncio.run(app(scope, receive, send))
    return heard

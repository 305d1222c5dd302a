"""Tests of the example: who sees what. Calls neither Whop nor the network."""

import importlib
import sys
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from whop_middleware import WhopConfig
from whop_middleware.testing import session_cookie


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    monkeypatch.setenv("WHOP_CLIENT_ID", "client")
    monkeypatch.setenv("WHOP_CLIENT_SECRET", "a secret for tests only")
    monkeypatch.setenv("WHOP_REQUIRE", '{"/vip/*": "prod_masterclass"}')
    yield importlib.import_module("examples.flask_app.app").app.test_client()
    del sys.modules["examples.flask_app.app"]


def sign_in(client: FlaskClient, access: dict[str, str]) -> None:
    """Make the client Ada, who owns that much."""
    cookie = session_cookie(WhopConfig.from_env(), id="user_ada", username="ada", name="Ada <Lovelace>", access=access)
    for name, value in cookie.items():
        client.set_cookie(name, value)


def test_landing_page_is_open_to_all(client: FlaskClient) -> None:
    assert "Sign in with Whop" in client.get("/").text


def test_landing_page_knows_who_is_signed_in(client: FlaskClient) -> None:
    sign_in(client, {})
    assert "On with it, Ada" in client.get("/").text


def test_stranger_is_sent_to_sign_in(client: FlaskClient) -> None:
    answer = client.get("/members")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login/whop?next=/members")


def test_members_page_shows_name_and_purchases_escaped(client: FlaskClient) -> None:
    sign_in(client, {"prod_masterclass": "customer"})
    text = client.get("/members").text
    assert "Ada &lt;Lovelace&gt;" in text
    assert "<Lovelace>" not in text
    assert "prod_masterclass (customer)" in text


def test_fetch_without_session_is_told_where_to_sign_in(client: FlaskClient) -> None:
    answer = client.get("/api/me", headers={"accept": "application/json"})
    assert answer.status_code == 401
    assert answer.get_json(force=True)["login_url"] == "/login/whop"


def test_fetch_of_a_member_gets_json(client: FlaskClient) -> None:
    sign_in(client, {"prod_masterclass": "customer"})
    body = client.get("/api/me", headers={"accept": "application/json"}).get_json()
    assert body == {
        "id": "user_ada",
        "username": "ada",
        "name": "Ada <Lovelace>",
        "access": {"prod_masterclass": "customer"},
    }


def test_vip_page_needs_its_own_product(client: FlaskClient) -> None:
    sign_in(client, {})
    assert client.get("/vip").status_code == 403
    sign_in(client, {"prod_masterclass": "customer"})
    assert "Masterclass" in client.get("/vip").text

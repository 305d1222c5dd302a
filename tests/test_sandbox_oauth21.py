"""The sandbox's current API: OAuth 2.1, OpenID Connect and the access check, and what it refuses. Opens no socket."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from whop_middleware.sandbox import Sandbox
from whop_middleware.whop import code_challenge

from .conftest import Clock
from .sandboxes import (
    CALLBACK,
    SECRET,
    VERIFIER,
    Visitor,
    access,
    error,
    make_sandbox,
    oauth_body,
    oauth_tokens,
    v5_token,
)


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    return make_sandbox(clock)


@pytest.fixture
def visitor(sandbox: Sandbox) -> Visitor:
    return Visitor(sandbox)


# --- OAuth 2.1: tokens ---


@pytest.mark.parametrize("client_id", ["app_1", "app_public"])
def test_code_with_its_verifier_is_traded_for_three_tokens(visitor: Visitor, client_id: str) -> None:
    answer = oauth_tokens(visitor, client_id)
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)
    assert {"access_token", "refresh_token", "id_token"} <= set(answer)


def test_form_is_read_as_well(visitor: Visitor) -> None:
    assert visitor.post("/oauth/token", **oauth_body(visitor.sandbox)).status_code == 200


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"code": "made-up"}, (400, "invalid_grant")),
        ({"code": "made-up", "client_secret": "wrong"}, (401, "invalid_client")),
        ({"client_secret": ""}, (401, "invalid_client")),
        ({"client_id": "app_unknown"}, (401, "invalid_client")),
        ({"client_id": "client_1"}, (401, "invalid_client")),
        ({"client_id": "app_public"}, (401, "invalid_client")),
        ({"redirect_uri": f"{CALLBACK}/"}, (400, "invalid_grant")),
        ({"code_verifier": "w" * 43}, (400, "invalid_grant")),
        ({"code_verifier": "v"}, (400, "invalid_grant")),
        ({"grant_type": "password"}, (400, "invalid_request")),
        ({"grant_type": "refresh_token"}, (400, "invalid_grant")),
    ],
)
def test_wrong_oauth_request_is_refused(visitor: Visitor, fields: dict[str, str], expected: tuple[int, str]) -> None:
    assert error(visitor.request("POST", "/oauth/token", json=oauth_body(visitor.sandbox) | fields)) == expected


def test_verifier_and_challenge_come_together_or_not_at_all(visitor: Visitor) -> None:
    without = oauth_body(visitor.sandbox)
    del without["code_verifier"]
    assert error(visitor.request("POST", "/oauth/token", json=without)) == (400, "invalid_grant")
    unasked = oauth_body(visitor.sandbox, code=visitor.sandbox.code("buyer", "app_1"))
    assert error(visitor.request("POST", "/oauth/token", json=unasked)) == (400, "invalid_grant")
    del unasked["code_verifier"]
    assert visitor.request("POST", "/oauth/token", json=unasked).status_code == 200


@pytest.mark.parametrize(("age", "status"), [(599, 200), (600, 400)])
def test_oauth_code_lives_ten_minutes(visitor: Visitor, clock: Clock, age: int, status: int) -> None:
    body = oauth_body(visitor.sandbox)
    clock.tick(age)
    assert visitor.request("POST", "/oauth/token", json=body).status_code == status


def test_secret_without_the_permission_is_refused_by_name(visitor: Visitor) -> None:
    visitor.sandbox.add_app(client_id="app_2", client_secret=SECRET, redirect_uris=(CALLBACK,), may_exchange=False)
    response = visitor.request("POST", "/oauth/token", json=oauth_body(visitor.sandbox, "app_2"))
    assert response.json()["error_description"] == "client_secret lacks oauth:token_exchange permission"
    assert error(response) == (401, "invalid_client")


def refreshed(visitor: Visitor, refresh_token: str, client_id: str = "app_1") -> httpx.Response:
    body = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": client_id}
    return visitor.request(
        "POST", "/oauth/token", json=body | ({"client_secret": SECRET} if client_id == "app_1" else {})
    )


def test_refresh_token_rotates(visitor: Visitor) -> None:
    first = oauth_tokens(visitor)["refresh_token"]
    second = refreshed(visitor, first).json()
    assert second["refresh_token"] != first
    assert error(refreshed(visitor, first)) == (400, "invalid_grant")
    assert visitor.get("/oauth/userinfo", second["access_token"]).json()["sub"] == "user_buyer"


def test_refresh_token_belongs_to_one_client(visitor: Visitor) -> None:
    token = oauth_tokens(visitor)["refresh_token"]
    assert error(refreshed(visitor, token, "app_public")) == (400, "invalid_grant")


def test_revoking_ends_the_refresh_token_and_not_the_access_token(visitor: Visitor) -> None:
    tokens = oauth_tokens(visitor)
    body = {"token": tokens["refresh_token"], "client_id": "app_1", "client_secret": SECRET}
    assert visitor.request("POST", "/oauth/revoke", json=body).status_code == 200
    assert visitor.request("POST", "/oauth/revoke", json=body).status_code == 200
    assert refreshed(visitor, tokens["refresh_token"]).status_code == 400
    assert visitor.get("/oauth/userinfo", tokens["access_token"]).status_code == 200
    assert visitor.request("POST", "/oauth/revoke", json=body | {"client_secret": "no"}).status_code == 401


# --- OAuth 2.1: OpenID Connect ---


def part(text: str) -> Any:
    return json.loads(urlsafe_b64decode(f"{text}==="))


def test_id_token_carries_what_was_asked_and_is_signed_by_the_published_key(visitor: Visitor, clock: Clock) -> None:
    header, claims, signature = oauth_tokens(visitor)["id_token"].split(".")
    now = int(clock())
    assert part(claims) == {
        "iss": visitor.sandbox.api_url,
        "sub": "user_buyer",
        "aud": "app_1",
        "iat": now,
        "exp": now + 3600,
        "nonce": "n-1",
    }
    (key,) = visitor.get("/.well-known/jwks.json").json()["keys"]
    assert part(header) == {"alg": "ES256", "typ": "JWT", "kid": key["kid"]}
    x, y, raw = (urlsafe_b64decode(f"{text}===") for text in (key["x"], key["y"], signature))
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1())
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    numbers.public_key().verify(der, f"{header}.{claims}".encode(), ec.ECDSA(SHA256()))


def test_without_openid_there_is_no_id_token_and_no_userinfo(visitor: Visitor) -> None:
    code = visitor.sandbox.code("buyer", "app_1", scope="profile", code_challenge=code_challenge(VERIFIER))
    answer = visitor.request("POST", "/oauth/token", json=oauth_body(visitor.sandbox, code=code)).json()
    assert "id_token" not in answer
    assert error(visitor.get("/oauth/userinfo", answer["access_token"])) == (403, "insufficient_scope")


def test_id_token_has_no_nonce_when_none_was_asked_for(visitor: Visitor) -> None:
    code = visitor.sandbox.code("buyer", "app_1", code_challenge=code_challenge(VERIFIER))
    answer = visitor.request("POST", "/oauth/token", json=oauth_body(visitor.sandbox, code=code)).json()
    assert "nonce" not in part(answer["id_token"].split(".")[1])


def test_userinfo_says_who_as_far_as_the_scope_goes(visitor: Visitor) -> None:
    assert visitor.get("/oauth/userinfo", oauth_tokens(visitor)["access_token"]).json() == {
        "sub": "user_buyer",
        "name": "Bea Buyer",
        "preferred_username": "bea_buyer",
        "picture": "http://whop.test/pictures/user_buyer.svg",
        "email": "bea@example.com",
        "email_verified": True,
    }
    code = visitor.sandbox.code("buyer", "app_1", scope="openid", code_challenge=code_challenge(VERIFIER))
    answer = visitor.request("POST", "/oauth/token", json=oauth_body(visitor.sandbox, code=code)).json()
    assert visitor.get("/oauth/userinfo", answer["access_token"]).json() == {"sub": "user_buyer"}


def test_userinfo_refuses_a_token_of_v5(visitor: Visitor) -> None:
    response = visitor.get("/oauth/userinfo", v5_token(visitor))
    assert error(response) == (401, "invalid_token")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_discovery_names_endpoints_that_are_there(visitor: Visitor) -> None:
    found = visitor.get("/.well-known/openid-configuration").json()
    assert found["issuer"] == visitor.sandbox.api_url
    assert found["code_challenge_methods_supported"] == ["S256"]
    for name in ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "revocation_endpoint", "jwks_uri"):
        path = urlsplit(found[name]).path
        assert visitor.get(path).status_code != 404, path


# --- The access check ---


@pytest.mark.parametrize(
    ("user", "resource", "level"),
    [
        ("user_buyer", "prod_members", "customer"),
        ("user_buyer", "prod_vip", "no_access"),
        ("user_buyer", "exp_chat", "customer"),
        ("user_buyer", "biz_sandbox", "customer"),
        ("user_stranger", "biz_sandbox", "no_access"),
        ("user_former", "prod_members", "no_access"),
        ("user_owner", "prod_vip", "admin"),
        ("user_owner", "exp_chat", "admin"),
        ("user_owner", "biz_sandbox", "admin"),
    ],
)
def test_access_is_customer_admin_or_none(visitor: Visitor, user: str, resource: str, level: str) -> None:
    answer = access(visitor, "key_1", user, resource).json()
    assert answer == {"has_access": level != "no_access", "access_level": level}


def test_access_follows_purchases_and_the_team(visitor: Visitor) -> None:
    def level(resource: str) -> Any:
        return access(visitor, "key_1", "user_stranger", resource).json()["access_level"]

    visitor.sandbox.buy("stranger", "prod_vip")
    assert level("prod_vip") == "customer"
    visitor.sandbox.own("stranger", "prod_members")
    assert level("prod_vip") == level("biz_sandbox") == "admin"
    visitor.sandbox.own("stranger", "biz_sandbox", is_owner=False)
    visitor.sandbox.cancel("stranger", "prod_vip")
    assert level("prod_vip") == "no_access"


@pytest.mark.parametrize(
    ("bearer", "user", "resource", "status"),
    [
        ("", "user_buyer", "prod_members", 401),
        ("made-up", "user_buyer", "prod_members", 401),
        ("key_1", "user_unknown", "prod_members", 404),
        ("key_1", "user_buyer", "prod_unknown", 404),
        ("key_1", "user_buyer", "prod_app", 403),
    ],
)
def test_access_check_is_refused(visitor: Visitor, bearer: str, user: str, resource: str, status: int) -> None:
    assert access(visitor, bearer, user, resource).status_code == status


def test_user_token_reaches_its_own_user_only(visitor: Visitor) -> None:
    token = oauth_tokens(visitor)["access_token"]
    assert access(visitor, token, "user_buyer", "prod_members").json()["access_level"] == "customer"
    assert access(visitor, token, "user_owner", "prod_members").status_code == 403

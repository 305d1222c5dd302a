"""The sandbox's API in both generations: what it answers to an app's server, and what it refuses."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from whop_middleware.errors import BadWhopAnswer, CodeRefused, ConfigError, CredentialsRefused
from whop_middleware.sandbox import App, Call, Person, Sandbox
from whop_middleware.whop import V5, Credentials, OAuth21, Token, code_challenge
from whop_middleware.whop.access import (
    access_request,
    experience_request,
    memberships_request,
    parse_access,
    parse_experience,
    parse_memberships,
)

from .conftest import Clock

CALLBACK = "http://localhost:8000/callback/whop"
SECRET = "a-secret-of-the-sandbox"
VERIFIER = "v" * 43
BAD_GRANT = (
    "The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the "
    "authorization request, or was issued to another client."
)


class Visitor:
    """A client of the sandbox, in process; keeps cookies as a browser does, follows no redirect."""

    def __init__(self, sandbox: Sandbox, *, backend: str = "asyncio") -> None:
        self.sandbox = sandbox
        self.cookies = httpx.Cookies()
        self.backend = backend

    def send(self, request: httpx.Request) -> httpx.Response:
        return anyio.run(self._send, request, backend=self.backend)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        transport = httpx.ASGITransport(self.sandbox.app)
        async with httpx.AsyncClient(transport=transport) as client:
            response = await client.send(request)
        self.cookies.extract_cookies(response)
        return response

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = httpx.URL(self.sandbox.whop_url).join(path)
        return self.send(httpx.Request(method, url, cookies=self.cookies, **options))

    def get(self, path: str, bearer: str | None = None, **options: Any) -> httpx.Response:
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        return self.request("GET", path, headers=headers, **options)

    def post(self, path: str, **fields: str) -> httpx.Response:
        return self.request("POST", path, data=fields)


def make_sandbox(clock: Clock | None = None, **options: Any) -> Sandbox:
    """Return a sandbox with an app of each kind: v5, confidential and public OAuth 2.1."""
    sandbox = Sandbox(**options) if clock is None else Sandbox(clock=clock, **options)
    sandbox.add_app(
        client_id="client_1",
        client_secret=SECRET,
        redirect_uris=(CALLBACK, f"{CALLBACK}/other"),
        name="Club",
        api_key="key_1",
        experiences={"exp_chat": "prod_members"},
    )
    sandbox.add_app(client_id="app_1", client_secret=SECRET, redirect_uris=(CALLBACK,), name="New club")
    sandbox.add_app(client_id="app_public", redirect_uris=CALLBACK, products={"prod_app": "App"}, company_id="biz_2")
    return sandbox


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    return make_sandbox(clock)


@pytest.fixture
def visitor(sandbox: Sandbox) -> Visitor:
    return Visitor(sandbox)


def token_body(sandbox: Sandbox, who: str = "buyer", **fields: str) -> dict[str, str]:
    body = {
        "grant_type": "authorization_code",
        "client_id": "client_1",
        "client_secret": SECRET,
        "redirect_uri": CALLBACK,
    }
    return body | ({} if "code" in fields else {"code": sandbox.code(who, "client_1")}) | fields


def v5_token(visitor: Visitor, who: str = "buyer") -> str:
    token = visitor.request("POST", "/v5/oauth/token", json=token_body(visitor.sandbox, who)).json()["access_token"]
    assert isinstance(token, str)
    return token


def message(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["message"]


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


# --- v5: codes and tokens ---


@pytest.mark.parametrize("path", ["/v5/oauth/token", "/api/oauth/token"])
@pytest.mark.parametrize("encoding", ["json", "data"])
def test_code_is_traded_for_a_token_by_json_and_by_form(visitor: Visitor, path: str, encoding: str) -> None:
    response = visitor.request("POST", path, **{encoding: token_body(visitor.sandbox)})
    answer = response.json()
    assert response.status_code == 200
    assert answer["token_type"] == "bearer"
    assert answer["scope"] == "read_user"
    assert answer["created_at"] == int(visitor.sandbox._world.clock())
    assert visitor.get("/v5/me", answer["access_token"]).json()["id"] == "user_buyer"


def test_code_works_once(visitor: Visitor) -> None:
    body = token_body(visitor.sandbox)
    assert visitor.request("POST", "/v5/oauth/token", json=body).status_code == 200
    response = visitor.request("POST", "/v5/oauth/token", json=body)
    assert response.status_code == 400
    assert response.json() == {"error": "invalid_grant", "error_description": BAD_GRANT}


@pytest.mark.parametrize(("age", "status"), [(299, 200), (300, 400)])
def test_code_lives_five_minutes(visitor: Visitor, clock: Clock, age: int, status: int) -> None:
    body = token_body(visitor.sandbox)
    clock.tick(age)
    assert visitor.request("POST", "/v5/oauth/token", json=body).status_code == status


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"code": "made-up"}, (400, "invalid_grant")),
        ({"redirect_uri": f"{CALLBACK}/other"}, (400, "invalid_grant")),
        ({"redirect_uri": f"{CALLBACK}/"}, (400, "invalid_grant")),
        ({"client_secret": "wrong"}, (401, "invalid_client")),
        ({"client_secret": "wrong", "code": "made-up"}, (401, "invalid_client")),
        ({"client_id": "unknown"}, (401, "invalid_client")),
        ({"client_id": "app_1"}, (401, "invalid_client")),
        ({"grant_type": ""}, (400, "invalid_request")),
        ({"grant_type": "refresh_token"}, (400, "unsupported_grant_type")),
    ],
)
def test_wrong_token_request_is_refused(visitor: Visitor, fields: dict[str, str], expected: tuple[int, str]) -> None:
    assert error(visitor.request("POST", "/v5/oauth/token", json=token_body(visitor.sandbox, **fields))) == expected


def test_code_of_another_client_is_refused(visitor: Visitor) -> None:
    visitor.sandbox.add_app(client_id="client_2", client_secret="other", redirect_uris=(CALLBACK,))
    body = token_body(visitor.sandbox, client_id="client_2", client_secret="other")
    assert error(visitor.request("POST", "/v5/oauth/token", json=body)) == (400, "invalid_grant")


def test_unknown_client_gets_the_documented_text(visitor: Visitor) -> None:
    response = visitor.request("POST", "/v5/oauth/token", json=token_body(visitor.sandbox, client_id="nobody"))
    assert response.json()["error_description"].startswith("Client authentication failed due to unknown client")


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'{"client_id": 1}', "application/json; charset=utf-8"),
        (b"\xff=1", "application/x-www-form-urlencoded"),
        (b"client_id=client_1&client_id=client_1", "application/x-www-form-urlencoded"),
        (b"", ""),
    ],
)
def test_unreadable_body_is_an_unknown_client(visitor: Visitor, content: bytes, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    assert error(visitor.request("POST", "/v5/oauth/token", content=content, headers=headers))[0] == 401


# --- v5: the user ---


@pytest.mark.parametrize("path", ["/v5/me", "/api/v5/me"])
def test_me_says_who_the_token_belongs_to(visitor: Visitor, path: str) -> None:
    person = visitor.sandbox.people["buyer"]
    assert visitor.get(path, v5_token(visitor)).json() == {
        "id": "user_buyer",
        "username": "bea_buyer",
        "name": person.name,
        "email": "bea@example.com",
        "profile_pic_url": "http://whop.test/pictures/user_buyer.svg",
    }


def test_someone_without_email_has_neither_name_nor_picture(visitor: Visitor) -> None:
    answer = visitor.get("/v5/me", v5_token(visitor, "no_email")).json()
    assert (answer["name"], answer["email"], answer["profile_pic_url"]) == (None, None, None)


def test_long_name_is_longer_than_a_cookie_can_be(sandbox: Sandbox) -> None:
    assert len((sandbox.people["long_name"].name or "").encode()) > 500


@pytest.mark.parametrize("header", [None, "Bearer made-up", "Basic made-up", "Bearer", ""])
@pytest.mark.parametrize("path", ["/v5/me", "/v5/me/memberships", "/v5/me/experiences/exp_chat"])
def test_bad_access_token_is_refused_in_whops_words(visitor: Visitor, path: str, header: str | None) -> None:
    response = visitor.request("GET", path, headers={} if header is None else {"Authorization": header})
    status, text = message(response)
    assert status == 401
    assert text.startswith("Your access token is invalid. Please make sure you are passing an access token")


def test_access_token_expires(visitor: Visitor, clock: Clock) -> None:
    token = v5_token(visitor)
    clock.tick(7200)
    assert visitor.get("/v5/me", token).status_code == 401


def test_what_expired_is_forgotten(visitor: Visitor, clock: Clock) -> None:
    visitor.sandbox.code("buyer", "client_1")
    clock.tick(300)
    visitor.sandbox.code("buyer", "client_1")
    assert len(visitor.sandbox._world.grants._codes) == 1


def test_token_of_the_current_api_is_no_token_for_v5(visitor: Visitor) -> None:
    assert visitor.get("/v5/me", oauth_tokens(visitor)["access_token"]).status_code == 401


@pytest.mark.parametrize("path", ["/v5/me/has_access/prod_members", "/v5/nothing", "/api/v5/nothing"])
def test_unknown_route_says_so_in_whops_words(visitor: Visitor, path: str) -> None:
    assert message(visitor.get(path)) == (404, f"Route {path} not found")


# --- v5: purchases ---


def memberships(visitor: Visitor, query: str = "", who: str = "buyer") -> Any:
    return visitor.get(f"/v5/me/memberships{query}", v5_token(visitor, who)).json()


def products(answer: Mapping[str, Any]) -> set[str]:
    return {row["product_id"] for row in answer["data"]}


def test_membership_has_the_documented_fields(visitor: Visitor) -> None:
    (row,) = memberships(visitor, "?product_id=prod_members")["data"]
    assert row["id"].startswith("mem_")
    assert (row["status"], row["valid"], row["cancel_at_period_end"]) == ("active", True, False)
    assert (row["user_id"], row["product_id"], row["plan_id"]) == ("user_buyer", "prod_members", "plan_members")
    assert row["renewal_period_end"] > visitor.sandbox._world.clock()
    assert row["expires_at"] is None


def test_one_time_purchase_is_completed_valid_and_never_renewed(visitor: Visitor) -> None:
    visitor.sandbox.buy("stranger", "prod_vip", status="completed")
    (row,) = memberships(visitor, who="stranger")["data"]
    assert (row["status"], row["valid"], row["renewal_period_end"]) == ("completed", True, None)


@pytest.mark.parametrize("status", ["trialing", "active", "past_due", "completed", "canceled", "expired", "unresolved"])
@pytest.mark.parametrize("valid", [True, False])
def test_listing_goes_by_valid_whatever_the_status(visitor: Visitor, status: str, valid: bool) -> None:
    visitor.sandbox.buy("stranger", "prod_vip", status=status, valid=valid)
    assert bool(memberships(visitor, who="stranger")["data"]) is valid
    assert bool(memberships(visitor, "?valid=false", who="stranger")["data"]) is not valid


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"prod_members", "prod_vip", "prod_app"}),
        ("?product_id=prod_vip", {"prod_vip"}),
        ("?product_id=prod_unknown", set()),
        ("?company_id=biz_sandbox", {"prod_members", "prod_vip"}),
        ("?company_id=biz_2&valid=true", {"prod_app"}),
        ("?valid=false", set()),
    ],
)
def test_listing_is_narrowed_by_product_and_company(visitor: Visitor, query: str, expected: set[str]) -> None:
    visitor.sandbox.buy("buyer", "prod_vip")
    assert products(memberships(visitor, query)) == expected


def test_long_listing_comes_in_pages(visitor: Visitor) -> None:
    for _ in range(119):
        visitor.sandbox.buy("stranger", "prod_vip")
    visitor.sandbox.buy("stranger", "prod_members")
    pages = [memberships(visitor, f"?per=50&page={page}", "stranger") for page in (1, 2, 3)]
    assert [len(page["data"]) for page in pages] == [50, 50, 20]
    assert len({row["id"] for page in pages for row in page["data"]}) == 120
    assert pages[1]["pagination"] == {
        "current_page": 2,
        "total_pages": 3,
        "next_page": 3,
        "prev_page": 1,
        "total_count": 120,
    }
    assert pages[2]["pagination"]["next_page"] is None


@pytest.mark.parametrize(
    ("query", "rows"), [("", 10), ("?per=51", 50), ("?per=0", 1), ("?per=x&page=y", 10), ("?page=99", 0)]
)
def test_page_size_is_ten_unless_asked_and_fifty_at_most(visitor: Visitor, query: str, rows: int) -> None:
    for _ in range(60):
        visitor.sandbox.buy("stranger", "prod_vip")
    assert len(memberships(visitor, query, "stranger")["data"]) == rows


def test_nobody_has_one_empty_page(visitor: Visitor) -> None:
    answer = memberships(visitor, who="owner")
    assert answer["data"] == []
    assert (answer["pagination"]["total_pages"], answer["pagination"]["next_page"]) == (1, None)


@pytest.mark.parametrize(
    ("who", "experience", "status"),
    [("buyer", "exp_chat", 200), ("stranger", "exp_chat", 404), ("owner", "exp_chat", 404), ("buyer", "exp_no", 404)],
)
def test_experience_is_there_for_buyers_only(visitor: Visitor, who: str, experience: str, status: int) -> None:
    assert visitor.get(f"/v5/me/experiences/{experience}", v5_token(visitor, who)).status_code == status


def test_purchases_end_and_come_back(visitor: Visitor) -> None:
    sandbox = visitor.sandbox
    sandbox.cancel("buyer", "prod_members")
    assert products(memberships(visitor)) == {"prod_app"}
    ended = memberships(visitor, "?valid=false")["data"][0]
    assert (ended["status"], ended["renewal_period_end"]) == ("canceled", None)
    sandbox.buy(sandbox.people["buyer"], "prod_members")
    sandbox.expire("user_buyer", "prod_members")
    assert {row["status"] for row in memberships(visitor, "?valid=false")["data"]} == {"canceled", "expired"}
    sandbox.buy("buyer", "prod_members")
    assert products(memberships(visitor)) == {"prod_members", "prod_app"}


def test_former_buyer_has_an_expired_membership(visitor: Visitor) -> None:
    assert memberships(visitor, who="former")["data"] == []
    (row, _) = memberships(visitor, "?valid=false", "former")["data"]
    assert (row["status"], row["valid"]) == ("expired", False)


# --- OAuth 2.1: tokens ---


def oauth_body(sandbox: Sandbox, client_id: str = "app_1", who: str = "buyer", **fields: str) -> dict[str, str]:
    code = {
        "code": sandbox.code(who, client_id, nonce="n-1", code_challenge=code_challenge(VERIFIER)),
        "code_verifier": VERIFIER,
    }
    secret = {} if client_id == "app_public" else {"client_secret": SECRET}
    body = {"grant_type": "authorization_code", "client_id": client_id, "redirect_uri": CALLBACK}
    return body | code | secret | fields


def oauth_tokens(visitor: Visitor, client_id: str = "app_1", who: str = "buyer") -> dict[str, Any]:
    response = visitor.request("POST", "/oauth/token", json=oauth_body(visitor.sandbox, client_id, who))
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


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


def access(visitor: Visitor, bearer: str, user: str, resource: str) -> httpx.Response:
    return visitor.get(f"/api/v1/users/{user}/access/{resource}", bearer)


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


# --- Together with the package's own reading of Whop ---


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_v5_dialect_signs_in_and_reads_purchases(sandbox: Sandbox, backend: str) -> None:
    visitor, url = Visitor(sandbox, backend=backend), sandbox.api_url
    whop = V5(Credentials("client_1", SECRET), sandbox.whop_url, url)
    request = whop.token_request(code=sandbox.code("buyer", "client_1"), redirect_uri=CALLBACK, code_verifier=None)
    token = whop.parse_token(visitor.send(request))
    user = whop.parse_user(visitor.send(whop.user_request(token)), token, nonce=None, now=0)
    assert user["id"] == "user_buyer"
    page = parse_memberships(visitor.send(memberships_request(url, token, page=1)))
    assert page.product_ids == {"prod_members", "prod_app"}
    assert parse_experience(visitor.send(experience_request(url, token, "exp_chat")))
    with pytest.raises(CodeRefused):
        whop.parse_token(visitor.send(request))
    with pytest.raises(BadWhopAnswer):
        whop.parse_user(visitor.send(whop.user_request(Token("made-up"))), token, nonce=None, now=0)


@pytest.mark.parametrize("who", ["buyer", "no_email", "long_name"])
def test_oauth21_dialect_signs_in_and_checks_the_id_token(visitor: Visitor, clock: Clock, who: str) -> None:
    sandbox = visitor.sandbox
    whop = OAuth21(Credentials("app_public", None), sandbox.api_url)
    code = sandbox.code(who, "app_public", nonce="n", code_challenge=code_challenge(VERIFIER))
    request = whop.token_request(code=code, redirect_uri=CALLBACK, code_verifier=VERIFIER)
    token = whop.parse_token(visitor.send(request))
    user = whop.parse_user(visitor.send(whop.user_request(token)), token, nonce="n", now=clock())
    assert user["id"] == sandbox.people[who].id
    assert user["email"] == sandbox.people[who].email
    question = access_request(sandbox.api_url, token.access_token, sandbox.people[who].id, "prod_app")
    assert parse_access(visitor.send(question), "prod_app", with_api_key=False) == "customer"


@pytest.mark.parametrize("credentials", [Credentials("client_1", SECRET), Credentials("app_1", "wrong")])
def test_mixed_up_credentials_are_recognised(visitor: Visitor, credentials: Credentials) -> None:
    whop = OAuth21(credentials, visitor.sandbox.api_url)
    request = whop.token_request(code="made-up", redirect_uri=CALLBACK, code_verifier=VERIFIER)
    with pytest.raises(CredentialsRefused):
        whop.parse_token(visitor.send(request))


# --- The Python API ---


def test_people_are_found_by_key_and_by_user_id(sandbox: Sandbox) -> None:
    assert sandbox.people["buyer"] is sandbox.people["user_buyer"]
    with pytest.raises(KeyError):
        sandbox.people["nobody"]


def test_a_person_of_ones_own_can_sign_in(visitor: Visitor) -> None:
    visitor.sandbox.people["eve"] = Person("user_eve", "eve", "Eve", None, "Mine")
    assert visitor.get("/v5/me", v5_token(visitor, "eve")).json()["username"] == "eve"


def test_app_comes_back_as_registered_and_hides_its_secrets(sandbox: Sandbox) -> None:
    app = sandbox.add_app(client_id="x", client_secret="s3cr3t", redirect_uris=CALLBACK, api_key="k3y", name="X")
    assert isinstance(app, App)
    assert (app.dialect, app.redirect_uris, app.company_id) == ("v5", (CALLBACK,), "biz_sandbox")
    assert "s3cr3t" not in repr(app)
    assert "k3y" not in repr(app)


def test_product_that_is_there_already_is_not_sold_again(sandbox: Sandbox) -> None:
    sandbox.cancel("buyer", "prod_members")
    sandbox.add_app(client_id="x", client_secret="s", redirect_uris=CALLBACK)
    assert not sandbox._world.has("buyer", "prod_members")


def test_app_without_products_sells_nothing(sandbox: Sandbox) -> None:
    before = len(sandbox._world.memberships)
    assert sandbox.add_app(client_id="x", client_secret="s", redirect_uris=CALLBACK, products=()).products == ()
    assert len(sandbox._world.memberships) == before


def test_world_without_the_default_people_stays_empty() -> None:
    sandbox = Sandbox()
    sandbox.people.clear()
    sandbox.add_app(client_id="x", client_secret="s", redirect_uris=CALLBACK)
    assert (sandbox._world.memberships, sandbox._world.team) == ([], set())


@pytest.mark.parametrize(
    "options",
    [
        {"redirect_uris": ()},
        {"redirect_uris": ("/callback/whop",)},
        {"redirect_uris": ("ftp://localhost/",)},
        {"redirect_uris": (f"{CALLBACK}#x",)},
        {"client_secret": None},
    ],
)
def test_app_that_could_not_work_is_refused(sandbox: Sandbox, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        sandbox.add_app(**({"client_id": "x", "client_secret": "s", "redirect_uris": CALLBACK} | options))


def test_unknown_names_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(LookupError):
        sandbox.buy("buyer", "prod_unknown")
    with pytest.raises(LookupError):
        sandbox.cancel("nobody", "prod_vip")
    with pytest.raises(LookupError):
        sandbox.own("buyer", "prod_unknown")
    with pytest.raises(LookupError):
        sandbox.code("buyer", "unknown")
    with pytest.raises(ValueError, match="no status"):
        sandbox.buy("buyer", "prod_vip", status="bought")


def test_calls_are_counted_and_hold_no_secret(visitor: Visitor) -> None:
    visitor.get("/v5/me", v5_token(visitor))
    visitor.get("/")
    assert list(visitor.sandbox.calls) == [Call("token", "POST", "v5"), Call("user", "GET", "v5")]
    assert visitor.sandbox.count("token") == 1
    assert visitor.sandbox.count("access") == 0


def query_of(response: httpx.Response) -> dict[str, str]:
    """Return what a redirect carries."""
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()}

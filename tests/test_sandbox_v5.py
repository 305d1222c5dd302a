"""The sandbox's v5 API: codes, tokens, the user and purchases, and what it refuses. Opens no socket."""

from __future__ import annotations

import pytest

from whop_middleware.sandbox import Sandbox

from .conftest import Clock
from .sandboxes import (
    CALLBACK,
    Visitor,
    error,
    make_sandbox,
    memberships,
    message,
    oauth_tokens,
    products,
    token_body,
    v5_token,
)

BAD_GRANT = (
    "The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the "
    "authorization request, or was issued to another client."
)


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    return make_sandbox(clock)


@pytest.fixture
def visitor(sandbox: Sandbox) -> Visitor:
    return Visitor(sandbox)


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

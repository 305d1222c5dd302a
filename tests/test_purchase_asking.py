"""Proof of purchase at sign-in: what is asked, what counts as owned, and which rule decides."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import httpx
import pytest

from whop_middleware.errors import SignInError
from whop_middleware.gate import Gate
from whop_middleware.messages import Forward, Reply

from .conftest import Clock
from .purchases import API_KEY, DOWN, listing, membership, says, sign_in, user_of, with_key, without_key
from .steps import Core, ScriptedWhop, location, make_request, page, play
from .support import FETCH, NAVIGATION


def signed_in_access(core: Core) -> dict[str, str]:
    """Return what a sign-in found to be owned, as the app is told."""
    assert location(sign_in(core)) == "/"
    core.whop.asked.clear()
    optional = Gate(replace(core.gate.config, mode="optional", api_key=None))
    cookie = "; ".join(f"{name}={value}" for name, value in core.cookies.items())
    decision = play(optional.handle(make_request("/", (*NAVIGATION, ("Cookie", cookie)))), ScriptedWhop())
    return dict(user_of(decision).access)


# Asking at sign-in

STATUSES = ("trialing", "active", "past_due", "completed", "canceled", "expired", "unresolved")


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("valid", [True, False, None, "true", 1])
def test_only_a_valid_membership_counts_whatever_its_status(status: str, valid: object) -> None:
    core = without_key()
    core.whop.answers["memberships"] = listing(membership("prod_a", valid=valid, status=status))
    assert signed_in_access(core) == ({"prod_a": "customer"} if valid is True else {})


def test_one_listing_with_the_users_token_answers_for_all_products() -> None:
    core = without_key(require=("prod_a", "prod_b", "prod_c"))
    core.whop.answers["memberships"] = listing(membership("prod_c"), membership("prod_x"), membership("prod_a"))
    sign_in(core)
    assert core.whop.asked == ["token", "user", "memberships"]
    request = core.whop.requests[-1]
    assert str(request.url) == "https://api.whop.com/v5/me/memberships?valid=true&per=50&page=1"
    assert request.headers["authorization"] == "Bearer AT-1"


@pytest.mark.parametrize("last", [1, 2, 9, 10])
def test_a_purchase_is_found_on_every_page_of_a_long_list(last: int) -> None:
    core = without_key()

    def pages(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params["page"])
        return listing(membership("prod_a" if number == last else "prod_x"), page=number, pages=last)

    core.whop.answers["memberships"] = pages
    assert signed_in_access(core) == {"prod_a": "customer"}
    assert len([request for request in core.whop.requests if "memberships" in request.url.path]) == last


def test_ten_pages_are_read_at_most() -> None:
    core = without_key()
    core.whop.answers["memberships"] = lambda r: listing(page=int(r.url.params["page"]), pages=1000)
    sign_in(core)
    assert core.whop.asked.count("memberships") == 10


def test_experiences_and_companies_are_asked_about_one_by_one() -> None:
    core = without_key(require=("prod_a", "exp_1", "exp_2", "biz_1", "biz_2"))

    def memberships(request: httpx.Request) -> httpx.Response:
        return listing(membership("prod_x")) if request.url.params.get("company_id") == "biz_2" else listing()

    core.whop.answers["memberships"] = memberships
    core.whop.answers["experiences"] = lambda r: httpx.Response(200 if "exp_1" in r.url.path else 404, json={})
    assert signed_in_access(core) == {"exp_1": "customer", "biz_2": "customer"}
    assert sorted(request.url.path for request in core.whop.requests[2:]) == [
        *["/v5/me/experiences/exp_1", "/v5/me/experiences/exp_2"],
        *["/v5/me/memberships"] * 3,
    ]


def test_without_products_no_listing_of_products_is_fetched() -> None:
    core = without_key(require="exp_1")
    core.whop.answers["experiences"] = httpx.Response(200, json={"id": "exp_1"})
    assert signed_in_access(core) == {"exp_1": "customer"}
    assert [request.url.path for request in core.whop.requests[2:]] == ["/v5/me/experiences/exp_1"]


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        ({"has_access": True, "access_level": "customer"}, "customer"),
        ({"has_access": True, "access_level": "admin"}, "admin"),
        ({"has_access": True}, "customer"),
        ({"has_access": True, "access_level": "no_access"}, None),
        ({"has_access": False, "access_level": "customer"}, None),
        ({"has_access": False}, None),
    ],
)
@pytest.mark.parametrize("options", [{"api_key": API_KEY}, {"client_id": "app_1"}, {"dialect": "oauth21"}])
def test_with_a_key_and_always_today_the_access_endpoint_is_asked(
    options: dict[str, Any], answer: dict[str, Any], level: str | None
) -> None:
    core = without_key(**options)
    core.whop.answers["access"] = httpx.Response(200, json=answer)
    core.whop.answers["user"] = httpx.Response(200, json={"id": "user_1", "sub": "user_1"})
    reply = core.reply("/login/whop")
    state = httpx.URL(location(reply)).params["state"]
    assert location(core.reply(f"/callback/whop?code=C&state={state}")) == "/"
    assert core.whop.asked == ["token", "user", "access"]
    request = core.whop.requests[-1]
    assert str(request.url) == "https://api.whop.com/api/v1/users/user_1/access/prod_a"
    assert request.headers["authorization"] == f"Bearer {options.get('api_key', 'AT-1')}"
    decision = core.decide("/")
    assert isinstance(decision, Reply) == (level is None)
    if level is not None:
        assert user_of(decision).access == {"prod_a": level}


def test_a_resource_that_whop_does_not_know_is_not_owned_and_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    core = with_key()
    core.whop.answers["access"] = httpx.Response(404)
    assert location(sign_in(core)) == "/"
    assert core.reply("/").status == 403
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "prod_a" in errors[0]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_at_sign_in(status: int, caplog: pytest.LogCaptureFixture) -> None:
    core = with_key()
    core.whop.answers["access"] = httpx.Response(status)
    page(sign_in(core), 502, "credentials_refused")
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "WHOP_API_KEY" in errors[0]
    assert API_KEY not in caplog.text


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (httpx.Response(503), 503, "whop_unreachable"),
        (httpx.Response(429, headers={"Retry-After": "7"}), 503, "whop_unreachable"),
        (httpx.Response(401), 502, "bad_whop_answer"),
        (httpx.Response(404), 502, "bad_whop_answer"),
        (httpx.Response(200, text="<html>"), 502, "bad_whop_answer"),
        (httpx.Response(200, json={"data": "no"}), 502, "bad_whop_answer"),
        (DOWN, 503, "whop_unreachable"),
    ],
)
def test_without_a_verdict_at_sign_in_there_is_no_session(
    answer: httpx.Response | SignInError, status: int, code: str
) -> None:
    core = without_key()
    core.whop.answers["memberships"] = answer
    page(sign_in(core), status, code)
    assert not core.has_session


def test_someone_let_in_by_name_is_not_asked_about() -> None:
    core = without_key(require={"/vip/*": "prod_vip", "/*": "prod_a"}, allow_users=("user_9", "user_1"))
    assert location(sign_in(core)) == "/"
    assert core.whop.asked == ["token", "user"]
    for path in ("/", "/vip", "/a//b"):
        assert user_of(core.decide(path)).access == {"prod_a": "admin", "prod_vip": "admin"}
    core = with_key(allow_users="user_1").signed_in(access={})
    assert user_of(core.decide("/", FETCH)).access == {"prod_a": "admin"}
    assert core.whop.asked == []


def test_someone_no_longer_let_in_by_name_is_asked_about(clock: Clock) -> None:
    core = with_key(allow_users="user_1")
    sign_in(core)
    strict = with_key()
    strict.cookies, strict.whop.answers["access"] = core.cookies, says(None)
    assert strict.reply("/").status == 403
    assert strict.whop.asked == ["access"]


def test_without_rules_nothing_is_asked() -> None:
    core = without_key(require=())
    sign_in(core)
    assert core.whop.asked == ["token", "user"]
    assert user_of(core.decide("/")).access == {}


# Rules


@pytest.mark.parametrize(
    ("path", "owned", "enters"),
    [
        ("/", "prod_a", True),
        ("/", "prod_b", True),
        ("/", "prod_vip", False),
        ("/vip", "prod_vip", True),
        ("/vip/", "prod_vip", True),
        ("/vip/video", "prod_vip", True),
        ("/vip/video", "prod_a", False),
        ("/vipx", "prod_a", True),
        ("/vip/exact", "prod_exact", True),
        ("/vip/exact/", "prod_exact", True),
        ("/vip/exact", "prod_vip", False),
        ("/vip/exact/more", "prod_vip", True),
        ("/free/x", "", True),
        ("/free", "", False),
        ("/vip/deep/x", "prod_deep", True),
        ("/vip/deep/x", "prod_vip", False),
    ],
)
@pytest.mark.parametrize("level", ["customer", "admin"])
def test_the_most_specific_rule_decides(path: str, owned: str, enters: bool, level: str) -> None:
    rules = {
        "/vip/*": "prod_vip",
        "/vip/exact": "prod_exact",
        "/vip/deep/*": "prod_deep",
        "/free/*": (),
        "/*": ("prod_a", "prod_b"),
    }
    core = with_key(require=rules).signed_in(access={owned: level} if owned else {})
    decision = core.decide(path)
    assert isinstance(decision, Forward) == enters
    assert core.whop.asked == []


@pytest.mark.parametrize(
    "path", ["/free//x", "/free/../vip", "/free/%2e%2e/vip", "/free/;x", "/free/\\x", "/free/\x01"]
)
def test_an_odd_path_must_satisfy_every_rule(path: str) -> None:
    rules = {"/vip/*": "prod_vip", "/free/*": (), "/*": "prod_a"}
    for access in ({}, {"prod_vip": "admin"}, {"prod_a": "customer"}):
        core = with_key(require=rules).signed_in(access=access)
        assert core.reply(path, FETCH).status == 403
    everything = {"prod_vip": "admin", "prod_a": "customer"}
    assert user_of(with_key(require=rules).signed_in(access=everything).decide(path))


def test_the_denied_page_of_an_odd_path_names_what_is_missing_there() -> None:
    core = with_key(require={"/vip/*": "prod_vip", "/*": "prod_a"}).signed_in(access={"prod_a": "customer"})
    text = core.reply("/x//y").body.decode()
    assert "prod_vip" in text
    assert "prod_a" not in text

"""A code without a state under each policy, and signing out; stepped by hand."""

from __future__ import annotations

import logging

import httpx
import pytest

from whop_middleware.drive import advance
from whop_middleware.errors import CodeRefused, SignInError
from whop_middleware.messages import Reply

from .conftest import MakeSite
from .steps import HUB, Core, header, is_start, location, make_request, ok_token, page, person, play, query, set_cookies
from .support import FETCH, NAVIGATION, ORIGIN, Browser, FakeWhop, Headers
from .test_sign_in import TROUBLE

NO_METADATA = (("Accept", "text/html"),)
HUB_CODE = "/callback/whop?code=CODE"


# Which codes are accepted


@pytest.mark.parametrize(
    "headers",
    [
        HUB,
        (*NAVIGATION, ("Referer", "https://hub.whop.com/x")),
        (*NO_METADATA, ("Referer", "https://whop.com/")),
        NO_METADATA,
        (),
    ],
)
def test_verify_accepts_what_comes_from_whop_or_from_no_modern_browser(headers: Headers) -> None:
    core = Core(home="/start")
    reply = core.reply(HUB_CODE, headers)
    assert location(reply) == "/start"
    assert core.has_session
    assert core.whop.asked == ["token", "user"]
    assert header(reply, "Referrer-Policy") == "no-referrer"
    assert header(reply, "Cache-Control") == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        NAVIGATION,
        (*NAVIGATION, ("Referer", "https://evil.example/whop.com")),
        (*NAVIGATION, ("Referer", "https://whop.com.evil.example/")),
        (*NAVIGATION, ("Referer", "https://evilwhop.com/")),
        (*NAVIGATION, ("Referer", "https://whop.com@evil.example/")),
        (*NAVIGATION, ("Referer", "https://[")),
        (*NAVIGATION, ("Referer", "")),
        (*NO_METADATA, ("Referer", f"{ORIGIN}/")),
        (("Sec-Fetch-Site", "cross-site"),),
    ],
)
def test_verify_restarts_for_the_rest(headers: Headers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "whop_middleware")
    core = Core()
    assert is_start(core.reply(HUB_CODE, headers))
    assert core.whop.asked == []
    assert not core.has_session
    (restart,) = [record for record in caplog.records if "restarts" in record.getMessage()]
    assert "a code without a state" in restart.getMessage()


def test_accept_takes_a_code_from_anywhere() -> None:
    core = Core(hub_login="accept")
    assert location(core.reply(HUB_CODE, (*NAVIGATION, ("Referer", "https://evil.example/")))) == "/"
    assert core.has_session


@pytest.mark.parametrize("signed_in", [True, False])
def test_restart_throws_every_code_away(signed_in: bool) -> None:
    core = Core(hub_login="restart").signed_in() if signed_in else Core(hub_login="restart")
    assert is_start(core.reply(HUB_CODE, HUB))
    assert core.whop.asked == []
    assert core.has_session == signed_in


@pytest.mark.parametrize("signed_in", [True, False])
def test_reject_is_a_page(signed_in: bool) -> None:
    core = Core(hub_login="reject").signed_in() if signed_in else Core(hub_login="reject")
    page(core.reply(HUB_CODE, HUB), 400, "state_missing")
    assert core.whop.asked == []
    assert core.has_session == signed_in


@pytest.mark.parametrize(
    "metadata",
    [
        (("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")),
        (("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty")),
        (("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")),
        (("Sec-Fetch-Dest", "script"),),
    ],
)
@pytest.mark.parametrize("policy", ["verify", "accept"])
def test_only_a_navigation_may_bring_a_code(metadata: Headers, policy: str) -> None:
    core = Core(hub_login=policy)
    page(core.reply(HUB_CODE, (*metadata, ("Referer", "https://whop.com/"))), 400, "bad_callback")
    assert core.whop.asked == []


@pytest.mark.parametrize("policy", ["verify", "restart"])
@pytest.mark.parametrize("headers", [HUB, NO_METADATA])
def test_today_s_whop_never_exchanges_a_code_without_a_state(policy: str, headers: Headers) -> None:
    core = Core(client_id="app_1", hub_login=policy)
    assert location(core.reply(HUB_CODE, headers)).startswith("https://api.whop.com/oauth/authorize?")
    assert core.whop.asked == []


def test_a_restart_that_comes_back_signs_in() -> None:
    core = Core()
    state = query(location(core.reply(HUB_CODE, NAVIGATION)))["state"]
    assert location(core.reply(f"/callback/whop?code=CODE2&state={state}")) == "/"
    assert core.has_session


def test_hub_codes_that_never_come_back_with_a_state_end_on_a_page() -> None:
    core = Core()
    for _ in range(9):
        assert is_start(core.reply(HUB_CODE, NAVIGATION))
    page(core.reply(HUB_CODE, NAVIGATION), 500, "callback_not_reached")


# What becomes of an accepted code


@pytest.mark.parametrize(
    ("error", "status", "code"), [*TROUBLE, (CodeRefused("used"), 400, "code_refused")], ids=lambda value: str(value)
)
@pytest.mark.parametrize("endpoint", ["token", "user", "memberships"])
def test_a_hub_arrival_in_trouble(endpoint: str, error: SignInError, status: int, code: str) -> None:
    core = Core(require="prod_a", home="/start")
    core.whop.answers[endpoint] = error
    page(core.reply(HUB_CODE, HUB), status, code)
    assert not core.has_session
    core.signed_in(access={"prod_a": "customer"})
    before = dict(core.cookies)
    assert location(core.reply(HUB_CODE, HUB)) == "/start"
    assert core.cookies == before


def test_the_same_person_gets_a_new_session_with_fresh_verdicts() -> None:
    core = Core(require="prod_a").signed_in(access={})
    before = dict(core.cookies)
    data = [{"id": "mem_1", "product_id": "prod_a", "valid": True}]
    pagination = {"current_page": 1, "total_pages": 1, "next_page": None}
    core.whop.answers["memberships"] = httpx.Response(200, json={"data": data, "pagination": pagination})
    assert location(core.reply(HUB_CODE, HUB)) == "/"
    assert core.cookies != before
    user = core.forward("/").user
    assert user is not None
    assert user.access == {"prod_a": "customer"}


def test_another_person_is_never_swapped_in() -> None:
    core = Core(require="prod_a").signed_in("user_1", access={"prod_a": "customer"})
    session = core.cookies["__Host-whop_session"]
    core.whop.answers["user"] = person("user_2")
    assert is_start(core.reply(HUB_CODE, HUB))
    assert core.whop.asked == ["token", "user"]
    assert core.cookies["__Host-whop_session"] == session


def test_of_two_requests_with_one_code_one_is_served_and_the_other_starts_a_sign_in() -> None:
    core = Core()
    first = core.gate.handle(make_request(HUB_CODE, HUB))
    step = advance(first)
    assert not step.done
    assert is_start(core.reply(HUB_CODE, HUB))
    assert core.whop.asked == []
    step = advance(first, ok_token(step.ask))
    step = advance(first, person())
    assert isinstance(step.result, Reply)
    assert location(step.result) == "/"


def test_a_code_given_up_on_can_be_tried_again() -> None:
    core = Core()
    flow = core.gate.handle(make_request(HUB_CODE, HUB))
    advance(flow)
    flow.close()
    assert location(play(core.gate.handle(make_request(HUB_CODE, HUB)), core.whop)) == "/"


# Signing out


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", (("Sec-Fetch-Site", "same-origin"),)),
        ("POST", (("Sec-Fetch-Site", "same-origin"), ("Origin", "null"))),
        ("POST", (("Origin", ORIGIN),)),
        ("GET", (("Referer", f"{ORIGIN}/account"),)),
        ("POST", (("Origin", f"{ORIGIN}:443"),)),
        ("POST", ()),
    ],
)
def test_a_request_from_this_very_site_signs_out(method: str, headers: Headers) -> None:
    core = Core(home="/start").signed_in()
    stolen = dict(core.cookies)
    reply = core.reply("/logout/whop", headers, method=method, prefix="/shop")
    assert reply.status == 200
    assert "Signed out" in reply.body.decode()
    assert 'href="/shop/start"' in reply.body.decode()
    assert core.cookies == {}
    assert len(set_cookies(reply)) == 2
    assert header(reply, "Cache-Control") == "no-store"
    core.cookies = stolen  # a copy stays good until it expires: the documentation says so
    assert core.forward("/").user is not None


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", (("Sec-Fetch-Site", "cross-site"),)),
        ("GET", (("Sec-Fetch-Site", "same-site"), ("Origin", ORIGIN))),
        ("GET", (("Sec-Fetch-Site", "none"),)),
        ("POST", (("Sec-Fetch-Site", "cross-site"), ("Referer", f"{ORIGIN}/"))),
        ("POST", (("Origin", "https://evil.example"), ("Referer", f"{ORIGIN}/"))),
        ("POST", (("Origin", "null"),)),
        ("POST", (("Origin", "https://["),)),
        ("GET", (("Referer", "https://evil.example/"),)),
        ("GET", (("Referer", "http://app.example/"),)),
        ("GET", ()),
    ],
)
def test_any_other_request_gets_a_button(method: str, headers: Headers) -> None:
    core = Core().signed_in()
    reply = core.reply("/logout/whop", headers, method=method, prefix="/shop")
    assert reply.status == 200
    assert '<form method="post" action="/shop/logout/whop">' in reply.body.decode()
    assert core.has_session
    assert set_cookies(reply) == ()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_a_session_signing_out_shows_the_same_page(method: str) -> None:
    reply = Core().reply("/logout/whop", (("Sec-Fetch-Site", "cross-site"),), method=method)
    assert reply.status == 200
    assert "Signed out" in reply.body.decode()


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("HEAD", NAVIGATION, 204),
        ("GET", (*NAVIGATION, ("Sec-Purpose", "prefetch")), 204),
        ("PUT", NAVIGATION, 405),
        ("DELETE", FETCH, 405),
    ],
)
def test_other_methods_sign_nobody_out(method: str, headers: Headers, status: int) -> None:
    core = Core().signed_in()
    reply = core.reply("/logout/whop", (*headers, ("Origin", ORIGIN)), method=method)
    assert reply.status == status
    assert header(reply, "Allow") == ("GET, HEAD, POST" if status == 405 else None)
    assert core.has_session


def test_with_a_malformed_host_nobody_is_signed_out_by_a_header() -> None:
    core = Core(redirect_uri="/callback/whop").signed_in()
    headers = (("Origin", "https://a b"),)
    assert "form" in core.reply("/logout/whop", headers, host="a b").body.decode()
    assert core.has_session


# Through a browser


def test_a_browser_that_someone_sends_a_code_to_is_never_swapped(make_site: MakeSite, whop: FakeWhop) -> None:
    browser = Browser(make_site())
    browser.arrive_from_hub(whop, "user_1")
    answer = browser.arrive_from_hub(whop, "user_2")
    assert answer.location.startswith("https://whop.com/oauth?")
    user = browser.get("/").user
    assert user is not None
    assert user.id == "user_1"


@pytest.mark.parametrize(("policy", "status"), [("verify", 303), ("accept", 303), ("restart", 303), ("reject", 400)])
def test_a_browser_from_the_hub_under_each_policy(
    make_site: MakeSite, whop: FakeWhop, policy: str, status: int
) -> None:
    browser = Browser(make_site(hub_login=policy))
    answer = browser.arrive_from_hub(whop)
    assert answer.status == status
    assert (browser.get("/health").user is not None) == (policy in ("verify", "accept"))
    assert whop.count("token") == (1 if policy in ("verify", "accept") else 0)
    assert ("__Host-whop_session_login" in browser.cookies) == (policy == "restart")


def test_a_browser_signs_out_and_does_not_sign_in_again_by_itself(make_site: MakeSite, whop: FakeWhop) -> None:
    browser = Browser(make_site())
    browser.sign_in(whop)
    asking = browser.get("/logout/whop", NAVIGATION)
    assert b"<form" in asking.body
    done = browser.send("POST", "/logout/whop", (*NAVIGATION[:2], ("Origin", ORIGIN)))
    assert (done.status, browser.cookies) == (200, {})
    assert not done.called
    assert browser.get("/").status == 303


def test_codes_refused_twice_in_a_row_name_the_redirect_uri_once(
    make_site: MakeSite, whop: FakeWhop, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(make_site())
    whop.answers["token"] = httpx.Response(400, json={"error": "invalid_grant"})
    assert browser.arrive_from_hub(whop).status == 400
    assert "must equal the Callback URL" not in caplog.text
    assert [browser.arrive_from_hub(whop).status for _ in range(3)] == [400] * 3
    del whop.answers["token"]
    assert browser.arrive_from_hub(whop).status == 303
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert f"{browser.site.prefix}/callback/whop: it must equal the Callback URL at Whop" in errors[0]

"""Whole journeys through a browser, on ASGI and on WSGI, at the root and below a prefix."""

from __future__ import annotations

import httpx
import pytest

from .conftest import Clock, MakeSite
from .support import FETCH, NAVIGATION, ORIGIN, Browser, FakeWhop


def test_a_visitor_is_sent_to_whop_and_comes_back_to_the_page_asked_for(browser: Browser, whop: FakeWhop) -> None:
    answer = browser.sign_in(whop, "/reports?year=2026")
    assert answer.status == 200
    assert answer.user is not None
    assert answer.user.id == "user_1"
    assert whop.calls == ["token", "me"]
    assert browser.get("/reports").user == answer.user


def test_a_buyer_from_the_hub_is_in(browser: Browser, whop: FakeWhop) -> None:
    answer = browser.arrive_from_hub(whop)
    assert (answer.status, answer.location) == (303, f"{browser.site.prefix}/")
    assert browser.get("/").user is not None


def test_a_session_cookie_is_hardened(browser: Browser, whop: FakeWhop) -> None:
    cookies = browser.arrive_from_hub(whop).all("set-cookie")
    session = next(cookie for cookie in cookies if cookie.startswith("__Host-whop_session="))
    assert session.split("; ")[1:] == ["Path=/", "Max-Age=604800", "HttpOnly", "SameSite=Lax", "Secure"]


def test_the_way_back_carries_no_code(browser: Browser, whop: FakeWhop) -> None:
    answer = browser.arrive_from_hub(whop)
    assert answer.header("referrer-policy") == "no-referrer"
    assert answer.header("cache-control") == "no-store"
    assert "CODE" not in answer.location


def test_signing_out_ends_the_session(browser: Browser, whop: FakeWhop) -> None:
    browser.sign_in(whop)
    answer = browser.send("POST", "/logout/whop", (*NAVIGATION[:2], ("Sec-Fetch-Site", "same-origin")))
    assert answer.status == 200
    assert browser.cookies == {}
    assert browser.fetch("/").status == 401


def test_a_link_from_elsewhere_signs_nobody_out(browser: Browser, whop: FakeWhop) -> None:
    browser.sign_in(whop)
    answer = browser.get("/logout/whop", (*NAVIGATION[:2], ("Sec-Fetch-Site", "cross-site")))
    assert answer.status == 200
    assert b'method="post"' in answer.body
    assert browser.get("/").user is not None


def test_eight_tabs_can_sign_in_at_once(browser: Browser, whop: FakeWhop) -> None:
    browser.go("/first")
    leavings = [browser.go(f"/tab/{number}").location for number in range(8)]
    backs = [whop.approve(location) for location in leavings]
    landings = [browser.go(back) for back in backs]
    assert [answer.status for answer in landings] == [200] * 8
    assert {answer.user.id for answer in landings if answer.user} == {"user_1"}


def test_a_used_code_starts_over_once_and_then_says_so(browser: Browser, whop: FakeWhop) -> None:
    whop.answers["token"] = httpx.Response(400, json={"error": "invalid_grant"})
    first = browser.go(whop.approve(browser.go("/").location))
    assert first.status == 303
    second = browser.go(whop.approve(first.location))
    assert second.status == 400
    assert "code_refused" in second.text


def test_a_lost_login_cookie_starts_over_once_and_then_says_so(browser: Browser, whop: FakeWhop) -> None:
    leaving = browser.go("/")
    browser.cookies.clear()
    again = browser.go(whop.approve(leaving.location))
    assert again.status == 303
    browser.cookies.clear()
    last = browser.go(whop.approve(again.location))
    assert last.status == 400
    assert "state_invalid" in last.text
    assert whop.calls == []


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (httpx.Response(401, text="no"), 502, "credentials_refused"),
        (httpx.Response(503), 503, "whop_unreachable"),
        (httpx.Response(200, text="<html>"), 502, "bad_whop_answer"),
        (httpx.ConnectError("down"), 503, "whop_unreachable"),
    ],
)
def test_trouble_at_whop_has_its_page(
    browser: Browser, whop: FakeWhop, answer: httpx.Response | Exception, status: int, code: str
) -> None:
    whop.answers["token"] = answer
    page = browser.arrive_from_hub(whop)
    assert page.status == status
    assert code in page.text
    assert not any("session=" in cookie for cookie in page.all("set-cookie"))


def test_a_fetch_gets_a_problem(browser: Browser) -> None:
    answer = browser.fetch("/api")
    assert answer.status == 401
    assert answer.header("content-type") == "application/problem+json"
    assert answer.json()["code"] == "sign_in_required"
    assert answer.json()["login_url"] == f"{browser.site.prefix}/login/whop"
    assert not answer.called


def test_the_tenth_start_for_one_page_ends_on_a_page(browser: Browser, whop: FakeWhop) -> None:
    for _ in range(9):
        assert browser.go("/").location.startswith("https://whop.com/oauth?")
    answer = browser.go("/")
    assert answer.status == 500
    assert "callback_not_reached" in answer.text
    assert browser.go("/").status == 303


def test_cancelling_turns_the_buyer_away_at_the_next_check(make_site: MakeSite, whop: FakeWhop, clock: Clock) -> None:
    whop.owned["user_1"] = {"prod_a": "customer"}
    browser = Browser(make_site(require="prod_a", api_key="key-0123456789"))
    assert browser.sign_in(whop).status == 200
    whop.owned["user_1"] = {}
    assert browser.get("/").status == 200
    clock.tick(1000)
    assert browser.get("/").status == 403
    assert browser.get("/", FETCH).json()["code"] == "purchase_required"
    whop.owned["user_1"] = {"prod_a": "customer"}
    clock.tick(61)
    assert browser.get("/").status == 200


def test_without_an_api_key_a_silent_sign_in_rechecks(make_site: MakeSite, whop: FakeWhop, clock: Clock) -> None:
    whop.owned["user_1"] = {"prod_a": "customer"}
    browser = Browser(make_site(require="prod_a", session_max_age=10**6))
    assert browser.sign_in(whop, "/page").status == 200
    clock.tick(90_000)
    assert browser.fetch("/page").status == 200
    leaving = browser.get("/page")
    assert leaving.location.startswith("https://whop.com/oauth?")
    assert browser.get("/page").status == 200
    assert browser.go(whop.approve(leaving.location)).status == 200


def test_today_s_whop_signs_in_with_pkce(make_site: MakeSite, whop: FakeWhop) -> None:
    browser = Browser(make_site(client_id="app_1"))
    leaving = browser.go("/x")
    assert leaving.location.startswith("https://api.whop.com/oauth/authorize?")
    assert "code_challenge=" in leaving.location
    answer = browser.go(whop.approve(leaving.location))
    assert answer.status == 200
    assert whop.calls == ["token", "userinfo"]
    assert ORIGIN in leaving.location.replace("%3A", ":").replace("%2F", "/")

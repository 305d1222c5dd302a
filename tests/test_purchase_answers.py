"""What people get with and without the purchase: optional mode, the denied page, and whole visits by a browser."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .conftest import Clock, MakeSite
from .purchases import API_KEY, DOWN, FORM, buyer, says, user_of, with_key, without_key
from .steps import HTMX, Core
from .support import FETCH, Browser, FakeWhop


def owning(**levels: str) -> Callable[[httpx.Request], httpx.Response]:
    """Answer the access endpoint by resource id."""
    return lambda request: says(levels.get(request.url.path.rpartition("/")[2]))


# Optional


def test_in_optional_mode_nobody_is_sent_off_or_turned_away(clock: Clock) -> None:
    core = without_key(mode="optional", require=("prod_a", "prod_b")).signed_in(access={"prod_b": "admin"})
    for seconds in (0, 86_401):
        clock.tick(seconds)
        assert user_of(core.decide("/")).access == {"prod_b": "admin"}
    clock.tick(90_000)
    assert user_of(core.decide("/")).access == {}


def test_in_optional_mode_access_is_rechecked_with_a_key(clock: Clock) -> None:
    core = with_key(mode="optional", require=("prod_a", "prod_b")).signed_in(access={"prod_b": "admin"})
    clock.tick(1000)
    core.whop.answers["access"] = owning(prod_a="customer")
    assert user_of(core.decide("/", FETCH)).access == {"prod_a": "customer"}
    assert core.whop.asked == ["access", "access"]
    core.whop.answers["access"] = DOWN
    clock.tick(1000)
    assert user_of(core.decide("/")).access == {"prod_a": "customer"}
    clock.tick(100_000)
    assert user_of(core.decide("/")).access == {}
    assert user_of(core.decide("/health")).access == {}


def test_a_public_path_never_asks(clock: Clock) -> None:
    core = buyer(with_key())
    clock.tick(100)
    assert user_of(core.decide("/health"))
    clock.tick(1000)
    assert user_of(core.decide("/health"))
    assert core.whop.asked == []


# Without the purchase


def denied(**options: Any) -> Core:
    return with_key(buy_url="https://whop.com/shop", **options).signed_in(access={}, name="Ann <b>")


def test_the_denied_page_says_who_what_where_and_how_to_go_on() -> None:
    text = denied(require=("prod_a", "prod_b")).reply("/reports?year=2026").body.decode()
    assert "Signed in as Ann &lt;b&gt; (user_1)" in text
    for part in ("prod_a", "prod_b", 'href="https://whop.com/shop"', "WHOP_ALLOW_USERS=user_1"):
        assert part in text
    assert 'href="/login/whop?next=/reports%3Fyear%3D2026"' in text
    assert 'action="/logout/whop"' in text
    assert "Check again" in text
    assert "Use another account" in text
    assert "Switch to that account at Whop first" in text


def test_denials_keep_the_session_and_never_lead_to_a_sign_in_by_themselves(clock: Clock) -> None:
    core = denied()
    for _ in range(5):
        assert core.reply("/").status == 403
    assert core.has_session


def test_denials_are_logged_and_each_process_tells_the_owner_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "whop_middleware")
    core = denied()
    core.reply("/")
    core.signed_in("user_2", access={}).reply("/api", FETCH)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("No purchase")]
    assert "user_1 (yours? set WHOP_ALLOW_USERS=user_1)" in lines[0]
    assert "user_2" in lines[1]
    assert "WHOP_ALLOW_USERS" not in lines[1]


# Through a browser

BROWSER_OPTIONS: tuple[dict[str, Any], ...] = ({"api_key": API_KEY}, {"client_id": "app_1", "api_key": API_KEY}, {})


@pytest.mark.parametrize("options", BROWSER_OPTIONS)
def test_a_browser_buys_cancels_and_buys_again(
    make_site: MakeSite, whop: FakeWhop, clock: Clock, options: dict[str, Any]
) -> None:
    browser = Browser(make_site(require="prod_a", buy_url="https://whop.com/shop", recheck_after=900, **options))
    prefix = browser.site.prefix
    refused = browser.sign_in(whop, "/page")
    assert refused.status == 403
    assert not refused.called
    assert f'href="{prefix}/login/whop?next=/page"' in refused.text
    whop.owned["user_1"] = {"prod_a": "customer"}
    checking = browser.go("/login/whop?next=/page")
    bought = browser.go(whop.approve(checking.location))
    assert bought.status == 200
    assert bought.user is not None
    assert bought.user.access == {"prod_a": "customer"}
    whop.owned["user_1"] = {}
    clock.tick(901)
    answer = browser.get("/page")
    if "api_key" not in options:
        answer = browser.go(whop.approve(answer.location))
    assert answer.status == 403
    assert browser.fetch("/page").json()["code"] == "purchase_required"


def test_a_browser_rides_out_an_outage(make_site: MakeSite, whop: FakeWhop, clock: Clock) -> None:
    whop.owned["user_1"] = {"prod_a": "customer"}
    browser = Browser(make_site(require="prod_a", api_key=API_KEY))
    browser.sign_in(whop)
    whop.answers["access"] = httpx.ConnectError("down")
    clock.tick(1000)
    for _ in range(10):
        assert browser.get("/").status == 200
        assert browser.fetch("/").status == 200
    assert whop.count("access") == 3
    stranger = Browser(browser.site)
    assert stranger.sign_in(whop, user_id="user_2").status == 503
    assert whop.count("access") == 3
    clock.tick(61)
    del whop.answers["access"]
    assert browser.get("/").status == 200
    assert whop.count("access") == 4


def test_a_browser_meets_each_answer_without_the_purchase(make_site: MakeSite, whop: FakeWhop) -> None:
    browser = Browser(make_site(require="prod_a", denied_page="/no-access", home="/no-access"))
    browser.arrive_from_hub(whop)
    prefix = browser.site.prefix
    answer = browser.get("/x")
    assert (answer.status, answer.location) == (303, f"{prefix}/no-access")
    assert browser.get("/no-access").called
    answer = browser.send("POST", "/x", FORM)
    assert (answer.status, answer.location) == (303, f"{prefix}/no-access")
    answer = browser.get("/x", HTMX)
    assert (answer.status, answer.header("hx-redirect")) == (403, f"{prefix}/no-access")
    answer = browser.fetch("/x")
    assert (answer.status, answer.json()["code"]) == (403, "purchase_required")
    assert answer.header("cache-control") == "no-store"
    assert not answer.called
    assert Browser(browser.site).get("/no-access").status == 303


def test_in_optional_mode_nothing_due_means_no_closer_look(make_site: MakeSite, whop: FakeWhop, clock: Clock) -> None:
    whop.owned["user_1"] = {"prod_a": "customer"}
    browser = Browser(make_site(mode="optional", require=("prod_a", "prod_b"), api_key="key-0123456789"))
    browser.arrive_from_hub(whop)
    gate, cookie = browser.site.middleware._gate, next(f"{name}={value}" for name, value in browser.cookies.items())
    asked = whop.count("access")
    assert gate.at_once("GET", "/", browser.site.prefix, "https", cookie.encode()) is not None
    clock.tick(61)
    assert gate.at_once("GET", "/", browser.site.prefix, "https", cookie.encode()) is None
    assert browser.get("/").user is not None
    assert whop.count("access") == asked + 1


def test_in_optional_mode_without_a_key_nothing_is_ever_asked(
    make_site: MakeSite, whop: FakeWhop, clock: Clock
) -> None:
    whop.owned["user_1"] = {"prod_a": "customer"}
    browser = Browser(make_site(mode="optional", require="prod_a", session_max_age=10**6))
    browser.arrive_from_hub(whop)
    asked = len(whop.calls)
    clock.tick(90_000)
    user = browser.get("/").user
    assert user is not None
    assert user.access == {"prod_a": "customer"}
    clock.tick(90_000)
    user = browser.get("/").user
    assert user is not None
    assert user.access == {}
    assert len(whop.calls) == asked

"""Proof of purchase asked again without an API key: by a silent sign-in, and by nothing else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from .conftest import Clock
from .purchases import DOWN, FORM, buyer, listing, membership, sign_in, user_of, without_key
from .steps import HTMX, header, is_start, location, set_cookies
from .support import FETCH, NAVIGATION, Headers

FRAME = (("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe"), ("Accept", "text/html"))
PREFETCH = (*NAVIGATION, ("Sec-Purpose", "prefetch"))


def test_a_page_load_goes_through_a_silent_sign_in_once(clock: Clock) -> None:
    core = buyer(without_key(recheck_grace=10**6))
    clock.tick(86_401)
    leaving = core.reply("/page?a=1")
    assert is_start(leaving)
    assert core.has_session
    assert user_of(core.decide("/page?a=1"))
    clock.tick(86_000)
    assert user_of(core.decide("/other"))
    clock.tick(500)
    assert is_start(core.reply("/other"))


def test_the_silent_sign_in_comes_back_to_the_same_address_with_fresh_verdicts(clock: Clock) -> None:
    core = buyer(without_key())
    clock.tick(86_401)
    state = httpx.URL(location(core.reply("/page?a=1"))).params["state"]
    core.whop.answers["memberships"] = listing()
    assert location(core.reply(f"/callback/whop?code=C&state={state}")) == "/page?a=1"
    reply = core.reply("/page?a=1")
    assert reply.status == 403
    assert "check again" in reply.body.decode().lower()
    assert core.reply("/page?a=1").status == 403


@pytest.mark.parametrize(
    ("headers", "method", "websocket"),
    [
        (FETCH, "GET", False),
        (HTMX, "GET", False),
        (FRAME, "GET", False),
        (PREFETCH, "GET", False),
        (NAVIGATION, "HEAD", False),
        (FORM, "POST", False),
        ((), "GET", True),
    ],
)
def test_other_requests_keep_the_last_verdict(clock: Clock, headers: Headers, method: str, websocket: bool) -> None:
    core = buyer(without_key())
    clock.tick(86_401)
    decision = core.decide("/x", headers, method=method, websocket=websocket)
    assert user_of(decision)
    assert set_cookies(decision) == ()
    changed = without_key(require="prod_new")
    changed.cookies = core.cookies
    reply = changed.reply("/x", headers, method=method, websocket=websocket)
    assert reply.status == 401
    assert changed.has_session


@pytest.mark.parametrize("headers", [NAVIGATION, (("Accept", "text/html"),), ()])
def test_a_page_load_with_an_id_never_asked_about_goes_to_whop(headers: Headers) -> None:
    core = buyer(without_key())
    changed = without_key(require="prod_new")
    changed.cookies = core.cookies
    assert is_start(changed.reply("/", headers))
    page_of_fault = changed.reply("/", headers)
    assert (page_of_fault.status, header(page_of_fault, "Retry-After")) == (503, "60")
    assert 'href="/login/whop?next=/"' in page_of_fault.body.decode()


def test_a_bad_verdict_is_asked_again_by_a_new_sign_in_only(clock: Clock) -> None:
    core = without_key().signed_in(access={})
    clock.tick(100_000)
    assert core.reply("/").status == 403
    core.whop.answers["memberships"] = listing(membership("prod_a"))
    assert location(sign_in(core)) == "/"
    assert user_of(core.decide("/"))


@pytest.mark.parametrize(
    "answers",
    [
        {"token": httpx.Response(503)},
        {"token": httpx.Response(400, json={"error": "invalid_grant"})},
        {"token": httpx.Response(401)},
        {"user": httpx.Response(500)},
        {"memberships": httpx.Response(200, text="no")},
        {"memberships": DOWN},
    ],
)
def test_whatever_fails_on_the_way_a_payer_lands_on_the_page_and_stays_in(
    clock: Clock, answers: dict[str, Any]
) -> None:
    core = buyer(without_key())
    clock.tick(86_401)
    state = httpx.URL(location(core.reply("/page"))).params["state"]
    core.whop.answers |= answers
    assert location(core.reply(f"/callback/whop?code=C&state={state}")) == "/page"
    assert user_of(core.decide("/page"))


@pytest.mark.parametrize("endpoint", ["token", "user", "memberships"])
def test_after_a_failed_silent_sign_in_nobody_is_sent_off_for_a_minute(
    clock: Clock, caplog: pytest.LogCaptureFixture, endpoint: str
) -> None:
    core = buyer(without_key())
    mine = dict(core.cookies)
    other = dict(core.signed_in("user_2", access={"prod_a": "customer"}).cookies)
    clock.tick(86_401)
    core.cookies = mine
    state = httpx.URL(location(core.reply("/page"))).params["state"]
    core.whop.answers[endpoint] = DOWN
    assert location(core.reply(f"/callback/whop?code=C&state={state}")) == "/page"
    core.cookies = dict(other)
    clock.tick(59)
    assert user_of(core.decide("/")).id == "user_2"
    clock.tick(2)
    assert is_start(core.reply("/"))
    warnings = [record for record in caplog.records if "stay in for up to" in record.getMessage()]
    assert len(warnings) == 1


def test_a_failed_sign_in_that_was_no_recheck_holds_nobody_back(clock: Clock) -> None:
    core = buyer(without_key())
    state = httpx.URL(location(core.reply("/login/whop"))).params["state"]
    core.whop.answers["user"] = DOWN
    assert location(core.reply(f"/callback/whop?code=C&state={state}")) == "/"
    assert not core.gate.upstream.rests()
    core.gate.upstream.pause("user")
    clock.tick(30)
    state = httpx.URL(location(core.reply("/login/whop"))).params["state"]
    core.reply(f"/callback/whop?code=C&state={state}")
    assert core.gate.upstream.paused("user") == 30


@pytest.mark.parametrize("error", ["access_denied", "server_error", "login_required"])
def test_a_silent_sign_in_that_whop_turns_down_lands_on_the_page(clock: Clock, error: str) -> None:
    core = buyer(without_key())
    clock.tick(86_401)
    state = httpx.URL(location(core.reply("/page"))).params["state"]
    assert location(core.reply(f"/callback/whop?error={error}&state={state}")) == "/page"
    assert user_of(core.decide("/page"))


def test_without_a_key_a_verdict_ends_with_its_grace(clock: Clock) -> None:
    core = buyer(without_key(recheck_after=1000, recheck_grace=500))
    clock.tick(1001)
    assert is_start(core.reply("/"))
    clock.tick(600)
    reply = core.reply("/")
    assert reply.status == 503
    assert "whop_unreachable" in reply.body.decode()
    assert core.reply("/", FETCH).status == 401
    clock.tick(1001)
    assert is_start(core.reply("/"))


def test_nobody_is_sent_off_while_the_token_endpoint_rests(clock: Clock) -> None:
    core = buyer(without_key())
    clock.tick(86_401)
    core.gate.upstream.pause("token")
    assert user_of(core.decide("/"))
    assert set_cookies(core.decide("/")) == ()


def test_another_server_s_clock_does_not_send_anyone_off_twice(clock: Clock) -> None:
    core = buyer(without_key())
    clock.tick(86_401)
    assert is_start(core.reply("/"))
    clock.tick(-30)
    assert user_of(core.decide("/"))

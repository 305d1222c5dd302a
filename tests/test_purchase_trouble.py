"""Proof of purchase while Whop cannot be asked, with an API key: what holds, for how long, and who waits."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

from whop_middleware.drive import advance
from whop_middleware.messages import Together

from .conftest import Clock
from .purchases import API_KEY, DOWN, buyer, says, sign_in, user_of, with_key
from .steps import header, make_request, page
from .support import FETCH, Headers


def test_a_payer_stays_in_until_the_grace_is_over_and_one_warning_says_so(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    core = buyer(with_key(recheck_grace=3600))
    core.whop.answers["access"] = DOWN
    clock.tick(901)
    while clock.at < user_of(core.decide("/")).signed_in_at + 810 + 3500:
        clock.tick(30)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "3600 s" in warnings[0]
    clock.tick(700)
    reply = core.reply("/", FETCH)
    assert (reply.status, json.loads(reply.body)["code"]) == (503, "whop_unreachable")
    assert header(reply, "Retry-After") == "60"
    reply = core.reply("/")
    assert reply.status == 503
    assert "whop_unreachable" in reply.body.decode()
    assert core.has_session
    core.whop.answers["access"] = says("customer")
    clock.tick(61)
    assert user_of(core.decide("/"))


def test_after_a_failed_recheck_nobody_is_asked_about_for_a_minute(clock: Clock) -> None:
    core = buyer(with_key())
    other = dict(core.signed_in("user_2", access={"prod_a": "admin"}).cookies)
    core = buyer(core)
    clock.tick(1000)
    core.whop.answers["access"] = DOWN
    assert user_of(core.decide("/"))
    core.cookies = other
    clock.tick(59)
    assert user_of(core.decide("/")).id == "user_2"
    assert core.whop.asked == ["access"]
    clock.tick(2)
    core.whop.answers["access"] = says("admin")
    assert user_of(core.decide("/")).id == "user_2"
    assert core.whop.asked == ["access", "access"]


def test_while_somebody_tries_if_whop_is_back_the_others_do_not_wait(clock: Clock) -> None:
    core = buyer(with_key())
    mine = dict(core.cookies)
    other = dict(core.signed_in("user_2", access={"prod_a": "admin"}).cookies)
    newcomer = with_key(require=()).signed_in("user_3").cookies
    clock.tick(1000)
    core.cookies = mine
    core.whop.answers["access"] = DOWN
    core.decide("/")
    clock.tick(61)

    def cookie(cookies: dict[str, str]) -> Headers:
        return (*FETCH, *(("Cookie", f"{name}={value}") for name, value in cookies.items()))

    trying = advance(core.gate.handle(make_request("/", cookie(mine))))
    assert isinstance(trying.ask, Together)
    probe = advance(trying.ask.flows[0]).ask
    advance(probe.flow)
    core.cookies = other
    assert user_of(core.decide("/")).id == "user_2"
    core.cookies = dict(newcomer)
    reply = core.reply("/", FETCH)
    assert (reply.status, header(reply, "Retry-After")) == (503, "60")
    assert core.whop.asked == ["access"]
    assert advance(core.gate.handle(make_request("/", cookie(mine)))).done


def test_a_short_wait_that_whop_asks_for_does_not_shorten_the_minute(clock: Clock) -> None:
    core = buyer(with_key())
    clock.tick(1000)
    core.whop.answers["access"] = httpx.Response(429, headers={"Retry-After": "5"})
    core.decide("/")
    clock.tick(30)
    core.decide("/")
    assert core.whop.asked == ["access"]
    clock.tick(31)
    core.decide("/")
    assert core.whop.asked == ["access", "access"]


def test_a_long_wait_that_whop_asks_for_is_kept(clock: Clock) -> None:
    core = buyer(with_key())
    clock.tick(1000)
    core.whop.answers["access"] = httpx.Response(429, headers={"Retry-After": "600"})
    core.decide("/")
    clock.tick(590)
    core.decide("/")
    assert core.whop.asked == ["access"]


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        (httpx.Response(401), logging.ERROR),
        (httpx.Response(403), logging.ERROR),
        (httpx.Response(500), logging.WARNING),
        (httpx.Response(302), logging.WARNING),
        (httpx.Response(200, text="nonsense"), logging.WARNING),
        (httpx.Response(200, json={"has_access": "yes"}), logging.WARNING),
    ],
)
def test_trouble_is_never_no_access(
    clock: Clock, caplog: pytest.LogCaptureFixture, answer: httpx.Response, level: int
) -> None:
    core = buyer(with_key())
    clock.tick(1000)
    core.whop.answers["access"] = answer
    assert user_of(core.decide("/")).access == {"prod_a": "customer"}
    assert [record.levelno for record in caplog.records] == [level]
    assert ("WHOP_API_KEY" in caplog.text) == (level == logging.ERROR)
    assert API_KEY not in caplog.text


def test_a_second_outage_has_its_own_warning(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    core = buyer(with_key())
    for answer in (DOWN, says("customer"), DOWN):
        clock.tick(1000)
        core.whop.answers["access"] = answer
        assert user_of(core.decide("/"))
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_nobody_new_gets_in_while_whop_cannot_be_asked(clock: Clock) -> None:
    core = with_key()
    core.whop.answers["access"] = DOWN
    page(sign_in(core), 503, "whop_unreachable")
    assert not core.has_session


def test_what_one_question_answered_counts_though_another_failed(clock: Clock) -> None:
    core = with_key(require=()).signed_in()
    strict = with_key(require=("prod_a", "prod_b"))
    strict.cookies = core.cookies

    def half(request: httpx.Request) -> httpx.Response:
        return says("customer") if request.url.path.endswith("prod_a") else httpx.Response(503)

    strict.whop.answers["access"] = half
    assert user_of(strict.decide("/")).access == {"prod_a": "customer"}


def test_someone_turned_away_stays_so_while_whop_cannot_be_asked(clock: Clock) -> None:
    core = with_key().signed_in(access={})
    clock.tick(100)
    core.whop.answers["access"] = DOWN
    assert core.reply("/").status == 403


def test_a_websocket_with_an_aged_verdict_is_asked_about(clock: Clock) -> None:
    core = buyer(with_key())
    clock.tick(1000)
    core.whop.answers["access"] = says(None)
    assert core.reply("/live", (), websocket=True).status == 403

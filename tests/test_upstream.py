"""One call to Whop: what is tried again, what is held back and for how long, and how answers are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from whop_middleware.drive import advance
from whop_middleware.errors import BadWhopAnswer, CodeRefused, SignInError, WhopUnreachable
from whop_middleware.upstream import PAUSE, Upstream
from whop_middleware.whop.answers import read_object

from .conftest import Clock, MakeSite
from .support import Browser, FakeWhop

ME = httpx.Request("GET", "https://api.whop.com/v5/me")
TOKEN = httpx.Request("POST", "https://api.whop.com/v5/oauth/token")
LIMITED = httpx.Response(429, headers={"Retry-After": "30"})
LOST = WhopUnreachable("Whop could not be reached (ReadError)")


def parse(response: httpx.Response) -> dict[str, Any]:
    return read_object(response, "a question")


def play(upstream: Upstream, answers: list[httpx.Response | SignInError], **options: Any) -> tuple[Any, int]:
    """Step a call; return its result or error, and how many answers it took."""
    flow = upstream.call(options.pop("request", ME), parse, **options)
    taken = 0
    try:
        step = advance(flow)
        while not step.done:
            answer = answers[taken]
            taken += 1
            step = advance(flow, error=answer) if isinstance(answer, SignInError) else advance(flow, answer)
    except SignInError as error:
        return error, taken
    return step.result, taken


def good() -> httpx.Response:
    return httpx.Response(200, json={"id": "user_1"})


def test_a_good_answer_is_parsed() -> None:
    assert play(Upstream(), [good()]) == ({"id": "user_1"}, 1)


@pytest.mark.parametrize("first", [LOST, httpx.Response(500), httpx.Response(503)])
def test_an_idempotent_call_is_tried_once_more(first: httpx.Response | SignInError) -> None:
    assert play(Upstream(), [first, good()], idempotent=True) == ({"id": "user_1"}, 2)
    error, taken = play(Upstream(), [first, first, good()], idempotent=True)
    assert (type(error), taken) == (WhopUnreachable, 2)


@pytest.mark.parametrize("first", [LOST, httpx.Response(500), LIMITED])
def test_any_other_call_is_not(first: httpx.Response | SignInError) -> None:
    error, taken = play(Upstream(), [first, good()])
    assert (type(error), taken) == (WhopUnreachable, 1)


@pytest.mark.parametrize(
    "first", [httpx.Response(401), httpx.Response(200, text="no"), BadWhopAnswer("cut off"), LIMITED]
)
def test_an_answer_is_not_asked_for_twice(first: httpx.Response | SignInError) -> None:
    error, taken = play(Upstream(), [first, good()], idempotent=True)
    assert isinstance(error, BadWhopAnswer | WhopUnreachable)
    assert taken == 1


def test_after_429_nothing_is_sent_to_that_endpoint_until_its_time_is_over(clock: Clock) -> None:
    upstream = Upstream()
    play(upstream, [LIMITED])
    clock.tick(10.5)
    error, taken = play(upstream, [good()])
    assert (type(error), taken, error.retry_after) == (WhopUnreachable, 0, 20)
    assert play(upstream, [good()], request=TOKEN) == ({"id": "user_1"}, 1)
    clock.tick(19.5)
    assert play(upstream, [good()]) == ({"id": "user_1"}, 1)


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, 60), ("", 60), ("7", 7), ("99999", 3600), ("soon", 60), ("-3", 60), ("0", 0)]
)
def test_the_time_is_whop_s_own_up_to_an_hour_else_a_minute(clock: Clock, value: str | None, seconds: int) -> None:
    upstream = Upstream()
    play(upstream, [httpx.Response(429, headers={} if value is None else {"Retry-After": value})])
    assert upstream.paused("user") == seconds


def test_a_shorter_pause_never_ends_a_longer_one(clock: Clock) -> None:
    upstream = Upstream()
    upstream.pause("access", 600)
    upstream.pause("access")
    assert upstream.paused("access") == 600
    upstream.pause("token")
    assert upstream.paused("token") == PAUSE


@pytest.mark.parametrize(("step", "left"), [(-30, 90), (-61, 0), (-100_000, 0), (59, 1), (60, 0), (100_000, 0)])
def test_a_clock_that_steps_back_makes_no_hour_of_a_minute(clock: Clock, step: int, left: int) -> None:
    upstream = Upstream()
    upstream.pause("access")
    clock.tick(step)
    assert upstream.paused("access") == left


def test_an_error_of_the_parser_goes_through() -> None:
    def refuse(response: httpx.Response) -> None:
        raise CodeRefused("used")

    flow = Upstream().call(TOKEN, refuse)
    advance(flow)
    with pytest.raises(CodeRefused):
        advance(flow, good())


# Through a whole sign-in


def chain(*answers: httpx.Response | Exception) -> Callable[[httpx.Request], httpx.Response]:
    left = list(answers)

    def answer(_request: httpx.Request) -> httpx.Response:
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return answer


@pytest.mark.parametrize("first", [httpx.ReadError("x"), httpx.ReadTimeout("x"), httpx.Response(502)])
def test_a_hiccup_at_me_costs_nobody_the_sign_in(
    make_site: MakeSite, whop: FakeWhop, first: httpx.Response | Exception
) -> None:
    whop.answers["me"] = chain(first, httpx.Response(200, json={"id": "user_1"}))
    assert Browser(make_site()).arrive_from_hub(whop).status == 303
    assert whop.calls == ["token", "me", "me"]


@pytest.mark.parametrize(
    ("first", "calls"),
    [
        (httpx.ConnectError("x"), 2),
        (httpx.ConnectTimeout("x"), 2),
        (httpx.ReadError("x"), 1),
        (httpx.WriteError("x"), 1),
        (httpx.ReadTimeout("x"), 1),
        (httpx.RemoteProtocolError("x"), 1),
        (httpx.Response(500), 1),
        (httpx.Response(429), 1),
    ],
)
def test_a_code_is_sent_again_only_if_no_connection_was_made(
    make_site: MakeSite, whop: FakeWhop, first: httpx.Response | Exception, calls: int
) -> None:
    good = httpx.Response(200, json={"access_token": "AT-user_1"})
    whop.answers["token"] = chain(first, good)
    answer = Browser(make_site()).arrive_from_hub(whop)
    assert answer.status == (303 if calls == 2 else 503)
    assert whop.count("token") == calls


@pytest.mark.parametrize(("retry_after", "shown"), [("30", "30"), ("4000", "3600"), ("soon", "60"), (None, "60")])
def test_a_locked_out_process_sends_no_codes_and_says_when_to_come_back(
    make_site: MakeSite, whop: FakeWhop, clock: Clock, retry_after: str | None, shown: str
) -> None:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    whop.answers["token"] = httpx.Response(429, headers=headers, json={"message": "You are being rate limited"})
    browser = Browser(make_site())
    page = browser.arrive_from_hub(whop)
    assert (page.status, page.header("retry-after")) == (503, shown)
    assert "rate limited" not in page.text
    del whop.answers["token"]
    clock.tick(int(shown) - 1)
    page = browser.arrive_from_hub(whop)
    assert (page.status, page.header("retry-after")) == (503, "1")
    assert whop.calls == ["token"]
    clock.tick(1)
    assert browser.arrive_from_hub(whop).status == 303

"""Proof of purchase asked again with an API key, as it ages and as clocks step; what a process remembers."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from whop_middleware import WhopUser
from whop_middleware.bounded import trim
from whop_middleware.drive import Step, advance
from whop_middleware.errors import BadWhopAnswer, CredentialsRefused
from whop_middleware.messages import Once, Reply, Together
from whop_middleware.purchase import Purchase
from whop_middleware.sessions import Session, Sessions, Verdict

from .conftest import Clock, MakeSite
from .purchases import API_KEY, DOWN, buyer, says, user_of, with_key
from .steps import make_request, set_cookies
from .support import FETCH, Browser, FakeWhop, make_config

# Asking again with a key


@pytest.mark.parametrize(("level", "status"), [("customer", None), ("admin", None), (None, 403)])
def test_a_verdict_past_its_time_is_asked_again_first(clock: Clock, level: str | None, status: int | None) -> None:
    core = buyer(with_key())
    clock.tick(800)
    assert user_of(core.decide("/"))
    assert core.whop.asked == []
    clock.tick(101)
    core.whop.answers["access"] = says(level)
    decision = core.decide("/")
    assert core.whop.asked == ["access"]
    assert (decision.status if isinstance(decision, Reply) else None) == status
    assert [cookie.partition("=")[0] for cookie in set_cookies(decision)] == ["__Host-whop_session"]
    assert set_cookies(core.decide("/", FETCH)) == ()
    assert core.whop.asked == ["access"]


def test_the_new_verdict_keeps_the_session_s_age(clock: Clock) -> None:
    core = buyer(with_key(session_max_age=5000))
    began = int(clock.at)
    core.whop.answers["access"] = says("customer")
    for _ in range(4):
        clock.tick(1000)
        assert user_of(core.decide("/")).signed_in_at == began
    clock.tick(1001)
    assert core.reply("/").status == 303


def test_due_times_are_spread_over_a_tenth_and_fixed_for_each_user(clock: Clock) -> None:
    sessions = Sessions(make_config(require="prod_a", recheck_after=1000))
    at = int(clock.at)

    def due(number: int) -> float:
        user = WhopUser(id=f"user_{number}", signed_in_at=at)
        return sessions.due_at(Session(user), Verdict("customer", at)) - at

    spread = [due(number) for number in range(300)]
    assert all(900 <= seconds <= 1000 for seconds in spread)
    assert min(spread) < 910
    assert max(spread) > 990
    assert due(7) == spread[7]


def test_what_the_process_knows_counts_for_the_old_cookie_too(clock: Clock) -> None:
    core = buyer(with_key())
    old = dict(core.cookies)
    clock.tick(1000)
    core.whop.answers["access"] = says("customer")
    core.decide("/")
    core.cookies = dict(old)
    decision = core.decide("/", FETCH)
    assert user_of(decision)
    assert len(set_cookies(decision)) == 1
    assert core.whop.asked == ["access"]
    clock.tick(1000)
    core.cookies = dict(old)
    core.decide("/")
    assert core.whop.asked == ["access", "access"]


def test_an_id_the_session_was_never_asked_about_is_asked_first(clock: Clock) -> None:
    core = buyer(with_key())
    changed = with_key(require="prod_new")
    changed.cookies, changed.whop.answers["access"] = core.cookies, says("customer")
    assert user_of(changed.decide("/", FETCH)).access == {"prod_a": "customer", "prod_new": "customer"}
    assert changed.whop.asked == ["access"]
    clock.tick(10)
    changed.decide("/")
    assert changed.whop.asked == ["access"]


def test_an_id_that_would_only_help_is_not_asked_while_another_is_good() -> None:
    core = with_key(require="prod_a").signed_in(access={"prod_a": "customer"})
    changed = with_key(require=("prod_a", "prod_b"))
    changed.cookies = core.cookies
    assert user_of(changed.decide("/"))
    assert changed.whop.asked == []


def test_a_bad_verdict_is_asked_again_after_a_minute(clock: Clock) -> None:
    core = with_key().signed_in(access={})
    clock.tick(59)
    assert core.reply("/").status == 403
    assert core.whop.asked == []
    clock.tick(2)
    core.whop.answers["access"] = says(None)
    assert core.reply("/").status == 403
    assert core.whop.asked == ["access"]
    clock.tick(30)
    core.reply("/")
    assert core.whop.asked == ["access"]
    clock.tick(31)
    core.whop.answers["access"] = says("customer")
    assert user_of(core.decide("/", FETCH)).access == {"prod_a": "customer"}


def test_the_first_request_waits_and_the_others_go_on_with_the_last_verdict(clock: Clock) -> None:
    core = buyer(with_key())
    clock.tick(1000)
    cookie = (("Cookie", next(f"{name}={value}" for name, value in core.cookies.items())),)
    first = core.gate.handle(make_request("/", (*FETCH, *cookie)))
    question = advance(first)
    assert isinstance(question.ask, Together)
    once = advance(question.ask.flows[0])
    assert isinstance(once.ask, Once)
    assert isinstance(advance(once.ask.flow).ask, httpx.Request)
    for _ in range(3):
        other = advance(core.gate.handle(make_request("/", (*FETCH, *cookie))))
        assert other.done
        assert user_of(other.result)
        assert other.result.set_cookies == ()
    once.ask.flow.close()
    assert isinstance(advance(core.gate.handle(make_request("/", (*FETCH, *cookie)))).ask, Together)


def test_a_question_already_answered_to_another_thread_is_not_asked_again(clock: Clock) -> None:
    core = buyer(with_key())
    clock.tick(1000)
    cookie = (("Cookie", next(f"{name}={value}" for name, value in core.cookies.items())),)
    late = core.gate.handle(make_request("/", (*FETCH, *cookie)))
    question = advance(late)
    core.whop.answers["access"] = says(None)
    assert core.reply("/").status == 403
    once = advance(question.ask.flows[0])
    assert advance(once.ask.flow) == Step(result=Verdict(None, int(clock.at)), done=True)


def test_everybody_waits_who_has_no_verdict_to_go_on_with() -> None:
    core = with_key(require=()).signed_in()
    strict = with_key()
    cookie = (("Cookie", next(f"{name}={value}" for name, value in core.cookies.items())),)
    asks = [advance(strict.gate.handle(make_request("/", (*FETCH, *cookie)))).ask for _ in range(3)]
    keys = {advance(ask.flows[0]).ask.key for ask in asks}
    assert keys == {("access", "user_1", "prod_a")}


# Clocks that step


def test_a_clock_stepping_back_extends_no_verdict(make_site: MakeSite, whop: FakeWhop, clock: Clock) -> None:
    whop.owned["user_1"] = {"prod_a": "customer"}
    browser = Browser(make_site(require="prod_a", api_key=API_KEY, session_max_age=10**6))
    browser.sign_in(whop)
    clock.tick(50_000)
    assert browser.get("/").status == 200
    asked = whop.count("access")
    whop.owned["user_1"] = {}
    clock.tick(-40_000)
    assert browser.get("/").status == 403
    assert whop.count("access") == asked + 1
    assert browser.fetch("/").status == 403
    assert whop.count("access") == asked + 1


def test_a_clock_stepping_back_does_not_make_an_old_cookie_ask_each_time(clock: Clock) -> None:
    core = buyer(with_key())
    clock.tick(5000)
    core.whop.answers["access"] = says("customer")
    core.decide("/")
    ahead = dict(core.cookies)
    clock.tick(-3000)
    for _ in range(3):
        core.cookies = dict(ahead)
        assert user_of(core.decide("/"))
    assert core.whop.asked == ["access", "access"]


def test_a_session_from_the_future_is_none(clock: Clock) -> None:
    core = buyer(with_key())
    clock.tick(-61)
    assert core.reply("/").status == 303


def test_a_clock_stepping_forward_ends_what_has_ended(clock: Clock) -> None:
    core = buyer(with_key(session_max_age=604_800))
    core.whop.answers["access"] = DOWN
    clock.tick(500_000)
    assert core.reply("/").status == 503
    clock.tick(200_000)
    assert core.reply("/").status == 303


# The map of recent verdicts


def test_recent_verdicts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whop_middleware.purchase._VERDICTS_KEPT", 16)
    gate = with_key().gate
    assert isinstance(gate.purchase, Purchase)
    for number in range(100):
        gate.purchase._remember(f"user_{number}", {"prod_a": Verdict("customer", 1)})
    assert len(gate.purchase._recent) <= 16
    assert ("user_99", "prod_a") in gate.purchase._recent


def test_a_dict_that_another_thread_changes_is_trimmed_by_that_one() -> None:
    class Busy(dict[str, int]):
        def __iter__(self) -> Iterator[str]:
            raise RuntimeError("dictionary changed size during iteration")

    busy = Busy(dict.fromkeys("abcdefghij", 1))
    trim(busy, 8)
    assert len(busy) == 10


def test_an_outage_that_begins_at_a_question_leaves_no_question_behind(clock: Clock) -> None:
    core = buyer(with_key())
    clock.tick(1000)
    for error in (DOWN, BadWhopAnswer("no"), CredentialsRefused("no")):
        core.whop.answers["access"] = error
        assert user_of(core.decide("/"))
        assert core.gate.purchase._asking == set()
        clock.tick(61)

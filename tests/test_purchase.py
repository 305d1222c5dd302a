"""Proof of purchase: asked at sign-in, asked again as it ages, and what holds while Whop cannot be asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from whop_middleware import WhopUser
from whop_middleware.bounded import trim
from whop_middleware.drive import Step, advance
from whop_middleware.errors import BadWhopAnswer, CredentialsRefused, SignInError, WhopUnreachable
from whop_middleware.gate import Gate
from whop_middleware.messages import Forward, Once, Reply, Together
from whop_middleware.purchase import Purchase
from whop_middleware.sessions import Session, Sessions, Verdict

from .conftest import Clock, MakeSite
from .steps import Core, ScriptedWhop, header, is_start, location, make_request, page, play, set_cookies
from .support import FETCH, NAVIGATION, Browser, FakeWhop, Headers, make_config

API_KEY = "api-key-0123456789"
HTMX = (("HX-Request", "true"), *FETCH)
FORM = (*NAVIGATION[:3], ("Accept", "text/html"))
FRAME = (("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe"), ("Accept", "text/html"))
PREFETCH = (*NAVIGATION, ("Sec-Purpose", "prefetch"))
DOWN = WhopUnreachable("Whop answered the question about access with HTTP 503")


def says(level: str | None) -> httpx.Response:
    return httpx.Response(200, json={"has_access": level is not None, "access_level": level or "no_access"})


def owning(**levels: str) -> Callable[[httpx.Request], httpx.Response]:
    """Answer the access endpoint by resource id."""
    return lambda request: says(levels.get(request.url.path.rpartition("/")[2]))


def with_key(**options: Any) -> Core:
    return Core(**{"require": "prod_a", "api_key": API_KEY, "session_max_age": 10**7} | options)


def without_key(**options: Any) -> Core:
    return Core(**{"require": "prod_a", "session_max_age": 10**7} | options)


def buyer(core: Core, **access: str) -> Core:
    return core.signed_in(access=access or {"prod_a": "customer"})


def user_of(decision: Forward | Reply) -> WhopUser:
    assert isinstance(decision, Forward), decision
    assert decision.user is not None
    return decision.user


def listing(*memberships: dict[str, Any], page: int = 1, pages: int = 1) -> httpx.Response:
    following = page + 1 if page < pages else None
    pagination = {"current_page": page, "total_pages": pages, "next_page": following}
    return httpx.Response(200, json={"pagination": pagination, "data": list(memberships)})


def membership(product_id: str, *, valid: object = True, status: str = "active") -> dict[str, Any]:
    return {"id": "mem_1", "product_id": product_id, "valid": valid, "status": status}


def sign_in(core: Core) -> Reply:
    """Arrive from the Hub."""
    return core.reply("/callback/whop?code=C", (*NAVIGATION, ("Referer", "https://whop.com/")))


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


# Whop is in trouble, with a key


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


# Asking again without a key


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

"""The state of a sign-in and the login cookie that binds it: counted, small, and nobody else's."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest

from whop_middleware.states import LoginCookie, States, count_start

from .conftest import Clock
from .steps import Core, location
from .support import make_config

NAME = "__Host-whop_session"


def test_starts_are_counted_per_page_and_minute() -> None:
    login, counts = LoginCookie.new(), []
    for at, path in ((0, "/a"), (1, "/a"), (2, "/b"), (59, "/a"), (60, "/a"), (200, "/a")):
        login, count = count_start(login, path, 1_000_000 + at)
        counts.append(count)
    assert counts == [1, 2, 1, 3, 3, 1]


def test_the_login_cookie_stays_small_however_many_starts_it_has_seen(clock: Clock) -> None:
    core = Core()
    for number in range(300):
        core.reply(f"/login/whop?next=/page/{number}")
    assert len(core.cookies) == 1
    assert len(core.cookies[f"{NAME}_login"]) < 2048


@pytest.mark.parametrize("text", ["", "x", "1 2", "x key", "1000000 !!", "1000000 AAAA a", "1000000 AAAA a:b"])
def test_a_signed_login_cookie_that_is_not_ours_is_none(text: str) -> None:
    maker = States(make_config())
    core = Core()
    core.cookies = {f"{NAME}_login": maker._login_signer.sign(urlsafe_b64encode(text.encode())).decode()}
    reply = core.reply("/callback/whop?code=C&state=x")
    assert reply.status == 303
    assert core.whop.asked == []


@pytest.mark.parametrize("text", ["", "x", "a\nb\nc", "x\nb\nc\n\n/"])
def test_a_signed_state_that_is_not_ours_is_none(text: str) -> None:
    maker = States(make_config())
    assert maker.open_state(maker._state_signer.sign(urlsafe_b64encode(text.encode())).decode()) is None


def test_an_over_long_cookie_is_not_even_looked_at() -> None:
    core = Core()
    core.cookies = {f"{NAME}_login": "a" * 5000, NAME: "b" * 5000}
    assert location(core.reply("/login/whop")).startswith("https://whop.com/oauth?")
    assert States(make_config()).open_state("a" * 3000) is None


def test_a_key_gives_each_purpose_its_own_value() -> None:
    login = LoginCookie.new()
    values = {login.derive(purpose, nonce) for purpose in ("state", "verifier", "nonce") for nonce in ("a", "b")}
    assert len(values) == 6
    assert all(len(value) == 43 for value in values)

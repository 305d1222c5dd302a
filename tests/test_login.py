"""The login path, stepped by hand: where it leads, what it stores, and what it refuses to start from."""

from __future__ import annotations

import pytest

from .conftest import Clock
from .steps import HUB, Core, header, is_start, location, page, query, set_cookies, start
from .support import FETCH, NAVIGATION, ORIGIN, Headers

# The login path


def test_the_login_path_leads_to_whop_with_a_state() -> None:
    core = Core()
    reply = core.reply("/login/whop?next=/reports%3Fa%3D1")
    sent = query(location(reply))
    assert len(sent.pop("state")) <= 2048
    assert sent == {
        "client_id": "client_1", "redirect_uri": f"{ORIGIN}/callback/whop", "response_type": "code",
        "scope": "read_user",
    }  # fmt: skip
    assert header(reply, "Cache-Control") == "no-store"
    (cookie,) = set_cookies(reply)
    assert cookie.startswith("__Host-whop_session_login=")
    assert cookie.endswith("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure")


def test_the_longest_return_path_still_fits_into_a_state() -> None:
    assert len(start(Core(), "/" + "a" * 1023)) <= 2048


def test_every_start_sets_the_same_key_anew() -> None:
    core = Core()
    states = [start(core, f"/tab{number}") for number in range(3)]
    assert len(set(states)) == 3
    assert len(core.cookies) == 1
    for state in states:
        core.cookies.pop("__Host-whop_session", None)
        assert "Set-Cookie" in dict(core.reply(f"/callback/whop?code=C1&state={state}").headers)
        assert core.whop.asked == ["token", "user"]
        break


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", NAVIGATION),
        ("GET", (*NAVIGATION, ("Sec-Purpose", "prefetch;prerender"))),
        ("GET", (*NAVIGATION, ("Purpose", "prefetch"))),
        ("GET", (*NAVIGATION, ("X-Moz", "Prefetch"))),
        ("GET", FETCH),
    ],
)
def test_only_a_navigation_gets_the_login_cookie(method: str, headers: Headers) -> None:
    reply = Core().reply("/login/whop", headers, method=method)
    assert is_start(reply)
    assert set_cookies(reply) == ()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_the_login_path_answers_to_no_other_method(method: str) -> None:
    reply = Core().reply("/login/whop", method=method)
    assert (reply.status, header(reply, "Allow")) == (405, "GET, HEAD")


def lands_on(core: Core, login_query: str) -> str:
    state = query(location(core.reply(f"/login/whop{login_query}")))["state"]
    return location(core.reply(f"/callback/whop?code=C1&state={state}"))


@pytest.mark.parametrize(
    ("login_query", "landing"),
    [
        ("?next=/reports", "/reports"),
        ("?next=/a%3Fb%3D1%26c%3D2%23d", "/a?b=1&c=2#d"),
        ("?next=/caf%25C3%25A9", "/caf%C3%A9"),
        ("?next=/" + "a" * 1100 + "%3Fb", "/start"),
        ("?next=/a%3F" + "b" * 1100, "/a"),
        ("?next=" + "a" * 20_000, "/start"),
        ("?" + "a=1&" * 70 + "next=/a", "/start"),
        ("?next=/a&next=/b", "/start"),
        ("?next=", "/start"),
        ("", "/start"),
        ("?next=https://evil.example/", "/start"),
        ("?next=/%0d%0aSet-Cookie:x=1", "/start"),
        ("?next=/callback/whop%3Fcode=EVIL", "/start"),
        ("?next=/LOGIN/whop", "/start"),
        ("?next=/%2563allback/whop/.", "/start"),
        ("?next=/logout/whop/", "/start"),
    ],
)
def test_a_sign_in_lands_on_a_page_of_this_site(login_query: str, landing: str) -> None:
    assert lands_on(Core(home="/start"), login_query) == landing


def test_next_is_never_an_own_path_with_the_prefix() -> None:
    core = Core(redirect_uri=f"{ORIGIN}/shop/callback/whop")
    for path in ("/shop/login/whop", "/shop/callback/whop", "/callback/whop", "/logout/whop", "/shop/logout/whop."):
        reply = core.reply(f"/login/whop?next={path}", prefix="/shop")
        state = query(location(reply))["state"]
        back = core.reply(f"/callback/whop?code=C1&state={state}", prefix="/shop")
        assert location(back) == "/shop/"


def test_the_tenth_start_for_a_page_within_a_minute_ends_on_a_page(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    core = Core()
    for _ in range(9):
        start(core, "/a")
    start(core, "/b")
    page(core.reply("/login/whop?next=/a"), 500, "callback_not_reached")
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    for part in ("WHOP_REDIRECT_URI", f"{ORIGIN}/callback/whop", "prefix", "http/https"):
        assert part in error.getMessage()
    start(core, "/a")


def test_starts_further_apart_than_a_minute_never_add_up(clock: Clock) -> None:
    core = Core()
    for _ in range(30):
        start(core, "/a")
        clock.tick(7)


# A plain http origin


def test_over_plain_http_nothing_is_sent_to_whop(caplog: pytest.LogCaptureFixture) -> None:
    core = Core(redirect_uri="/callback/whop")
    for target in ("/login/whop", "/callback/whop?code=CODE"):
        caplog.clear()
        reply = core.reply(target, HUB, scheme="http", host="shop.example.com")
        page(reply, 500, "insecure_origin")
        (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "WHOP_REDIRECT_URI=https://shop.example.com/callback/whop" in error.getMessage()
    assert core.whop.asked == []
    assert core.cookies == {}


@pytest.mark.parametrize(
    "host", ["localhost:8000", "app.localhost", "127.0.0.1", "127.1.2.3:80", "[::1]:8000", "shop.test", "testserver"]
)
def test_plain_http_is_fine_on_a_local_host(host: str) -> None:
    core = Core(redirect_uri="/callback/whop")
    reply = core.reply("/login/whop", scheme="http", host=host)
    assert query(location(reply))["redirect_uri"] == f"http://{host.removesuffix(':80')}/callback/whop"
    assert set_cookies(reply)[0].startswith("whop_session_login=")
    assert "Secure" not in set_cookies(reply)[0]


@pytest.mark.parametrize("host", ["", "a b", "evil.example/app", "user@evil.example", "a:b:c", "[::1", "x" * 300])
@pytest.mark.parametrize("target", ["/login/whop", "/callback/whop?code=CODE"])
def test_a_malformed_host_gets_a_page(host: str, target: str) -> None:
    core = Core(redirect_uri="/callback/whop")
    page(core.reply(target, HUB, host=host), 400, "bad_callback")
    assert core.whop.asked == []


def test_a_full_redirect_uri_decides_whatever_host_is_asked_for() -> None:
    core = Core()
    for host in ("evil.example", "evil.example/", ""):
        sent = query(location(core.reply("/login/whop", host=host, scheme="http")))
        assert sent["redirect_uri"] == f"{ORIGIN}/callback/whop"

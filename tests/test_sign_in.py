"""The callback with a state, an error or nonsense, stepped by hand. Through a browser: test_journeys."""

from __future__ import annotations

import logging

import httpx
import pytest

from whop_middleware.errors import BadWhopAnswer, CodeRefused, CredentialsRefused, SignInError, WhopUnreachable

from .conftest import Clock
from .steps import HUB, Core, header, is_start, location, page, person, query, set_cookies, start
from .support import ORIGIN, SECRET, Headers

OLD_BROWSER = (("Accept", "text/html"),)
TROUBLE = [
    (CredentialsRefused("no"), 502, "credentials_refused"),
    (BadWhopAnswer("nonsense"), 502, "bad_whop_answer"),
    (WhopUnreachable("down", retry_after=90), 503, "whop_unreachable"),
]


# The callback: method and form


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", HUB),
        ("GET", (*HUB, ("Sec-Purpose", "prefetch"))),
        ("GET", (*HUB, ("Purpose", "prefetch"))),
        ("GET", (*HUB, ("X-Moz", "prefetch"))),
    ],
)
def test_looking_ahead_leaves_the_code_alone(method: str, headers: Headers) -> None:
    core = Core()
    reply = core.reply("/callback/whop?code=CODE", headers, method=method)
    assert (reply.status, reply.body, set_cookies(reply)) == (204, b"", ())
    assert header(reply, "Referrer-Policy") == "no-referrer"
    assert core.whop.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "CONNECT"])
def test_the_callback_answers_to_no_other_method(method: str) -> None:
    core = Core()
    reply = core.reply("/callback/whop?code=CODE", (*HUB, ("Sec-Purpose", "prefetch")), method=method)
    assert (reply.status, header(reply, "Allow")) == (405, "GET, HEAD")
    assert header(reply, "Referrer-Policy") == "no-referrer"
    assert core.whop.asked == []


MALFORMED = [
    "", "?", "code", "code=", "error=", "state=x", "code=a&error=b", "code=a&code=a", "code=a&co%64e=b",
    "code=a&state=", "code=a&state=x&state=y", "error=a&error=b", "code=" + "a" * 2049, "code=a&state=" + "a" * 2049,
    "error=" + "a" * 2049, "code=a%20", "code=a+b", "code=%00", "code=%C3%A9", "code=%ff", "code=a%7f", "error=a%0a",
    "code=a&state=%09", "code=a&iss=", "code=a&iss=b&iss=b", "code=a&iss=%20", "code=a&" + "x=1&" * 64,
    "x=" + "y" * 20_000 + "&code=a", "CODE=a", "code[]=a", "code%00=a",
]  # fmt: skip


@pytest.mark.parametrize("signed_in", [True, False])
@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_malformed_callback_gets_a_page_and_changes_nothing(malformed: str, signed_in: bool) -> None:
    core = Core().signed_in() if signed_in else Core()
    before = dict(core.cookies)
    reply = core.reply(f"/callback/whop?{malformed}", HUB)
    page(reply, 400, "bad_callback")
    assert set_cookies(reply) == ()
    assert core.cookies == before
    assert core.whop.asked == []


def test_unknown_parameters_are_ignored() -> None:
    core = Core()
    state = start(core)
    assert location(core.reply(f"/callback/whop?x=a+b&state={state}&code=%43ODE&y=&y=&iss=other")) == "/reports"


# The callback: code and good state


@pytest.mark.parametrize("before", [None, "user_1", "user_2"])
def test_a_code_with_a_good_state_makes_a_new_session(before: str | None) -> None:
    core = Core() if before is None else Core().signed_in(before)
    state = start(core)
    reply = core.reply(f"/callback/whop?code=CODE&state={state}")
    assert location(reply) == "/reports"
    assert header(reply, "Cache-Control") == "no-store"
    assert header(reply, "Referrer-Policy") == "no-referrer"
    session, cleared = set_cookies(reply)
    assert session.startswith("__Host-whop_session=")
    assert session.endswith("; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax; Secure")
    assert cleared == "__Host-whop_session_login=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
    assert core.whop.asked == ["token", "user"]
    user = core.forward("/").user
    assert user is not None
    assert user.id == "user_1"


def test_the_token_request_names_the_redirect_uri_of_the_authorize_request() -> None:
    core = Core(redirect_uri="/callback/whop")
    sent = query(location(core.reply("/login/whop", prefix="/shop")))
    assert sent["redirect_uri"] == f"{ORIGIN}/shop/callback/whop"
    core.reply(f"/callback/whop?code=CODE&state={sent['state']}", prefix="/shop")
    assert f'"{ORIGIN}/shop/callback/whop"'.encode() in core.whop.requests[0].content


def test_a_refused_code_starts_over_once_then_ends_on_a_page(caplog: pytest.LogCaptureFixture) -> None:
    core = Core()
    core.whop.answers["token"] = CodeRefused("used")
    again = core.reply(f"/callback/whop?code=CODE&state={start(core)}")
    assert is_start(again)
    page(core.reply(f"/callback/whop?code=CODE2&state={query(location(again))['state']}"), 400, "code_refused")
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert f"{ORIGIN}/callback/whop" in error.getMessage()
    assert "to the slash" in error.getMessage()


def test_a_refused_code_takes_someone_signed_in_back() -> None:
    core = Core().signed_in()
    core.whop.answers["token"] = CodeRefused("used")
    assert location(core.reply(f"/callback/whop?code=CODE&state={start(core)}")) == "/reports"
    assert core.has_session


@pytest.mark.parametrize("endpoint", ["token", "user", "memberships"])
@pytest.mark.parametrize(("error", "status", "code"), TROUBLE)
def test_trouble_at_whop_gets_its_page_or_takes_someone_signed_in_back(
    endpoint: str, error: SignInError, status: int, code: str
) -> None:
    for signed_in in (False, True):
        core = Core(require="prod_a")
        if signed_in:
            core.signed_in(access={"prod_a": "customer"})
        core.whop.answers[endpoint] = error
        before = core.cookies.get("__Host-whop_session")
        reply = core.reply(f"/callback/whop?code=CODE&state={start(core)}")
        if signed_in:
            assert location(reply) == "/reports"
        else:
            page(reply, status, code)
            assert header(reply, "Retry-After") == ("90" if status == 503 else None)
            assert "/login/whop?next=/reports" in reply.body.decode()
        assert core.cookies.get("__Host-whop_session") == before
        assert set_cookies(reply) == ()


# The callback: a bad state


def bad_states(core: Core) -> dict[str, str]:
    """Return states by what is wrong with them; those with a good signature come back to /reports."""
    other = Core()
    foreign = start(other)
    deployment = start(Core(secret_key="another-key-0123456789"))
    good = start(core)
    return {
        "foreign": foreign, "deployment": deployment, "cut": good[:-1], "broken": "x", "padded": f"{good}==",
        "upper": good.upper(), "junk": f"{good}!",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["foreign", "deployment", "cut", "broken", "padded", "upper", "junk"])
@pytest.mark.parametrize("signed_in", [True, False])
def test_a_bad_state_starts_over_or_takes_someone_signed_in_back(kind: str, signed_in: bool) -> None:
    core = Core(home="/start")
    state = bad_states(core)[kind]
    if signed_in:
        core.signed_in()
    reply = core.reply(f"/callback/whop?code=CODE&state={state}")
    assert core.whop.asked == []
    if signed_in:
        assert location(reply) == ("/reports" if kind == "foreign" else "/start")
        assert core.has_session
    else:
        assert is_start(reply)
        assert not core.has_session


@pytest.mark.parametrize("seconds", [600, 10_000, -61, -3600])
def test_a_stale_state_starts_over(seconds: int, clock: Clock) -> None:
    core = Core()
    state = start(core)
    clock.tick(seconds)
    start(core)
    assert is_start(core.reply(f"/callback/whop?code=CODE&state={state}"))
    assert core.whop.asked == []


def test_a_state_is_good_for_ten_minutes(clock: Clock) -> None:
    core = Core()
    state = start(core)
    clock.tick(599)
    assert location(core.reply(f"/callback/whop?code=CODE&state={state}")) == "/reports"


def test_a_used_state_takes_back_and_starts_over_once_signed_out() -> None:
    core = Core()
    state = start(core)
    core.reply(f"/callback/whop?code=CODE&state={state}")
    assert location(core.reply(f"/callback/whop?code=CODE&state={state}")) == "/reports"
    core.cookies.clear()
    assert is_start(core.reply(f"/callback/whop?code=CODE&state={state}"))
    assert core.whop.asked == ["token", "user"]


def test_without_cookies_a_sign_in_starts_over_once_then_ends_on_a_page(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "whop_middleware")
    core = Core()
    state = start(core)
    core.cookies.clear()
    again = core.reply(f"/callback/whop?code=CODE&state={state}")
    assert any("restarts" in record.getMessage() for record in caplog.records)
    core.cookies.clear()
    last = core.reply(f"/callback/whop?code=CODE&state={query(location(again))['state']}")
    page(last, 400, "state_invalid")
    assert "/login/whop?next=/reports" in last.body.decode()


# The callback: an error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ("access_denied", 403, "sign_in_declined"),
        ("server_error", 503, "whop_unreachable"),
        ("temporarily_unavailable", 503, "whop_unreachable"),
        ("invalid_scope", 400, "bad_callback"),
        ("login_required", 400, "bad_callback"),
        ("x" * 2048, 400, "bad_callback"),
    ],
)
def test_an_error_gets_its_page_or_takes_someone_signed_in_back(error: str, status: int, code: str) -> None:
    core = Core()
    state = start(core)
    reply = core.reply(f"/callback/whop?error={error}&error_description=CALL+EVIL&state={state}")
    page(reply, status, code)
    assert "EVIL" not in reply.body.decode()
    assert "/login/whop?next=/reports" in reply.body.decode()
    page(core.reply(f"/callback/whop?error={error}"), status, code)
    core.signed_in()
    assert location(core.reply(f"/callback/whop?error={error}&state={state}")) == "/reports"
    assert location(core.reply(f"/callback/whop?error={error}&state=x")) == "/"
    assert location(core.reply(f"/callback/whop?error={error}")) == "/"
    assert core.has_session


# The issuer


@pytest.mark.parametrize("signed_in", [True, False])
@pytest.mark.parametrize("rest", ["code=CODE&state=STATE", "error=access_denied&state=STATE", "code=CODE"])
@pytest.mark.parametrize("iss", ["https://evil.example", "https://api.whop.com/", "https://whop.com"])
def test_another_issuer_is_refused_whatever_came_with_it(iss: str, rest: str, signed_in: bool) -> None:
    core = Core(client_id="app_1")
    state = query(location(core.reply("/login/whop")))["state"]
    if signed_in:
        core.signed_in()
    reply = core.reply(f"/callback/whop?{rest.replace('STATE', state)}&iss={iss}", HUB)
    page(reply, 400, "issuer_mismatch")
    assert core.has_session == signed_in
    assert core.whop.asked == []


@pytest.mark.parametrize("iss", ["", "&iss=https%3A%2F%2Fapi.whop.com"])
def test_the_right_issuer_or_none_is_fine(iss: str) -> None:
    core = Core(client_id="app_1")
    sent = query(location(core.reply("/login/whop?next=/reports")))
    assert {"nonce", "code_challenge", "code_challenge_method"} <= set(sent)
    core.whop.answers["user"] = httpx.Response(200, json={"sub": "user_1"})
    assert location(core.reply(f"/callback/whop?code=CODE&state={sent['state']}{iss}")) == "/reports"
    assert b"code_verifier" in core.whop.requests[0].content
    assert SECRET.encode() in core.whop.requests[0].content


def test_the_person_is_whoever_whop_says() -> None:
    core = Core()
    core.whop.answers["user"] = person("user_9", name="Zoë", email="z@example.com")
    core.reply(f"/callback/whop?code=CODE&state={start(core)}")
    user = core.forward("/").user
    assert user is not None
    assert (user.id, user.display_name, user.email, dict(user.access)) == ("user_9", "Zoë", "z@example.com", {})


def test_an_old_browser_without_fetch_metadata_signs_in_too() -> None:
    core = Core()
    state = start(core, headers=OLD_BROWSER)
    assert location(core.reply(f"/callback/whop?code=CODE&state={state}", OLD_BROWSER)) == "/reports"

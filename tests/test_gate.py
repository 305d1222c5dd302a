"""Who gets in, and what those get who do not: each row, stepped by hand, then once through a browser."""

from __future__ import annotations

import logging

import pytest

from whop_middleware.messages import Forward
from whop_middleware.testing import session_cookie

from .conftest import MakeSite
from .steps import FORM, HTMX, Core, header, location, make_request, problem, set_cookies
from .support import FETCH, NAVIGATION, ORIGIN, Browser, Headers

PREFLIGHT = (("Origin", "https://other.example"), ("Access-Control-Request-Method", "PUT"))


# WebSockets, preflights, public paths


@pytest.mark.parametrize("path", ["/live", "/login/whop", "/logout/whop", "/callback/whop?code=CODE"])
def test_a_websocket_without_a_session_is_refused(path: str) -> None:
    core = Core()
    assert problem(core.reply(path, (), websocket=True))["code"] == "sign_in_required"
    assert core.whop.asked == []


def test_a_websocket_on_an_own_path_is_refused_even_with_a_session() -> None:
    core = Core(mode="optional").signed_in()
    assert core.reply("/callback/whop?code=CODE", (), websocket=True).status == 401
    assert core.forward("/live", (), websocket=True).user is not None


def test_a_preflight_passes_without_a_user() -> None:
    core = Core().signed_in()
    assert core.forward("/api", PREFLIGHT, method="OPTIONS") == Forward(None, preflight=True)
    assert core.forward("/health", PREFLIGHT, method="OPTIONS") == Forward(None, public=True)
    optional = Core(mode="optional").signed_in()
    assert optional.forward("/api", PREFLIGHT, method="OPTIONS") == Forward(None)


@pytest.mark.parametrize("headers", [PREFLIGHT[:1], PREFLIGHT[1:], ()])
def test_other_options_requests_need_a_session(headers: Headers) -> None:
    assert Core().reply("/api", headers, method="OPTIONS").status == 401


def test_a_preflight_to_an_own_path_is_no_way_in() -> None:
    assert Core().reply("/callback/whop", PREFLIGHT, method="OPTIONS").status == 405


@pytest.mark.parametrize("path", ["/health", "/static/", "/static/a.css", "/static/a/b"])
def test_a_public_path_is_open_and_still_knows_who_is_signed_in(path: str) -> None:
    assert Core().forward(path, FETCH, method="POST") == Forward(None, public=True)
    decision = Core().signed_in().forward(path)
    assert decision.user is not None
    assert decision.public


@pytest.mark.parametrize("path", ["/healthy", "/health/", "/static", "/static/../x", "/static//x", "/static/%2e%2e/x"])
def test_what_is_not_quite_a_public_path_is_closed(path: str) -> None:
    assert Core().reply(path, FETCH).status == 401


def test_someone_signed_in_gets_in() -> None:
    decision = Core().signed_in("user_7", name="Ann").forward("/reports")
    assert decision.user is not None
    assert (decision.user.id, decision.user.name) == ("user_7", "Ann")
    assert not decision.public
    assert decision.set_cookies == ()


# Optional


@pytest.mark.parametrize(
    "surroundings", [{}, {"method": "POST"}, {"method": "OPTIONS"}, {"websocket": True}, {"headers": HTMX}]
)
def test_in_optional_mode_nobody_is_turned_away(surroundings: dict[str, object]) -> None:
    assert Core(mode="optional").decide("/x", **surroundings) == Forward(None)  # type: ignore[arg-type]
    with_session = Core(mode="optional").signed_in().decide("/x", FETCH)
    assert isinstance(with_session, Forward)
    assert with_session.user is not None


def test_in_optional_mode_a_missing_purchase_only_shows_in_access() -> None:
    core = Core(mode="optional", require=("prod_a", "prod_b")).signed_in(access={"prod_b": "admin"})
    user = core.forward("/x").user
    assert user is not None
    assert user.access == {"prod_b": "admin"}


# Broken cookies


def test_a_broken_cookie_is_cleared_at_the_next_navigation_only() -> None:
    core = Core()
    core.cookies = {"__Host-whop_session": "forged.value"}
    assert set_cookies(core.reply("/api", FETCH)) == ()
    cleared = "__Host-whop_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
    assert set_cookies(core.reply("/")) == (cleared,)
    assert core.cookies == {}
    core.cookies = {"__Host-whop_session": "forged.value"}
    assert core.forward("/health") == Forward(None, (cleared,), public=True)
    assert set_cookies(core.reply("/")) == ()


@pytest.mark.parametrize("name", ["whop_session_login", "my_whop_session", "whop_session2", "x"])
def test_a_cookie_of_another_name_is_left_alone(name: str) -> None:
    core = Core(redirect_uri="/callback/whop")
    core.cookies = {name: "value"}
    assert set_cookies(core.reply("/", host="localhost", scheme="http")) == ()


# Without the purchase


def denied_core(**options: object) -> Core:
    return Core(require="prod_a", api_key="api-key-0123456789", **options).signed_in(access={})


@pytest.mark.parametrize(("method", "headers"), [("GET", NAVIGATION), ("HEAD", NAVIGATION), ("POST", FORM)])
def test_without_the_purchase_a_navigation_gets_the_page(method: str, headers: Headers) -> None:
    reply = denied_core(buy_url="https://whop.com/shop").reply("/x?a=1", headers, method=method)
    assert reply.status == 403
    assert header(reply, "Cache-Control") == "no-store"
    text = reply.body.decode()
    for part in ("user_1", "prod_a", 'href="https://whop.com/shop"', "purchase_required", 'action="/logout/whop"'):
        assert part in text
    assert 'href="/login/whop?next=/x%3Fa%3D1"' in text


def test_without_the_purchase_a_navigation_goes_to_the_denied_page() -> None:
    core = denied_core(denied_page="/no-access")
    assert location(core.reply("/x", prefix="/shop")) == "/shop/no-access"
    assert core.forward("/no-access").user is not None
    assert Core(require="prod_a", denied_page="/no-access").reply("/no-access").status == 303
    assert location(denied_core(denied_page="https://a.example/buy").reply("/x")) == "https://a.example/buy"


def test_without_the_purchase_a_fetch_gets_a_problem() -> None:
    reply = denied_core(denied_page="/no-access").reply("/x", FETCH)
    assert reply.status == 403
    assert problem(reply)["code"] == "purchase_required"
    assert "login_url" not in problem(reply)
    assert header(reply, "HX-Redirect") is None


def test_without_the_purchase_htmx_is_told_where_to_go_if_that_is_known() -> None:
    reply = denied_core(denied_page="/no-access").reply("/x", HTMX)
    assert (reply.status, header(reply, "HX-Redirect")) == (403, "/no-access")
    reply = denied_core().reply("/x", HTMX)
    assert (reply.status, header(reply, "HX-Redirect")) == (403, None)


def test_without_the_purchase_a_websocket_is_refused() -> None:
    assert denied_core().reply("/live", (), websocket=True).status == 403


def test_each_denial_is_logged_and_the_owner_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "whop_middleware")
    core = denied_core()
    core.reply("/x")
    core.reply("/y", FETCH)
    lines = [record.getMessage() for record in caplog.records if "No purchase: user_1" in record.getMessage()]
    assert len(lines) == 2
    assert "WHOP_ALLOW_USERS=user_1" in lines[0]
    assert "WHOP_ALLOW_USERS" not in lines[1]


# The quick decision


@pytest.mark.parametrize("options", [{}, {"mode": "optional"}, {"require": {"/vip/*": "prod_a", "/*": ()}}])
@pytest.mark.parametrize("cookie", ["none", "good", "forged", "other"])
def test_the_quick_decision_is_the_long_one(make_site: MakeSite, options: dict[str, object], cookie: str) -> None:
    """The first request of a site always takes the long way."""
    cookies = {"good": session_cookie(make_site(**options).middleware.config, access={"prod_a": "customer"})}
    cookies |= {"forged": {"__Host-whop_session": "forged.value"}, "other": {"x": "1"}}
    header = "; ".join(f"{name}={value}" for name, value in cookies.get(cookie, {}).items())
    headers = (*FETCH, ("Cookie", header)) if header else FETCH
    for path in ("/", "/vip/x", "/health", "/static/../x", "/logout/whop"):
        for method in ("GET", "OPTIONS"):
            site = make_site(**options)
            first, second = (site.request(method, path, headers) for _ in range(2))
            assert (first.status, first.headers, first.called) == (second.status, second.headers, second.called)
            assert first.user == second.user


def test_only_the_callback_may_take_long() -> None:
    gate = Core(timeout=2).gate
    assert gate.budget(make_request("/callback/whop")) == 8
    assert gate.budget(make_request("/")) == 2


# Through a browser, on both adapters, at the root and below a prefix


def test_a_browser_meets_each_row(make_site: MakeSite) -> None:
    site = make_site()
    browser, prefix = Browser(site), site.prefix
    assert browser.get("/a").location == f"{prefix}/login/whop?next=/a"
    form = browser.send("POST", "/save", (*FORM, ("Referer", f"{ORIGIN}{prefix}/write")), body=b"text=hello")
    assert (form.status, form.header("content-type")) == (401, "text/html; charset=utf-8")
    assert f'href="{prefix}/login/whop?next=/write"' in form.text
    htmx = browser.get("/part", (*HTMX, ("HX-Current-URL", f"{ORIGIN}{prefix}/list")))
    assert (htmx.status, htmx.header("hx-redirect")) == (401, f"{prefix}/login/whop?next=/list")
    assert browser.fetch("/api", "DELETE").json()["code"] == "sign_in_required"
    assert not any(answer.called for answer in (form, htmx))
    assert browser.send("OPTIONS", "/api", PREFLIGHT).called
    assert browser.get("/health").called


def test_a_browser_meets_the_optional_gate(make_site: MakeSite) -> None:
    answer = Browser(make_site(mode="optional")).get("/a")
    assert (answer.called, answer.user) == (True, None)


def test_a_browser_is_rid_of_a_broken_cookie(make_site: MakeSite) -> None:
    browser = Browser(make_site())
    for path in ("/a", "/health"):
        browser.cookies = {"__Host-whop_session": "forged.value", "other": "1"}
        browser.get(path)
        assert browser.cookies == {"other": "1"}

"""Who gets in, and what the others get: each row, stepped by hand, then once through a browser."""

from __future__ import annotations

import json
import logging

import pytest

from whop_middleware.messages import Forward, Reply
from whop_middleware.testing import session_cookie

from .conftest import MakeSite
from .steps import Core, header, location, make_request, set_cookies
from .support import FETCH, NAVIGATION, ORIGIN, Browser, Headers

FORM = (*NAVIGATION, ("Content-Type", "application/x-www-form-urlencoded"))
HTMX = (("HX-Request", "true"), *FETCH)
PREFLIGHT = (("Origin", "https://other.example"), ("Access-Control-Request-Method", "PUT"))
SIGN_IN = "/login/whop?next=/reports%3Fyear%3D2026"


def problem(reply: Reply) -> dict[str, object]:
    assert header(reply, "Content-Type") == "application/problem+json"
    found: dict[str, object] = json.loads(reply.body)
    return found


# Navigations


@pytest.mark.parametrize(
    "headers",
    [
        NAVIGATION,
        (("Sec-Fetch-Mode", "navigate"), ("Accept", "application/json")),
        (("Accept", "text/html"),),
        (("Accept", "application/json, TEXT/HTML;q=0.1"),),
        (("Accept", "text/*"),),
        (("Accept", "*/*"),),
        (("Accept", "*/*;q=0, text/html"),),
        (("Accept", ""),),
        (),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_navigation_is_redirected_to_sign_in_with_the_page_asked_for(headers: Headers, method: str) -> None:
    reply = Core().reply("/reports?year=2026", headers, method=method)
    assert location(reply) == SIGN_IN
    assert header(reply, "Cache-Control") == "no-store"
    assert set_cookies(reply) == ()


@pytest.mark.parametrize(
    "headers",
    [
        FETCH,
        (("Sec-Fetch-Mode", "cors"), ("Accept", "text/html")),
        (("Sec-Fetch-Site", "same-origin"), ("Accept", "text/html")),
        (("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image"), ("Accept", "*/*")),
        (("Accept", "application/json"),),
        (("Accept", "text/event-stream"),),
        (("Accept", "text/html"), ("X-Requested-With", "XMLHttpRequest")),
        (("Accept", "text/html;q=0, application/json"),),
        (("Accept", "text/html; q=0.000, */*"),),
        (("Accept", "*/*;q=0.0"),),
    ],
)
def test_a_fetch_gets_a_problem_in_json(headers: Headers) -> None:
    reply = Core().reply("/reports?year=2026", headers)
    assert reply.status == 401
    found = problem(reply)
    assert isinstance(found.pop("detail"), str)
    assert found == {
        "type": "about:blank", "title": "Unauthorized", "status": 401, "code": "sign_in_required",
        "login_url": "/login/whop",
    }  # fmt: skip
    assert header(reply, "WWW-Authenticate") == 'Cookie realm="whop"'
    assert header(reply, "Cache-Control") == "no-store"
    assert header(reply, "Location") is None


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_a_fetch_with_any_method_gets_a_problem(method: str) -> None:
    assert problem(Core().reply("/x", FETCH, method=method))["code"] == "sign_in_required"


def test_a_post_that_takes_anything_is_no_form() -> None:
    assert problem(Core().reply("/x", (("Accept", "*/*"),), method="POST"))["status"] == 401


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/", "/"),
        ("/café", "/caf%25C3%25A9"),
        ("/a b", "/a%2520b"),
        ("/a?next=/b&c=%20", "/a%3Fnext%3D/b%26c%3D%2520"),
        ("//evil.example", "/"),
        ("/x/../y", "/"),
        ("/\\evil.example", "/"),
        ("/login/whop/", "/"),
        ("/" + "a" * 1023, "/" + "a" * 1023),
        ("/" + "a" * 1024, "/"),
        ("/a?" + "b" * 1024, "/a"),
    ],
)
def test_the_page_asked_for_goes_along_when_it_may(path: str, wanted: str) -> None:
    assert location(Core().reply(path)) == f"/login/whop?next={wanted}"


def test_a_path_that_is_not_text_goes_along_as_far_as_it_can() -> None:
    assert location(Core().reply("/\udcff")) == "/login/whop?next=/%253F"


# The sign-in page


def test_a_sign_in_page_of_this_site_is_public_and_gets_next() -> None:
    core = Core(sign_in_page="/welcome")
    assert location(core.reply("/reports")) == "/welcome?next=/reports"
    assert core.forward("/welcome") == Forward(None, public=True)
    assert problem(core.reply("/x", FETCH))["login_url"] == "/welcome"


def test_a_sign_in_page_with_a_query_keeps_it() -> None:
    core = Core(sign_in_page="/welcome?from=gate")
    assert location(core.reply("/reports")) == "/welcome?from=gate&next=/reports"
    assert core.forward("/welcome") == Forward(None, public=True)


def test_a_sign_in_page_elsewhere_gets_nothing_appended() -> None:
    core = Core(sign_in_page="https://www.example.com/join")
    assert location(core.reply("/reports")) == "https://www.example.com/join"
    assert problem(core.reply("/x", FETCH))["login_url"] == "https://www.example.com/join"
    assert header(core.reply("/x", HTMX), "HX-Redirect") == "https://www.example.com/join"


def test_below_a_prefix_only_locations_carry_it() -> None:
    core = Core(redirect_uri=f"{ORIGIN}/shop/callback/whop")
    assert location(core.reply("/a", prefix="/shop")) == "/shop/login/whop?next=/a"
    assert problem(core.reply("/a", FETCH, prefix="/shop"))["login_url"] == "/shop/login/whop"
    assert location(core.reply("/shop/login/whop", prefix="/shop")) == "/shop/login/whop?next=/"


def test_an_odd_prefix_never_makes_a_location_leave_the_site() -> None:
    assert location(Core().reply("/a", prefix="//evil.example/..")) == "/login/whop?next=/a"


def test_a_prefix_that_a_client_makes_up_costs_no_memory() -> None:
    core = Core()
    for number in range(200):
        assert core.forward("/health", prefix=f"/made-up-{number}").public
    assert len(core.gate.site.known_endpoints) <= 64


# Forms


@pytest.mark.parametrize(
    ("referer", "wanted"),
    [
        (f"{ORIGIN}/write?draft=1", "/write%3Fdraft%3D1"),
        (f"{ORIGIN}:443/write", "/write"),
        (ORIGIN, "/"),
        ("https://evil.example/write", "/"),
        ("https://app.example@evil.example/write", "/"),
        ("http://app.example/write", "/"),
        ("https://[/", "/"),
        (None, "/"),
    ],
)
def test_a_form_sent_without_a_session_gets_a_page_with_a_button(referer: str | None, wanted: str) -> None:
    headers = FORM if referer is None else (*FORM, ("Referer", referer))
    reply = Core().reply("/save", headers, method="POST")
    assert reply.status == 401
    assert header(reply, "Content-Type") == "text/html; charset=utf-8"
    assert header(reply, "WWW-Authenticate") == 'Cookie realm="whop"'
    assert f'href="/login/whop?next={wanted}"' in reply.body.decode()


def test_with_a_malformed_host_no_referer_is_ours() -> None:
    core = Core(redirect_uri="/callback/whop")
    for referer in ("https://[", "https://a b/x", f"{ORIGIN}/x"):
        reply = core.reply("/save", (*FORM, ("Referer", referer)), method="POST", host="a b")
        assert b'href="/login/whop?next=/"' in reply.body


def test_a_form_of_an_old_browser_is_known_by_what_it_accepts() -> None:
    reply = Core().reply("/save", (("Accept", "text/html,*/*;q=0.8"),), method="POST")
    assert header(reply, "Content-Type") == "text/html; charset=utf-8"
    reply = Core().reply("/save", (("Accept", "text/html"), ("X-Requested-With", "fetch")), method="POST")
    assert problem(reply)["code"] == "sign_in_required"


def test_a_form_goes_to_home_when_no_page_is_known() -> None:
    assert b'href="/login/whop?next=/start"' in Core(home="/start").reply("/save", FORM, method="POST").body


def test_a_referer_outside_the_mounted_app_is_not_taken_for_its_page() -> None:
    core = Core(redirect_uri=f"{ORIGIN}/shop/callback/whop")
    for referer, wanted in ((f"{ORIGIN}/shop/a", "/a"), (f"{ORIGIN}/shop", "/"), (f"{ORIGIN}/shopping", "/")):
        reply = core.reply("/save", (*FORM, ("Referer", referer)), method="POST", prefix="/shop")
        assert f'href="/shop/login/whop?next={wanted}"' in reply.body.decode()


# htmx


@pytest.mark.parametrize(
    ("current", "wanted"),
    [
        (f"{ORIGIN}/list?page=2", "/list%3Fpage%3D2"),
        ("https://evil.example/list", "/part"),
        ("not a url", "/part"),
        (None, "/part"),
        (f"{ORIGIN}/callback/whop?code=x", "/"),
    ],
)
def test_htmx_is_told_to_load_the_sign_in_page(current: str | None, wanted: str) -> None:
    headers = HTMX if current is None else (*HTMX, ("HX-Current-URL", current))
    reply = Core().reply("/part", headers)
    assert reply.status == 401
    assert header(reply, "HX-Redirect") == f"/login/whop?next={wanted}"
    assert problem(reply)["code"] == "sign_in_required"


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

"""How the gate leads a stranger to the sign-in: pages, fetches, forms, htmx."""

from __future__ import annotations

import pytest

from whop_middleware.messages import Forward

from .steps import FORM, HTMX, Core, header, location, problem, set_cookies
from .support import FETCH, NAVIGATION, ORIGIN, Headers

SIGN_IN = "/login/whop?next=/reports%3Fyear%3D2026"


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

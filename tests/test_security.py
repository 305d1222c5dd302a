"""Attacks that once went through, each held for good. Calls no real Whop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from whop_middleware import ConfigError
from whop_middleware.signing import signer
from whop_middleware.testing import session_cookie

from .conftest import Clock, MakeSite
from .steps import HUB
from .support import FETCH, NAVIGATION, ORIGIN, Browser, FakeWhop, Site, WsgiSite, make_config

PREFLIGHT = (("Origin", "https://other.example"), ("Access-Control-Request-Method", "GET"))


@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X-HTTP-Method", "x-method-override", "X_HTTP_Method_Override"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE", ""])
def test_a_preflight_that_asks_for_another_method_is_none(make_site: MakeSite, name: str, method: str) -> None:
    """An app that obeys such a header (Flask's documentation shows how) would answer a stranger's GET or DELETE."""
    site = make_site()
    assert site.request("OPTIONS", "/a", PREFLIGHT).called
    answer = site.request("OPTIONS", "/a", (*PREFLIGHT, (name, method)))
    assert (answer.status, answer.called) == (401, False)


def test_no_shared_cache_keeps_a_cookie_of_ours(make_site: MakeSite) -> None:
    """A stranger's broken cookie is cleared on a public page; kept by a cache, that would sign everyone out."""
    site = make_site(headers=[("Cache-Control", "public, max-age=60")])
    answer = site.request("GET", "/health", (*NAVIGATION, ("Cookie", "__Host-whop_session=broken")))
    assert answer.called
    assert "Max-Age=0" in (answer.header("set-cookie") or "")
    assert answer.all("cache-control") == ["private, max-age=60"]
    assert answer.all("vary") == ["Cookie"]
    assert site.request("GET", "/health", NAVIGATION).all("cache-control") == ["public, max-age=60"]


@pytest.mark.parametrize("path", ["/%2576ip/a", "/%252576ip/a", "/vip%252Fa", "/%25%37%36ip/a", "/vip%252f"])
def test_a_path_that_somebody_decodes_once_more_needs_what_that_path_needs(make_site: MakeSite, path: str) -> None:
    site = make_site(require={"/vip/*": "prod_vip", "/*": "prod_any"})
    config = site.middleware.config
    for access, called in (({"prod_any": "customer"}, False), ({"prod_any": "customer", "prod_vip": "customer"}, True)):
        browser = Browser(site)
        browser.cookies |= session_cookie(config, origin=ORIGIN, access=access)
        for _ in range(2):
            assert browser.get(path).called is called
            assert browser.get("/100%2525").called


def test_an_endless_accept_header_is_not_read_to_its_end(make_site: MakeSite) -> None:
    site = make_site()
    assert site.request("GET", "/a", (("Accept", "text/html," + "," * 1_000_000),)).status == 303
    assert site.request("GET", "/a", (("Accept", "," * 1_000_000 + "text/html"),)).status == 401
    assert site.request("GET", "/a", FETCH).status == 401


async def _says_all_to_asgi(scope: Any, receive: Any, send: Any) -> None:
    """Looks at no method, as function views and mounted apps do."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"6"), (b"access-control-allow-origin", b"*")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"secret"})


def _says_all_to_wsgi(environ: Any, start_response: Any) -> Iterator[bytes]:
    headers = [("Content-Type", "text/plain"), ("Content-Length", "6"), ("Access-Control-Allow-Origin", "*")]
    start_response("200 OK", headers)(b"secret")
    yield b""
    yield b"secret"


def _both(make_site: MakeSite, **options: Any) -> Site:
    site = make_site(**options)
    site.middleware.app = _says_all_to_asgi if site.interface == "asgi" else _says_all_to_wsgi
    return site


@pytest.mark.parametrize("cookie", [False, True])
def test_a_made_up_preflight_shows_a_stranger_no_page(make_site: MakeSite, cookie: bool) -> None:
    site = _both(make_site)
    browser = Browser(site)
    if cookie:
        browser.cookies |= session_cookie(site.middleware.config, origin=ORIGIN)
    answer = browser.send("OPTIONS", "/page", PREFLIGHT)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("access-control-allow-origin") == "*"
    assert answer.header("content-length") in (None, "0")


@pytest.mark.parametrize(("options", "path"), [({}, "/health"), ({"mode": "optional"}, "/page")])
def test_where_everybody_may_look_a_preflight_is_answered_in_full(
    make_site: MakeSite, options: dict[str, Any], path: str
) -> None:
    answer = _both(make_site, **options).request("OPTIONS", path, PREFLIGHT)
    assert b"secret" in answer.body


@pytest.mark.parametrize(
    "referer",
    [
        "https://someone.apps.whop.com/",
        "http://whop.com/",
        "https://whop.com:8443/",
        "https://whop.com@evil.example/",
        "https://whop.com.evil.example/",
        "https://whop.com:x/",
    ],
)
def test_a_code_from_other_peoples_apps_is_not_exchanged(make_site: MakeSite, whop: FakeWhop, referer: str) -> None:
    browser = Browser(make_site())
    answer = browser.get(f"/callback/whop?code={whop.code()}", (*NAVIGATION, ("Referer", referer)))
    assert answer.location.startswith("https://whop.com/oauth?")
    assert whop.calls == []


@pytest.mark.parametrize("path", ["/VIP/a", "/Vip", "/VIP/"])
def test_what_must_be_paid_for_is_closed_in_any_case(make_site: MakeSite, path: str) -> None:
    site = make_site(require={"/vip/*": "prod_vip", "/*": "prod_any", "/vip/free": ()})
    browser = Browser(site)
    browser.cookies |= session_cookie(site.middleware.config, origin=ORIGIN, access={"prod_any": "customer"})
    assert browser.get(path).status == 403
    assert browser.get("/vip/free").called
    assert browser.get("/VIP/FREE").status == 403


def test_a_neighbours_cookie_with_a_comma_is_nobody(make_site: MakeSite) -> None:
    """A sibling host can set `a=1,__Host-whop_session=…`; were that split, `__Host-` would be worth nothing."""
    site = make_site()
    ((name, value),) = session_cookie(site.middleware.config, origin=ORIGIN).items()
    assert site.request("GET", "/a", (*FETCH, ("Cookie", f"a=1,{name}={value}"))).status == 401
    assert site.request("GET", "/a", (*FETCH, ("Cookie", "a=1"), ("Cookie", f"{name}={value}"))).called


def test_an_endless_cookie_header_is_not_read(make_site: MakeSite) -> None:
    site = make_site()
    ((name, value),) = session_cookie(site.middleware.config, origin=ORIGIN).items()
    assert site.request("GET", "/a", (*FETCH, ("Cookie", f"{';' * 70_000}{name}={value}"))).status == 401


@pytest.mark.parametrize("open_rule", ["/VIP", "/Vip/"])
def test_rules_that_differ_in_case_alone_are_refused(open_rule: str) -> None:
    with pytest.raises(ConfigError, match="two rules for the same path"):
        make_config(require={"/vip": "prod_vip", open_rule: ()})


@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
def test_a_preflight_of_an_app_that_starts_late_or_never_speaks(make_site: MakeSite, status: str) -> None:
    """Some WSGI apps answer with their first piece, some with none; an ASGI app may send what is neither."""

    def late(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield b""
        kind = [] if status.startswith("204") else [("Content-Type", "text/plain")]
        start_response(status, [("Access-Control-Allow-Origin", "*"), *kind])

    async def chatty(scope: Any, receive: Any, send: Any) -> None:
        assert scope["extensions"] == {}
        headers = [(b"access-control-allow-origin", b"*")]
        await send({"type": "http.response.start", "status": int(status[:3]), "headers": headers, "trailers": True})
        await send({"type": "http.response.body", "body": b"secret", "more_body": False})
        await send({"type": "http.response.trailers", "headers": []})

    site = make_site()
    site.middleware.app = chatty if site.interface == "asgi" else late
    answer = site.request("OPTIONS", "/page", PREFLIGHT)
    assert (answer.status, answer.body) == (int(status[:3]), b"")
    assert answer.header("access-control-allow-origin") == "*"


def test_a_preflight_leaves_a_list_of_pieces_alone() -> None:
    """An app whose answer is a plain list has nothing to close."""
    site = WsgiSite(make_config())

    def listing(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"secret"]

    site.middleware.app = listing
    assert site.request("OPTIONS", "/page", PREFLIGHT).body == b""


def test_a_signature_has_one_spelling_whoever_checks_it() -> None:
    ours = signer(make_config(), "session")
    value, _, signature = ours.sign(b"value").rpartition(b".")
    assert ours.verify_signature(value, signature)
    assert not ours.verify_signature(value, signature + b"=")


@pytest.mark.parametrize("field", ["code=%", "code=a%2", "code=%G1", "code=C&state=%", "co%64e=%zz"])
def test_a_percent_sign_that_escapes_nothing_is_no_code(make_site: MakeSite, whop: FakeWhop, field: str) -> None:
    answer = Browser(make_site()).get(f"/callback/whop?{field}", HUB)
    assert answer.status == 400
    assert "bad_callback" in answer.text
    assert whop.calls == []


def test_a_percent_sign_elsewhere_is_nobody_s_business(make_site: MakeSite, whop: FakeWhop) -> None:
    assert Browser(make_site()).get(f"/callback/whop?code={whop.code()}&utm=100%", HUB).status == 303


def test_htmx_is_not_sent_off_for_a_silent_sign_in(make_site: MakeSite, whop: FakeWhop, clock: Clock) -> None:
    """An XHR cannot follow to Whop, and the one way there would be used up for the day."""
    whop.owned["user_1"] = {"prod_a": "customer"}
    browser = Browser(make_site(require="prod_a", session_max_age=10**6))
    browser.sign_in(whop, "/page")
    clock.tick(90_000)
    assert browser.get("/page", (("HX-Request", "true"), ("Accept", "*/*"))).called
    assert browser.get("/page").location.startswith("https://whop.com/oauth?")


@pytest.mark.parametrize("error", [httpx.ConnectError("x"), httpx.ConnectTimeout("x")])
def test_a_connection_that_is_never_made_is_tried_once_more(
    make_site: MakeSite, whop: FakeWhop, error: Exception
) -> None:
    whop.answers["me"] = error
    assert Browser(make_site()).arrive_from_hub(whop).status == 503
    assert whop.calls == ["token", "me", "me"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(200, headers=[("X-N", "a")] * 1001, json={}), "bad_whop_answer"),
        (httpx.DecodingError("x"), "bad_whop_answer"),
    ],
)
def test_an_answer_that_nobody_should_read_is_not_read(
    make_site: MakeSite, whop: FakeWhop, answer: httpx.Response | Exception, code: str
) -> None:
    whop.answers["token"] = answer
    page = Browser(make_site()).arrive_from_hub(whop)
    assert (page.status, code in page.text) == (502, True)


def test_an_id_too_long_for_whop_is_called_so() -> None:
    with pytest.raises(ConfigError, match="more than 64 characters"):
        make_config(require="prod_" + "a" * 60)

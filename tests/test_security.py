"""Attacks that once went through, each held for good. Calls no real Whop."""

from __future__ import annotations

import pytest

from whop_middleware.testing import session_cookie

from .conftest import MakeSite
from .support import FETCH, NAVIGATION, ORIGIN, Browser

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

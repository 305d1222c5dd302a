"""What becomes of an app's answer to a signed-in person."""

from __future__ import annotations

import pytest

from whop_middleware.responses import private_headers
from whop_middleware.testing import session_cookie

from .conftest import MakeSite
from .support import Browser

Raw = list[tuple[bytes, bytes]]


@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], [(b"vary", b"Cookie"), (b"cache-control", b"private")]),
        ([(b"Vary", b"Accept")], [(b"Vary", b"Accept, Cookie"), (b"cache-control", b"private")]),
        ([(b"vary", b"")], [(b"vary", b"Cookie"), (b"cache-control", b"private")]),
        ([(b"vary", b"accept, COOKIE")], [(b"vary", b"accept, COOKIE"), (b"cache-control", b"private")]),
        ([(b"vary", b"*")], [(b"vary", b"*"), (b"cache-control", b"private")]),
        (
            [(b"vary", b"Accept"), (b"vary", b"Origin")],
            [(b"vary", b"Accept, Cookie"), (b"vary", b"Origin"), (b"cache-control", b"private")],
        ),
        (
            [(b"vary", b"Accept"), (b"vary", b"Cookie")],
            [(b"vary", b"Accept"), (b"vary", b"Cookie"), (b"cache-control", b"private")],
        ),
        ([(b"Cache-Control", b"no-store")], [(b"Cache-Control", b"no-store"), (b"vary", b"Cookie")]),
        ([(b"cache-control", b"max-age=60")], [(b"cache-control", b"max-age=60"), (b"vary", b"Cookie")]),
        (
            [(b"x-a", b"1"), (b"x-a", b"2")],
            [(b"x-a", b"1"), (b"x-a", b"2"), (b"vary", b"Cookie"), (b"cache-control", b"private")],
        ),
    ],
)  # fmt: skip
def test_a_signed_in_person_s_answer_varies_and_is_private(given: Raw, expected: Raw, public: bool) -> None:
    before = list(given)
    assert private_headers(given, public=public) == expected
    assert given == before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"public", b"private"),
        (b"public, max-age=60", b"private, max-age=60"),
        (b"s-maxage=60, max-age=5", b"private, max-age=5"),
        (b"PUBLIC, S-MaxAge=9, private", b"private"),
        (b'no-cache="a, public-b", must-revalidate', b'no-cache="a, public-b", must-revalidate'),
        (b"max-age=60", b"max-age=60"),
        (b"private, no-store", b"private, no-store"),
    ],
)
def test_what_was_meant_for_shared_caches_becomes_private(given: bytes, expected: bytes) -> None:
    assert private_headers([(b"Cache-Control", given)], public=False)[0] == (b"Cache-Control", expected)
    assert private_headers([(b"Cache-Control", given)], public=True)[0] == (b"Cache-Control", given)


def test_a_browser_sees_it_for_somebody_and_not_for_nobody(make_site: MakeSite) -> None:
    site = make_site(headers=[("Cache-Control", "public, max-age=60"), ("Vary", "Accept")])
    browser = Browser(site)
    for _ in range(2):
        anonymous = browser.get("/health")
        assert (anonymous.all("vary"), anonymous.all("cache-control")) == (["Accept"], ["public, max-age=60"])
    browser.cookies |= session_cookie(site.middleware.config)
    for _ in range(2):
        public, private = browser.get("/health"), browser.get("/a")
        assert (public.all("vary"), public.all("cache-control")) == (["Accept, Cookie"], ["public, max-age=60"])
        assert (private.all("vary"), private.all("cache-control")) == (["Accept, Cookie"], ["private, max-age=60"])

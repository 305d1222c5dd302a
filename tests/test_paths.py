"""Which paths are public or need a purchase, and where a sign-in may return to."""

from __future__ import annotations

import time

import pytest

from whop_middleware.paths import PublicPaths, Rules, is_odd, safe_return_path

OWN = ("/login/whop", "/logout/whop", "/callback/whop")


@pytest.mark.parametrize(
    "path",
    [
        "/a/../b", "/a/..", "/..", "/.", "/./a", "/a/.", "/a\\b", "/a;b", "/;", "/a//b", "//", "//a", "/a//", "/a\x00",
        "/a\n", "/\x1f", "/\x7f", "/\x85", "/%2e%2e/a", "/%2e", "/%252e%252e/a", "/a%2f%2fb", "/a%5cb", "/a%3bb",
        "/a%00", "/a%250a", "/%2525252525252e", "/\ufffd", f"/{chr(0xD800)}", "", "a", "*", "http://x/a", "vip/x",
    ],
)  # fmt: skip
def test_a_path_that_two_programs_may_read_differently_is_odd(path: str) -> None:
    assert is_odd(path)


@pytest.mark.parametrize(
    "path", ["/", "/a", "/a/", "/a/b.c", "/...", "/..a/b..", "/.well-known/x", "/a%2fb", "/100%", "/%zz", "/é", "/a b"]
)
def test_an_ordinary_path_is_not_odd(path: str) -> None:
    assert not is_odd(path)


def test_public_paths_match_exactly_or_below_a_prefix() -> None:
    public = PublicPaths(("/health", "/static/*", "/"))
    inside = ("/", "/health", "/static/", "/static/a", "/static/a/b", "/static/...")
    outside = ("/health/", "/Health", "/healthy", "/static", "/STATIC/a", "/x/static/a", "/health\n", "/static/a;b", "")
    assert [path in public for path in inside] == [True] * len(inside)
    assert [path in public for path in outside] == [False] * len(outside)


def test_without_patterns_nothing_is_public() -> None:
    assert not any(path in PublicPaths(()) for path in ("/", "", "/a", "*"))


def test_everything_can_be_public_but_odd_paths() -> None:
    public = PublicPaths(("/*",))
    assert "/a" in public
    assert "/a/../b" not in public


def test_exact_wins_over_a_star_and_longer_over_shorter() -> None:
    rules = Rules({"/*": ("prod_a", "prod_b"), "/vip/*": ("prod_v",), "/vip/gold/*": ("prod_g",), "/vip/free": ()})
    assert rules.needs("/x") == (("prod_a", "prod_b"),)
    assert rules.needs("/vip/x") == (("prod_v",),)
    assert rules.needs("/vip/gold/x") == (("prod_g",),)
    assert rules.needs("/vip/free") == ()
    assert rules.rule("/vip/free") == "/vip/free"


def test_rules_match_generously_and_exceptions_strictly() -> None:
    rules = Rules({"/vip/*": ("prod_v",), "/club": ("prod_c",), "/club/open": (), "/free/*": (), "/*": ("prod_a",)})
    assert rules.needs("/vip") == (("prod_v",),)
    assert rules.needs("/club/") == (("prod_c",),)
    assert rules.needs("/free/x") == ()
    assert rules.needs("/free") == (("prod_a",),)
    assert rules.needs("/club/open") == ()
    assert rules.needs("/club/open/") == (("prod_a",),)


def test_where_no_rule_matches_signed_in_is_enough() -> None:
    rules = Rules({"/vip/*": ("prod_v",)})
    assert rules.needs("/") == ()
    assert rules.needs("/vipers") == ()
    assert rules.rule("/") is None


@pytest.mark.parametrize("path", ["/free/../vip/x", "/vip//x", "vip/x", "/free/%2e%2e/vip", "/free;/x", "/%5cvip"])
def test_an_odd_path_must_satisfy_every_rule(path: str) -> None:
    rules = Rules({"/free/*": (), "/vip/*": ("prod_v",), "/gold/*": ("prod_g", "prod_h"), "/*": ()})
    assert rules.needs(path) == (("prod_v",), ("prod_g", "prod_h"))


def test_one_rule_for_everything_needs_no_look_at_the_path() -> None:
    for path in ("/", "/a", "/a/../b", "*"):
        assert Rules({"/*": ("prod_a",)}).needs(path) == (("prod_a",),)
        assert Rules({}).needs(path) == ()


@pytest.mark.parametrize(
    "value",
    ["/", "/a", "/a?b=//c", "/a#//b", "/a?u=https://x.example/../", "/a%2Fb", "/@user", "/a:b", "/a/..b/c", "/...",
     "/login", "/login/whopper", "/x/login/whop", "/a?next=/login/whop", "/%C3%A9", "/a;b", "/%zz", "/" + "a" * 1023],
)  # fmt: skip
def test_a_path_of_this_site_is_kept_byte_for_byte(value: str) -> None:
    assert safe_return_path(value, own=OWN, home="/home") == value


@pytest.mark.parametrize(
    "value",
    [
        None, "", "a", "?a", "#a", "//", "//evil.example", "/\\evil.example", "/a\\b", "/a?b\\c", "https://evil.example",
        "javascript:alert(1)", "/ a", "/é", "/a\nb", "/a\tb", "/a\x00", "/%0a", "/%2f/evil.example", "/%5cevil.example",
        "/a/../b", "/a/%2e%2e/b", "/./a", "/a/.", "/;/a", "/%252f/evil.example", "/%2525252525252f/evil.example",
        "/" + "a" * 1024,
    ],
)  # fmt: skip
def test_anything_else_is_home(value: str | None) -> None:
    assert safe_return_path(value, own=OWN, home="/home") == "/home"


@pytest.mark.parametrize(
    "value",
    ["/login/whop", "/LOGIN/Whop", "/login/whop/", "/login/whop?next=/a", "/login/whop#a", "/login/whop;a",
     "/%6cogin/whop", "/%256cogin/whop", "/login%2fwhop", "/login/whop.", "/login/whop%20", "/callback/whop?code=a",
     "/logout/whop/%2e"],
)  # fmt: skip
def test_an_own_path_in_any_spelling_is_home(value: str) -> None:
    assert safe_return_path(value, own=OWN, home="/home") == "/home"


def test_a_long_path_loses_its_query_first() -> None:
    assert safe_return_path("/a?" + "b" * 1021, own=OWN, home="/") == "/a?" + "b" * 1021
    assert safe_return_path("/a?" + "b" * 1022, own=OWN, home="/") == "/a"
    assert safe_return_path("/a#" + "b" * 1022, own=OWN, home="/") == "/a"


@pytest.mark.parametrize("path", ["/" + "../" * 30_000, "/" + ";" * 100_000, "/" + "%25" * 30_000, "/" + "a/" * 50_000])
def test_long_paths_cost_no_more_than_their_length(path: str) -> None:
    began = time.perf_counter()
    assert is_odd(path) == path.startswith(("/..", "/;"))
    assert safe_return_path(path, own=OWN, home="/") == "/"
    assert time.perf_counter() - began < 2

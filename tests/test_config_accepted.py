"""Which settings are accepted, and what is kept of them. Reads no real environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from whop_middleware.config import SETTINGS, is_local_host

from .settings import CALLBACK, config, from_env, refusal


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("uri", "origin", "path"),
    [
        ("/callback/whop", None, "/callback/whop"),
        ("/cb/", None, "/cb/"),
        (CALLBACK, "https://app.example", "/callback/whop"),
        ("HTTPS://App.Example:443/Shop/cb/", "https://app.example", "/Shop/cb/"),
        ("https://app.example:8443/cb", "https://app.example:8443", "/cb"),
        ("http://localhost:80/cb", "http://localhost", "/cb"),
        ("http://localhost:443/cb", "http://localhost:443", "/cb"),
        ("http://[::1]:8000/cb", "http://[::1]:8000", "/cb"),
        ("http://127.0.0.1:8000/cb", "http://127.0.0.1:8000", "/cb"),
        ("http://shop.test/cb", "http://shop.test", "/cb"),
        ("http://testserver/cb", "http://testserver", "/cb"),
    ],
)
def test_redirect_uri_is_kept_to_the_letter(uri: str, origin: str | None, path: str) -> None:
    found = config(redirect_uri=uri)
    assert (found.redirect_uri, found.origin, found.redirect_path) == (uri, origin, path)


@pytest.mark.parametrize(
    "page", ["/", "/welcome", "/welcome/", "/welcome?lang=en", "https://shop.example/", "http://localhost:3000/a?b#c"]
)
def test_pages_are_paths_or_full_urls(page: str) -> None:
    found = config(sign_in_page=page, denied_page=page)
    assert (found.landing, found.denied_page) == (page, page)


def test_sign_in_page_may_be_the_login_path_itself() -> None:
    assert config(sign_in_page="/login/whop").landing == config().landing == "/login/whop"


def test_own_paths_given_as_full_urls_are_noticed() -> None:
    assert refusal(redirect_uri=CALLBACK, denied_page="https://APP.example/logout/whop").startswith("denied_page")
    assert config(redirect_uri=CALLBACK, denied_page="https://other.example/logout/whop").denied_page


@pytest.mark.parametrize("home", ["/", "/members", "/a%20b?x=%2F&y=//z"])
def test_home_is_a_path_perhaps_with_a_query(home: str) -> None:
    assert config(home=home).home == home


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ()),
        ("/health", ("/health",)),
        (" /health , ,/static/*", ("/health", "/static/*")),
        (["/a,b", "/käse/my file", "/100%"], ("/a,b", "/käse/my file", "/100%")),
        (("/a", "/a"), ("/a",)),
    ],
)
def test_lists_are_tuples_lists_or_text(value: Any, expected: tuple[str, ...]) -> None:
    assert config(public=value).public == expected


def test_making_everything_public_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert config(public="/*").public == ("/*",)
    assert "nobody is asked to sign in" in caplog.text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", {}),
        ((), {}),
        ({}, {}),
        ("{}", {}),
        ("prod_a", {"/*": ("prod_a",)}),
        ("prod_a, exp_b,biz_c", {"/*": ("prod_a", "exp_b", "biz_c")}),
        (["prod_a", "prod_a"], {"/*": ("prod_a",)}),
        (["exp_" + "x" * 60], {"/*": ("exp_" + "x" * 60,)}),
        ({"/v": "prod_a,exp_b", "/": (), "/x/*": ["biz_1"]}, {"/v": ("prod_a", "exp_b"), "/": (), "/x/*": ("biz_1",)}),
        (' {"/vip/*": "prod_a", "/vip": "prod_b"}', {"/vip/*": ("prod_a",), "/vip": ("prod_b",)}),
    ],
)  # fmt: skip
def test_require_is_kept_as_rules(value: Any, expected: Mapping[str, tuple[str, ...]]) -> None:
    found = config(require=value).require
    assert list(found.items()) == list(expected.items())
    assert json.loads(json.dumps(found)) == {pattern: list(ids) for pattern, ids in expected.items()}


def test_ten_ids_in_all_may_be_named_many_times() -> None:
    ids = tuple(f"prod_{number}" for number in range(10))
    assert config(require={"/*": ids, "/b/*": ids[::-1]}).required_ids == ids


@pytest.mark.parametrize(
    ("rule", "ids", "options"),
    [
        ("/health", "prod_a", {"public": "/health"}),
        ("/static/x", "prod_a", {"public": "/static/*"}),
        ("/static/", (), {"public": "/static/*"}),
        ("/static/*", "prod_a", {"public": "/static/*"}),
        ("/static/img/*", (), {"public": ("/a", "/static/*")}),
        ("/*", "prod_a", {"public": "/*"}),
        ("/welcome", "prod_a", {"sign_in_page": "/welcome?lang=en"}),
        ("/in", "prod_a", {"login_path": "/in"}),
        ("/shop/cb", "prod_a", {"redirect_uri": "https://app.example/shop/cb"}),
        ("/upgrade", "prod_a", {"denied_page": "/upgrade?from=x"}),
    ],
)
def test_rule_that_decides_nothing_is_refused(rule: str, ids: Any, options: dict[str, Any]) -> None:
    message = refusal(require={rule: ids}, **options)
    assert message.startswith("require (WHOP_REQUIRE) has a rule ")
    assert repr(rule) in message


@pytest.mark.parametrize(
    ("rule", "ids", "options"),
    [
        ("/", "prod_a", {"public": "/health"}),
        ("/", "prod_a", {"denied_page": "https://shop.example/", "sign_in_page": "https://shop.example/"}),
        ("/static", "prod_a", {"public": "/static/*"}),
        ("/static/*", "prod_a", {"public": "/static/x"}),
        ("/health/", "prod_a", {"public": "/health"}),
        ("/welcome/*", "prod_a", {"sign_in_page": "/welcome"}),
        ("/upgrade", (), {"denied_page": "/upgrade"}),
        ("/login/*", "prod_a", {}),
    ],
)
def test_rule_that_decides_something_is_kept(rule: str, ids: Any, options: dict[str, Any]) -> None:
    assert list(config(require={rule: ids}, **options).require) == [rule]


@pytest.mark.parametrize("word", ["1", "true", "YES", "On"])
def test_words_for_on(word: str) -> None:
    assert from_env(WHOP_IDENTITY_HEADERS=word).identity_headers is True


@pytest.mark.parametrize("word", ["0", "false", "NO", "Off"])
def test_words_for_off(word: str) -> None:
    assert from_env(WHOP_IDENTITY_HEADERS=word).identity_headers is False


def test_numbers_are_kept_in_their_type() -> None:
    found = config(timeout=1, recheck_after=60.0, recheck_grace=0, session_max_age="90")
    assert [found.timeout, found.recheck_after, found.recheck_grace, found.session_max_age] == [1.0, 60, 0, 90]
    assert [type(found.timeout), type(found.recheck_after)] == [float, int]
    assert config(timeout="60").timeout == 60.0


def test_servers_lose_their_slash() -> None:
    found = config(whop_url="https://Whop.example:443/", api_url="http://localhost:9000")
    assert (found.whop_url, found.api_url) == ("https://whop.example", "http://localhost:9000")


def test_buy_url_may_have_query_and_fragment() -> None:
    assert config(buy_url="http://whop.com/x/?a=b#c").buy_url == "http://whop.com/x/?a=b#c"


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:8000", "localhost.", "shop.localhost", "shop.localhost:80", "127.0.0.1",
        "127.0.0.1:8000", "127.255.255.254", "127.0.0.1.", "[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]",
        "testserver", "testserver:80", "app.test", "2130706433", "0x7f000001", "3com", "my_app",
    ],
)  # fmt: skip
def test_local_hosts(host: str) -> None:
    assert is_local_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "", ".", ":80", "app.example", "127.1", "127.1.evil.com", "127.0.0.1.evil.com", "0x7f.1",
        "0177.0.0.1", "127.0.0.256", "10.0.0.1", "169.254.169.254", "134744072", "0x08080808", "010",
        "1.localhost.example", "localhost.example", "evil-localhost.com", "app.testing", ".test", "a..test",
        "[::]", "[::2]", "[::ffff:127.0.0.1]", "[::1", "::1", "[1]", "localhost:99999", "localhost:x",
        "localhost:80:80", "localhost@evil.com", "localhost/", "local host", "localhost\n", "löcalhost",
        "app.5test", "[::1]evil",
    ],
)  # fmt: skip
def test_hosts_that_are_not_local(host: str) -> None:
    assert not is_local_host(host)

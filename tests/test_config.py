"""The settings: what each accepts, what each refuses and how it says so. Reads no real environment."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from whop_middleware import ConfigError, WhopConfig
from whop_middleware.config import SETTINGS, is_local_host

ID = "client_1"
SECRET = "client-secret-0123456789"
KEY = "0123456789abcdef0123456789abcdef"
HIDDEN = "hidden-value"
CALLBACK = "https://app.example/callback/whop"
VARIABLES = {"WHOP_CLIENT_ID": ID, "WHOP_CLIENT_SECRET": SECRET}
NAMES = [setting.name for setting in SETTINGS]
BY_NAME = {setting.name: setting for setting in SETTINGS}


def config(**options: Any) -> WhopConfig:
    return WhopConfig(**({"client_id": ID, "client_secret": SECRET} | options))


def from_env(**variables: str) -> WhopConfig:
    return WhopConfig.from_env(VARIABLES | variables)


def refusal(**options: Any) -> str:
    """Return the message that refuses these options."""
    with pytest.raises(ConfigError) as caught:
        config(**options)
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)


# --- Defaults and derived values ---


def test_defaults_are_the_documented_ones() -> None:
    assert asdict(config()) == {
        "client_id": ID,
        "client_secret": SECRET,
        "redirect_uri": "/callback/whop",
        "secret_key": None,
        "dialect": "auto",
        "mode": "required",
        "public": (),
        "sign_in_page": None,
        "denied_page": None,
        "home": "/",
        "login_path": "/login/whop",
        "logout_path": "/logout/whop",
        "scope": None,
        "hub_login": "verify",
        "require": {},
        "buy_url": None,
        "allow_users": (),
        "api_key": None,
        "recheck_after": None,
        "recheck_grace": 86400,
        "session_max_age": 604800,
        "session_cookie": "whop_session",
        "identity_headers": False,
        "timeout": 5.0,
        "whop_url": "https://whop.com",
        "api_url": "https://api.whop.com",
    }


@pytest.mark.parametrize(
    ("client_id", "dialect", "protocol", "scope"),
    [
        ("client_1", "auto", "v5", "read_user"),
        ("app_1", "auto", "oauth21", "openid profile email"),
        ("client_1", "oauth21", "oauth21", "openid profile email"),
        ("client_1", "v5", "v5", "read_user"),
    ],
)
def test_dialect_follows_the_client_id_unless_it_is_set(
    client_id: str, dialect: str, protocol: str, scope: str
) -> None:
    found = config(client_id=client_id, dialect=dialect)
    assert (found.protocol, found.effective_scope) == (protocol, scope)
    assert replace(found, scope="openid").effective_scope == "openid"


def test_v5_with_an_app_id_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert config(client_id="app_1", dialect="v5").protocol == "v5"
    assert [(record.levelname, record.name) for record in caplog.records] == [("WARNING", "whop_middleware")]
    assert "WHOP_DIALECT" in caplog.text


def test_signing_key_is_derived_from_the_client_secret() -> None:
    (derived,) = config().signing_keys
    assert re.fullmatch("[0-9a-f]{64}", derived)
    assert config().signing_keys == (derived,)
    assert config(client_secret="another").signing_keys != (derived,)


def test_first_secret_key_comes_first() -> None:
    assert config(secret_key=[KEY, "0" * 16]).signing_keys == (KEY, "0" * 16)


def test_secret_key_as_an_option_is_one_key_and_as_a_variable_a_list() -> None:
    both = f"{KEY},{KEY[::-1]}"
    assert config(secret_key=both).signing_keys == (both,)
    assert from_env(WHOP_SECRET_KEY=f" {KEY} , {KEY[::-1]},").signing_keys == (KEY, KEY[::-1])


def test_recheck_is_sooner_with_an_api_key() -> None:
    assert config().recheck_seconds == 86400
    assert config(api_key="key").recheck_seconds == 900
    assert config(api_key="key", recheck_after=60).recheck_seconds == 60


def test_replace_derives_anew() -> None:
    first = config(redirect_uri=CALLBACK, require="prod_a")
    before = (
        first.recheck_seconds,
        first.protocol,
        first.origin,
        first.signing_keys,
        first.required_ids,
        first.landing,
    )
    second = replace(
        first,
        api_key="key",
        client_id="app_1",
        redirect_uri="/cb",
        client_secret="x",
        require="prod_b",
        login_path="/in",
    )
    assert before[:3] == (86400, "v5", "https://app.example")
    assert (second.recheck_seconds, second.protocol, second.origin) == (900, "oauth21", None)
    assert (second.required_ids, second.landing, second.effective_scope) == (("prod_b",), "/in", "openid profile email")
    assert second.signing_keys != first.signing_keys


def test_replace_keeps_what_is_not_named() -> None:
    first = config(
        secret_key=KEY, public="/a,/b/*", require={"/vip/*": "prod_a"}, recheck_after=5, allow_users="user_1"
    )
    assert replace(first) == first
    assert asdict(replace(first, timeout=1)) == asdict(first) | {"timeout": 1.0}


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_are_equal(duplicate: Any) -> None:
    first = config(require={"/vip/*": "prod_a"}, secret_key=KEY)
    assert first.signing_keys
    assert duplicate(first) == first
    assert hash(duplicate(first)) == hash(first)


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        config().timeout = 1  # type: ignore[misc]
    with pytest.raises(TypeError, match="read-only"):
        config(require="prod_a").require["/"] = ()  # type: ignore[index]


def test_repr_hides_what_is_secret() -> None:
    shown = repr(config(client_secret=HIDDEN, api_key=HIDDEN, secret_key=HIDDEN * 2))
    assert HIDDEN not in shown
    assert "client_secret" not in shown
    assert ID in shown


# --- Options, variables and which wins ---


def test_variables_are_read() -> None:
    found = from_env(
        WHOP_REDIRECT_URI=CALLBACK,
        WHOP_PUBLIC="/health, /static/*",
        WHOP_REQUIRE='{"/vip/*": "prod_vip", "/free/*": [], "/*": ["prod_a", "prod_b"]}',
        WHOP_ALLOW_USERS="user_1,user_2",
        WHOP_IDENTITY_HEADERS="Yes",
        WHOP_TIMEOUT=" 2.5 ",
        WHOP_RECHECK_AFTER="60",
        WHOP_URL="http://localhost:9000/",
        WHOP_MODE="Optional",
    )
    assert (found.public, found.allow_users) == (("/health", "/static/*"), ("user_1", "user_2"))
    assert list(found.require.items()) == [("/vip/*", ("prod_vip",)), ("/free/*", ()), ("/*", ("prod_a", "prod_b"))]
    assert (found.identity_headers, found.timeout, found.recheck_after) == (True, 2.5, 60)
    assert (found.whop_url, found.mode, found.origin) == ("http://localhost:9000", "optional", "https://app.example")


def test_process_environment_is_read_without_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    assert WhopConfig.from_env() == WhopConfig.build(None, {}) == config()
    assert WhopConfig.build(None, {"client_id": "client_2"}).client_id == "client_2"


def test_app_id_stands_in_for_the_client_id() -> None:
    variables = {"WHOP_APP_ID": "app_1", "WHOP_CLIENT_SECRET": SECRET}
    assert WhopConfig.from_env(variables).client_id == "app_1"
    assert WhopConfig.from_env(variables | {"WHOP_CLIENT_ID": " "}).client_id == "app_1"
    assert WhopConfig.from_env(variables | {"WHOP_CLIENT_ID": ID}).client_id == ID


def test_options_win_over_variables_even_wrong_ones() -> None:
    assert WhopConfig.from_env(VARIABLES | {"WHOP_TIMEOUT": "soon"}, timeout=1).timeout == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_option_that_is_none_is_unset(name: str) -> None:
    variables = VARIABLES | {"WHOP_SESSION_COOKIE": "shop"}
    assert WhopConfig.from_env(variables, **{name: None}) == WhopConfig.from_env(variables)
    kept = config(session_cookie="shop")
    assert WhopConfig.build(kept, {name: None}) is kept


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("client_id", "client_secret")])
def test_constructor_takes_none_for_the_default(name: str) -> None:
    assert config(**{name: None}) == config()


@pytest.mark.parametrize("empty", ["", "  "])
def test_variable_that_is_empty_is_unset(empty: str) -> None:
    assert from_env(**{s.variable: empty for s in SETTINGS if s.variable not in VARIABLES}) == config()


def test_options_win_over_a_config_and_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOP_TIMEOUT", "9")
    kept = config()
    assert WhopConfig.build(kept, {}) is kept
    assert WhopConfig.build(kept, {"require": "prod_a"}) == config(require="prod_a")


def test_config_of_another_kind_is_refused() -> None:
    wrong: Any = {"client_id": ID}
    with pytest.raises(ConfigError, match="config must be a WhopConfig"):
        WhopConfig.build(wrong, {})


@pytest.mark.parametrize(
    "build",
    [
        lambda options: WhopConfig(**options),
        lambda options: WhopConfig.from_env(VARIABLES, **options),
        lambda options: WhopConfig.build(config(), options),
        lambda options: WhopConfig.build(None, options),
    ],
)
def test_unknown_option_is_refused_by_every_way_in(build: Any) -> None:
    for value in ("prod_a", None):
        with pytest.raises(ConfigError, match=r"requires is no option .* did you mean require\?"):
            build({"requires": value})
    with pytest.raises(ConfigError, match=r"colour is no option .* the options are client_id, "):
        build({"colour": HIDDEN})


def test_environ_is_no_option_of_a_middleware() -> None:
    with pytest.raises(ConfigError, match="environ is no option"):
        WhopConfig.build(None, {"environ": VARIABLES})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("WHOP_REDIRECT_URL", "WHOP_REDIRECT_URI"),
        ("WHOP_CLIENTID", "WHOP_CLIENT_ID"),
        ("WHOP_CLIENT_SECRTE", "WHOP_CLIENT_SECRET"),
        ("WHOP_REQUIRED", "WHOP_REQUIRE"),
        ("WHOP_SECRET", "WHOP_SECRET_KEY"),
    ],
)
def test_variable_close_to_a_known_one_is_a_warning(typed: str, meant: str, caplog: pytest.LogCaptureFixture) -> None:
    from_env(**{typed: HIDDEN})
    assert [(record.levelname, record.name) for record in caplog.records] == [("WARNING", "whop_middleware")]
    assert f"did you mean {meant}?" in caplog.text
    assert typed in caplog.text
    assert HIDDEN not in caplog.text


def test_other_variables_are_no_concern(caplog: pytest.LogCaptureFixture) -> None:
    others = (
        "WHOP_APP",
        "WHOP_FORWARD_AUTH",
        "WHOP_APP_ID",
        "WHOP_WEBHOOK_SECRET",
        "WHOP_AGENT_USER_ID",
        "PATH",
        "HOP_X",
    )
    from_env(**dict.fromkeys(others, "x"))
    assert not caplog.records


# --- What is refused, and how that is said ---

WRONG: dict[str, list[Any]] = {
    "client_id": ["", " ", " x", "x\n", "a b", "é", 5, b"x", "apik_x", "x" * 3000, "\udc80"],
    "client_secret": ["", "hidden-value\n", "hidden-value\x00", "hidden-välue", 5, b"hidden-value"],
    "redirect_uri": [
        "", "app.example/callback", "//app.example/callback", "ftp://app.example/cb", "javascript:alert(1)", "callback",
        "http://app.example/cb", "http://10.0.0.1/cb", "http://127.0.0.1.evil.com/cb", "https://app.example/cb?x=1",
        "https://app.example/cb?", "https://app.example/cb#x", "https://me:hidden-value@app.example/cb",
        "https://app.example", "https://app.example/", "/", "/cb?x", "/a/../cb", "/a//b", "/a;b", "/a\\b", "/%63b",
        "https://app.example/a/../cb", "https://app.example//cb", "https:///cb", "https://app.example:99999/cb",
        "https://app.example:0/cb", "https://a..b/cb", "https://[::g]/cb", "https://[12345::]/cb", "https://äpp.example/cb",
        "https://app.example\\@evil/cb", "https://<Host>/callback/whop", "https://app.example/c b", "/cb\r\n", 5,
        ["/cb"],
    ],
    "secret_key": [
        "", "short", [], (), ["hidden-value"], [KEY, "hidden-value"], [KEY, 5], 5, KEY.encode(), [KEY.encode()],
        f"{KEY}\n", {KEY}, [KEY, ""],
    ],
    "dialect": ["", "v6", "oauth2", 5, True, ["v5"]],
    "mode": ["", "off", True],
    "public": [
        "health", "*", "/a*", "/a/*/b", "/**", "/a?x", "/a#x", "/../a", "/a/.", "/a\\b", "/a;b", "//a", "/a//b",
        "/a\nb", "/a%20b", "/a\ufffd", "https://app.example/a", ["/a", 5], [" /a"], ["/a "], [""], 5, True, {"/a"},
        {"/a": "x"}, "/x" * 2000,
    ],
    "sign_in_page": [
        "", "welcome", "//evil.example", "/a#x", "/a?x#y", "/a/../b", "/a%2fb", "/a*", "http://app.example/x",
        "javascript:alert(1)", "https://u:hidden-value@app.example/", "/logout/whop", "/logout/whop/?x",
        "/callback/whop", "/a?ä", 5,
    ],
    "denied_page": ["", "x", "//x", "/login/whop", "/logout/whop", "/callback/whop?x=1", "http://app.example/", 5],
    "home": [
        "", "x", "//evil.example", "/\\evil", "/a#x", "/a/../b", "/a\nb", "/a b", "/ä", "https://app.example/",
        "/login/whop", "/callback/whop/", "/logout/whop?x", 5,
    ],
    "login_path": ["", "/", "login", "//x", "/a?x", "/a/*", "/ä", "/a b", "https://app.example/in", 5],
    "logout_path": ["", "/", "out", "/login/whop", "/login/whop/", 5],
    "scope": ["", "a  b", 'a"b', "a\tb", "ä", 5, ["openid"]],
    "hub_login": ["", "allow", False],
    "require": [
        "prod", "plan_1", "prod_", "prod_a b", "pass_1", ["prod_a", "pass_1"], "prod_" + "x" * 60, "prod_é", 5, True,
        ["prod_a", 5], {"prod_a"}, {"/*": 5}, {"/*": {"a": "b"}}, {"/*": None}, {5: "prod_a"}, {"vip": "prod_a"},
        {"/a*": "prod_a"}, {"/a?x": "prod_a"}, {"/../a": "prod_a"}, {"/a;b": "prod_a"}, {"/a//b": "prod_a"},
        [f"prod_{number}" for number in range(11)], {f"/{number}": f"prod_{number}" for number in range(11)},
        {"/vip": "prod_a", "/vip/": "prod_b"}, {"/vip": (), "/vip/": "prod_b"}, {"/login/whop": "prod_a"},
        {"/logout/whop/": "prod_a"}, {"/callback/whop": "prod_a"}, '{"/a": ', '{"/a": "prod_a", "/a": "prod_b"}',
        '{"/a": NaN}', '{"/a":' * 100_000,
    ],
    "buy_url": [
        "", "whop.com/x", "/buy", "javascript:alert(1)", "JavaScript://whop.com/%0aalert(1)", "data:text/html,x",
        "https://", "https://whop.com/ä", "https://whop.com/\"onclick=", "https://u:hidden-value@whop.com/", 5,
    ],
    "allow_users": [["x" * 256], "usér", ["user_1", 5], ["a\nb"], [""], 5, {"user_1"}],
    "api_key": ["", "hidden value", "hidden-value\n", "hidden-välue", 5],
    "recheck_after": [
        0, -1, 1.5, True, "soon", "1_000", "-1", "\u0663", float("nan"), float("inf"), 10**10, 10**400, [1], "9" * 5000,
    ],
    "recheck_grace": [-1, False, 0.5, "x", 10**10, float("nan")],
    "session_max_age": [0, -5, True, "1.5", "1e9", float("-inf"), 10**10],
    "session_cookie": [
        "", "a b", "a;b", "a=b", "a,b", "ä", "__Host-x", "__secure-x", "x" * 65, 'a"b', "a\x00", 5,
    ],
    "identity_headers": ["", "maybe", 1, 0, "2", ["on"]],
    "timeout": [0, -1, True, 61, float("nan"), float("inf"), 10**400, "0", "fast", "1e1", "nan", [5], "9" * 5000],
    "whop_url": [
        "", "whop.com", "http://whop.com", "https://whop.com/oauth", "https://whop.com?x", "https://whop.com/#x",
        "https://u:hidden-value@whop.com", 5,
    ],
    "api_url": ["http://api.whop.com", "https://api.whop.com/v5", "ftp://api.whop.com", 5],
}  # fmt: skip


def test_every_setting_has_wrong_values_to_try() -> None:
    assert list(WRONG) == NAMES == [field.name for field in fields(WhopConfig)]


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(name, value, id=f"{name}-{number}") for name in WRONG for number, value in enumerate(WRONG[name])],
)
def test_wrong_value_is_refused_by_field_and_variable(name: str, value: Any) -> None:
    message = refusal(**{name: value})
    assert message.startswith(f"{name} ({BY_NAME[name].variable}")
    assert HIDDEN[:6] not in message
    assert KEY not in message
    assert message.isprintable()
    assert len(message) < 350


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WHOP_SECRET_KEY", ","),
        ("WHOP_SECRET_KEY", f"{KEY},{HIDDEN}"),
        ("WHOP_API_KEY", "hidden välue"),
        ("WHOP_CLIENT_SECRET", "hidden-välue"),
        ("WHOP_TIMEOUT", "5s"),
        ("WHOP_IDENTITY_HEADERS", "y"),
        ("WHOP_PUBLIC", "health"),
        ("WHOP_REQUIRE", "{prod_a}"),
        ("WHOP_URL", "whop.com"),
    ],
)
def test_wrong_variable_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_env(**{variable: value})
    assert f"({variable})" in str(caught.value)
    assert HIDDEN[:6] not in str(caught.value)


@pytest.mark.parametrize("name", ["login_path", "logout_path"])
def test_two_own_paths_on_one_path_are_refused(name: str) -> None:
    message = refusal(**{name: "/callback/whop"})
    assert message.startswith("redirect_uri (WHOP_REDIRECT_URI) has the same path as " + name)


def test_refusal_shows_the_wrong_value_and_the_mend() -> None:
    assert refusal(public=["/ok", "health"]) == (
        "public (WHOP_PUBLIC) must have paths that start with \"/\" (got 'health')"
    )
    assert refusal(timeout="5 s").endswith("(got '5 s')")
    assert refusal(require={"/*": {"a": "b"}}).endswith("(got a value of type dict)")
    assert refusal(recheck_after=10**400).endswith("(got a very large number)")
    assert refusal(home="/" + "é" * 999).endswith("…)")
    assert 'start with "prod_"' in refusal(require="pass_1")
    assert "https://" in refusal(redirect_uri="http://app.example/callback/whop")


@pytest.mark.parametrize("name", ["client_id", "client_secret"])
def test_missing_credentials_are_refused_by_name(name: str) -> None:
    variables = {key: value for key, value in VARIABLES.items() if key != BY_NAME[name].variable}
    with pytest.raises(ConfigError) as caught:
        WhopConfig.from_env(variables)
    assert str(caught.value) == refusal(**{name: None})
    assert re.match(rf"{name} \({BY_NAME[name].variable}.* is missing: set it to ", str(caught.value))


def test_message_about_the_client_id_names_both_variables() -> None:
    assert "(WHOP_CLIENT_ID, else WHOP_APP_ID)" in refusal(client_id=None)


def test_public_client_needs_a_secret_key_instead_of_a_client_secret() -> None:
    assert WhopConfig(client_id="app_1", secret_key=KEY).signing_keys == (KEY,)
    with pytest.raises(ConfigError, match=r"^secret_key \(WHOP_SECRET_KEY\) is missing"):
        WhopConfig(client_id="app_1")


@pytest.mark.parametrize("options", [{"dialect": "v5"}, {"client_id": ID, "dialect": "oauth21"}])
def test_only_an_app_id_in_oauth21_goes_without_a_client_secret(options: dict[str, Any]) -> None:
    assert refusal(**({"client_id": "app_1", "client_secret": None, "secret_key": KEY} | options)).startswith(
        "client_secret"
    )


def test_hub_login_accept_is_refused_in_oauth21() -> None:
    assert config(hub_login="accept").hub_login == "accept"
    assert refusal(hub_login="accept", client_id="app_1").startswith("hub_login (WHOP_HUB_LOGIN) cannot")
    assert refusal(hub_login="accept", dialect="oauth21").startswith("hub_login (WHOP_HUB_LOGIN) cannot")


# --- What is accepted ---


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


# --- The list of settings ---


def test_settings_are_declared_once_and_fully() -> None:
    assert [s.variable for s in SETTINGS if s.variable != f"WHOP_{s.name.upper()}"] == ["WHOP_URL"]
    assert [s.name for s in SETTINGS if s.secret] == ["client_secret", "secret_key", "api_key"]
    assert all(s.help and s.default_text for s in SETTINGS)


def test_settings_load_neither_client_nor_url_opener() -> None:
    program = (
        "import sys, types; package = types.ModuleType('whop_middleware');"
        "package.__path__ = ['whop_middleware']; sys.modules['whop_middleware'] = package;"
        "import whop_middleware.config; print(*{'httpx', 'ssl', 'urllib.request', 'difflib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent.parent, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "")

"""Which settings are refused, and how that is said. Reads no real environment."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest

from whop_middleware import ConfigError, WhopConfig
from whop_middleware.config import SETTINGS

from .settings import HIDDEN, ID, KEY, NAMES, VARIABLES, config, from_env, refusal

BY_NAME = {setting.name: setting for setting in SETTINGS}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)


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

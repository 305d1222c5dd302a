"""Where the settings come from: defaults, options, variables, and which wins. Reads no real environment."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from whop_middleware import ConfigError, WhopConfig
from whop_middleware.config import SETTINGS

from .settings import CALLBACK, HIDDEN, ID, KEY, NAMES, SECRET, VARIABLES, config, from_env


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

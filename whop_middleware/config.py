"""The settings: one frozen `WhopConfig`, from arguments or from `WHOP_*` variables. Shows no secret, opens nothing."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import hmac
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, cast
from urllib.parse import urlsplit

from . import settings as read
from .errors import ConfigError
from .paths import PublicPaths
from .settings import Parser, Refused, is_local_host

__all__ = ["SETTINGS", "Setting", "WhopConfig", "is_local_host"]

logger = logging.getLogger("whop_middleware")

# Variables under our prefix that are read elsewhere, or that people have for other tools (Whop's own SDK).
_OTHER_VARIABLES = ("WHOP_APP", "WHOP_APP_ID", "WHOP_FORWARD_AUTH", "WHOP_WEBHOOK_SECRET")
_DAY = 86_400
_YEAR = 365 * _DAY


Items: TypeAlias = str | Sequence[str]
"""What a list may be given as; it is kept as a tuple."""


class Setting(NamedTuple):
    """One setting as documentation shows it: field, variable, default in words, and whether its value is a secret."""

    name: str
    variable: str
    default: str
    secret: bool


def _setting(parse: Parser, default: Any = None, *, shown: str | None = None, secret: bool = False) -> Any:
    """Declare a field: how it is read, its default, and the default in words where it is worked out."""
    metadata = {"parse": parse, "shown": shown, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class WhopConfig:
    """The settings of a middleware. Raises `ConfigError` naming the field, its variable and the mend.

    Every field has a variable: `client_id` is `WHOP_CLIENT_ID`. `None` counts as unset. Times are in seconds, lists may
    be one string with commas. README has the table of what each means.
    """

    client_id: str = _setting(read.text, shown="required")
    client_secret: str | None = _setting(read.text, shown="required, except for a public `app_…` client", secret=True)
    redirect_uri: str = _setting(read.redirect_uri, "/callback/whop")
    secret_key: Items | None = _setting(read.keys, shown="derived from `client_secret`", secret=True)
    dialect: str = _setting(read.choice("auto", "v5", "oauth21"), "auto")
    mode: str = _setting(read.choice("required", "optional"), "required")
    public: Items = _setting(read.patterns, ())
    sign_in_page: str | None = _setting(read.page, shown="the login path")
    denied_page: str | None = _setting(read.page, shown="built-in 403 page")
    home: str = _setting(read.local_target, "/")
    login_path: str = _setting(read.path, "/login/whop")
    logout_path: str = _setting(read.path, "/logout/whop")
    scope: str | None = _setting(read.words, shown="`read_user` (v5), `openid profile email` (oauth21)")
    hub_login: str = _setting(read.choice("verify", "restart", "accept", "reject"), "verify")
    require: Items | Mapping[str, Items] = _setting(read.rules, ())
    buy_url: str | None = _setting(read.url)
    allow_users: Items = _setting(read.user_ids, ())
    api_key: str | None = _setting(read.text, secret=True)
    recheck_after: int | None = _setting(read.seconds(1, _YEAR), shown="`900` s with `api_key`, else `86400` s")
    recheck_grace: int = _setting(read.seconds(0, _YEAR), _DAY)
    session_max_age: int = _setting(read.seconds(60, _YEAR), 7 * _DAY)
    session_cookie: str = _setting(read.cookie_name, "whop_session")
    identity_headers: bool = _setting(read.boolean, False)
    timeout: float = _setting(read.timeout, 5.0)
    whop_url: str = _setting(read.base_url, "https://whop.com")
    api_url: str = _setting(read.base_url, "https://api.whop.com")

    def __post_init__(self) -> None:
        for declared in dataclasses.fields(self):
            object.__setattr__(self, declared.name, _read(declared, getattr(self, declared.name)))
        self._check_credentials()
        self._check_paths()
        self._check_rules()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **options: Any) -> WhopConfig:
        """Return the settings of the `WHOP_*` variables; `options` win. Warns about a variable that looks misspelled."""
        environ = os.environ if environ is None else environ
        _check_options(options)
        _warn_of_misspellings(environ)
        found: dict[str, Any] = {}
        for declared in dataclasses.fields(cls):
            value = environ.get(_variable(declared.name), "").strip()
            if declared.name == "client_id" and not value:
                value = environ.get("WHOP_APP_ID", "").strip()
            if value:
                found[declared.name] = read.items(value) if declared.name == "secret_key" else value
        return cls(**found | {name: value for name, value in options.items() if value is not None})

    @classmethod
    def build(cls, config: WhopConfig | None, options: Mapping[str, Any]) -> WhopConfig:
        """Return the settings of a middleware: `options` win over `config`; without one the environment fills in."""
        _check_options(options)
        if config is None:
            return cls.from_env(**options)
        if not isinstance(config, WhopConfig):
            raise ConfigError(
                f"config must be a WhopConfig, not {type(config).__name__}: WhopConfig.from_env() makes one"
            )
        given = {name: value for name, value in options.items() if value is not None}
        return dataclasses.replace(config, **given) if given else config

    # What follows from the fields

    @cached_property
    def protocol(self) -> str:
        """The generation of Whop's OAuth API that is spoken: `"v5"` or `"oauth21"`."""
        if self.dialect != "auto":
            return self.dialect
        return "oauth21" if self.client_id.startswith("app_") else "v5"

    @cached_property
    def signing_keys(self) -> tuple[str, ...]:
        """The keys that sign cookies: the first signs, all verify."""
        if self.secret_key is not None:
            return tuple(self.secret_key)
        secret = (self.client_secret or "").encode()
        return (hmac.new(secret, b"whop_middleware|secret_key", hashlib.sha256).hexdigest(),)

    @cached_property
    def effective_scope(self) -> str:
        """What is asked for at Whop's authorize page."""
        default = "openid profile email" if self.protocol == "oauth21" else "read_user"
        return default if self.scope is None else self.scope

    @cached_property
    def recheck_seconds(self) -> int:
        """How long a good verdict is believed."""
        if self.recheck_after is not None:
            return self.recheck_after
        return 900 if self.api_key is not None else _DAY

    @cached_property
    def landing(self) -> str:
        """Where a visitor without a session is redirected: a path of this site, or a full URL."""
        return self.sign_in_page if self.sign_in_page is not None else self.login_path

    @cached_property
    def origin(self) -> str | None:
        """The origin of a full `redirect_uri`, lower-case, without a default port; `None` for a path."""
        parts = urlsplit(self.redirect_uri)
        if not parts.scheme:
            return None
        return f"{parts.scheme}://{parts.netloc.lower()}".removesuffix(":443" if parts.scheme == "https" else ":80")

    @cached_property
    def redirect_path(self) -> str:
        """The path of `redirect_uri`."""
        return urlsplit(self.redirect_uri).path

    @cached_property
    def rules(self) -> Mapping[str, tuple[str, ...]]:
        """`require` as it is kept: patterns, each with the ids of which one must be owned."""
        return cast("Mapping[str, tuple[str, ...]]", self.require)

    @cached_property
    def required_ids(self) -> tuple[str, ...]:
        """Every id of `require`, each once."""
        return read.distinct(self.rules.values())

    # What must hold between fields

    def _check_credentials(self) -> None:
        if self.client_secret is None and self.protocol != "oauth21":
            raise _wrong("client_secret", "is missing", "copy it from the app's OAuth settings at Whop")
        if self.client_secret is None and self.secret_key is None:
            raise _wrong(
                "secret_key", "is missing, and a public client has no client_secret to derive it from", _MAKE_KEY
            )
        if self.protocol == "oauth21" and self.hub_login == "accept":
            mend = 'use "verify" or "restart": a code without our PKCE challenge cannot be exchanged'
            raise _wrong("hub_login", '"accept" does not go with an app_… client', mend)
        if self.dialect == "v5" and self.client_id.startswith("app_"):
            logger.warning("WHOP_DIALECT is v5, but Whop refuses app_… clients there: leave WHOP_DIALECT at auto")

    def _check_paths(self) -> None:
        own = {"redirect_uri": self.redirect_path, "login_path": self.login_path, "logout_path": self.logout_path}
        if len({path.rstrip("/") for path in own.values()}) < len(own):
            raise _wrong("login_path", "login, logout and callback share a path", "give each a path of its own")
        for name in ("denied_page", "sign_in_page"):
            page = (getattr(self, name) or "").partition("?")[0]
            allowed = self.login_path if name == "sign_in_page" else None
            if page in own.values() and page != allowed:
                raise _wrong(name, "is one of the middleware's own paths", "name a page of your app")

    def _check_rules(self) -> None:
        if len(self.required_ids) > read.ID_LIMIT:
            raise _wrong("require", f"names {len(self.required_ids)} ids", f"name at most {read.ID_LIMIT}")
        public = PublicPaths(self.public)
        own = (self.redirect_path, self.login_path, self.logout_path)
        for pattern in self.rules:
            first = f"{pattern[:-1]}x" if pattern.endswith("*") else pattern
            covered = first in public if not pattern.endswith("*") else pattern.startswith(public.prefixes)
            if covered or pattern in own:
                why = "is public" if covered else "is the middleware's own"
                raise _wrong(
                    "require", f"the rule {pattern!r} can never match: its path {why}", "drop the rule or the path"
                )


_MAKE_KEY = 'set 16 characters or more (make one: python -c "import secrets; print(secrets.token_urlsafe(32))")'


def _variable(name: str) -> str:
    return f"WHOP_{name.upper().removeprefix('WHOP_')}"


def _wrong(name: str, what: str, mend: str) -> ConfigError:
    return ConfigError(f"{name} ({_variable(name)}) {what}: {mend}")


def _read(declared: dataclasses.Field[Any], value: Any) -> Any:
    if value is None or (isinstance(value, str) and not value.strip()):
        value = declared.default
    if value is None:
        if declared.name == "client_id":
            raise _wrong("client_id", "is missing", "copy it from the app's OAuth settings at Whop")
        return None
    try:
        return declared.metadata["parse"](value)
    except Refused as error:
        shown = "" if declared.metadata["secret"] else f", not {value!r}"[:200]
        raise ConfigError(f"{declared.name} ({_variable(declared.name)}) {error}{shown}") from None


def _check_options(options: Mapping[str, Any]) -> None:
    known = [declared.name for declared in dataclasses.fields(WhopConfig)]
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise ConfigError(f"unknown option {name!r}: {hint}")


def _warn_of_misspellings(environ: Mapping[str, str]) -> None:
    known = [setting.variable for setting in SETTINGS]
    for name in environ:
        if name.startswith("WHOP_") and name not in known and name not in _OTHER_VARIABLES:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            if close:
                logger.warning("Unknown variable %s: did you mean %s?", name, close[0])


def _shown(declared: dataclasses.Field[Any]) -> str:
    if declared.metadata["shown"] is not None:
        return str(declared.metadata["shown"])
    default = declared.default
    if isinstance(default, str):
        return f'`"{default}"`'
    return f"`{default!r}`"


SETTINGS = tuple(
    Setting(declared.name, _variable(declared.name), _shown(declared), declared.metadata["secret"])
    for declared in dataclasses.fields(WhopConfig)
)
"""Every setting, in the order of the README's table."""

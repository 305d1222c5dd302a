"""The settings: WhopConfig, from options and WHOP_* variables. Opens nothing, and refuses every wrong value."""

# ruff: noqa: RUF009 (`setting` returns a dataclass field)

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NoReturn, Self, TypeAlias

from .errors import ConfigError
from .reports import report
from .settings import Converted, Setting, addresses, rules, setting, values
from .settings.addresses import is_local_host
from .settings.rules import bare

__all__ = ["SETTINGS", "Setting", "WhopConfig", "is_local_host"]

Strings: TypeAlias = str | Sequence[str]
Keys: TypeAlias = Converted[Strings | None, tuple[str, ...] | None]
Listed: TypeAlias = Converted[Strings, tuple[str, ...]]
Required: TypeAlias = Converted[Strings | Mapping[str, Strings], Mapping[str, tuple[str, ...]]]

WHOP_URL = "https://whop.com"
API_URL = "https://api.whop.com"
DAY = 86_400
LONGEST = 1_000_000_000  # seconds, some 31 years: whatever is longer is a slip of the hand
LONGEST_TIMEOUT = 60  # seconds; browsers and proxies give up about then

# Variables that are no settings of the middleware: of `serve`, `forward_auth` and Whop's own packages.
OTHER_VARIABLES = ("WHOP_APP", "WHOP_FORWARD_AUTH", "WHOP_APP_ID", "WHOP_WEBHOOK_SECRET")


@dataclass(frozen=True, kw_only=True)
class WhopConfig:
    """The settings of the middleware, checked and in one form.

    `WhopConfig.from_env()` reads the `WHOP_*` variables; `dataclasses.replace` makes a changed copy. `None` means the
    default. Raises `ConfigError`, which names the field, its variable and the mend.
    """

    client_id: str = setting(
        "WHOP_CLIENT_ID", values.client_id, "the OAuth client id", documented="required", fallback="WHOP_APP_ID"
    )
    client_secret: str | None = setting(
        "WHOP_CLIENT_SECRET",
        values.printable,
        "its secret",
        documented="required, except for a public `app_…` client",
        secret=True,
    )
    redirect_uri: str = setting(
        "WHOP_REDIRECT_URI",
        addresses.callback_uri,
        "the Callback URL registered at Whop: a full URL, or on localhost a path",
        default="/callback/whop",
    )
    secret_key: Keys = setting(
        "WHOP_SECRET_KEY",
        values.keys,
        "signs the cookies; in a list the first signs, all verify; each at least 16 characters; required for a public "
        "client",
        documented="derived from `client_secret`",
        secret=True,
        splits_variable=True,
    )
    dialect: str = setting(
        "WHOP_DIALECT",
        values.one_of("auto", "v5", "oauth21"),
        '`"v5"` or `"oauth21"`; auto: `oauth21` for `app_…` ids',
        default="auto",
    )
    mode: str = setting(
        "WHOP_MODE", values.one_of("required", "optional"), '`"optional"`: nobody is turned away', default="required"
    )
    public: Listed = setting(
        "WHOP_PUBLIC",
        values.list_of(addresses.pattern),
        'paths open to all: `"/health"` exactly, `"/static/*"` all that starts with `/static/`',
        default=(),
    )
    sign_in_page: str | None = setting(
        "WHOP_SIGN_IN_PAGE",
        addresses.page,
        "where a visitor without a session is redirected: a path (made public, gets `?next=`) or a full URL",
        documented="the login path",
    )
    denied_page: str | None = setting(
        "WHOP_DENIED_PAGE",
        addresses.page,
        "where someone without the purchase is redirected: a path (open to everyone signed in) or a full URL",
        documented="built-in 403 page",
    )
    home: str = setting(
        "WHOP_HOME", addresses.local_path, "where a sign-in lands when nothing better is known", default="/"
    )
    login_path: str = setting(
        "WHOP_LOGIN_PATH", addresses.own_path, "the middleware's own path that starts a sign-in", default="/login/whop"
    )
    logout_path: str = setting(
        "WHOP_LOGOUT_PATH", addresses.own_path, "the middleware's own path that ends a session", default="/logout/whop"
    )
    scope: str | None = setting(
        "WHOP_SCOPE",
        values.scope,
        "what Whop is asked for",
        documented='`"read_user"` (v5), `"openid profile email"` (oauth21)',
    )
    hub_login: str = setting(
        "WHOP_HUB_LOGIN",
        values.one_of("verify", "restart", "reject", "accept"),
        "what to do with a code that has no state",
        default="verify",
    )
    require: Required = setting(
        "WHOP_REQUIRE",
        rules.rules,
        "what must have been bought, for the whole site or per path",
        default=(),
        hashed=False,
    )
    buy_url: str | None = setting("WHOP_BUY_URL", addresses.link, "the link to buy on the 403 page")
    allow_users: Listed = setting(
        "WHOP_ALLOW_USERS",
        values.list_of(values.user_id),
        "user ids let in without a purchase: the owner, the team",
        default=(),
    )
    api_key: str | None = setting(
        "WHOP_API_KEY", values.visible, "access is then checked with this key, without the user's token", secret=True
    )
    recheck_after: int | None = setting(
        "WHOP_RECHECK_AFTER",
        values.whole_seconds(1, LONGEST),
        "how long a good verdict is believed",
        documented="`900` s with `api_key`, else `86400` s",
    )
    recheck_grace: int = setting(
        "WHOP_RECHECK_GRACE",
        values.whole_seconds(0, LONGEST),
        "how much longer while Whop cannot be asked",
        default=DAY,
        unit=" s",
    )
    session_max_age: int = setting(
        "WHOP_SESSION_MAX_AGE",
        values.whole_seconds(1, LONGEST),
        "the life of a session, from the sign-in",
        default=7 * DAY,
        unit=" s",
    )
    session_cookie: str = setting(
        "WHOP_SESSION_COOKIE",
        values.cookie_name,
        "the cookie's name; over https it gets the prefix `__Host-`",
        default="whop_session",
    )
    identity_headers: bool = setting(
        "WHOP_IDENTITY_HEADERS",
        values.boolean,
        "pass `X-Whop-User-Id`, `X-Whop-Username`, `X-Whop-Name` and `X-Whop-Email` to the app",
        default=False,
    )
    timeout: float = setting(
        "WHOP_TIMEOUT", values.seconds(LONGEST_TIMEOUT), "for each call to Whop as a whole", default=5.0, unit=" s"
    )
    whop_url: str = setting(
        "WHOP_URL", addresses.base_url, "for the sandbox and tests", default=WHOP_URL, documented=f"`{WHOP_URL}`"
    )
    api_url: str = setting(
        "WHOP_API_URL", addresses.base_url, "for the sandbox and tests", default=API_URL, documented=f"`{API_URL}`"
    )

    def __new__(cls, **options: object) -> Self:
        """Refuse unknown options before Python does: its error would not name the one that was meant."""
        _refuse_unknown(options)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for known in SETTINGS:
            object.__setattr__(self, known.name, known.read(getattr(self, known.name)))
        _check_client(self)
        _check_paths(self)
        _check_rules(self)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **options: object) -> Self:
        """Return the settings that the `WHOP_*` variables give; `options` win, `None` among them counts as unset."""
        return cls._from(environ, options)

    @classmethod
    def build(cls, config: WhopConfig | None, options: Mapping[str, object]) -> WhopConfig:
        """Return what an adapter is to use: `options` over `config`, or over the environment when there is none."""
        if config is None:
            return cls._from(os.environ, options)
        if not isinstance(config, WhopConfig):
            raise ConfigError("config must be a WhopConfig: pass WhopConfig.from_env(), or options by their names")
        given = _given(options)
        return replace(config, **given) if given else config

    @classmethod
    def _from(cls, environ: Mapping[str, str], options: Mapping[str, object]) -> Self:
        given = _given(options)
        _warn_of_near_misses(environ)
        found: dict[str, Any] = {known.name: known.read_variable(environ) for known in SETTINGS}
        return cls(**(found | given))

    @cached_property
    def protocol(self) -> str:
        """Return `"v5"` or `"oauth21"`: `dialect` with auto resolved."""
        if self.dialect != "auto":
            return self.dialect
        return "oauth21" if self.client_id.startswith("app_") else "v5"

    @cached_property
    def signing_keys(self) -> tuple[str, ...]:
        """Return the keys for cookies: `secret_key`, else one derived from `client_secret`. The first signs."""
        if self.secret_key is not None:
            return self.secret_key
        return (hmac.digest((self.client_secret or "").encode(), b"whop_middleware|signing_key", "sha256").hex(),)

    @cached_property
    def effective_scope(self) -> str:
        """Return the scope to ask for, names separated by spaces."""
        return self.scope or ("openid profile email" if self.protocol == "oauth21" else "read_user")

    @cached_property
    def recheck_seconds(self) -> int:
        """Return how long a good verdict is believed, in seconds."""
        return self.recheck_after or (DAY if self.api_key is None else 900)

    @cached_property
    def landing(self) -> str:
        """Return where a visitor without a session is sent: a path or a full URL."""
        return self.sign_in_page or self.login_path

    @cached_property
    def origin(self) -> str | None:
        """Return this site's origin when `redirect_uri` is a full URL: lower case, without a default port."""
        return None if self.redirect_uri.startswith("/") else addresses.any_url(self.redirect_uri).origin

    @cached_property
    def redirect_path(self) -> str:
        """Return the path of `redirect_uri`."""
        return self.redirect_uri if self.origin is None else addresses.any_url(self.redirect_uri).path

    @cached_property
    def required_ids(self) -> tuple[str, ...]:
        """Return all distinct resource ids of `require`, sorted."""
        return tuple(sorted({key for ids in self.require.values() for key in ids}))


SETTINGS: tuple[Setting, ...] = tuple(Setting(name=known.name, **known.metadata) for known in fields(WhopConfig))
"""Every setting in the order of the documentation."""

_BY_NAME = {known.name: known for known in SETTINGS}
_VARIABLES = (*(known.variable for known in SETTINGS), *OTHER_VARIABLES)


def _given(options: Mapping[str, object]) -> dict[str, Any]:
    _refuse_unknown(options)
    return {name: value for name, value in options.items() if value is not None}


def _closest(name: str, known: Iterable[str], cutoff: float) -> str | None:
    from difflib import get_close_matches  # only for those who mistype: it is slow to import

    return next(iter(get_close_matches(name, known, n=1, cutoff=cutoff)), None)


def _refuse_unknown(options: Mapping[str, object]) -> None:
    for name in options:
        if name not in _BY_NAME:
            meant = _closest(name, _BY_NAME, 0.6)
            hint = f"did you mean {meant}?" if meant else f"the options are {', '.join(_BY_NAME)}"
            raise ConfigError(f"{name} is no option of whop_middleware: {hint}")


def _warn_of_near_misses(environ: Mapping[str, str]) -> None:
    for name in environ:
        if name.startswith("WHOP_") and name not in _VARIABLES:
            meant = _closest(name, _VARIABLES, 0.8)
            if meant:
                report(logging.WARNING, "%s is not a variable of whop_middleware: did you mean %s?", name, meant)


def _refuse(name: str, message: str, value: object = None) -> NoReturn:
    raise _BY_NAME[name].error(message, value)


# What only shows when settings are seen together


def _check_client(config: WhopConfig) -> None:
    if config.client_id is None:
        _refuse("client_id", "is missing: set it to the client id that Whop shows in your app's OAuth settings")
    is_app_id = config.client_id.startswith("app_")
    if config.client_secret is None:
        if not is_app_id or config.protocol != "oauth21":
            _refuse("client_secret", "is missing: set it to the secret that Whop shows beside the client id")
        if config.secret_key is None:
            _refuse("secret_key", f"is missing, and a public client has no secret to derive it from: {values.KEY_MEND}")
    if config.protocol == "oauth21" and config.hub_login == "accept":
        _refuse("hub_login", 'cannot be "accept" in oauth21, where a code without our PKCE is of no use: use "restart"')
    if is_app_id and config.protocol == "v5":
        report(logging.WARNING, 'dialect (WHOP_DIALECT) is "v5", which refuses "app_…" client ids: leave it out')


def _own_paths(config: WhopConfig) -> dict[str, str]:
    """Return the paths that the middleware answers itself, by the setting each comes from."""
    own = {"login_path": config.login_path, "logout_path": config.logout_path, "redirect_uri": config.redirect_path}
    return {name: bare(path) for name, path in own.items()}


def _check_paths(config: WhopConfig) -> None:
    seen: dict[str, str] = {}
    for name, path in _own_paths(config).items():
        other = seen.setdefault(path, name)
        if other != name:
            _refuse(name, f"has the same path as {other}: each needs its own", path)
    pages = {"sign_in_page": config.sign_in_page, "denied_page": config.denied_page, "home": config.home}
    for name, page in pages.items():
        taken = seen.get(_path_here(config, page))
        if taken and (name, taken) != ("sign_in_page", "login_path"):
            _refuse(name, f"cannot be the middleware's own path ({taken}): use a page of the app", page)
    if "/*" in config.public:
        report(logging.WARNING, 'public (WHOP_PUBLIC) has "/*": nobody is asked to sign in (see mode="optional")')


def _path_here(config: WhopConfig, page: str | None) -> str:
    """Return the bare path of a page of this site, "" for another."""
    if not page or page.startswith("/"):
        return bare(page) if page else ""
    url = addresses.any_url(page)
    return bare(url.path) if url.origin == config.origin else ""


def _check_rules(config: WhopConfig) -> None:
    own, *pages = tuple(_own_paths(config).values()), config.sign_in_page, config.denied_page
    landing, denied = (page.partition("?")[0] if page and page.startswith("/") else "" for page in pages)
    public = (*config.public, landing) if landing else config.public
    _BY_NAME["require"].check(rules.refuse_idle, config.require, own=own, public=public, denied=denied and bare(denied))

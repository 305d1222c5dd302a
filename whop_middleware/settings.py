"""What a setting is, and how each kind of value is read. Reads no environment, knows no other setting, shows no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, TypeVar

from .errors import ConfigError

T = TypeVar("T")
GivenAs = TypeVar("GivenAs")
KeptAs = TypeVar("KeptAs")
Parse = Callable[[object], T]

TEXT_LIMIT = 2048
SHOWN_LIMIT = 80
KEY_LENGTH = 16
RESOURCE_LIMIT = 10

# What a value in a wrong place may give away: Whop's secrets and API keys, and passwords in URLs.
_MAY_BE_SECRET = re.compile(r"apik_|:.*@")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749 section 3.3
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 section 5.6.2
_RESOURCE = re.compile(r"(?:prod|exp|biz)_[A-Za-z0-9_-]{1,59}")
_INTEGER = re.compile(r"[0-9]{1,12}")
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")

# RFC 3986 section 3.3, without what two programs may read differently (percent-encoding, ";") and without "*".
_SEGMENT = r"[A-Za-z0-9._~!$&'()+,=:@-]"
_PLAIN_PATH = re.compile(rf"/(?:{_SEGMENT}+/)*{_SEGMENT}*")
_REFERENCE = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_DOT_SEGMENT = re.compile(r"/\.\.?(?:/|$)")
_ODD_PATTERN = re.compile(r"[\\;?#\ufffd]|//|/\.\.?(?:/|$)")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")


class Wrong(Exception):
    """A value is wrong. The message goes on after the setting's name; `value` is the evidence."""

    def __init__(self, message: str, value: object) -> None:
        super().__init__(message)
        self.value = value


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting as people meet it: its name, its variables, what holds without it, and how a value is read.

    `default_text` and `help` are Markdown. A `str` for a `secret` is never shown. With `splits_variable` the variable
    is a list split at commas, although a `str` option is a single value.
    """

    name: str
    variable: str
    fallback: str | None
    default: object
    default_text: str
    help: str
    secret: bool
    splits_variable: bool
    parse: Parse[object]

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the variables that set it; the first that is not empty counts."""
        return (self.variable,) if self.fallback is None else (self.variable, self.fallback)

    def read(self, value: object) -> object:
        """Return the value in the form the package keeps; `None` is the default. Raises `ConfigError`."""
        given = self.default if value is None else value
        try:
            return None if given is None else self.parse(given)
        except Wrong as wrong:
            raise self.error(str(wrong), wrong.value) from None

    def read_variable(self, environ: Mapping[str, str]) -> object:
        """Return what the environment says, not yet read; `None` when it says nothing."""
        text = next((text for name in self.variables if (text := environ.get(name, "").strip())), None)
        return strings(text) if text is not None and self.splits_variable else text

    def error(self, message: str, value: object = None) -> ConfigError:
        """Return the error that names the setting and its variable; the value is shown unless it may be secret."""
        shown = "" if self.secret else _shown(value)
        return ConfigError(f"{self.name} ({', else '.join(self.variables)}) {message}{shown}")


def _shown(value: object) -> str:
    if value is None or (isinstance(value, str) and (not value or _MAY_BE_SECRET.search(value))):
        return ""
    if not isinstance(value, str | int | float):
        return f" (got a {type(value).__name__})"
    if isinstance(value, int) and value.bit_length() > SHOWN_LIMIT:
        return " (got a very large number)"
    text = ascii(value)
    return f" (got {text if len(text) <= SHOWN_LIMIT else f'{text[:SHOWN_LIMIT]}…'})"


def setting(
    variable: str,
    parse: Parse[object],
    help: str,
    *,
    default: object = None,
    documented: str | None = None,
    unit: str = "",
    secret: bool = False,
    fallback: str | None = None,
    splits_variable: bool = False,
    hashed: bool = True,
) -> Any:
    """Return a dataclass field that is a setting; its metadata are `Setting`'s fields."""
    shown = f'"{default}"' if isinstance(default, str) else default
    metadata = {
        "variable": variable,
        "fallback": fallback,
        "default": default,
        "default_text": documented or f"`{shown}`{unit}",
        "help": help,
        "secret": secret,
        "splits_variable": splits_variable,
        "parse": parse,
    }
    return field(default=default, repr=not secret, hash=hashed, metadata=metadata)


class Converted(Generic[GivenAs, KeptAs]):
    """Tell type checkers that a field is given as one type and kept as another (a descriptor-typed dataclass field)."""

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: object = None) -> KeptAs: ...
        def __set__(self, instance: object, value: GivenAs) -> None: ...


class Rules(dict[str, tuple[str, ...]]):
    """A read-only dict of pattern to resource ids; copies, pickles and serialises like a dict."""

    def _read_only(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError("WhopConfig.require is read-only: use dataclasses.replace")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _read_only

    def __reduce__(self) -> tuple[type[Rules], tuple[dict[str, tuple[str, ...]]]]:
        return (type(self), (dict(self),))


# Plain values


def text(value: object) -> str:
    """Read a piece of text that is safe in a header: no control characters, nothing to strip."""
    if not isinstance(value, str):
        raise Wrong("must be text", value)
    if not value.strip():
        raise Wrong("is empty: give it a value or leave it out", None)
    if value != value.strip():
        raise Wrong("has white space around it: remove that", value)
    if not value.isprintable():
        raise Wrong("has control characters or unreadable characters in it: remove them", value)
    if len(value) > TEXT_LIMIT:
        raise Wrong(f"is too long: at most {TEXT_LIMIT:,} characters", None)
    return value


def matching(expression: re.Pattern[str], message: str, limit: int = TEXT_LIMIT) -> Parse[str]:
    """Return a reader of text that matches as a whole."""

    def parse(value: object) -> str:
        if not expression.fullmatch(text(value)) or len(text(value)) > limit:
            raise Wrong(message, value)
        return text(value)

    return parse


visible = matching(_VISIBLE, "must be visible ASCII characters without spaces: copy it once more")
printable = matching(_PRINTABLE, "must be printable ASCII characters: copy it once more")
scope = matching(_SCOPE, 'must be names with one space between them, such as "openid profile email"')
user_id = matching(_PRINTABLE, 'must be user ids such as "user_…": 1 to 255 printable ASCII characters each', 255)


def client_id(value: object) -> str:
    """Read a client id, and tell when it is a secret."""
    if isinstance(value, str) and value.startswith("apik_"):
        raise Wrong("is a secret or an API key: set it to the client id", None)
    return visible(value)


def cookie_name(value: object) -> str:
    """Read a cookie's name (RFC 6265 section 4.1.1)."""
    name = matching(_TOKEN, "must be a cookie name: 1 to 64 letters, digits, - or _")(value)
    if name.lower().startswith(("__host-", "__secure-")):
        raise Wrong("must not bring a prefix: __Host- is put before it over https", value)
    return name


def one_of(*choices: str) -> Parse[str]:
    """Return a reader of one word out of a few, in any case."""

    def parse(value: object) -> str:
        if isinstance(value, str) and value.lower() in choices:
            return value.lower()
        raise Wrong("must be " + " or ".join(f'"{choice}"' for choice in choices), value)

    return parse


def boolean(value: object) -> bool:
    """Read a switch: a `bool`, or the words for it in any case."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value.lower() in {"1", "true", "yes", "on"}:
            return True
        if value.lower() in {"0", "false", "no", "off"}:
            return False
    raise Wrong("must be True or False (as a variable: 1, true, yes, on, or 0, false, no, off)", value)


def whole_seconds(least: int, most: int) -> Parse[int]:
    """Return a reader of a whole number of seconds."""

    def parse(value: object) -> int:
        number = int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else value
        if isinstance(number, int | float) and not isinstance(number, bool) and least <= number <= most:
            seconds = int(number)
            if seconds == number:
                return seconds
        raise Wrong(f"must be a whole number of seconds, {least:,} to {most:,}", value)

    return parse


def seconds(most: int) -> Parse[float]:
    """Return a reader of a number of seconds above 0."""

    def parse(value: object) -> float:
        number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        if isinstance(number, int | float) and not isinstance(number, bool) and 0 < number <= most:
            return float(number)
        raise Wrong(f"must be a number of seconds above 0, at most {most}", value)

    return parse


# Lists


def strings(value: object) -> tuple[object, ...]:
    """Return the items of a tuple or list, or of text split at commas."""
    if isinstance(value, str):
        return tuple(item for part in value.split(",") if (item := part.strip()))
    if isinstance(value, tuple | list):
        return tuple(value)
    raise Wrong("must be a tuple or a list, or text with commas", value)


def list_of(parse_item: Parse[str]) -> Parse[tuple[str, ...]]:
    """Return a reader of a list without repetitions."""
    return lambda value: tuple(dict.fromkeys(parse_item(item) for item in strings(value)))


def keys(value: object) -> tuple[str, ...]:
    """Read signing keys; a `str` is a single one."""
    found = tuple(text(key) for key in ((value,) if isinstance(value, str) else strings(value)))
    if not found or min(map(len, found)) < KEY_LENGTH:
        raise Wrong(f"needs at least {KEY_LENGTH} characters in each key: {KEY_MEND}", None)
    return found


KEY_MEND = 'make one with python -c "import secrets; print(secrets.token_urlsafe(32))"'


# Addresses


class Url(NamedTuple):
    """A web address in parts; scheme and host are lower case, a default port is left out, the rest as given."""

    scheme: str
    host: str
    path: str
    query: str
    fragment: str

    @property
    def origin(self) -> str:
        """Return scheme and host as the `Origin` header spells them (RFC 6454 section 6.2)."""
        return f"{self.scheme}://{self.host}"


def any_url(value: object) -> Url:
    """Read a full http or https URL without a user name; it is safe in a header and a link."""
    given = text(value)
    parts = _URL.fullmatch(given)
    if not parts:
        raise Wrong('must be a full URL that starts with "https://"', value)
    if "@" in parts[2]:
        raise Wrong("must have no user name or password in it", None)
    if not _is_host(parts[2]) or not _REFERENCE.fullmatch(given):
        raise Wrong("is no valid URL: check the host, and percent-encode other characters than ASCII", value)
    scheme = parts[1].lower()
    host = parts[2].lower().removesuffix(":443" if scheme == "https" else ":80")
    return Url(scheme, host, parts[3], parts[4] or "", parts[5] or "")


def safe_url(value: object) -> Url:
    """Read a full URL that is https, or http on a local host."""
    url = any_url(value)
    if url.scheme == "http" and not is_local_host(url.host):
        raise Wrong('must start with "https://" (plain http is for local hosts only)', value)
    return url


def link(value: object) -> str:
    """Read the URL of a link on a page."""
    any_url(value)
    return text(value)


def base_url(value: object) -> str:
    """Read scheme and host of a server, and return them without a slash at the end."""
    url = safe_url(value)
    if url.path not in ("", "/") or url.query or url.fragment:
        raise Wrong('must be scheme and host alone, such as "https://whop.com"', value)
    return url.origin


def is_local_host(host: str) -> bool:
    """Return whether plain http is fine for a host, spelled as in a `Host` header.

    That is loopback (compared as an address, so that no name passes for one), `*.localhost`, `*.test` (RFC 6761) and
    names without a dot.
    """
    parts = _HOST.fullmatch(host)
    if not parts or not _is_host(host):
        return False
    name = parts[1].lower().removesuffix(".")
    if name.startswith("["):
        return IPv6Address(name[1:-1]) == IPv6Address("::1")
    if name.rpartition(".")[2][:1].isdigit():
        return _is_loopback(name)
    return "." not in name or name.endswith((".localhost", ".test"))


def _is_loopback(name: str) -> bool:
    try:
        # Without a dot, browsers read a number as the whole address (WHATWG URL, "ends in a number").
        return IPv4Address(name if "." in name else int(name, 0)).is_loopback
    except ValueError:
        return "." not in name and not re.fullmatch("0x[0-9a-f]*|[0-9]+", name)


def _is_host(host: str) -> bool:
    parts = _HOST.fullmatch(host)
    if not parts or int(parts[2] or 1) not in range(1, 65536):
        return False
    if not parts[1].startswith("["):
        return all(parts[1].removesuffix(".").split("."))
    try:
        return bool(IPv6Address(parts[1][1:-1]).compressed)
    except ValueError:
        return False


# Paths


def plain_path(value: object) -> str:
    """Read a path that reads the same encoded and decoded, so that it can be matched and linked to."""
    path = text(value)
    if not _PLAIN_PATH.fullmatch(path) or _DOT_SEGMENT.search(path):
        raise Wrong('must be a plain path that starts with one "/": letters, digits, -, _, . and ~', value)
    return path


def own_path(value: object) -> str:
    """Read a path that the middleware answers itself."""
    path = plain_path(value)
    if path == "/":
        raise Wrong('must not be the start page, since the middleware answers it: add a path ("/…/whop")', value)
    return path


def callback_uri(value: object) -> str:
    """Read the Callback URL; kept to the letter, since Whop compares it so."""
    uri = text(value)
    if uri.startswith("/"):
        return own_path(uri)
    url = safe_url(uri)
    if url.query or url.fragment:
        raise Wrong('must have no "?" and no "#"', value)
    own_path(url.path or "/")
    return uri


def local_path(value: object) -> str:
    """Read a path of this site, perhaps with a query."""
    given = text(value)
    path = given.partition("?")[0]
    if not path.startswith("/") or "//" in path or "#" in given or _DOT_SEGMENT.search(path):
        raise Wrong('must be a path of this site: it starts with one "/", and has no "#" and no dot segment', value)
    if not _REFERENCE.fullmatch(given):
        raise Wrong("must be percent-encoded", value)
    return given


def page(value: object) -> str:
    """Read a page to redirect to: a path of this site, perhaps with a query, or a full URL."""
    given = text(value)
    if given.startswith("/"):
        plain_path(given.partition("?")[0])
        return local_path(given)
    safe_url(given)
    return given


def pattern(value: object) -> str:
    """Read `"/exact"` or `"/prefix/*"`, as the app sees paths: decoded."""
    given = text(value)
    path = given[:-1] if given.endswith("/*") else given
    if not path.startswith("/"):
        raise Wrong('must have paths that start with "/"', value)
    if "*" in path:
        raise Wrong('may have "*" only at the end of a path, after a "/", as in "/static/*"', value)
    if _ESCAPE.search(path):
        raise Wrong("must have its paths decoded, as the app sees them (a space, not %20)", value)
    if _ODD_PATTERN.search(path):
        raise Wrong('must have plain paths: no query, "#", ";", backslash, "//" or dot segment', value)
    return given


# Proof of purchase


def resource_id(value: object) -> str:
    """Read the id of a product, an experience or a company."""
    given = text(value)
    if given.startswith("pass_"):
        raise Wrong('has a product id of the old kind: today they start with "prod_", copy it from Whop again', value)
    if not _RESOURCE.fullmatch(given):
        raise Wrong('must have ids that start with "prod_", "exp_" or "biz_", as Whop shows them', value)
    return given


_resource_ids = list_of(resource_id)


def rules(value: object) -> Rules:
    """Read what must be owned: ids for the whole site, or a mapping (in text: a JSON object) of pattern to ids."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _json_object(value)
    if isinstance(value, Mapping):
        found = Rules({pattern(name): _resource_ids(ids) for name, ids in value.items()})
    else:
        found = Rules({"/*": ids} if (ids := _resource_ids(value)) else {})
    _refuse_ties(found)
    if len({key for ids in found.values() for key in ids}) > RESOURCE_LIMIT:
        raise Wrong(f"has too many ids: at most {RESOURCE_LIMIT} in all", None)
    return found


def _json_object(given: str) -> object:
    try:
        return json.loads(given, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        raise Wrong('must be ids with commas, or valid JSON such as {"/vip/*": "prod_…"}', given) from None


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Wrong("has two rules for the same path: keep one", None)
    return found


def _refuse_ties(found: Rules) -> None:
    seen: dict[str, str] = {}
    for name in found:
        other = seen.setdefault(name.rstrip("/"), name)
        if other != name:
            raise Wrong(f'has two rules for the same path, "{other}" and "{name}": keep one', None)

"""How a setting is read: from text or Python into one type, or refused with a reason. Reads no environment."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from .paths import is_odd

Parser: TypeAlias = Callable[[Any], Any]

ID_LIMIT = 10
_RESOURCE = re.compile(r"(?:prod|exp|biz)_[A-Za-z0-9_-]{1,60}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_KEY_LENGTH = 16


class Refused(ValueError):
    """A value will not do; the message says why and what would."""


def is_local_host(host: str) -> bool:
    """Return whether plain http is fine for a host (`name[:port]`, `[v6]:port`): loopback, `*.test`, no dot."""
    name = _hostname(host)
    if name is None:
        return False
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        pass
    if name.replace(".", "").isdigit():  # 127.1 and other spellings that browsers turn into addresses
        return False
    return name == "localhost" or name.endswith((".localhost", ".test")) or "." not in name


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def text(value: Any) -> str:
    """Read printable ASCII without spaces."""
    if not isinstance(value, str) or not _VISIBLE.fullmatch(value):
        raise Refused("must be printable ASCII without spaces")
    return value


def words(value: Any) -> str:
    """Read printable ASCII; spaces separate words."""
    if not isinstance(value, str) or not all(_VISIBLE.fullmatch(word) for word in value.split(" ")):
        raise Refused("must be words of printable ASCII, separated by single spaces")
    return value


def choice(*names: str) -> Parser:
    """Return a parser of one of `names`."""

    def parse(value: Any) -> str:
        if value not in names:
            raise Refused(f"must be one of {', '.join(names)}")
        return str(value)

    return parse


def boolean(value: Any) -> bool:
    """Read a bool, or one of 1/true/yes/on and 0/false/no/off in any case."""
    if isinstance(value, bool):
        return value
    lower = value.lower() if isinstance(value, str) else None
    if lower not in (*_TRUE, *_FALSE):
        raise Refused("must be one of 1/true/yes/on or 0/false/no/off")
    return lower in _TRUE


def seconds(least: int, most: int) -> Parser:
    """Return a parser of whole seconds."""

    def parse(value: Any) -> int:
        number = _number(value)
        if number != int(number) or not least <= number <= most:
            raise Refused(f"must be a whole number of seconds from {least} to {most}")
        return int(number)

    return parse


def timeout(value: Any) -> float:
    """Read seconds, fractions allowed."""
    number = _number(value)
    if not 0 < number <= 60:
        raise Refused("must be seconds above 0 and at most 60")
    return number


def _number(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Refused("must be a number of seconds")
    return number


def items(value: Any) -> tuple[str, ...]:
    """Read a tuple or list of strings, or a string split at commas; blanks are dropped."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(item, str) for item in value):
        raise Refused("must be a list of strings, or one string with commas")
    return tuple(dict.fromkeys(item.strip() for item in value if item.strip()))


def keys(value: Any) -> tuple[str, ...]:
    """Read signing keys: one string is one key, a list rotates."""
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ()
    if not found or not all(isinstance(key, str) and len(key) >= _KEY_LENGTH for key in found):
        raise Refused(
            f"must be a key of at least {_KEY_LENGTH} characters, or a list of such keys "
            '(make one: python -c "import secrets; print(secrets.token_urlsafe(32))")'
        )
    return found


def user_ids(value: Any) -> tuple[str, ...]:
    """Read user ids of 1-255 printable ASCII characters."""
    found = items(value)
    if not all(_VISIBLE.fullmatch(item) and len(item) <= 255 for item in found):
        raise Refused("must be user ids (user_…) of printable ASCII characters")
    return found


def path(value: Any) -> str:
    """Read a plain path of this site: no query, no dot segments, ASCII."""
    if not isinstance(value, str) or not value.startswith("/") or not _VISIBLE.fullmatch(value):
        raise Refused("must be a path that starts with / and holds printable ASCII without spaces")
    if is_odd(value) or any(char in value for char in "?#%*"):
        raise Refused("must be a plain path: no //, dot segments, ;, \\, %, *, query or fragment")
    return value


def local_target(value: Any) -> str:
    """Read a path of this site that may have a query."""
    if not isinstance(value, str) or "#" in value or not _VISIBLE.fullmatch(value):
        raise Refused("must be a path of this site, such as /members")
    path(value.partition("?")[0])
    return value


def page(value: Any) -> str:
    """Read a path of this site or a full URL."""
    return local_target(value) if isinstance(value, str) and value.startswith("/") else url(value)


def url(value: Any) -> str:
    """Read a full URL: https, or http for hosts of the machine itself."""
    if not isinstance(value, str) or not _VISIBLE.fullmatch(value) or "\\" in value:
        raise Refused("must be a full URL, such as https://example.com/page")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Refused("must be a full URL with a valid host and port") from None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        raise Refused("must be a full http(s) URL without a user name, such as https://example.com/page")
    if parts.scheme == "http" and not is_local_host(parts.netloc):
        raise Refused("must be https: plain http is for localhost, *.test and names without a dot only")
    return value


def base_url(value: Any) -> str:
    """Read a URL that paths are appended to."""
    found = url(value)
    if "?" in found or "#" in found:
        raise Refused("must be a URL without a query or fragment")
    return found.rstrip("/")


def redirect_uri(value: Any) -> str:
    """Read the Callback URL: full, or a path on the request's own origin."""
    if isinstance(value, str) and value.startswith("/"):
        found = path(value)
    else:
        found = base_url(value) if isinstance(value, str) and not value.endswith("/") else url(value)
        path(urlsplit(found).path or "")
    if found.endswith("/") and urlsplit(found).path == "/":
        raise Refused("must have a path of its own, such as /callback/whop")
    return found


def cookie_name(value: Any) -> str:
    """Read a cookie name (RFC 6265 section 4.1.1) without the prefix that https adds."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise Refused("must be a cookie name of at most 64 letters, digits, - and _")
    if value.lower().startswith(("__host-", "__secure-")):
        raise Refused("must come without __Host- or __Secure-: over https __Host- is added")
    return value


def patterns(value: Any) -> tuple[str, ...]:
    """Read path patterns: `/exact` or `/prefix/*`."""
    return tuple(_pattern(item) for item in items(value))


def _pattern(value: str) -> str:
    bare = value[:-1] if value.endswith("/*") else value
    if not value.startswith("/") or "*" in bare or "?" in bare or "#" in bare or is_odd(bare):
        raise Refused(f"{value!r} is no pattern: write /exact, or /prefix/* with the * at the end")
    return value


def rules(value: Any) -> Mapping[str, tuple[str, ...]]:
    """Read `require`: ids, or a mapping (in a variable: a JSON object) of patterns to ids."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            raise Refused('must be ids, or a JSON object such as {"/vip/*": "prod_vip"}') from None
    if not isinstance(value, Mapping):
        ids = _ids(value)
        return MappingProxyType({"/*": ids} if ids else {})
    found = {_rule_pattern(pattern): _ids(ids) for pattern, ids in value.items()}
    _check_rules(found)
    return MappingProxyType(found)


def _rule_pattern(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused("must map patterns such as /vip/* to ids")
    return _pattern(value)


def _ids(value: Any) -> tuple[str, ...]:
    found = items(value)
    for item in found:
        if item.startswith("pass_"):
            raise Refused(f"{item!r} is a very old kind of id: today's products are prod_…, see the dashboard")
        if not _RESOURCE.fullmatch(item):
            raise Refused(f"{item!r} is no id that Whop knows: prod_…, exp_… or biz_…")
    return found


def _check_rules(found: Mapping[str, tuple[str, ...]]) -> None:
    seen: dict[str, str] = {}
    for pattern in found:
        plain = pattern if pattern == "/" or pattern.endswith("/*") else pattern.rstrip("/")
        if plain in seen:
            raise Refused(f"{seen[plain]!r} and {pattern!r} tie: keep one of them")
        seen[plain] = pattern


def distinct(groups: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return all ids, each once, sorted."""
    return tuple(sorted({item for group in groups for item in group}))

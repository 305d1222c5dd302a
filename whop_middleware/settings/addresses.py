"""How URLs, hosts and paths are read. Resolves no name, and decodes nothing that it was given."""

from __future__ import annotations

import re
from typing import NamedTuple

from whop_middleware.paths import is_odd

from .values import Wrong, text

# RFC 3986 section 3.3, without what two programs may read differently (percent-encoding, ";") and without "*".
_SEGMENT = r"[A-Za-z0-9._~!$&'()+,=:@-]"
_PLAIN_PATH = re.compile(rf"/(?:{_SEGMENT}+/)*{_SEGMENT}*")
_REFERENCE = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_DOT_SEGMENT = re.compile(r"/\.\.?(?:/|$)")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([1-9][0-9]{0,4}))?")


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
    if _host_name(parts[2]) is None or not _REFERENCE.fullmatch(given):
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
    name = _host_name(host)
    if name is None or name.startswith("["):
        return name == "[::1]"
    if name.rpartition(".")[2][:1].isdigit():
        return _is_local_number(name)
    return "." not in name or name.endswith((".localhost", ".test"))


def _is_local_number(name: str) -> bool:
    """Decide for a name whose last label starts with a digit: browsers may read it as an IPv4 address."""
    from ipaddress import IPv4Address

    try:
        # Without a dot, a number is the whole address (WHATWG URL, "ends in a number").
        return IPv4Address(name if "." in name else int(name, 0)).is_loopback
    except ValueError:
        return "." not in name and not name.isdigit()


def _host_name(host: str) -> str | None:
    """Return the name or `[address]` of a `Host` header in lower case, `None` when it is malformed."""
    parts = _HOST.fullmatch(host)
    if not parts or int(parts[2] or 1) > 65535:
        return None
    name = parts[1].lower().removesuffix(".")
    if not name.startswith("["):
        return name if all(name.split(".")) else None
    # Imported late: few hosts are addresses, and every start of every worker would pay for it.
    from ipaddress import IPv6Address

    try:
        return f"[{IPv6Address(name[1:-1])}]"
    except ValueError:
        return None


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
    if is_odd(path) or "?" in path or "#" in path:
        raise Wrong('must have plain paths: no query, "#", ";", backslash, "//" or dot segment', value)
    return given

"""How a query is read: each parameter once, printable, of bounded length. Guesses nothing and keeps nothing."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote_plus

_QUERY_LIMIT = 16_384
_FIELDS_LIMIT = 64
_CALLBACK = ("code", "state", "error", "iss")
# Visible ASCII (RFC 6749 appendix A), as long as a state of ours may be.
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,2048}")


def _pairs(query: str) -> list[tuple[str, str]] | None:
    if len(query) > _QUERY_LIMIT:
        return None
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=_FIELDS_LIMIT)
    except ValueError:
        return None


def _is_broken(field: str) -> bool:
    """Return whether a parameter of ours holds a "%" that escapes nothing (RFC 3986 section 2.1)."""
    name, _, value = field.partition("=")
    return _BROKEN_ESCAPE.search(value) is not None and unquote_plus(name) in _CALLBACK


def read_callback(query: str) -> dict[str, str] | None:
    """Return the callback's parameters, `None` when one is empty, repeated, over-long or not printable."""
    found: dict[str, str] = {}
    if len(query) > _QUERY_LIMIT or any(map(_is_broken, query.split("&"))):
        return None
    pairs = _pairs(query)
    for name, value in pairs or ():
        if name in _CALLBACK:
            if name in found or not _PRINTABLE.fullmatch(value):
                return None
            found[name] = value
    return None if pairs is None else found


def read_single(query: str, name: str) -> str | None:
    """Return the value of a parameter that is there exactly once and not empty, else `None`."""
    values = [value for key, value in _pairs(query) or () if key == name and value]
    return values[0] if len(values) == 1 else None

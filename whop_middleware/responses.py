"""What becomes of an app's answer to a signed-in person: no shared cache may keep it. Touches headers only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

_SHARED = (b"public", b"s-maxage")
_OF_BODIES = (b"content-length", b"content-encoding", b"content-range", b"transfer-encoding", b"trailer")
_LENGTHS = (len(b"vary"), len(b"cache-control"))
_VARY, _PRIVATE = _BOTH = ((b"vary", b"Cookie"), (b"cache-control", b"private"))


def private_headers(headers: Iterable[tuple[bytes, bytes]], *, public: bool) -> RawHeaders:
    """Return the headers with `Vary: Cookie`, and `Cache-Control: private` where nothing else was said.

    On a path that is not public, the app's own `public` and `s-maxage` become `private` (RFC 9111 section 5.2.2).
    """
    result = [*headers]
    for name, _ in result:
        if len(name) in _LENGTHS:
            return _merged(result, public=public)
    result += _BOTH
    return result


def _merged(headers: RawHeaders, *, public: bool) -> RawHeaders:
    result: RawHeaders = []
    varies = any(name.lower() == b"vary" and _varies_by_cookie(value) for name, value in headers)
    controlled = False
    for name, value in headers:
        lower = name.lower()
        if lower == b"vary" and not varies:
            varies, value = True, value + b", Cookie" if value else b"Cookie"
        elif lower == b"cache-control":
            controlled, value = True, value if public else _not_shared(value)
        result.append((name, value))
    return result + [pair for pair, there in ((_VARY, varies), (_PRIVATE, controlled)) if not there]


def _varies_by_cookie(value: bytes) -> bool:
    return any(part.strip().lower() in (b"cookie", b"*") for part in value.split(b","))


def _not_shared(value: bytes) -> bytes:
    directives = [part.strip() for part in value.split(b",")]
    kept = [part for part in directives if part.partition(b"=")[0].strip().lower() not in _SHARED]
    if len(kept) == len(directives):
        return value
    return b", ".join([b"private", *(part for part in kept if part.lower() != b"private")])


def preflight_headers(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """Return the headers of an answer whose body is left out."""
    return [(name, value) for name, value in headers if name.lower() not in _OF_BODIES]


def private_text_headers(headers: list[tuple[str, str]], *, public: bool) -> list[tuple[str, str]]:
    """Do the same to headers as WSGI has them: Latin-1 text."""
    for name, _ in headers:
        if len(name) in _LENGTHS:
            raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in _merged(raw, public=public)]
    return [*headers, ("Vary", "Cookie"), ("Cache-Control", "private")]

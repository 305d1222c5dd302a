"""What becomes of an app's answer to a signed-in person: no shared cache may keep it. Touches headers only."""

from __future__ import annotations

from typing import TypeAlias

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

_SHARED = (b"public", b"s-maxage")
_LENGTHS = (len(b"vary"), len(b"cache-control"))
_VARY, _PRIVATE = (b"vary", b"Cookie"), (b"cache-control", b"private")


def private_headers(headers: RawHeaders, *, public: bool) -> RawHeaders:
    """Return the headers with `Vary: Cookie`, and `Cache-Control: private` where nothing else was said.

    On a path that is not public, the app's own `public` and `s-maxage` become `private` (RFC 9111 section 5.2.2).
    """
    for name, _ in headers:
        if len(name) in _LENGTHS:
            return _merged(headers, public=public)
    return [*headers, _VARY, _PRIVATE]


def _merged(headers: RawHeaders, *, public: bool) -> RawHeaders:
    result: RawHeaders = []
    varies = controlled = False
    for name, value in headers:
        lower = name.lower()
        varies = varies or (lower == b"vary" and _varies_by_cookie(value))
        if lower == b"cache-control":
            controlled = True
            result.append((name, value if public else _not_shared(value)))
        else:
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

"""What becomes of an app's answer to a signed-in person: no shared cache may keep it. Touches headers only."""

from __future__ import annotations

_SHARED = ("public", "s-maxage")


def private_headers(headers: list[tuple[bytes, bytes]], *, public: bool) -> list[tuple[bytes, bytes]]:
    """Return the headers with `Vary: Cookie`, and `Cache-Control: private` where nothing else was said.

    On a path that is not public, the app's own `public` and `s-maxage` become `private` (RFC 9111 section 5.2.2).
    """
    result: list[tuple[bytes, bytes]] = []
    varies = controlled = False
    for name, value in headers:
        lower = name.lower()
        if lower == b"vary":
            varies = varies or _varies_by_cookie(value)
        elif lower == b"cache-control":
            controlled = True
            if not public and _is_shared(value):
                value = _made_private(value)
        result.append((name, value))
    if not varies:
        result.append((b"vary", b"Cookie"))
    if not controlled:
        result.append((b"cache-control", b"private"))
    return result


def _varies_by_cookie(value: bytes) -> bool:
    return any(part.strip().lower() in (b"cookie", b"*") for part in value.split(b","))


def _is_shared(value: bytes) -> bool:
    lower = value.lower()
    return any(word.encode() in lower for word in _SHARED)


def _made_private(value: bytes) -> bytes:
    kept = [part.strip() for part in value.split(b",")]
    kept = [
        part for part in kept if part.partition(b"=")[0].strip().lower().decode("latin-1") not in (*_SHARED, "private")
    ]
    return b", ".join((b"private", *kept))

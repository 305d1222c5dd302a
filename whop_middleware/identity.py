"""The four identity headers for apps that read headers. Removes every inbound spelling; believes none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import quote

from .user import WhopUser

IDENTITY_HEADERS = {
    "x-whop-user-id": "id",
    "x-whop-username": "username",
    "x-whop-name": "name",
    "x-whop-email": "email",
}
_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def identity_headers(user: WhopUser | None) -> Iterator[tuple[str, str]]:
    """Yield the headers of a user; printable ASCII as it is, the rest and `%` as percent-encoded UTF-8."""
    for header, field in IDENTITY_HEADERS.items():
        value = getattr(user, field, None)
        if value is not None:
            yield header, quote(value, safe=_SAFE, errors="replace")


def is_identity_header(name: str) -> bool:
    """Return whether a header could be taken for one of the four by an app or a server behind us."""
    folded = "".join(char if char.isascii() and char.isalnum() else "-" for char in name.strip().lower())
    return folded in IDENTITY_HEADERS


def forwarded_headers(headers: Iterable[tuple[bytes, bytes]], user: WhopUser | None) -> list[tuple[bytes, bytes]]:
    """Return an ASGI scope's headers with the identity of `user` and nobody else's."""
    kept = [pair for pair in headers if not is_identity_header(pair[0].decode("latin-1"))]
    return kept + [(name.encode(), value.encode()) for name, value in identity_headers(user)]


def set_identity(environ: dict[str, object], user: WhopUser | None) -> None:
    """Set a WSGI environ's identity headers to those of `user`, and remove every other spelling."""
    for key in [key for key in environ if key.startswith("HTTP_") and is_identity_header(key[5:])]:
        del environ[key]
    for name, value in identity_headers(user):
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value

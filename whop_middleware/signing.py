"""What every signed cookie and state is made of; the only module that knows itsdangerous. Believes nothing unsigned."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator

from itsdangerous import BadSignature, Signer, want_bytes

from .config import WhopConfig

__all__ = ["BadSignature", "Signer", "b64", "cookie_pairs", "now", "set_cookie", "signer", "unb64"]

CLOCK_SKEW = 60
"""Seconds by which another server's clock may run ahead of ours (NTP keeps hosts far closer)."""
COOKIE_LIMIT = 4096
"""Bytes of a cookie with its name and attributes that every browser keeps (RFC 6265 section 6.1)."""
HEADER_LIMIT = 65_536
"""Bytes of a `Cookie` header that are looked at; browsers and servers stop far below."""
COOKIES_TRIED = 4
"""Cookies of one name that are verified at most: an attacker on a sibling host can set many."""
_SIGNATURE_LENGTH = 43
"""Characters of 32 bytes in base64 without its padding."""


def now() -> float:
    """Return the time in Unix seconds; the one clock of the package."""
    return time.time()


def b64(data: bytes) -> str:
    """Encode as URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(data: bytes) -> bytes:
    """Decode URL-safe base64 without padding."""
    return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))


def cookie_pairs(header: bytes, wanted: bytes) -> Iterator[bytes]:
    """Yield each pair that starts with `wanted` (`b"name="`): a linear split, no quotes, no escapes (RFC 6265)."""
    if wanted in header and len(header) <= HEADER_LIMIT:
        for part in header.split(b";"):
            pair = part.lstrip(b" \t")
            if pair.startswith(wanted):
                yield pair


class _Signer(Signer):
    """HMAC-SHA256 with each key's state prepared, which halves its cost; a signature has one spelling only."""

    def __init__(self, keys: list[bytes]) -> None:
        super().__init__(keys, salt=b"", key_derivation="none", digest_method=hashlib.sha256)
        self._prepared = [hmac.new(key, digestmod="sha256") for key in reversed(keys)]

    def unsign(self, signed_value: str | bytes) -> bytes:
        value, _, signature = want_bytes(signed_value).rpartition(b".")
        if not self._signed(value, signature):
            raise BadSignature("The signature is not ours")
        return value

    def verify_signature(self, value: str | bytes, sig: str | bytes) -> bool:
        return self._signed(want_bytes(value), want_bytes(sig))

    def _signed(self, value: bytes, signature: bytes) -> bool:
        for prepared in self._prepared:
            digest = prepared.copy()
            digest.update(value)
            if hmac.compare_digest(base64.urlsafe_b64encode(digest.digest())[:_SIGNATURE_LENGTH], signature):
                return True
        return False


def signer(config: WhopConfig, purpose: str) -> Signer:
    """Return the signer of one purpose for this client: what it signs passes for nothing else."""
    label = f"whop_middleware|{purpose}|{config.client_id}".encode()
    keys = [hmac.digest(key.encode(), label, "sha256") for key in config.signing_keys]
    # The last key of an itsdangerous list signs; of ours the first.
    return _Signer(keys[::-1])


def set_cookie(name: str, value: str, max_age: int, *, secure: bool) -> str:
    """Return a hardened `Set-Cookie` value; `max_age` is in seconds, 0 clears the cookie."""
    attributes = f"Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax"
    return f"{name}={value}; {attributes}{'; Secure' if secure else ''}"

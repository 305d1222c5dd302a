"""ID tokens signed with ES256, and the key to check them. A new key per sandbox; none is ever stored."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

_SIZE = 32  # bytes of a P-256 coordinate (RFC 7518 section 3.4)


class SigningKey:
    """A P-256 key."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        self.jwk = {
            "kty": "EC",
            "crv": "P-256",
            "x": _base64url(numbers.x.to_bytes(_SIZE)),
            "y": _base64url(numbers.y.to_bytes(_SIZE)),
        }
        # The thumbprint is over the required members in order, without spaces (RFC 7638 section 3).
        thumbprint = json.dumps({name: self.jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
        self.jwk |= {"use": "sig", "alg": "ES256", "kid": _base64url(sha256(thumbprint.encode()).digest())}

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return the claims as a signed JWT (RFC 7515 section 3.1)."""
        header = {"alg": "ES256", "typ": "JWT", "kid": self.jwk["kid"]}
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(SHA256())))
        return f"{text}.{_base64url(r.to_bytes(_SIZE) + s.to_bytes(_SIZE))}"


def _base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()

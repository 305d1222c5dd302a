"""The codes and tokens of the sandbox: each code works once, for one client and redirect_uri. Stores no file."""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256

CODE_LIFE = {"v5": 300, "oauth21": 600}  # seconds, from Whop's guides
TOKEN_LIFE = {"v5": 7200, "oauth21": 3600}  # seconds; v5 documents none

_VERIFIER = re.compile(r"[\w.~-]{43,128}", re.ASCII)  # RFC 7636 section 4.1


@dataclass(frozen=True, slots=True)
class Grant:
    """What a person granted an app, behind a code and later behind tokens."""

    user_id: str
    client_id: str
    redirect_uri: str
    scope: str
    dialect: str
    nonce: str | None = None
    code_challenge: str | None = field(default=None, repr=False)
    expires_at: float = 0.0

    @property
    def scopes(self) -> frozenset[str]:
        """Return the single scopes."""
        return frozenset(self.scope.split())

    def accepts(self, verifier: str | None) -> bool:
        """Return whether a code_verifier belongs to the challenge; without a challenge there must be none."""
        if self.code_challenge is None or verifier is None:
            return self.code_challenge is None and verifier is None
        return _VERIFIER.fullmatch(verifier) is not None and hmac.compare_digest(
            s256(verifier).encode(), self.code_challenge.encode()
        )


def s256(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 section 4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class Grants:
    """All codes and tokens that are still good."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._codes: dict[str, Grant] = {}
        self._access: dict[str, Grant] = {}
        self._refresh: dict[str, Grant] = {}

    def new_code(self, grant: Grant) -> str:
        """Return a new code for a grant; its life begins now."""
        return self._put(self._codes, "code", grant, CODE_LIFE[grant.dialect])

    def use_code(
        self, code: str, *, client_id: str, redirect_uri: str, dialect: str, verifier: str | None = None
    ) -> Grant | None:
        """Return the grant behind a code and spend it; `None` when anything about it is wrong."""
        grant = self._get(self._codes, code)
        if grant is None or (grant.client_id, grant.redirect_uri, grant.dialect) != (client_id, redirect_uri, dialect):
            return None
        # pop decides between two requests at once: only one of them gets the grant
        return self._codes.pop(code, None) if grant.accepts(verifier) else None

    def new_access_token(self, grant: Grant) -> str:
        """Return a new access token."""
        return self._put(self._access, "tok", grant, TOKEN_LIFE[grant.dialect])

    def behind(self, access_token: str) -> Grant | None:
        """Return the grant behind an access token that is still good."""
        return self._get(self._access, access_token)

    def new_refresh_token(self, grant: Grant) -> str:
        """Return a new refresh token."""
        return self._put(self._refresh, "ref", grant, 30 * 86400)

    def use_refresh_token(self, refresh_token: str, client_id: str) -> Grant | None:
        """Return the grant behind a refresh token and spend it: it rotates on every use. Also how one is revoked."""
        grant = self._get(self._refresh, refresh_token)
        if grant is None or grant.client_id != client_id:
            return None
        return self._refresh.pop(refresh_token, None)

    def _put(self, where: dict[str, Grant], prefix: str, grant: Grant, life: float) -> str:
        now = self._clock()
        for stale in [key for key, known in list(where.items()) if known.expires_at <= now]:
            where.pop(stale, None)
        key = f"{prefix}_{secrets.token_urlsafe(24)}"
        where[key] = replace(grant, expires_at=now + life)
        return key

    def _get(self, where: dict[str, Grant], key: str) -> Grant | None:
        grant = where.get(key)
        return grant if grant is not None and grant.expires_at > self._clock() else None

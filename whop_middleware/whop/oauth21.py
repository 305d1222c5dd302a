"""All that is known about signing in by Whop's OAuth 2.1 API (PKCE, OpenID Connect), as pure pairs. Performs no I/O.

Checks every claim of an ID token but not its signature: it came over TLS straight from the token endpoint, which
OpenID Connect Core 3.1.3.7 point 6 accepts in its place. Use no ID token from anywhere else with this module.
"""

from __future__ import annotations

import hmac
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

from whop_middleware.errors import BadWhopAnswer

from .answers import (
    Credentials,
    Token,
    build_request,
    clean_text,
    clean_url,
    parse_object,
    read_object,
    read_token_answer,
    read_user_id,
    with_query,
)

if TYPE_CHECKING:
    import httpx

_JWT = re.compile(r"([\w-]+)\.([\w-]+)\.[\w-]+", re.ASCII)  # RFC 7515 section 7.1
_ALGORITHMS = ("ES256", "RS256")  # what Whop signs with, and what OpenID Connect makes the default


@dataclass(frozen=True, slots=True)
class OAuth21:
    """The current API: PKCE always, a secret only for confidential clients, ID tokens issued by `api_url`."""

    name: ClassVar[str] = "oauth21"
    default_scope: ClassVar[str] = "openid profile email"
    uses_pkce: ClassVar[bool] = True

    credentials: Credentials
    api_url: str

    @property
    def issuer(self) -> str | None:
        """Return who must have issued the ID tokens, and the callback's `iss` (RFC 9207)."""
        return self.api_url

    def authorize_url(
        self, *, redirect_uri: str, state: str, scope: str, nonce: str | None, code_challenge: str | None
    ) -> str:
        """Return Whop's sign-in page (RFC 6749 section 4.1.1, RFC 7636 section 4.3, OpenID Connect Core 3.1.2.1)."""
        parameters = {
            "response_type": "code",
            "client_id": self.credentials.client_id,
            "redirect_uri": redirect_uri,
            "scope": scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": code_challenge,
            "code_challenge_method": None if code_challenge is None else "S256",
        }
        return with_query(f"{self.api_url}/oauth/authorize", parameters)

    def token_request(self, *, code: str, redirect_uri: str, code_verifier: str | None) -> httpx.Request:
        """Return the request that trades a code for tokens; a confidential client sends its secret beside PKCE."""
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            **self.credentials.as_parameters(),
        }
        if code_verifier is not None:
            body["code_verifier"] = code_verifier
        return build_request("POST", f"{self.api_url}/oauth/token", body=body)

    def parse_token(self, response: httpx.Response) -> Token:
        """Return the tokens. Raises `CodeRefused`, `CredentialsRefused`, `WhopUnreachable` or `BadWhopAnswer`."""
        access_token, answer = read_token_answer(response, _usual_causes)
        id_token = answer.get("id_token")
        if id_token is not None and not isinstance(id_token, str):
            raise BadWhopAnswer("Whop answered the token request with an ID token that is not text")
        return Token(access_token, id_token)

    def user_request(self, token: Token) -> httpx.Request:
        """Return the request for the token's owner (OpenID Connect Core 5.3.1)."""
        return build_request("GET", f"{self.api_url}/oauth/userinfo", bearer=token.access_token)

    def parse_user(
        self, response: httpx.Response, token: Token, *, nonce: str | None, now: float
    ) -> dict[str, str | None]:
        """Return the fields of a `WhopUser`, after the ID token (if one came) proved to speak of the same user.

        `nonce` is the one sent to the authorize page, `now` in Unix seconds.
        Raises `WhopUnreachable` or `BadWhopAnswer`.
        """
        answer = read_object(response, "the user request")
        user_id = read_user_id(answer.get("sub"))
        if token.id_token is not None:
            self._check_id_token(token.id_token, user_id, nonce, now)
        is_unverified = answer.get("email_verified") in (False, "false")
        return {
            "id": user_id,
            "username": clean_text(answer.get("preferred_username")),
            "name": clean_text(answer.get("name")),
            "email": None if is_unverified else clean_text(answer.get("email")),
            "profile_pic_url": clean_url(answer.get("picture")),
        }

    def _check_id_token(self, id_token: str, user_id: str, nonce: str | None, now: float) -> None:
        header, claims = _decode(id_token)
        checks = {
            "alg": header.get("alg") in _ALGORITHMS,
            "iss": claims.get("iss") == self.issuer,
            "aud": _is_for(self.credentials.client_id, claims.get("aud"), claims.get("azp")),
            "exp": _is_future(claims.get("exp"), now),
            "nonce": _is_our_nonce(claims.get("nonce"), nonce),
            "sub": claims.get("sub") == user_id,
        }
        wrong = [name for name, is_right in checks.items() if not is_right]
        if wrong:
            raise BadWhopAnswer(f"Whop's ID token has a wrong {', '.join(wrong)}")


def code_challenge(verifier: str) -> str:
    """Return the S256 challenge of a PKCE verifier (RFC 7636 section 4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()


def _decode(id_token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = _JWT.fullmatch(id_token)
    header, claims = (_decode_part(parts[1]), _decode_part(parts[2])) if parts else (None, None)
    if header is None or claims is None:
        raise BadWhopAnswer("Whop's ID token is not a JWT")
    return header, claims


def _decode_part(part: str) -> dict[str, Any] | None:
    try:
        return parse_object(urlsafe_b64decode(f"{part}==="))  # Python takes more padding than it needs
    except ValueError:
        return None


def _is_for(client_id: str, audience: object, authorized_party: object) -> bool:
    """Return whether an ID token was made for this client (OpenID Connect Core 3.1.3.7, points 3 to 5)."""
    audiences = audience if isinstance(audience, list) else [audience]
    parties = (client_id,) if len(audiences) > 1 else (client_id, None)
    return client_id in audiences and authorized_party in parties


def _is_future(expires_at: object, now: float) -> bool:
    """Return whether a NumericDate lies ahead; no leeway, as an ID token is read within seconds of its making."""
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        return False
    return now < expires_at < math.inf


def _is_our_nonce(claim: object, nonce: str | None) -> bool:
    if nonce is None or not isinstance(claim, str):
        return nonce is None and claim is None
    return hmac.compare_digest(claim.encode("utf-8", "replace"), nonce.encode())


def _usual_causes(error: str, description: str) -> str:
    if error == "invalid_scope":
        return "WHOP_SCOPE asks for something this client may not have"
    if "oauth:token_exchange" in description:
        return "the client secret lacks the permission oauth:token_exchange, which Whop's dashboard grants"
    return (
        "either WHOP_CLIENT_ID or WHOP_CLIENT_SECRET is wrong or lacks the permission oauth:token_exchange, or the "
        "client id belongs to another generation of Whop's API (one without app_ in front needs WHOP_DIALECT=v5)"
    )

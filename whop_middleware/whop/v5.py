"""All that is known about signing in by Whop's v5 API, as pure pairs. Performs no I/O.

Source: Whop's "Web Apps" guide (Whop Hub and "Login with Whop" button) and the v5 API reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .answers import (
    Credentials,
    Token,
    build_request,
    clean_text,
    clean_url,
    read_object,
    read_token_answer,
    read_user_id,
    with_query,
)

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class V5:
    """The v5 API: a confidential client, neither PKCE nor OpenID Connect."""

    name: ClassVar[str] = "v5"
    default_scope: ClassVar[str] = "read_user"
    uses_pkce: ClassVar[bool] = False
    issuer: ClassVar[str | None] = None

    credentials: Credentials
    whop_url: str
    api_url: str

    def authorize_url(
        self, *, redirect_uri: str, state: str, scope: str, nonce: str | None, code_challenge: str | None
    ) -> str:
        """Return Whop's sign-in page (RFC 6749 section 4.1.1); v5 knows no `nonce` and no PKCE: neither is sent."""
        parameters = {
            "client_id": self.credentials.client_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": scope,
            "state": state,
        }
        return with_query(f"{self.whop_url}/oauth", parameters)

    def token_request(self, *, code: str, redirect_uri: str, code_verifier: str | None) -> httpx.Request:
        """Return the request that trades a code for a token; the schema wants `grant_type`, which the guide forgets."""
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            **self.credentials.as_parameters(),
        }
        return build_request("POST", f"{self.api_url}/v5/oauth/token", body=body)

    def parse_token(self, response: httpx.Response) -> Token:
        """Return the token. Raises `CodeRefused`, `CredentialsRefused`, `WhopUnreachable` or `BadWhopAnswer`."""
        access_token, _ = read_token_answer(response, _usual_causes)
        return Token(access_token)

    def user_request(self, token: Token) -> httpx.Request:
        """Return the request for the token's owner."""
        return build_request("GET", f"{self.api_url}/v5/me", bearer=token.access_token)

    def parse_user(
        self, response: httpx.Response, token: Token, *, nonce: str | None, now: float
    ) -> dict[str, str | None]:
        """Return the fields of a `WhopUser`. Raises `WhopUnreachable` or `BadWhopAnswer`."""
        answer = read_object(response, "the user request")
        return {
            "id": read_user_id(answer.get("id")),
            "username": clean_text(answer.get("username")),
            "name": clean_text(answer.get("name")),
            "email": clean_text(answer.get("email")),
            "profile_pic_url": clean_url(answer.get("profile_pic_url")),
        }


def _usual_causes(error: str, _description: str) -> str:
    if error == "invalid_scope":
        return "WHOP_SCOPE asks for something this client may not have"
    return (
        "either WHOP_CLIENT_ID or WHOP_CLIENT_SECRET is wrong, or the client id belongs to another generation of "
        "Whop's API (an app_... id needs WHOP_DIALECT=oauth21)"
    )

"""All that is known about Whop: two generations of its sign-in, and who owns what, as pure pairs. Performs no I/O.

Each `..._request` builds what to send, the `parse_...` beside it reads what came back. Nothing here imports the HTTP
client before the first request is built.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from .answers import Credentials, Token
from .oauth21 import OAuth21, code_challenge
from .v5 import V5

if TYPE_CHECKING:
    import httpx

__all__ = ["V5", "Credentials", "Dialect", "OAuth21", "Settings", "Token", "code_challenge", "dialect", "endpoint"]


class Dialect(Protocol):
    """One generation of Whop's OAuth API."""

    @property
    def name(self) -> str:
        """The value of `WhopConfig.dialect` that stands for it."""

    @property
    def default_scope(self) -> str:
        """What to ask for when `WhopConfig.scope` says nothing; separated by spaces."""

    @property
    def uses_pkce(self) -> bool:
        """Whether `code_challenge`, `code_verifier` and `nonce` are sent."""

    @property
    def issuer(self) -> str | None:
        """The `iss` that a callback must carry if it carries one (RFC 9207); `None` where there is no such thing."""

    def authorize_url(
        self, *, redirect_uri: str, state: str, scope: str, nonce: str | None, code_challenge: str | None
    ) -> str:
        """Return Whop's sign-in page."""

    def token_request(self, *, code: str, redirect_uri: str, code_verifier: str | None) -> httpx.Request:
        """Return the request that trades a code for a token."""

    def parse_token(self, response: httpx.Response) -> Token:
        """Return the token. Raises `CodeRefused`, `CredentialsRefused`, `WhopUnreachable` or `BadWhopAnswer`."""

    def user_request(self, token: Token) -> httpx.Request:
        """Return the request for the token's owner."""

    def parse_user(
        self, response: httpx.Response, token: Token, *, nonce: str | None, now: float
    ) -> dict[str, str | None]:
        """Return the fields of a `WhopUser`. Raises `WhopUnreachable` or `BadWhopAnswer`."""


class Settings(Protocol):
    """What a dialect needs to know of `WhopConfig`; the URLs have no trailing slash."""

    @property
    def protocol(self) -> str:
        """`"v5"` or `"oauth21"`."""

    @property
    def client_id(self) -> str:
        """The OAuth client id."""

    @property
    def client_secret(self) -> str | None:
        """The client's secret, `None` for a public client."""

    @property
    def whop_url(self) -> str:
        """Whop's site."""

    @property
    def api_url(self) -> str:
        """Whop's API."""


def dialect(config: Settings) -> Dialect:
    """Return the dialect that a configuration speaks."""
    credentials = Credentials(config.client_id, config.client_secret)
    if config.protocol == "oauth21":
        return OAuth21(credentials, config.api_url)
    return V5(credentials, config.whop_url, config.api_url)


_ENDPOINTS = (
    # The path that holds ids comes first, and is matched as it is sent, so that no id can pass for another endpoint.
    ("access", re.compile(rb"/api/v1/users/[^/]+/access/[^/]+$")),
    ("experiences", re.compile(rb"/v5/me/experiences/[^/]+$")),
    ("memberships", re.compile(rb"/v5/me/memberships$")),
    ("token", re.compile(rb"/oauth/token$")),
    ("user", re.compile(rb"(?:/v5/me|/oauth/userinfo)$")),
)


def endpoint(request: httpx.Request) -> str:
    """Return the name of the endpoint that a request is for, the same for every user and resource."""
    path = request.url.raw_path.partition(b"?")[0]
    return next((name for name, pattern in _ENDPOINTS if pattern.search(path)), "other")

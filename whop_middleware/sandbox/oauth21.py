"""Whop's current API: OAuth 2.1 with PKCE, OpenID Connect, the access check. Waives no PKCE."""

from __future__ import annotations

import hmac
from functools import cached_property
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .grants import TOKEN_LIFE, Grant
from .people import App, Person
from .requests import bearer, parameters
from .v5 import BAD_CLIENT, BAD_GRANT, oauth_error
from .world import World

if TYPE_CHECKING:
    from .signing import SigningKey

_NO_PERMISSION = "client_secret lacks oauth:token_exchange permission"


class OAuth21:
    """The endpoints."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/oauth/token", self.token, methods=["POST"]),
            Route("/oauth/revoke", self.revoke, methods=["POST"]),
            Route("/oauth/userinfo", self.userinfo, methods=["GET", "POST"]),
            Route("/api/v1/users/{user_id}/access/{resource_id}", self.access, methods=["GET"]),
            Route("/.well-known/openid-configuration", self.discovery, methods=["GET"]),
            Route("/.well-known/jwks.json", self.jwks, methods=["GET"]),
        ]

    @cached_property
    def _key(self) -> SigningKey:
        from .signing import SigningKey  # brings cryptography, which v5 does without

        return SigningKey()

    async def token(self, request: Request) -> Response:
        """Trade a code or a refresh token for tokens; the client is checked before either."""
        given = await parameters(request)
        app = self._client(given)
        if isinstance(app, Response):
            return app
        grant_type = given.get("grant_type")
        if grant_type == "refresh_token":
            grant = self._world.grants.use_refresh_token(given.get("refresh_token", ""), app.client_id)
        elif grant_type == "authorization_code":
            grant = self._world.grants.use_code(
                given.get("code", ""),
                client_id=app.client_id,
                redirect_uri=given.get("redirect_uri", ""),
                dialect="oauth21",
                verifier=given.get("code_verifier"),
            )
        else:
            return oauth_error(400, "invalid_request", "grant_type must be authorization_code or refresh_token")
        return oauth_error(400, "invalid_grant", BAD_GRANT) if grant is None else self._tokens(app, grant)

    def _client(self, given: dict[str, str]) -> App | Response:
        app = self._world.apps.get(given.get("client_id", ""))
        if app is None or app.dialect != "oauth21":
            return oauth_error(401, "invalid_client", BAD_CLIENT)
        secret, given_secret = app.client_secret or "", given.get("client_secret", "")
        if not hmac.compare_digest(secret.encode(), given_secret.encode("utf-8", "replace")):
            return oauth_error(401, "invalid_client", BAD_CLIENT)
        return app if app.may_exchange else oauth_error(401, "invalid_client", _NO_PERMISSION)

    def _tokens(self, app: App, grant: Grant) -> Response:
        answer: dict[str, Any] = {
            "access_token": self._world.grants.new_access_token(grant),
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFE["oauth21"],
            "refresh_token": self._world.grants.new_refresh_token(grant),
            "scope": grant.scope,
        }
        if "openid" in grant.scopes:
            answer["id_token"] = self._id_token(app, grant)
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    def _id_token(self, app: App, grant: Grant) -> str:
        now = int(self._world.clock())
        claims = {
            "iss": self._world.base_url,
            "sub": grant.user_id,
            "aud": app.client_id,
            "iat": now,
            "exp": now + TOKEN_LIFE["oauth21"],
        }
        return self._key.sign(claims if grant.nonce is None else claims | {"nonce": grant.nonce})

    async def revoke(self, request: Request) -> Response:
        """Revoke a refresh token; an unknown one is no error (RFC 7009 section 2.2), an access token stays good."""
        given = await parameters(request)
        app = self._client(given)
        if isinstance(app, Response):
            return app
        self._world.grants.use_refresh_token(given.get("token", ""), app.client_id)
        return JSONResponse({})

    async def userinfo(self, request: Request) -> Response:
        """Say who the token's owner is, as far as the scope goes (OpenID Connect Core 5.4)."""
        grant = self._grant(bearer(request))
        if grant is None:
            return _unauthorized("The access token is missing, unknown or expired")
        if "openid" not in grant.scopes:
            return oauth_error(403, "insufficient_scope", "The scope openid is needed")
        person = self._world.person(grant.user_id)
        return JSONResponse({"sub": person.id} | _profile(person, self._world.picture_of(person), grant.scopes))

    async def access(self, request: Request) -> Response:
        """Say whether someone has access to a product, an experience or a company."""
        user_id, resource_id = request.path_params["user_id"], request.path_params["resource_id"]
        key, company_id = bearer(request), self._world.company_of(resource_id)
        companies = {app.company_id for app in list(self._world.apps.values()) if key and app.api_key == key}
        grant = self._world.grants.behind(key)
        if not companies and grant is None:
            return _unauthorized("The API key or access token is missing, unknown or expired")
        if company_id is None or user_id not in {person.id for person in list(self._world.people.values())}:
            return oauth_error(404, "not_found", "No such user or resource")
        if company_id not in companies and (grant is None or grant.user_id != user_id):
            return oauth_error(403, "forbidden", "The API key or access token does not reach this user or resource")
        level = self._world.level(user_id, resource_id)
        return JSONResponse({"has_access": level is not None, "access_level": level or "no_access"})

    async def discovery(self, _request: Request) -> Response:
        """Describe the endpoints (OpenID Connect Discovery 1.0)."""
        issuer = self._world.base_url
        return JSONResponse(
            {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}/oauth/authorize",
                "token_endpoint": f"{issuer}/oauth/token",
                "userinfo_endpoint": f"{issuer}/oauth/userinfo",
                "revocation_endpoint": f"{issuer}/oauth/revoke",
                "jwks_uri": f"{issuer}/.well-known/jwks.json",
                "scopes_supported": ["openid", "profile", "email"],
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "token_endpoint_auth_methods_supported": ["client_secret_post", "none"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def jwks(self, _request: Request) -> Response:
        """Publish the key of the ID tokens."""
        return JSONResponse({"keys": [self._key.jwk]})

    def _grant(self, access_token: str) -> Grant | None:
        grant = self._world.grants.behind(access_token)
        return grant if grant is not None and grant.dialect == "oauth21" else None


def _profile(person: Person, picture: str | None, scopes: frozenset[str]) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    if "profile" in scopes:
        claims |= {"name": person.name, "preferred_username": person.username, "picture": picture}
    if "email" in scopes:
        claims |= {"email": person.email, "email_verified": person.email is not None}
    return {name: value for name, value in claims.items() if value is not None}


def _unauthorized(description: str) -> Response:
    response = oauth_error(401, "invalid_token", description)
    response.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'  # RFC 6750 section 3
    return response

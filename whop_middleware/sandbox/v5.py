"""Whop's v5 API: token, me, memberships, experiences, with the documented error texts. Gives no refresh tokens."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .grants import TOKEN_LIFE
from .people import Membership, Person
from .requests import bearer, parameters
from .world import World

BAD_GRANT = (
    "The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the "
    "authorization request, or was issued to another client."
)
BAD_CLIENT = (
    "Client authentication failed due to unknown client, no client authentication included, or unsupported "
    "authentication method."
)
BAD_TOKEN = (
    "Your access token is invalid. Please make sure you are passing an access token, and that it is correctly "  # noqa: S105
    "formatted."
)
_PER_PAGE, _MOST_PER_PAGE = 10, 50


def oauth_error(status: int, error: str, description: str) -> Response:
    """Return an error of a token endpoint (RFC 6749 section 5.2)."""
    return JSONResponse({"error": error, "error_description": description}, status, {"Cache-Control": "no-store"})


class V5:
    """The endpoints."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Return the routes; the `/api` ones are what `@whop/api` 0.0.5x calls."""
        return [
            *(Route(f"{base}/oauth/token", self.token, methods=["POST"]) for base in ("/v5", "/api")),
            *(
                Route(f"{base}/me{path}", handler, methods=["GET"])
                for base in ("/v5", "/api/v5")
                for path, handler in (
                    ("", self.me),
                    ("/memberships", self.memberships),
                    ("/experiences/{experience_id}", self.experience),
                )
            ),
            *(Route(f"{base}/{{rest:path}}", _no_route) for base in ("/v5", "/api/v5")),
        ]

    async def token(self, request: Request) -> Response:
        """Trade a code for an access token; the client is checked before the code."""
        given = await parameters(request)
        app = self._world.apps.get(given.get("client_id", ""))
        if app is None or app.dialect != "v5" or app.client_secret != given.get("client_secret"):
            return oauth_error(401, "invalid_client", BAD_CLIENT)
        if given.get("grant_type") != "authorization_code":
            error = "unsupported_grant_type" if given.get("grant_type") else "invalid_request"
            return oauth_error(400, error, 'The parameter grant_type must be "authorization_code".')
        grant = self._world.grants.use_code(
            given.get("code", ""), client_id=app.client_id, redirect_uri=given.get("redirect_uri", ""), dialect="v5"
        )
        if grant is None:
            return oauth_error(400, "invalid_grant", BAD_GRANT)
        answer = {
            "access_token": self._world.grants.new_access_token(grant),
            "token_type": "bearer",
            "expires_in": TOKEN_LIFE["v5"],
            "scope": grant.scope,
            "created_at": int(self._world.clock()),
        }
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    async def me(self, request: Request) -> Response:
        """Say who the token's owner is."""
        person = self._owner(request)
        if person is None:
            return _message(401, BAD_TOKEN)
        answer = {
            "id": person.id,
            "username": person.username,
            "name": person.name,
            "email": person.email,
            "profile_pic_url": self._world.picture_of(person),
        }
        return JSONResponse(answer)

    async def memberships(self, request: Request) -> Response:
        """List the memberships of the token's owner, those that are valid unless asked otherwise."""
        person = self._owner(request)
        if person is None:
            return _message(401, BAD_TOKEN)
        query = request.query_params
        page, per = _number(query.get("page"), 1), min(_number(query.get("per"), _PER_PAGE), _MOST_PER_PAGE)
        found = self._found(
            person, query.get("valid", "true") != "false", query.get("product_id"), query.get("company_id")
        )
        rows = [m.as_json(self._world.base_url) for m in found[(page - 1) * per : page * per]]
        return JSONResponse({"pagination": _pagination(page, per, len(found)), "data": rows})

    async def experience(self, request: Request) -> Response:
        """Return an experience to someone whose membership brings it; to the team too it is not there."""
        person, experience_id = self._owner(request), request.path_params["experience_id"]
        if person is None:
            return _message(401, BAD_TOKEN)
        product_id = self._world.experiences.get(experience_id)
        if product_id is None or not self._world.has(person, product_id):
            return _message(404, "Experience not found")
        return JSONResponse({"id": experience_id, "name": experience_id, "products": [{"id": product_id}]})

    def _owner(self, request: Request) -> Person | None:
        grant = self._world.grants.behind(bearer(request))
        return self._world.person(grant.user_id) if grant is not None and grant.dialect == "v5" else None

    def _found(self, person: Person, valid: bool, product_id: str | None, company_id: str | None) -> list[Membership]:
        return [
            membership
            for membership in self._world.memberships_of(person)
            if membership.valid is valid
            and product_id in (None, membership.product_id)
            and company_id in (None, self._world.company_of(membership.product_id))
        ]


def _message(status: int, text: str) -> Response:
    return JSONResponse({"message": text}, status)


async def _no_route(request: Request) -> Response:
    return _message(404, f"Route {request.url.path} not found")


def _number(text: str | None, default: int) -> int:
    return max(int(text[:9]), 1) if text and text.isascii() and text.isdigit() else default


def _pagination(page: int, per: int, total: int) -> dict[str, Any]:
    pages = max(1, -(-total // per))
    return {
        "current_page": page,
        "total_pages": pages,
        "next_page": page + 1 if page < pages else None,
        "prev_page": page - 1 if page > 1 else None,
        "total_count": total,
    }

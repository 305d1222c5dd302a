"""All that is known about asking Whop who owns what, as pure pairs. Performs no I/O but a log line; caches nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from whop_middleware.errors import BadWhopAnswer, CredentialsRefused

from .answers import Token, build_request, path_segment, read_object, with_query

if TYPE_CHECKING:
    import httpx

__all__ = [
    "PER_PAGE",
    "Level",
    "Memberships",
    "access_request",
    "experience_request",
    "memberships_request",
    "parse_access",
    "parse_experience",
    "parse_memberships",
]

Level: TypeAlias = Literal["customer", "admin"]

PER_PAGE = 50  # the most that v5's listings give

_log = logging.getLogger("whop_middleware")


@dataclass(frozen=True, slots=True)
class Memberships:
    """One page of the listing: the products of its valid memberships, and the page after it if there is one."""

    product_ids: frozenset[str]
    next_page: int | None


def memberships_request(api_url: str, token: Token, *, page: int, company_id: str | None = None) -> httpx.Request:
    """Return the request for a page (from 1) of the valid memberships of the token's owner, of one company if named."""
    parameters = {"valid": "true", "per": str(PER_PAGE), "page": str(page), "company_id": company_id}
    return build_request("GET", with_query(f"{api_url}/v5/me/memberships", parameters), bearer=token.access_token)


def parse_memberships(response: httpx.Response) -> Memberships:
    """Return a page of memberships. Raises `WhopUnreachable` or `BadWhopAnswer`.

    `valid` alone decides, never `status`: a one-time purchase is `completed` and valid, someone on trial `trialing`.
    """
    what = "the listing of memberships"
    answer = read_object(response, what)
    data = answer.get("data")
    if not isinstance(data, list) or not all(isinstance(membership, dict) for membership in data):
        raise BadWhopAnswer(f"Whop answered {what} without a list of memberships")
    products = (membership.get("product_id") for membership in data if membership.get("valid") is True)
    return Memberships(frozenset(p for p in products if isinstance(p, str)), _next_page(answer.get("pagination")))


def _next_page(pagination: object) -> int | None:
    if pagination is None:
        return None
    if not isinstance(pagination, dict):
        raise BadWhopAnswer("Whop answered the listing of memberships with a broken pagination")
    current, total, following = (_count(pagination.get(key)) for key in ("current_page", "total_pages", "next_page"))
    if following is None:
        return current + 1 if current is not None and total is not None and current < total else None
    if following <= (current or 0):
        raise BadWhopAnswer("Whop answered the listing of memberships with pages that go in a circle")
    return following if total is None or following <= total else None


def _count(value: object) -> int | None:
    if value is None or (type(value) is int and value >= 0):
        return value
    raise BadWhopAnswer("Whop answered the listing of memberships with a broken pagination")


def experience_request(api_url: str, token: Token, experience_id: str) -> httpx.Request:
    """Return the request for one experience, which Whop answers only to someone who has it."""
    url = f"{api_url}/v5/me/experiences/{path_segment(experience_id)}"
    return build_request("GET", url, bearer=token.access_token)


def parse_experience(response: httpx.Response) -> bool:
    """Return whether the experience is there for the token's owner (404: it is not).

    A 2xx must hold a JSON object to count: what some proxy puts in its way opens no door. Raises `WhopUnreachable`
    or `BadWhopAnswer`.
    """
    if response.status_code == 404:
        return False
    read_object(response, "the question about an experience")
    return True


def access_request(api_url: str, bearer: str, user_id: str, resource_id: str) -> httpx.Request:
    """Return the question whether a user has access to a resource; `bearer` is an API key or the user's token."""
    url = f"{api_url}/api/v1/users/{path_segment(user_id)}/access/{path_segment(resource_id)}"
    return build_request("GET", url, bearer=bearer)


def parse_access(response: httpx.Response, resource_id: str, *, with_api_key: bool) -> Level | None:
    """Return how a user has access, `None` when not at all.

    404 is `None` with an ERROR line: the setting is likely wrong. Raises `CredentialsRefused` (401, 403),
    `WhopUnreachable` or `BadWhopAnswer`.
    """
    status = response.status_code
    if status == 404:
        _log.error("Whop knows no resource %s (HTTP 404): nobody can own it; check the id in WHOP_REQUIRE", resource_id)
        return None
    if status in (401, 403):
        raise CredentialsRefused(_refusal(status, resource_id, with_api_key=with_api_key))
    answer = read_object(response, "the question about access")
    has_access, level = answer.get("has_access"), answer.get("access_level")
    if not isinstance(has_access, bool) or not (level is None or isinstance(level, str)):
        raise BadWhopAnswer("Whop answered the question about access without saying yes or no")
    if not has_access or level == "no_access":
        return None
    return "admin" if level == "admin" else "customer"


def _refusal(status: int, resource_id: str, *, with_api_key: bool) -> str:
    if with_api_key:
        causes = f"WHOP_API_KEY is wrong, or it may not read who has access to {resource_id}"
    else:
        causes = f"the user's token may not read who has access to {resource_id}; set WHOP_API_KEY to ask with a key"
    return f"Whop refused the question about access (HTTP {status}): {causes}"

"""Whop's answers about purchases, and a core that asks about them. Opens no socket."""

from __future__ import annotations

from typing import Any

import httpx

from whop_middleware import WhopUser
from whop_middleware.errors import WhopUnreachable
from whop_middleware.messages import Forward, Reply

from .steps import Core
from .support import NAVIGATION

API_KEY = "api-key-0123456789"
FORM = (*NAVIGATION[:3], ("Accept", "text/html"))
DOWN = WhopUnreachable("Whop answered the question about access with HTTP 503")


def says(level: str | None) -> httpx.Response:
    return httpx.Response(200, json={"has_access": level is not None, "access_level": level or "no_access"})


def with_key(**options: Any) -> Core:
    return Core(**{"require": "prod_a", "api_key": API_KEY, "session_max_age": 10**7} | options)


def without_key(**options: Any) -> Core:
    return Core(**{"require": "prod_a", "session_max_age": 10**7} | options)


def buyer(core: Core, **access: str) -> Core:
    return core.signed_in(access=access or {"prod_a": "customer"})


def user_of(decision: Forward | Reply) -> WhopUser:
    assert isinstance(decision, Forward), decision
    assert decision.user is not None
    return decision.user


def listing(*memberships: dict[str, Any], page: int = 1, pages: int = 1) -> httpx.Response:
    following = page + 1 if page < pages else None
    pagination = {"current_page": page, "total_pages": pages, "next_page": following}
    return httpx.Response(200, json={"pagination": pagination, "data": list(memberships)})


def membership(product_id: str, *, valid: object = True, status: str = "active") -> dict[str, Any]:
    return {"id": "mem_1", "product_id": product_id, "valid": valid, "status": status}


def sign_in(core: Core) -> Reply:
    """Arrive from the Hub."""
    return core.reply("/callback/whop?code=C", (*NAVIGATION, ("Referer", "https://whop.com/")))

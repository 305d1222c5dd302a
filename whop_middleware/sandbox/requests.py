"""How the sandbox reads requests: bodies, bearer tokens, where a request comes from. Believes no forwarded header."""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.requests import HTTPConnection, Request

from whop_middleware.config import is_local_host


async def parameters(request: Request) -> dict[str, str]:
    """Return the texts in a body of JSON or a form, whichever it says it is; empty when it cannot be read."""
    body = await request.body()
    try:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            return _texts(json.loads(body))
        return unique(parse_qsl(body.decode(), keep_blank_values=True)) or {}
    except (ValueError, RecursionError):
        return {}


def _texts(value: object) -> dict[str, str]:
    return {k: v for k, v in value.items() if isinstance(v, str)} if isinstance(value, dict) else {}


def unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str] | None:
    """Return the parameters, `None` when one is repeated (RFC 6749 section 3.1 forbids it)."""
    pairs = list(pairs)
    found = dict(pairs)
    return found if len(found) == len(pairs) else None


def bearer(request: HTTPConnection) -> str:
    """Return the bearer token, empty without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def refusal(request: HTTPConnection) -> str | None:
    """Return why a request must not be answered at all, `None` for one from this machine's own browser or program.

    A name that a stranger made to point here (DNS rebinding) is not a local one; a page of another site can post
    here, but not without its own Origin.
    """
    host = request.headers.get("host", "")
    if request.client is not None and not is_local_host(_bracketed(request.client.host)):
        return "The sandbox answers only requests from this machine."
    if not is_local_host(host):
        return "The sandbox answers only to loopback names."
    return None


def is_foreign_post(request: Request) -> bool:
    """Return whether a page of another origin posted this; a program that sends neither header is no page."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site != "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and origin.lower() != f"{request.url.scheme}://{request.headers.get('host', '')}".lower()


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address

"""Both generations of Whop's API, set up to be asked, and answers made up for them. No server, no client."""

from __future__ import annotations

import json
from dataclasses import dataclass

import httpx
import pytest

from whop_middleware.whop import Dialect, Token, dialect

WHOP, API = "https://whop.com", "https://api.whop.com"
SECRET, CODE, ACCESS_TOKEN = "s3cr3t-of-the-app", "c0de-of-the-user", "t0ken-of-the-user"
NOW = 1_800_000_000.0
TOKEN = Token(ACCESS_TOKEN)
USER = {"id": "user_1", "username": None, "name": None, "email": None, "profile_pic_url": None}


@dataclass(frozen=True)
class Settings:
    protocol: str
    client_id: str
    client_secret: str | None = SECRET
    whop_url: str = WHOP
    api_url: str = API


V5 = dialect(Settings("v5", "client_1"))
CURRENT = dialect(Settings("oauth21", "app_1"))
both_dialects = pytest.mark.parametrize("speech", [V5, CURRENT], ids=["v5", "oauth21"])


def short(value: object) -> str:
    """Name a case alike in every process: xdist's workers must agree on what they collect."""
    if isinstance(value, type):
        return value.__name__
    return repr(value[:20] if isinstance(value, bytes | str) else value)[:30]


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return httpx.Response(status, content=content, headers=headers)


def user_of(
    speech: Dialect, response: httpx.Response, token: Token = TOKEN, nonce: str | None = "n"
) -> dict[str, str | None]:
    return speech.parse_user(response, token, nonce=nonce, now=NOW)

"""A sandbox with an app of each kind, a client of it in process, and what its API is asked. Opens no socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import anyio
import httpx

from whop_middleware.sandbox import Sandbox
from whop_middleware.whop import code_challenge

from .conftest import Clock

CALLBACK = "http://localhost:8000/callback/whop"
SECRET = "a-secret-of-the-sandbox"
VERIFIER = "v" * 43


class Visitor:
    """A client of the sandbox, in process; keeps cookies as a browser does, follows no redirect."""

    def __init__(self, sandbox: Sandbox, *, backend: str = "asyncio") -> None:
        self.sandbox = sandbox
        self.cookies = httpx.Cookies()
        self.backend = backend

    def send(self, request: httpx.Request) -> httpx.Response:
        return anyio.run(self._send, request, backend=self.backend)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        transport = httpx.ASGITransport(self.sandbox.app)
        async with httpx.AsyncClient(transport=transport) as client:
            response = await client.send(request)
        self.cookies.extract_cookies(response)
        return response

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = httpx.URL(self.sandbox.whop_url).join(path)
        return self.send(httpx.Request(method, url, cookies=self.cookies, **options))

    def get(self, path: str, bearer: str | None = None, **options: Any) -> httpx.Response:
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        return self.request("GET", path, headers=headers, **options)

    def post(self, path: str, **fields: str) -> httpx.Response:
        return self.request("POST", path, data=fields)


def make_sandbox(clock: Clock | None = None, **options: Any) -> Sandbox:
    """Return a sandbox with an app of each kind: v5, confidential and public OAuth 2.1."""
    sandbox = Sandbox(**options) if clock is None else Sandbox(clock=clock, **options)
    sandbox.add_app(
        client_id="client_1",
        client_secret=SECRET,
        redirect_uris=(CALLBACK, f"{CALLBACK}/other"),
        name="Club",
        api_key="key_1",
        experiences={"exp_chat": "prod_members"},
    )
    sandbox.add_app(client_id="app_1", client_secret=SECRET, redirect_uris=(CALLBACK,), name="New club")
    sandbox.add_app(client_id="app_public", redirect_uris=CALLBACK, products={"prod_app": "App"}, company_id="biz_2")
    return sandbox


def token_body(sandbox: Sandbox, who: str = "buyer", **fields: str) -> dict[str, str]:
    body = {
        "grant_type": "authorization_code",
        "client_id": "client_1",
        "client_secret": SECRET,
        "redirect_uri": CALLBACK,
    }
    return body | ({} if "code" in fields else {"code": sandbox.code(who, "client_1")}) | fields


def v5_token(visitor: Visitor, who: str = "buyer") -> str:
    token = visitor.request("POST", "/v5/oauth/token", json=token_body(visitor.sandbox, who)).json()["access_token"]
    assert isinstance(token, str)
    return token


def message(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["message"]


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


def memberships(visitor: Visitor, query: str = "", who: str = "buyer") -> Any:
    return visitor.get(f"/v5/me/memberships{query}", v5_token(visitor, who)).json()


def products(answer: Mapping[str, Any]) -> set[str]:
    return {row["product_id"] for row in answer["data"]}


def oauth_body(sandbox: Sandbox, client_id: str = "app_1", who: str = "buyer", **fields: str) -> dict[str, str]:
    code = {
        "code": sandbox.code(who, client_id, nonce="n-1", code_challenge=code_challenge(VERIFIER)),
        "code_verifier": VERIFIER,
    }
    secret = {} if client_id == "app_public" else {"client_secret": SECRET}
    body = {"grant_type": "authorization_code", "client_id": client_id, "redirect_uri": CALLBACK}
    return body | code | secret | fields


def oauth_tokens(visitor: Visitor, client_id: str = "app_1", who: str = "buyer") -> dict[str, Any]:
    response = visitor.request("POST", "/oauth/token", json=oauth_body(visitor.sandbox, client_id, who))
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


def access(visitor: Visitor, bearer: str, user: str, resource: str) -> httpx.Response:
    return visitor.get(f"/api/v1/users/{user}/access/{resource}", bearer)


def query_of(response: httpx.Response) -> dict[str, str]:
    """Return what a redirect carries."""
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()}


def be(visitor: Visitor, who: str, then: str = "/") -> httpx.Response:
    return visitor.post("/hub/person", person=visitor.sandbox.people[who].id, then=then)


def v5_url(**changes: str | None) -> str:
    asked: dict[str, str | None] = {
        "client_id": "client_1",
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "read_user",
        "state": "st&te=1",
    }
    return f"/oauth?{urlencode({name: value for name, value in (asked | changes).items() if value is not None})}"

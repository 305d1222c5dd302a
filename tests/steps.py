"""The core stepped by hand: requests and answers as values. No server, no mock, no event loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from whop_middleware.drive import advance
from whop_middleware.errors import SignInError
from whop_middleware.gate import Gate
from whop_middleware.messages import Flow, Forward, Once, Reply, Request, Together
from whop_middleware.testing import session_cookie
from whop_middleware.whop import endpoint

from .support import FETCH, NAVIGATION, Headers, make_config

HUB = (*NAVIGATION, ("Referer", "https://whop.com/"))
FORM = (*NAVIGATION, ("Content-Type", "application/x-www-form-urlencoded"))
HTMX = (("HX-Request", "true"), *FETCH)
WhopAnswer = httpx.Response | SignInError | Callable[[httpx.Request], httpx.Response]


def ok_token(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"access_token": "AT-1", "token_type": "bearer"})


def person(user_id: str = "user_1", **fields: Any) -> httpx.Response:
    return httpx.Response(200, json={"id": user_id, "username": "alice", "name": "Alice"} | fields)


@dataclass
class ScriptedWhop:
    """Answers each endpoint as `answers` says, and remembers what was asked."""

    answers: dict[str, WhopAnswer] = field(default_factory=lambda: {"token": ok_token, "user": person()})
    asked: list[str] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        name = endpoint(request)
        self.asked.append(name)
        self.requests.append(request)
        answer = self.answers[name]
        if isinstance(answer, SignInError):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)


def play(flow: Flow[Any], whop: ScriptedWhop) -> Any:
    """Step a flow to its end."""
    step = advance(flow)
    while not step.done:
        try:
            answer = _answer(step.ask, whop)
        except SignInError as error:
            step = advance(flow, error=error)
        else:
            step = advance(flow, answer)
    return step.result


def _answer(ask: Any, whop: ScriptedWhop) -> Any:
    if isinstance(ask, Once):
        return play(ask.flow, whop)
    if isinstance(ask, Together):
        return [play(flow, whop) for flow in ask.flows]
    return whop.answer(ask)


def make_request(
    target: str,
    headers: Headers = NAVIGATION,
    *,
    method: str = "GET",
    scheme: str = "https",
    host: str = "app.example",
    prefix: str = "",
    websocket: bool = False,
) -> Request:
    """Return a request; `target` is a decoded path below the prefix and a raw query."""
    path, _, query = target.partition("?")
    named = [("Host", host), *headers] if host else headers
    lower = tuple((name.lower(), value) for name, value in named)
    return Request(method, path, lower, prefix, query, scheme, websocket)


class Core:
    """A gate, a scripted Whop and one browser's cookies."""

    def __init__(self, **options: Any) -> None:
        self.gate = Gate(make_config(**options))
        self.whop = ScriptedWhop()
        self.cookies: dict[str, str] = {}

    def signed_in(self, id: str = "user_1", *, origin: str = "https://app.example", **fields: Any) -> Core:
        """Give the browser the cookie of somebody signed in."""
        self.cookies |= session_cookie(self.gate.config, origin=origin, id=id, **fields)
        return self

    def decide(self, target: str, headers: Headers = NAVIGATION, **surroundings: Any) -> Forward | Reply:
        """Send a request with the browser's cookies, and keep those that come back."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = (*headers, ("Cookie", cookie)) if cookie else headers
        decision: Forward | Reply = play(self.gate.handle(make_request(target, headers, **surroundings)), self.whop)
        for value in set_cookies(decision):
            name, _, rest = value.partition("=")
            self.cookies.pop(name, None)
            if "Max-Age=0" not in rest:
                self.cookies[name] = rest.partition(";")[0]
        return decision

    def reply(self, target: str, headers: Headers = NAVIGATION, **surroundings: Any) -> Reply:
        decision = self.decide(target, headers, **surroundings)
        assert isinstance(decision, Reply), decision
        return decision

    def forward(self, target: str, headers: Headers = NAVIGATION, **surroundings: Any) -> Forward:
        decision = self.decide(target, headers, **surroundings)
        assert isinstance(decision, Forward), decision
        return decision

    @property
    def has_session(self) -> bool:
        return any(name.endswith("whop_session") for name in self.cookies)


def set_cookies(decision: Forward | Reply) -> tuple[str, ...]:
    if isinstance(decision, Forward):
        return decision.set_cookies
    return tuple(value for name, value in decision.headers if name == "Set-Cookie")


def header(reply: Reply, name: str) -> str | None:
    values = [value for key, value in reply.headers if key.lower() == name.lower()]
    assert len(values) <= 1, values
    return values[0] if values else None


def location(reply: Reply) -> str:
    assert reply.status == 303, (reply.status, reply.body[-200:])
    return header(reply, "Location") or ""


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query, strict_parsing=True).items()}


def start(core: Core, target: str = "/reports", headers: Headers = NAVIGATION) -> str:
    """Start a sign-in and return its state."""
    return query(location(core.reply(f"/login/whop?next={target}", headers)))["state"]


def is_start(reply: Reply) -> bool:
    return reply.status == 303 and location(reply).startswith("https://whop.com/oauth?")


def problem(reply: Reply) -> dict[str, object]:
    assert header(reply, "Content-Type") == "application/problem+json"
    found: dict[str, object] = json.loads(reply.body)
    return found


def page(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, header(reply, "Content-Type")) == (status, "text/html; charset=utf-8")
    assert code in reply.body.decode()
    assert header(reply, "Referrer-Policy") == "no-referrer"
    assert header(reply, "Cache-Control") == "no-store"
    assert "href=" in reply.body.decode()

"""Answer nginx `auth_request`, Caddy `forward_auth`, Traefik `ForwardAuth`. Runs no app, and believes one front only.

    WHOP_FORWARD_AUTH=caddy uvicorn whop_middleware.forward_auth:app

`GET /auth` says whether the page may be shown that the front's own header names; login, callback and logout are served.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

from . import pages
from .asgi import Receive, Scope, Send, read_request, send_reply
from .config import WhopConfig
from .drive import Driver
from .errors import ConfigError
from .gate import Gate
from .identity import IDENTITY_HEADERS, identity_headers
from .lazy import build_on_access
from .messages import Forward, Reply, Request
from .reports import new_reference, report

app: ForwardAuth
"""The ASGI app. Raises `ConfigError` on first access when a setting is missing or wrong."""

AUTH_PATH = "/auth"
ANSWER_QUERY = "answer"
"""`GET /auth?answer` gives nginx the whole answer that `auth_request` throws away. It lets nobody in."""

_TARGET = re.compile(r"/[^\x00-\x20#\x7f]*")
_METHOD = re.compile(r"[A-Z]{1,32}")
_ENCODED_SLASH = re.compile(r"%2f", re.IGNORECASE)
_CHALLENGE = ("WWW-Authenticate", 'Cookie realm="whop"')


@dataclass(frozen=True, slots=True)
class Front:
    """The headers in which a front says what was asked for, lower-case."""

    name: str
    uri: str
    method: str


FRONTS = {
    "nginx": Front("nginx", "x-original-uri", "x-original-method"),
    "caddy": Front("caddy", "x-forwarded-uri", "x-forwarded-method"),
    "traefik": Front("traefik", "x-forwarded-uri", "x-forwarded-method"),
}


@dataclass(frozen=True, slots=True)
class AskedPage(Request):
    """The request that the front holds back; `asked` is its target, byte for byte."""

    asked: str = "/"

    @property
    def target(self) -> str:
        """Return the path and query asked for, as the browser sent them."""
        return self.asked


class BadQuestion(Exception):
    """The front's question cannot be answered; `status` is the HTTP status, the message says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def asked_page(request: Request, front: Front) -> AskedPage:
    """Return the page a front asks about. Raises `BadQuestion` unless its one header names one path of the site."""
    targets, methods = request.all_headers(front.uri), request.all_headers(front.method)
    if not targets:
        raise BadQuestion(500, f"{front.name} sent no {front.uri}: see docs/fronts for a configuration that does")
    target, method = targets[0], methods[0] if methods else "GET"
    if len(targets) > 1 or len(methods) > 1 or not (_TARGET.fullmatch(target) and _METHOD.fullmatch(method)):
        raise BadQuestion(400, "the address or method asked for cannot be read")
    raw_path, _, query = target.partition("?")
    return AskedPage(
        method=method,
        path=_decoded(raw_path),
        headers=request.headers,
        query=query,
        scheme=request.scheme,
        websocket=request.websocket,
        asked=target,
    )


def _decoded(raw_path: str) -> str:
    # Apps differ on whether "%2F" parts segments. U+FFFD makes the path odd: never public, and every rule applies.
    path = _ENCODED_SLASH.sub("%ff", raw_path)
    return unquote_to_bytes(path.encode("latin-1")).decode("utf-8", "replace")


class ForwardAuth:
    """Say for a front proxy who gets in: an ASGI app. `front` is "nginx", "caddy" or "traefik"."""

    def __init__(self, front: str, config: WhopConfig) -> None:
        if front not in FRONTS:
            raise ConfigError(f"WHOP_FORWARD_AUTH is {front!r}.\nSet WHOP_FORWARD_AUTH to nginx, caddy or traefik.")
        if config.origin is None:
            raise ConfigError(
                "redirect_uri is a path, and behind a front proxy nobody knows on which site.\n"
                f"Set WHOP_REDIRECT_URI to the full Callback URL: https://shop.example{config.redirect_path}"
            )
        self.front = FRONTS[front]
        self.config = config
        self._gate = Gate(config)
        self._driver = Driver(config.timeout)
        if AUTH_PATH in self._gate.site.endpoints(""):
            raise ConfigError(
                f"{AUTH_PATH} is where the front asks.\nSet WHOP_LOGIN_PATH, WHOP_LOGOUT_PATH and the path "
                "of WHOP_REDIRECT_URI to others."
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection (ASGI 3)."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] in ("http", "websocket"):
            await send_reply(await self._answer(read_request(scope)), scope, receive, send)
        else:
            raise RuntimeError(f"whop_middleware does not know the ASGI scope type {scope['type']!r}")

    async def _answer(self, request: Request) -> Reply:
        if request.path != AUTH_PATH:
            is_own = request.path in self._gate.site.endpoints(request.prefix)
            decision = await self._decide(request) if is_own else None
            return decision if isinstance(decision, Reply) else _refusal(404, "Only sign-in is served here.")
        if request.method != "GET":
            return pages.method_not_allowed("GET")
        return await self._auth(request)

    async def _decide(self, request: Request) -> Forward | Reply:
        return await self._driver.arun(self._gate.handle(request), self._gate.budget(request))

    async def _auth(self, request: Request) -> Reply:
        try:
            page = asked_page(request, self.front)
            if page.path in self._gate.site.endpoints(""):
                raise BadQuestion(500, f"{self.front.name} must pass {page.path} on to this service, not ask about it")
        except BadQuestion as question:
            return self._bad_question(question)
        decision = await self._decide(page)
        whole = self.front.name != "nginx" or request.query == ANSWER_QUERY
        if isinstance(decision, Reply):
            return decision if whole else self._for_nginx(page, decision)
        if decision.preflight:
            # Nothing here can keep the body of an answer back, and an app that ignores the method would send the page.
            return _refusal(403, "A preflight is not passed on: serve the front end and this site under one origin.")
        # Refused a moment ago, and not any more. A redirect could go round for ever, a 204 would look like success.
        return _refusal(503, "Load this again.") if request.query == ANSWER_QUERY else _let_in(decision)

    def _bad_question(self, question: BadQuestion) -> Reply:
        reference = new_reference()
        level = logging.ERROR if question.status >= 500 else logging.INFO
        report(level, "Nobody is let in: %s [%s]", question, reference, event="bad_question", reference=reference)
        # nginx makes a 500 of whatever is neither 401 nor 403, and a 500 is the owner's fault.
        status = 403 if question.status == 400 and self.front.name == "nginx" else question.status
        return _refusal(status, f"This address cannot be opened. Reference: {reference}")

    def _for_nginx(self, page: AskedPage, reply: Reply) -> Reply:
        """Say it in the statuses that `auth_request` knows; a redirect becomes `X-Whop-Redirect`."""
        location = next((value for name, value in reply.headers if name == "Location"), None)
        if location is None:
            return reply if reply.status in (401, 403) or reply.status >= 500 else replace(reply, status=500)
        kept = tuple(pair for pair in reply.headers if pair[0] != "Location")
        denied = self.config.denied_page
        if denied is not None and location == self._gate.site.page_location(page, denied):
            return Reply(403, (*kept, ("X-Whop-Redirect", location)))
        return Reply(401, (*kept, _CHALLENGE, ("X-Whop-Redirect", location)))


def _let_in(decision: Forward) -> Reply:
    # All four, also empty: Caddy 2.6 would pass on the name of a placeholder, and a front what the client sent.
    known = dict(identity_headers(decision.user))
    identity = tuple((name.title(), known.get(name, "")) for name in IDENTITY_HEADERS)
    cookies = tuple(("Set-Cookie", value) for value in decision.set_cookies)
    return pages.empty(headers=(*identity, *cookies))


def _refusal(status: int, text: str) -> Reply:
    headers = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))
    return Reply(status, headers, f"{text}\n".encode())


async def _live(receive: Receive, send: Send) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})


def from_environment() -> ForwardAuth:
    """Return the app that the environment describes. Raises `ConfigError` when a setting is missing or wrong."""
    front = os.environ.get("WHOP_FORWARD_AUTH", "").strip().lower()
    if not front:
        raise ConfigError(
            "Which proxy asks is not set, so no header can be believed.\n"
            "Set WHOP_FORWARD_AUTH to nginx, caddy or traefik."
        )
    return ForwardAuth(front, WhopConfig.from_env())


build_on_access(__name__, app=from_environment)

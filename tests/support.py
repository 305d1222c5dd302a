"""Both adapters behind one face, a browser for them, and a Whop that answers through respx. Opens no socket."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes, urlencode, urlsplit
from wsgiref.validate import validator

import anyio
import httpx
import respx

from whop_middleware import WhopConfig, WhopMiddleware, WhopUser, WhopWSGIMiddleware, current_user

SECRET = "client-secret-0123456789"
KEY = "0123456789abcdef0123456789abcdef"
ORIGIN = "https://app.example"
NAVIGATION = (
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Site", "none"),
    ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
)
FETCH = (("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty"), ("Accept", "application/json"))

Headers = Sequence[tuple[str, str]]


def make_config(**options: Any) -> WhopConfig:
    """Return a configuration on https://app.example; `options` win."""
    settings: dict[str, Any] = {
        "client_id": "client_1",
        "client_secret": SECRET,
        "secret_key": KEY,
        "redirect_uri": f"{ORIGIN}/callback/whop",
        "public": ("/health", "/static/*"),
    }
    return WhopConfig(**(settings | options))


@dataclass
class Answer:
    """What came back: `headers` as sent, names lower-case; `user` is what the app saw when it was called at all."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    called: bool = False
    user: WhopUser | None = None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name.lower()), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    @property
    def location(self) -> str:
        return self.header("location") or ""

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Seen:
    """What the app behind the middleware was given."""

    users: list[WhopUser | None] = field(default_factory=list)
    places: list[Any] = field(default_factory=list)


class AsgiSite:
    """The middleware around an app that answers with its user, spoken to in ASGI."""

    interface = "asgi"

    def __init__(
        self, config: WhopConfig, *, prefix: str = "", app: Any = None, headers: Headers = (), backend: str = "asyncio"
    ) -> None:
        self.prefix = prefix
        self.seen = Seen()
        self.app_headers = headers
        self.backend = backend
        self.middleware = WhopMiddleware(app or self._app, config=config)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.users.append(scope["whop_user"])
        self.seen.places.append(scope)
        body = json.dumps({"user": scope["whop_user"].id if scope["whop_user"] else None}).encode()
        headers = [(b"content-type", b"application/json")]
        headers += [(name.lower().encode(), value.encode()) for name, value in self.app_headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def request(
        self, method: str, target: str, headers: Headers = (), *, origin: str = ORIGIN, body: bytes = b""
    ) -> Answer:
        """Send one request; `target` lies below the prefix, percent-encoded as on the wire."""
        return anyio.run(self._request, method, target, headers, origin, body, backend=self.backend)

    async def _request(self, method: str, target: str, headers: Headers, origin: str, body: bytes) -> Answer:
        return await self.arequest(method, target, headers, origin=origin, body=body)

    def scope(self, method: str, target: str, headers: Headers, origin: str) -> dict[str, Any]:
        path, _, query = target.partition("?")
        raw = [(b"host", urlsplit(origin).netloc.encode())] if not any(n.lower() == "host" for n, _ in headers) else []
        raw += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": urlsplit(origin).scheme,
            "root_path": self.prefix,
            "path": self.prefix + unquote_to_bytes(path.encode("latin-1")).decode("utf-8", "replace"),
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "headers": raw,
            "server": ("127.0.0.1", 80),
        }

    async def arequest(
        self, method: str, target: str, headers: Headers = (), *, origin: str = ORIGIN, body: bytes = b""
    ) -> Answer:
        before = len(self.seen.users)
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.middleware(self.scope(method, target, headers, origin), receive, send)
        start = sent[0]
        names = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
        answer = Answer(start["status"], names, b"".join(message.get("body", b"") for message in sent[1:]))
        return _with_seen(answer, self.seen, before)


class WsgiSite:
    """The middleware around an app that answers with its user, spoken to in WSGI through `wsgiref.validate`."""

    interface = "wsgi"

    def __init__(self, config: WhopConfig, *, prefix: str = "", app: Any = None, headers: Headers = ()) -> None:
        self.prefix = prefix
        self.seen = Seen()
        self.app_headers = headers
        self.middleware = WhopWSGIMiddleware(app or self._app, config=config)
        self._validated = validator(self.middleware)

    def _app(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.seen.users.append(environ["whop_user"])
        self.seen.places.append(environ)
        user = current_user(environ)
        start_response("200 OK", [("Content-Type", "application/json"), *self.app_headers])
        return [json.dumps({"user": user.id if user else None}).encode()]

    def environ(self, method: str, target: str, headers: Headers, origin: str, body: bytes = b"") -> dict[str, Any]:
        path, _, query = target.partition("?")
        parts = urlsplit(origin)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": self.prefix,
            "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": parts.netloc,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": parts.scheme,
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        folded: dict[str, str] = {}
        for name, value in headers:
            key = f"HTTP_{name.upper().replace('-', '_')}"
            # Cookies come together again as RFC 9113 section 8.2.3 says.
            comma = "; " if key == "HTTP_COOKIE" else ","
            folded[key] = f"{folded[key]}{comma}{value}" if key in folded else value
        return environ | folded

    def request(
        self, method: str, target: str, headers: Headers = (), *, origin: str = ORIGIN, body: bytes = b""
    ) -> Answer:
        """Send one request; `target` lies below the prefix, percent-encoded as on the wire."""
        before = len(self.seen.users)
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
            started[:] = [int(status[:3]), [(name.lower(), value) for name, value in headers]]
            return lambda data: None

        environ = self.environ(method, target, headers, origin, body)
        known = method in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE") and environ["PATH_INFO"].startswith("/")
        # The validator itself objects to some requests that real servers pass on.
        strict = known and not any(key.startswith("HTTP_CONTENT") for key in environ)
        run: Any = self._validated if strict else self.middleware
        result = run(environ, start_response)
        try:
            content = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()
        return _with_seen(Answer(started[0], started[1], content), self.seen, before)


Site = AsgiSite | WsgiSite


def _with_seen(answer: Answer, seen: Seen, before: int) -> Answer:
    answer.called = len(seen.users) > before
    answer.user = seen.users[-1] if answer.called else None
    return answer


class Browser:
    """A browser of one person: keeps cookies, sends what browsers send, follows redirects on its own site."""

    def __init__(self, site: Site, *, origin: str = ORIGIN) -> None:
        self.site = site
        self.origin = origin
        self.cookies: dict[str, str] = {}

    def headers(self, headers: Headers) -> list[tuple[str, str]]:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return [*headers, *([("Cookie", cookie)] if cookie else [])]

    def send(self, method: str, target: str, headers: Headers = NAVIGATION, *, body: bytes = b"") -> Answer:
        """Send one request and keep its cookies; a `target` with the prefix or our origin may be given as it came."""
        target = target.removeprefix(self.origin).removeprefix(self.site.prefix) or "/"
        answer = self.site.request(method, target, self.headers(headers), origin=self.origin, body=body)
        for cookie in answer.all("set-cookie"):
            name, _, rest = cookie.partition("=")
            value, _, attributes = rest.partition(";")
            self.cookies.pop(name, None)
            if "max-age=0" not in attributes.lower():
                self.cookies[name] = value
        return answer

    def get(self, target: str, headers: Headers = NAVIGATION) -> Answer:
        return self.send("GET", target, headers)

    def fetch(self, target: str, method: str = "GET") -> Answer:
        return self.send(method, target, FETCH)

    def go(self, target: str, headers: Headers = NAVIGATION) -> Answer:
        """Load a page and follow redirects as long as they stay on this site."""
        answer = self.get(target, headers)
        for _ in range(20):
            if answer.status != 303 or not answer.location.startswith("/"):
                return answer
            answer = self.get(answer.location, headers)
        raise AssertionError("a redirect loop")

    def sign_in(self, whop: FakeWhop, target: str = "/", user_id: str = "user_1") -> Answer:
        """Ask for a page, sign in at Whop, and come back."""
        leaving = self.go(target)
        assert leaving.status == 303, leaving.body
        return self.go(whop.approve(leaving.location, user_id))

    def arrive_from_hub(self, whop: FakeWhop, user_id: str = "user_1", query: str = "") -> Answer:
        """Click the app in the Whop Hub."""
        headers = (*NAVIGATION, ("Referer", "https://whop.com/"))
        return self.get(f"/callback/whop?code={whop.code(user_id)}{query}", headers)


class FakeWhop:
    """Whop's endpoints behind respx; counts calls, and answers with `answers[endpoint]` where that is set."""

    def __init__(self, router: respx.MockRouter, api_url: str = "https://api.whop.com") -> None:
        self.router = router
        self.codes: dict[str, str] = {}
        self.people: dict[str, dict[str, Any]] = {}
        self.owned: dict[str, dict[str, str]] = {}
        self.calls: list[str] = []
        self.requests: list[httpx.Request] = []
        self.answers: dict[str, httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]] = {}
        self._last = 0
        router.route(url__startswith=api_url).mock(side_effect=self._answer)

    def count(self, endpoint: str) -> int:
        return self.calls.count(endpoint)

    def code(self, user_id: str = "user_1") -> str:
        """Mint a code for a person."""
        self._last += 1
        code = f"CODE-{self._last}-{user_id}"
        self.codes[code] = user_id
        return code

    def approve(self, authorize_url: str, user_id: str = "user_1") -> str:
        """Consent on Whop's page: return the callback address that Whop redirects to."""
        query = {key: values[0] for key, values in parse_qs(urlsplit(authorize_url).query).items()}
        back = {"code": self.code(user_id), "state": query["state"]}
        return f"{query['redirect_uri']}?{urlencode(back)}"

    def _answer(self, request: httpx.Request) -> httpx.Response:
        name = self._name(request.url.path)
        self.calls.append(name)
        self.requests.append(request)
        planned = self.answers.get(name)
        if isinstance(planned, Exception):
            raise planned
        if isinstance(planned, httpx.Response):
            return planned
        if planned is not None:
            return planned(request)
        found: httpx.Response = getattr(self, f"_{name}")(request)
        return found

    @staticmethod
    def _name(path: str) -> str:
        for part, name in (
            ("/token", "token"), ("/memberships", "memberships"), ("/experiences/", "experiences"),
            ("/access/", "access"), ("/userinfo", "userinfo"),
        ):  # fmt: skip
            if part in path:
                return name
        return "me"

    def _token(self, request: httpx.Request) -> httpx.Response:
        user_id = self.codes.pop(json.loads(request.content)["code"], None)
        if user_id is None:
            return httpx.Response(400, json={"error": "invalid_grant"})
        return httpx.Response(200, json={"access_token": f"AT-{user_id}", "token_type": "bearer"})

    def _person(self, request: httpx.Request) -> dict[str, Any]:
        user_id = request.headers["authorization"].removeprefix("Bearer AT-")
        return self.people.get(user_id, {"id": user_id, "username": "alice", "name": "Alice", "email": "a@example.com"})

    def _me(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=self._person(request))

    def _userinfo(self, request: httpx.Request) -> httpx.Response:
        person = self._person(request)
        claims = {"sub": person["id"], "preferred_username": person.get("username"), "name": person.get("name")}
        return httpx.Response(200, json=claims)

    def _memberships(self, request: httpx.Request) -> httpx.Response:
        user_id = request.headers["authorization"].removeprefix("Bearer AT-")
        owned = self.owned.get(user_id, {})
        data = [{"id": f"mem_{key}", "product_id": key, "valid": True, "status": "active"} for key in owned]
        pagination = {"current_page": 1, "total_pages": 1, "next_page": None}
        return httpx.Response(200, json={"pagination": pagination, "data": data})

    def _experiences(self, request: httpx.Request) -> httpx.Response:
        user_id = request.headers["authorization"].removeprefix("Bearer AT-")
        owned = request.url.path.rpartition("/")[2] in self.owned.get(user_id, {})
        return httpx.Response(200 if owned else 404, json={})

    def _access(self, request: httpx.Request) -> httpx.Response:
        *_, user_id, _, resource = request.url.path.split("/")
        level = self.owned.get(user_id, {}).get(resource)
        return httpx.Response(200, json={"has_access": level is not None, "access_level": level or "no_access"})

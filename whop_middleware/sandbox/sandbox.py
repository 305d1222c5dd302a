"""The stand-in for Whop's servers as one object. Knows no real secret, and answers this machine only."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from .authorize import Authorize
from .faults import Call, ConnectionCut, Endpoint, Fault, Faults, RateLimit, endpoint_of, failure, too_many
from .grants import Grant
from .hub import Hub
from .oauth21 import OAuth21
from .people import App, Membership, People, Product
from .requests import refusal
from .server import listen, running
from .v5 import V5
from .world import Who, World

_KEPT_CALLS = 100_000  # enough for any test; a demo left running must not grow for ever
_POLL = 0.1  # seconds between looks at whether a slow answer still has anyone to wait for it


class Sandbox:
    """A faithful stand-in for whop.com and api.whop.com, both on one origin; itself an ASGI app.

    `rate_limit=False` lifts Whop's limits. `clock` gives Unix seconds, so that a test can let codes expire.
    """

    def __init__(self, *, rate_limit: bool = True, clock: Callable[[], float] = time.time) -> None:
        self._world = World(clock)
        self._faults = Faults()
        self._limits_on = rate_limit
        self._v5_limit = RateLimit(20, 10, 60, clock)
        self._access_limit = RateLimit(600, 60, 0, clock)
        self._is_stopping = False
        self.calls: deque[Call] = deque(maxlen=_KEPT_CALLS)
        world = self._world
        hub = Hub(world, self._faults, self._v5_limit, lambda: Counter(call.endpoint for call in list(self.calls)))
        parts: tuple[Authorize | Hub | OAuth21 | V5, ...] = (hub, Authorize(world), V5(world), OAuth21(world))
        self._starlette = Starlette(routes=[route for part in parts for route in part.routes()])
        self._starlette.router.redirect_slashes = False

    @property
    def app(self) -> Sandbox:
        """Return the ASGI app."""
        return self

    @property
    def whop_url(self) -> str:
        """Return the value for `WhopConfig.whop_url`: the served origin, or one that works in process."""
        return self._world.base_url

    @property
    def api_url(self) -> str:
        """Return the value for `WhopConfig.api_url`, also the issuer of ID tokens; the same origin as `whop_url`."""
        return self._world.base_url

    @property
    def people(self) -> People:
        """Return the people by key ("buyer", "owner", "stranger", "no_email", "long_name", "former") or user id."""
        return self._world.people

    def add_app(
        self,
        *,
        client_id: str,
        client_secret: str | None = None,
        redirect_uris: Iterable[str] | str,
        name: str = "My app",
        products: Mapping[str, str] | Iterable[tuple[str, str]] = (("prod_members", "Members"), ("prod_vip", "VIP")),
        company_id: str = "biz_sandbox",
        api_key: str | None = None,
        experiences: Mapping[str, str] | None = None,
        may_exchange: bool = True,
    ) -> App:
        """Register an app and its products (id and name); the default buyers buy the first one, if it is new.

        The Hub sends people to the first of `redirect_uris`. `experiences` maps ids to product ids.
        `may_exchange=False` is a secret without the permission `oauth:token_exchange`. Raises `ConfigError`.
        """
        app = App(
            client_id=client_id,
            client_secret=client_secret,
            redirect_uris=(redirect_uris,) if isinstance(redirect_uris, str) else tuple(redirect_uris),
            name=name,
            products=tuple(Product(product_id, title, company_id) for product_id, title in dict(products).items()),
            company_id=company_id,
            api_key=api_key,
            may_exchange=may_exchange,
        )
        self._world.register(app, dict(experiences or {}))
        return app

    # --- Purchases; `who` is a person, their key or their user id, an unknown one raises `LookupError` ---

    def buy(self, who: Who, product_id: str, *, status: str = "active", valid: bool = True) -> Membership:
        """Give someone a membership; `status="completed"` is a one-time purchase."""
        return self._world.buy(who, product_id, status=status, valid=valid)

    def cancel(self, who: Who, product_id: str) -> None:
        """Cancel someone's memberships of a product, at once."""
        self._world.end(who, product_id, "canceled")

    def expire(self, who: Who, product_id: str) -> None:
        """Let someone's memberships of a product expire."""
        self._world.end(who, product_id, "expired")

    def own(self, who: Who, resource_id: str, *, is_owner: bool = True) -> None:
        """Put someone on (or off) the team of the company behind a product, an experience or a company id."""
        company_id = self._world.company_of(resource_id)
        if company_id is None:
            raise LookupError(resource_id)
        change = self._world.team.add if is_owner else self._world.team.discard
        change((self._world.person(who).id, company_id))

    def code(
        self,
        who: Who,
        client_id: str,
        *,
        redirect_uri: str | None = None,
        scope: str | None = None,
        nonce: str | None = None,
        code_challenge: str | None = None,
    ) -> str:
        """Return a code as the authorize page or the Hub would give it. Raises `LookupError`."""
        app = self._world.apps[client_id]
        grant = Grant(
            user_id=self._world.person(who).id,
            client_id=client_id,
            redirect_uri=app.redirect_uris[0] if redirect_uri is None else redirect_uri,
            scope=scope or ("read_user" if app.dialect == "v5" else "openid profile email"),
            dialect=app.dialect,
            nonce=nonce,
            code_challenge=code_challenge,
        )
        return self._world.grants.new_code(grant)

    # --- Faults and calls ---

    def set_fault(
        self, endpoint: str, kind: str | None, *, seconds: float | None = None, times: int | None = None
    ) -> None:
        """Break an endpoint, or "all" that an app's server calls (so not "authorize"); `None` mends it.

        Endpoints: authorize, token, user, memberships, experiences, access, revoke, discovery. Kinds: "slow" (by
        `seconds`, 10), "5xx", "429" (`Retry-After` of `seconds`, 60), "cut", "nonsense". `times`: only the next ones.
        """
        self._faults.set(endpoint, kind, seconds=seconds, times=times)

    def clear_faults(self) -> None:
        """Let everything work again."""
        self._faults.clear()

    def count(self, endpoint: str) -> int:
        """Return how often an endpoint was called, faults and refusals included."""
        return sum(call.endpoint == endpoint for call in list(self.calls))

    # --- Serving ---

    @contextmanager
    def serve(self, *, port: int = 0, host: str = "127.0.0.1") -> Iterator[str]:
        """Serve on a loopback socket in a thread, and give the URL. Raises `ConfigError` for any other host."""
        listener = listen(host, port)
        before, name = self._world.base_url, f"[{host.strip('[]')}]" if ":" in host else host
        self._world.base_url, self._is_stopping = f"http://{name}:{listener.getsockname()[1]}", False
        try:
            with running(self, listener):
                try:
                    yield self._world.base_url
                finally:
                    self._is_stopping = True
        finally:
            self._world.base_url = before

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._starlette(scope, receive, send)
            return
        reason = refusal(HTTPConnection(scope))
        endpoint = endpoint_of(scope["path"])
        if reason is not None:
            await PlainTextResponse(reason, 403)(scope, receive, send)
        else:
            # Giving up on a slow answer, before the body was read, is the client's right and no accident here.
            with suppress(ClientDisconnect):
                await self._answer(endpoint, scope, receive, send)

    async def _answer(self, endpoint: Endpoint | None, scope: Scope, receive: Receive, send: Send) -> None:
        if endpoint is None:
            await self._starlette(scope, receive, send)
            return
        self.calls.append(Call(endpoint.name, scope["method"], endpoint.dialect))
        limit = self._limit(endpoint)
        if limit is not None and not limit.admit():
            await too_many(endpoint.dialect, limit.wait())(scope, receive, send)
            return
        fault = self._faults.take(endpoint.name)
        if fault is not None:
            response = failure(fault, endpoint.dialect)
            if response is not None:
                await response(scope, receive, send)
                return
            await self._trouble(fault, Request(scope, receive), send)
        await self._starlette(scope, receive, send)

    def _limit(self, endpoint: Endpoint) -> RateLimit | None:
        if not self._limits_on or endpoint.name == "authorize":
            return None
        if endpoint.name == "access":
            return self._access_limit
        return self._v5_limit if endpoint.dialect == "v5" else None

    async def _trouble(self, fault: Fault, request: Request, send: Send) -> None:
        if fault.kind == "cut":
            # Closing with unread bytes resets the connection, and a reset may overtake what was sent.
            await request.body()
            headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"id": "us', "more_body": True})
            raise ConnectionCut("the sandbox cut the connection on purpose")
        rest = fault.seconds
        while rest > 0 and not self._is_stopping:
            await anyio.sleep(min(rest, _POLL))
            rest -= _POLL

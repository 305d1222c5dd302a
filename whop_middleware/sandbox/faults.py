"""What can go wrong at the sandbox on purpose, and its rate limits. Touches Whop's endpoints only, never the Hub."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import httpx
from starlette.responses import HTMLResponse, JSONResponse, Response

KINDS = ("slow", "5xx", "429", "cut", "nonsense")
_SYNONYMS = {"500": "5xx", "502": "5xx", "503": "5xx"}
_SECONDS = {"slow": 10.0, "429": 60.0}  # slow: twice the middleware's default timeout; 429: Whop's lock-out


class Endpoint(NamedTuple):
    """One of Whop's endpoints: its name is the same in both generations."""

    name: str
    dialect: str


class Call(NamedTuple):
    """One request that reached an endpoint; holds no code and no token."""

    endpoint: str
    method: str
    dialect: str


_ENDPOINTS = (
    (re.compile(r"/oauth/?"), Endpoint("authorize", "v5")),
    (re.compile(r"(/v5|/api)/oauth/token"), Endpoint("token", "v5")),
    (re.compile(r"(/api)?/v5/me"), Endpoint("user", "v5")),
    (re.compile(r"(/api)?/v5/me/memberships"), Endpoint("memberships", "v5")),
    (re.compile(r"(/api)?/v5/me/experiences/[^/]+"), Endpoint("experiences", "v5")),
    (re.compile(r"/oauth/authorize"), Endpoint("authorize", "oauth21")),
    (re.compile(r"/oauth/token"), Endpoint("token", "oauth21")),
    (re.compile(r"/oauth/userinfo"), Endpoint("user", "oauth21")),
    (re.compile(r"/oauth/revoke"), Endpoint("revoke", "oauth21")),
    (re.compile(r"/api/v1/users/[^/]+/access/[^/]+"), Endpoint("access", "oauth21")),
    (re.compile(r"/\.well-known/[a-z.-]+"), Endpoint("discovery", "oauth21")),
)

# In the order of a sign-in. "all" stands for every one that an app's server calls, so for all but the authorize page.
NAMES = tuple(dict.fromkeys(endpoint.name for _, endpoint in _ENDPOINTS))


def endpoint_of(path: str) -> Endpoint | None:
    """Return the endpoint that a path is, `None` for the Hub and its like."""
    return next((endpoint for pattern, endpoint in _ENDPOINTS if pattern.fullmatch(path)), None)


@dataclass(slots=True)
class Fault:
    """What is wrong with an endpoint; `times` counts down, `None` is for good."""

    kind: str
    seconds: float
    times: int | None


class Faults:
    """The switches."""

    def __init__(self) -> None:
        self._set: dict[str, Fault] = {}

    def set(self, endpoint: str, kind: str | None, *, seconds: float | None = None, times: int | None = None) -> None:
        """Set or (with `None`) clear a fault. Raises `ValueError` for an unknown endpoint or kind."""
        if endpoint not in ("all", *NAMES):
            raise ValueError(f"{endpoint!r} is no endpoint: all, {', '.join(NAMES)}")
        if kind is None:
            self._set.pop(endpoint, None)
            return
        kind = _SYNONYMS.get(kind, kind)
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of fault: {', '.join(KINDS)}")
        self._set[endpoint] = Fault(kind, _SECONDS.get(kind, 0.0) if seconds is None else seconds, times)

    def clear(self) -> None:
        """Let everything work again."""
        self._set.clear()

    def kind(self, endpoint: str) -> str | None:
        """Return the kind set for exactly this endpoint (or "all"), as the Hub shows it."""
        fault = self._set.get(endpoint)
        return fault.kind if fault else None

    def take(self, endpoint: str) -> Fault | None:
        """Return what goes wrong with a request that is here now; an endpoint's own fault wins over "all"."""
        for name in (endpoint, "all") if endpoint != "authorize" else (endpoint,):
            fault = self._set.get(name)
            if fault is None:
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._set.pop(name, None)
            return fault
        return None


class ConnectionCut(httpx.RemoteProtocolError):
    """The connection ends in the middle of an answer; in process a client sees the very error a socket would give."""


class RateLimit:
    """At most `requests` in `window` seconds; who asks for more is locked out for `lock_out` seconds."""

    def __init__(self, requests: int, window: float, lock_out: float, clock: Callable[[], float]) -> None:
        self._requests, self._window, self._lock_out, self._clock = requests, window, lock_out, clock
        self._seen: deque[float] = deque()
        self._locked_until = 0.0

    def admit(self) -> bool:
        """Count a request; return whether it may pass."""
        if self.wait() > 0:
            return False
        now = self._clock()
        while self._seen and self._seen[0] <= now - self._window:
            self._seen.popleft()
        if len(self._seen) >= self._requests:
            self._locked_until = now + (self._lock_out or self._seen[0] + self._window - now)
            return False
        self._seen.append(now)
        return True

    def wait(self) -> float:
        """Return how many seconds the lock-out still lasts."""
        return max(0.0, self._locked_until - self._clock())


def too_many(dialect: str, wait: float) -> Response:
    """Return the 429 of a generation; only the current one says when to come back."""
    if dialect == "v5":
        return JSONResponse({"message": "You are being rate limited"}, 429)
    body = {"error": "rate_limit_exceeded", "error_description": "You are being rate limited"}
    return JSONResponse(body, 429, {"Retry-After": str(max(1, round(wait)))})


def failure(fault: Fault, dialect: str) -> Response | None:
    """Return the answer of a fault, `None` for one that is no answer ("slow", "cut")."""
    if fault.kind == "5xx":
        return HTMLResponse("<html><head><title>500</title></head><body>Internal Server Error</body></html>", 500)
    if fault.kind == "429":
        return too_many(dialect, fault.seconds)
    if fault.kind == "nonsense":
        return Response('<!doctype html><title>Just a moment…</title><p>{"id": [', 200, media_type="application/json")
    return None

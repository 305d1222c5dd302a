"""One call to Whop inside a flow: holds back after "not now", tries again where that is safe. Performs no I/O."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, TypeVar

from .errors import SignInError, WhopUnreachable
from .messages import Flow
from .signing import CLOCK_SKEW, now
from .whop import endpoint

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

PAUSE = 60
"""Seconds an endpoint is left alone after a failed recheck; also Whop's own lock-out after a 429."""
_LONGEST_PAUSE = 3600


class Upstream:
    """Whop as seen by one process: one not-before time per endpoint."""

    def __init__(self) -> None:
        self._pauses: dict[str, tuple[float, float]] = {}

    def pause(self, name: str, seconds: float = PAUSE) -> None:
        """Send nothing to an endpoint for a while; a shorter pause never ends a longer one."""
        at = now()
        self._pauses[name] = (at, at + max(min(seconds, _LONGEST_PAUSE), self.paused(name)))

    def paused(self, name: str) -> float:
        """Return for how many more seconds nothing may be sent to an endpoint; 0 when it may be asked."""
        at, (since, until) = now(), self._pauses.get(name, (0, 0))
        # A clock that steps back must not make an hour of a minute.
        return until - at if since - CLOCK_SKEW <= at < until else 0

    def rests(self) -> bool:
        """Return whether anything may not be asked at present: a sign-in would fail on the way."""
        return any(self.paused(name) for name in tuple(self._pauses))

    def call(
        self, request: httpx.Request, parse: Callable[[httpx.Response], T], *, idempotent: bool = False
    ) -> Flow[T]:
        """Send a request and parse the answer; an idempotent one is tried once more after a transport error or 5xx."""
        name = endpoint(request)
        attempts = 2 if idempotent else 1
        while True:
            if wait := self.paused(name):
                raise WhopUnreachable(f"Whop asked to be left alone ({name})", retry_after=ceil(wait))
            attempts -= 1
            limited = False
            try:
                response = yield request
                limited = response.status_code == 429
                return parse(response)
            except SignInError as error:
                error.endpoint = name
                if not isinstance(error, WhopUnreachable):
                    raise
                if limited:
                    self.pause(name, error.retry_after)
                if limited or not attempts or error.tried_again:
                    raise

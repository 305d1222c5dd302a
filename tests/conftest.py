"""Fixtures that every test may use. A `site` runs a test on ASGI and on WSGI, at the root and below a prefix."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
import respx

from .support import ORIGIN, AsgiSite, Browser, FakeWhop, Site, WsgiSite, make_config


class MakeSite(Protocol):
    """Builds a site from settings."""

    def __call__(self, *, app: Any = None, headers: Any = (), **options: Any) -> Site: ...


class Clock:
    """The time as the package sees it; a test moves it on."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def tick(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(float(int(time.time())))
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture
def whop() -> Iterator[FakeWhop]:
    with respx.mock(assert_all_called=False) as router:
        yield FakeWhop(router)


@pytest.fixture(params=["asgi", "wsgi", "asgi-prefix", "wsgi-prefix"])
def make_site(request: pytest.FixtureRequest) -> MakeSite:
    interface, _, mounted = request.param.partition("-")
    prefix = "/shop" if mounted else ""

    def make(*, app: Any = None, headers: Any = (), **options: Any) -> Site:
        config = make_config(**{"redirect_uri": f"{ORIGIN}{prefix}/callback/whop"} | options)
        kind = AsgiSite if interface == "asgi" else WsgiSite
        return kind(config, prefix=prefix, app=app, headers=headers)

    return make


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site)

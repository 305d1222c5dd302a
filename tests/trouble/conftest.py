"""Somebody who arrives from the Hub while Whop misbehaves, and what must hold of the outcome. Loopback only."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.faults import FaultServer, fault_server
from tests.processes import ROOT
from tests.support import NAVIGATION, SECRET, Answer, AsgiSite, Browser, Site, WsgiSite, make_config
from whop_middleware.testing import session_cookie

CORPUS = json.loads((ROOT / "tests" / "corpora" / "upstream.json").read_text())["entries"]
TIMEOUT = 0.3
CODE = "CODE-0123456789"
HUB = (*NAVIGATION, ("Referer", "https://whop.com/"))
SITES = {"asgi": AsgiSite, "wsgi": WsgiSite}
CODES = ("code_refused", "credentials_refused", "bad_whop_answer", "whop_unreachable")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as server:
        yield server


@pytest.fixture(params=["asgi", "wsgi"])
def make_site(request: pytest.FixtureRequest) -> Callable[..., Site]:
    def make(api_url: str, **options: Any) -> Site:
        site: Site = SITES[request.param](make_config(**{"api_url": api_url, "timeout": TIMEOUT} | options))
        return site

    return make


def arrive(site: Site, *, signed_in: bool = False) -> tuple[Answer, Browser]:
    """Come from the Hub with a code, and return what came back within four timeouts and a second."""
    browser = Browser(site)
    if signed_in:
        browser.cookies |= session_cookie(site.middleware.config, id="user_1")
    began = time.monotonic()
    answer = browser.get(f"/callback/whop?code={CODE}", HUB)
    assert time.monotonic() - began < 4 * site.middleware.config.timeout + 1
    return answer, browser


def has_session(browser: Browser) -> bool:
    return "__Host-whop_session" in browser.cookies


def assert_failed(answer: Answer, browser: Browser, *statuses: int) -> None:
    assert answer.status in statuses, (answer.status, answer.text)
    assert not has_session(browser)
    assert any(code in answer.text for code in CODES)
    assert answer.header("cache-control") == "no-store"
    for secret in ("Traceback", "evil", SECRET, CODE, "AT-fault", "bad</html>", "gateway timeout", "Some Words"):
        assert secret not in answer.text
    if answer.status == 503:
        assert re.fullmatch(r"\d{1,4}", answer.header("retry-after") or "")
        assert int(answer.header("retry-after") or "") <= 3600


def assert_in(answer: Answer, browser: Browser) -> None:
    assert (answer.status, answer.location) == (303, "/"), answer.text
    assert has_session(browser)
    cookies = answer.all("set-cookie")
    assert len([cookie for cookie in cookies if cookie.startswith("__Host-whop_session=")]) == 1
    assert all(cookie.startswith("__Host-whop_session") and cookie.isascii() for cookie in cookies)
    assert max(map(len, cookies)) < 4096


def assert_log_is_clean(caplog: pytest.LogCaptureFixture) -> None:
    text = "\n".join(f"{record.getMessage()}\n{record.exc_text or ''}" for record in caplog.records)
    for secret in (SECRET, CODE, "AT-fault", "Bearer A", '"AT"'):
        assert secret not in text
    for record in caplog.records:
        if getattr(record, "whop_event", None) == "failure":
            assert {"whop_code", "whop_duration", "whop_reference"} <= set(vars(record))


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    ends = time.monotonic() + 3
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < ends:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= before


def check(site: Site, expect: str, caplog: pytest.LogCaptureFixture) -> None:
    """Assert the outcome for somebody new, and that somebody signed in stays so."""
    caplog.set_level(logging.INFO, "whop_middleware")
    answer, browser = arrive(site)
    if expect == "login_ok" or (expect == "login_ok_or_failed" and answer.status == 303):
        assert_in(answer, browser)
    elif expect == "upstream_busy":
        assert_failed(answer, browser, 503)
    elif expect == "upstream_down":
        assert_failed(answer, browser, 502, 503)
    else:
        assert_failed(answer, browser, 400, 502)
    answer, browser = arrive(site, signed_in=True)
    assert answer.status == 303
    assert has_session(browser)
    assert Browser.get(browser, "/page").user is not None
    assert_log_is_clean(caplog)


FAULTS = {entry["response"]["fault"]: entry for entry in CORPUS if "fault" in entry["response"]}

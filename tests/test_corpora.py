"""Attacks on the callback, on the way back and on the list of public paths: every case, on both adapters, alike."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import pytest

from whop_middleware.testing import session_cookie

from .conftest import Clock
from .corpus import Entry, assert_alike, both, entries, expand, name_of
from .steps import Core
from .steps import start as start_by_hand
from .support import ORIGIN, SECRET, Answer, Browser, FakeWhop, Site

NAME = "__Host-whop_session"
ISSUER = "https://api.whop.com"

# Where the design decides otherwise than a case expects: what happens instead, and where the design says so.
CALLBACKS_BY_DESIGN = {
    # Section 5: a stale, foreign, used or broken state never ends on an error the first time: nobody signed in starts
    # over by himself, somebody signed in goes back. No code is exchanged either way.
    "cb-081": "back", "cb-083": "restart", "cb-086": "restart", "cb-087": "restart", "cb-088": "restart",
    "cb-089": "restart",
    # Section 5: `%` is printable, so Whop is asked about it, as one value.
    "cb-040": "login_failed_or_400",
    # Section 5: `temporarily_unavailable` is a 503 page.
    "cb-070": "fault_503",
    # Section 4: the path is what the app receives, decoded once; WSGI knows no other.
    "cb-136": "login_ok", "cb-137": "login_ok",
    # Section 4: the callback path is `redirect_uri`'s less the prefix.
    "cb-157": "login_ok",
}  # fmt: skip
PATHS_BY_DESIGN = {
    "path-050": "gated",  # section 4: an empty inner segment is odd, and never public
    "path-070": "gated",  # section 4: so is a `.` segment
    "path-112": "public",  # section 3: all that starts with `/public/`
}


@pytest.fixture(autouse=True)
def all_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


# Callbacks


class Visit:
    """One case on one adapter: the browser as the case wants it, and what went on at Whop."""

    def __init__(self, entry: Entry, site: Site, whop: FakeWhop, clock: Clock) -> None:
        self.entry, self.site, self.whop, self.clock = entry, site, whop, clock
        self.browser = Browser(site)
        self.setup = entry["setup"]
        whop.codes |= {"GOOD": "user_1", "FIRST": "user_1", "ATTACKER": "user_2"}
        self.state = self._start()
        if self.setup.startswith("signed in"):
            self.browser.cookies |= session_cookie(site.middleware.config, id="user_1")
        if "already been used" in self.setup:
            self.browser.get(f"/callback/whop?code=FIRST&state={self.state}")
        whop.calls.clear()

    def _start(self) -> str:
        ahead = 3600 if "1 h ahead" in self.setup else 0
        self.clock.tick(ahead)
        leaving = self.browser.get("/login/whop?next=/page")
        self.clock.tick(-ahead)
        if self.setup.startswith(("fresh", "signed in", "token endpoint", "scope")):
            self.browser.cookies.clear()
        return parse_qs(urlsplit(leaving.location).query)["state"][0]

    @property
    def query(self) -> str:
        foreign = start_by_hand(Core(secret_key="another-key-0123456789"))
        replacements = {
            "$STATE_UPPER": self.state.upper(), "$STATE_PREFIX": self.state[:-8], "$STATE_B64PAD": f"{self.state}==",
            "$STATE_OTHER_DEPLOYMENT": foreign, "$STATE": self.state, "$ISSUER_ENC": quote(ISSUER, safe=""),
        }  # fmt: skip
        text = expand(self.entry.get("query", "")).removesuffix(" (used)")
        for name, value in replacements.items():
            text = text.replace(name, value)
        return text

    def send(self) -> Answer:
        path = expand(self.entry["raw_path"])
        headers = tuple(self.entry.get("headers", {}).items())
        body = (self.entry.get("body") or "").encode()
        return self.site.request(
            self.entry["method"], f"{path}?{self.query}", self.browser.headers(headers), origin=ORIGIN, body=body
        )


def is_session(answer: Answer) -> bool:
    return any(cookie.startswith(f"{NAME}=") and "Max-Age=0" not in cookie for cookie in answer.all("set-cookie"))


def check(expected: str, visit: Visit, answer: Answer) -> None:
    tokens, landing = visit.whop.count("token"), f"{visit.site.prefix}/"
    if expected in ("login_ok", "login_ok_unaffected"):
        assert (answer.status, is_session(answer), visit.whop.calls) == (303, True, ["token", "me"])
        assert answer.location in (landing, f"{visit.site.prefix}/page")
        return
    assert not is_session(answer)
    if expected == "login_failed_or_400":
        assert (answer.status, tokens <= 1) == (400, True)
        return
    assert tokens == 0
    statuses = {
        "reject_400": (400,), "reject_4xx": (400, 413, 414, 431), "denied": (303, 400, 401, 403), "method_405": (405,),
        "no_side_effect": (204, 303), "passthrough": (303,), "bounce_or_confirm": (303,), "restart": (303,),
        "back": (303,), "idempotent": (303,), "fault_503": (503,),
    }  # fmt: skip
    assert answer.status in statuses[expected]
    if expected in ("restart", "bounce_or_confirm"):
        assert answer.location.startswith("https://whop.com/oauth?")
    if expected == "passthrough":
        assert answer.location.startswith(f"{visit.site.prefix}/login/whop?next=")
    if expected in ("back", "idempotent") or (expected == "denied" and answer.status == 303):
        assert answer.location in (landing, "/page")
    if expected == "method_405":
        assert answer.header("allow") == "GET, HEAD"


def check_invariants(visit: Visit, answer: Answer, caplog: pytest.LogCaptureFixture, expected: str) -> None:
    assert answer.status < 500 or expected == "fault_503"
    assert "no-store" in (answer.header("cache-control") or "")
    if expected != "passthrough":
        assert answer.header("referrer-policy") == "no-referrer"
    values = [value for name, value in parse_qsl(visit.query) if len(value) > 5 and name != "error"]
    secret = [*values, "GOOD", "ATTACKER", "EVIL", "AT-user", SECRET, visit.state, *visit.browser.cookies.values()]
    elsewhere = "\n".join((answer.text, caplog.text, *(str(record.__dict__) for record in caplog.records)))
    assert [value for value in secret if value in elsewhere] == []
    assert len(visit.query) < 6 or visit.query not in answer.text
    if expected != "passthrough":
        assert not any(value in answer.location for value in secret)
    assert (
        answer.location.startswith(("/", "https://whop.com/oauth?", f"{ISSUER}/oauth/authorize?"))
        or not answer.location
    )


def options_of(entry: Entry) -> dict[str, Any]:
    if entry["group"] == "iss":
        return {"client_id": "app_1"}
    prefix = re.search(r"root_path='(.+)'", entry["setup"])
    if prefix is None:
        return {}
    path = "/callback/whop" if prefix[1] == "/callback" else f"{prefix[1]}/callback/whop"
    return {"prefix": prefix[1], "is_stripped": prefix[1] == "/app", "redirect_uri": f"{ORIGIN}{path}"}


@pytest.fixture
def quiet_client() -> Iterator[None]:
    """Look at our own log only: httpx has one of its own, without a code in it as that travels in the body."""
    loggers = [logging.getLogger(name) for name in ("httpx", "httpcore")]
    for logger in loggers:
        logger.disabled = True
    yield
    for logger in loggers:
        logger.disabled = False


@pytest.mark.parametrize("entry", entries("callbacks"), ids=name_of)
def test_callbacks(
    entry: Entry, whop: FakeWhop, clock: Clock, caplog: pytest.LogCaptureFixture, quiet_client: None
) -> None:
    if entry["id"] == "cb-157":
        entry = {**entry, "raw_path": "/whop"}
    expected = str(CALLBACKS_BY_DESIGN.get(entry["id"], entry["expect"]))
    answers = []
    for site in both(**options_of(entry)):
        visit = Visit(entry, site, whop, clock)
        if entry["id"] == "cb-094":  # for different pages: the tenth start for one within a minute is a 500 page
            for number in range(entry["times"]):
                last = visit.browser.get(f"/login/whop?next=/page/{number}")
            assert sum(map(len, visit.browser.headers(())[0])) < 4096
            answers.append(last)
            continue
        caplog.clear()
        tries = [visit.send() for _ in range(min(entry["times"], 2))]
        if expected == "at_most_one_login":
            assert sum(map(is_session, tries)) == 1
        else:
            check(expected, visit, tries[0])
        for answer in tries:
            check_invariants(visit, answer, caplog, expected)
        answers.append(tries[0])
    assert_alike(answers)


def test_an_encoded_injection_reaches_whop_as_one_value(whop: FakeWhop) -> None:
    for site in both():
        site.request("GET", "/callback/whop?code=GOOD%26grant_type%3Drefresh_token")
        assert b'"code":"GOOD&grant_type=refresh_token"' in whop.requests[-1].content.replace(b'": "', b'":"')


# Ways back


@pytest.mark.parametrize("entry", entries("redirects"), ids=name_of)
def test_redirects(entry: Entry, whop: FakeWhop) -> None:
    payload = expand(entry["payload"])
    spellings = {quote(payload, safe="", errors="surrogatepass")}
    if all("!" <= char <= "~" for char in payload):
        spellings.add(payload)
    for spelling in spellings:
        answers = []
        for site in both():
            browser = Browser(site)
            began = time.perf_counter()
            leaving = browser.get(f"/login/whop?next={spelling}")
            assert time.perf_counter() - began < 2
            assert leaving.location.startswith("https://whop.com/oauth?")
            answers.append(browser.send("GET", whop.approve(leaving.location)))
        landing = assert_alike(answers).location
        assert re.fullmatch(r"/(?![/\\])[\x21-\x7e]*", landing), landing
        assert not re.match(r"/[^?#]*(//|\\|/\.\.?(/|$))", landing)
        if entry["expect"] == "accept" and spelling != payload:
            assert landing == payload
        elif entry["expect"] == "reject":
            assert landing == "/"
        elif spelling != payload:
            assert landing in ("/", payload)


# Public paths


def decide(site: Site, entry: Entry) -> Answer:
    headers = tuple(entry.get("headers", {}).items())
    path, query = expand(entry.get("raw_path", "")), entry.get("query")
    # The validator outside has rules of its own for paths without a slash, which real servers pass on all the same.
    site.__dict__["_validated"] = site.middleware
    return site.request(entry.get("method", "GET"), f"{path}?{query}" if query else path, headers)


@pytest.mark.parametrize("entry", [e for e in entries("paths") if e.get("method") != "WEBSOCKET"], ids=name_of)
def test_paths(entry: Entry) -> None:
    expected = PATHS_BY_DESIGN.get(entry["id"], entry["expect"])
    answers = []
    for site in both(public=("/health", "/favicon.ico", "/public", "/public/*")):
        began = time.perf_counter()
        twice = [decide(site, entry) for _ in range(2)]
        assert time.perf_counter() - began < 2
        assert twice[0].called == twice[1].called
        answers.append(twice[0])
    answer = assert_alike(answers)
    if expected in ("public", "public_not_admin", "public_or_400"):
        assert answer.called
        assert answer.user is None
    else:
        assert expected in ("gated", "gated_or_400", "gated_or_4xx", "gated_or_public_literal")
        assert not answer.called
        assert answer.status in (303, 401)


def test_path_128_a_websocket_is_gated_too() -> None:
    (entry,) = (entry for entry in entries("paths") if entry.get("method") == "WEBSOCKET")
    core = Core(public=("/public/*",))
    assert core.reply(entry["raw_path"], (), websocket=True).status == 401

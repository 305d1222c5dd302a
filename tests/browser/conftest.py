"""Chromium, the demo as people start it, and visitors who notice what the browser notices. Reaches loopback only."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Playwright,
    Response,
    expect,
    sync_playwright,
)

from tests.processes import ROOT, wait_until

CHROMIUM = shutil.which("chromium", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/bin")
QUIET = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Should a page ask for anything else, it finds nothing there; `Visitor.strayed` tells.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)
PATIENCE = 30_000
"""Milliseconds for anything a browser does; a machine at its limit needs a few thousand."""
STOPS_WITHIN = 20
"""Seconds; open connections get two."""

expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True)
class Example:
    """What the demo says on the pages of an example, and what it sells there."""

    title: str
    product: str
    vip_product: str
    vip_page: str


EXAMPLES = {
    "starlette": Example("Tidewater", "prod_member", "prod_captain", "Captain\u2019s deck"),
    "flask": Example("Slow Loaf", "prod_course", "prod_masterclass", "Masterclass"),
}


class Place:
    """A Hub and an app, by their addresses. Cookies know no ports: each has a host name of its own."""

    def __init__(self, hub: str, app: str) -> None:
        self.hub = hub
        self.app = app


class Demo(Place):
    """A running demo, at the addresses it printed; `log` is all it wrote."""

    def __init__(self, app: str, dialect: str, process: subprocess.Popen[bytes], log: Path) -> None:
        addresses = dict(re.findall(r"(Whop Hub|The app) +(http://\S+)/\n", log.read_text()))
        super().__init__(addresses["Whop Hub"], addresses["The app"])
        self.example = EXAMPLES[app]
        self.dialect = dialect
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOPS_WITHIN)


@contextmanager
def running_demo(folder: Path, app: str, dialect: str, *options: str) -> Iterator[Demo]:
    """Run `python -m whop_middleware demo` in a clone until the block ends; Ctrl-C must end it well."""
    log = folder / f"{app}-{dialect}.log"
    command = [sys.executable, "-m", "whop_middleware", "demo", "--app", app, "--dialect", dialect, *options]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WHOP_")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output)
    try:
        wait_until(lambda: "Ctrl-C stops both." in log.read_text(), process, log)
        demo = Demo(app, dialect, process, log)
        yield demo
        if process.poll() is None:
            assert demo.interrupt() == 0, demo.log
        assert "\nStopped.\n" in demo.log
        assert "Traceback" not in demo.log, demo.log
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


class Visitor:
    """Someone with a browser of their own. `complaints` are the console's, `strayed` what was asked of strangers."""

    def __init__(self, context: BrowserContext, place: Place) -> None:
        context.set_default_timeout(PATIENCE)
        self.context = context
        self.place = place
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self._refused: set[str] = set()
        self.is_being_turned_away = False
        """A page that was still let in may open its WebSocket after the next check: the console tells of the 403."""
        context.on("request", lambda request: self.asked.append(request.url))
        context.on("response", self._note_refusal)
        context.on("console", self._listen)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("page", lambda page: page.on("websocket", lambda socket: self.asked.append(socket.url)))
        self.page = context.new_page()

    def _note_refusal(self, response: Response) -> None:
        if response.request.resource_type in ("document", "fetch") and response.status >= 400:
            self._refused.add(response.url)

    def _listen(self, message: ConsoleMessage) -> None:
        url = message.location.get("url", "")
        # The console repeats each refusal of a page or a fetch, and that of the icon which browsers ask for unasked.
        expected = url in self._refused or url.endswith("/favicon.ico")
        if self.is_being_turned_away and "Unexpected response code: 403" in message.text:
            return
        if message.type in ("error", "warning") and not (message.text.startswith("Failed to load") and expected):
            self.complaints.append(f"{message.text} ({url})")

    @property
    def strayed(self) -> list[str]:
        return [url for url in self.asked if urlsplit(url).hostname not in ("localhost", "127.0.0.1", None)]

    def has_arrived(self, page: Page, name: str = "Bea Buyer", path: str = "/members") -> None:
        """See that a page of the app is shown to someone, at its plain address."""
        expect(page).to_have_url(f"{self.place.app}{path}")
        expect(page.locator("#name")).to_have_text(name)

    def be(self, name: str) -> None:
        """Choose who to be, in the Hub."""
        self.page.goto(f"{self.place.hub}/")
        person = self.page.get_by_role("button", name=name)
        person.click()
        expect(person).to_have_attribute("aria-pressed", "true")

    def row(self, text: str) -> Locator:
        """Return the Hub's row about a product or an endpoint."""
        return self.page.get_by_role("listitem").filter(has_text=text)

    def change(self, row: str, button: str, *, pill: str) -> None:
        """Press a button beside a product in the Hub, and see what it says there."""
        self.page.goto(f"{self.place.hub}/")
        self.row(row).get_by_role("button", name=button).click()
        expect(self.row(row).locator(".pill")).to_have_text(pill)

    def break_whop(self, kind: str) -> None:
        """Let Whop's API fail, by the Hub's switch."""
        self.page.goto(f"{self.place.hub}/")
        switch = self.row("All of the API").get_by_role("button", name=kind)
        switch.click()
        expect(switch).to_have_attribute("aria-pressed", "true")

    def ask_for(self, path: str, name: str = "Bea Buyer") -> None:
        """Ask for a page in a browser that Whop does not know yet: say who it is, and agree."""
        self.page.goto(f"{self.place.app}{path}")
        self.page.get_by_role("button", name=name).click()
        self.agree()

    def agree(self) -> None:
        """Agree at Whop, unless this person did so before in another test: then the app comes at once."""
        allow = self.page.get_by_role("button", name="Allow")
        expect(allow.or_(self.page.locator("body:not(:has(.badge))"))).to_be_visible()
        if allow.is_visible():
            allow.click()

    def reload_until(self, done: Callable[[], bool]) -> None:
        """Reload the page until something has come about; each reload takes its time."""
        for _ in range(1000):
            self.page.reload()
            if done():
                return
        raise AssertionError(f"it never came about: {self.page.url}")


class Visit(Protocol):
    """Opens a browser of its own, as private as a new profile."""

    def __call__(self, place: Place, **options: Any) -> Visitor: ...


StartDemo: TypeAlias = Callable[[str, str], Demo]


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    # Its event loop runs until the end of the module: tests of other modules start loops of their own.
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
    yield browser
    browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    visitors: list[Visitor] = []

    def visit(place: Place, **options: Any) -> Visitor:
        visitors.append(Visitor(chromium.new_context(**options), place))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.context.close()
    assert [visitor.strayed for visitor in visitors] == [[]] * len(visitors)
    assert [visitor.complaints for visitor in visitors] == [[]] * len(visitors)


@pytest.fixture(scope="module")
def start_demo(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartDemo]:
    """Start each kind of demo once for the tests of a module, when the first of them asks for it.

    Whop's v5 shuts for a minute after 20 requests in 10 seconds, and so does the demo. A sign-in takes two: a module
    signs in at most ten times on one v5 demo, however fast the machine.
    """
    demos: dict[tuple[str, str], Demo] = {}
    with ExitStack() as stack:

        def start(app: str, dialect: str) -> Demo:
            if (app, dialect) not in demos:
                demo = running_demo(tmp_path_factory.mktemp("demo"), app, dialect, "--recheck-after", "1")
                demos[app, dialect] = stack.enter_context(demo)
            return demos[app, dialect]

        yield start


@pytest.fixture
def demo(request: pytest.FixtureRequest, start_demo: StartDemo) -> Demo:
    """The demo of the app and the dialect that the parameter names, such as "flask-v5"."""
    app, dialect = request.param.split("-")
    return start_demo(app, dialect)

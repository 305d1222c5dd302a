"""What visitors see in Chromium when Whop fails or cookies are blocked: a page that says so, and a way on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Playwright, expect

from .conftest import CHROMIUM, QUIET, Demo, Visit, Visitor

ON_BOTH = pytest.mark.parametrize("demo", ["starlette-v5", "flask-oauth21"], indirect=True)


@ON_BOTH
def test_blocked_cookies_end_on_a_page_that_names_them(demo: Demo, playwright: Playwright, tmp_path: Path) -> None:
    blocked = {"exceptions": {"cookies": {f"{demo.app},*": {"setting": 2}}}}
    (tmp_path / "Default").mkdir()
    (tmp_path / "Default" / "Preferences").write_text(json.dumps({"profile": {"content_settings": blocked}}))
    context = playwright.chromium.launch_persistent_context(tmp_path, executable_path=CHROMIUM, args=QUIET)
    try:
        buyer = Visitor(context, demo)
        buyer.ask_for("/members")
        expect(buyer.page.get_by_role("heading")).to_have_text("The sign-in could not be finished")
        expect(buyer.page.locator("main")).to_contain_text("cookies are blocked for this site")
        expect(buyer.page.get_by_text("state_invalid")).to_be_visible()
        expect(buyer.page.get_by_role("link", name="Try again")).to_have_attribute("href", "/login/whop?next=/members")
        assert context.cookies(demo.app) == []
    finally:
        context.close()
    assert (buyer.strayed, buyer.complaints) == ([], [])


@pytest.mark.parametrize(
    ("demo", "kind", "title", "code"),
    [
        ("starlette-v5", "500", "Whop cannot be reached right now", "whop_unreachable"),
        ("flask-oauth21", "Cut off", "Whop gave an unexpected answer", "bad_whop_answer"),
    ],
    indirect=["demo"],
)
def test_broken_whop_gives_newcomers_a_page_until_it_works_again(
    demo: Demo, visit: Visit, kind: str, title: str, code: str
) -> None:
    operator, newcomer = visit(demo), visit(demo)
    operator.break_whop(kind)
    newcomer.ask_for("/members")
    expect(newcomer.page.get_by_role("heading")).to_have_text(title)
    expect(newcomer.page.get_by_text(code)).to_be_visible()
    operator.break_whop("Works")
    newcomer.page.get_by_role("link", name="Try again").click()
    newcomer.has_arrived(newcomer.page)


@ON_BOTH
def test_whop_being_down_keeps_buyers_in_and_newcomers_out(demo: Demo, visit: Visit) -> None:
    # The last test of its demo: after a failed check the app leaves Whop's access checks alone for a minute.
    buyer, newcomer = visit(demo), visit(demo)
    buyer.ask_for("/members")
    buyer.has_arrived(buyer.page)
    newcomer.break_whop("500")
    buyer.reload_until(lambda: "Purchases cannot be rechecked" in demo.log)
    buyer.has_arrived(buyer.page)
    newcomer.ask_for("/members", "nora")
    expect(newcomer.page.get_by_role("heading")).to_have_text("Whop cannot be reached right now")
    expect(newcomer.page.locator("main")).to_contain_text("Try again in about a minute.")
    expect(newcomer.page.get_by_role("link", name="Try again")).to_be_visible()
    buyer.page.reload()
    buyer.has_arrived(buyer.page)

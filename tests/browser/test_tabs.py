"""Eight tabs of one browser that sign in at once: each comes back to its own page. One browser has no cookie yet."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from .conftest import Demo, Visit, Visitor

TABS = 8


def open_tabs(visitor: Visitor) -> list[Page]:
    """Open eight pages of the app at once, which only a script can."""
    visitor.page.goto(f"{visitor.place.app}/")
    with visitor.context.expect_event("page", lambda _page: len(visitor.context.pages) > TABS):
        visitor.page.evaluate(f"for (let tab = 0; tab < {TABS}; tab++) open(`members?tab=${{tab}}`)")
    return visitor.context.pages[1:]


def press(tabs: list[Page], button: str) -> None:
    """Press a button in every tab. Not by `click`: in a tab behind another it waits seconds for the next frame."""
    for tab in tabs:
        expect(tab.get_by_role("button", name=button)).to_be_visible()
    for tab in tabs:
        tab.get_by_role("button", name=button).dispatch_event("click")


def all_have_arrived(visitor: Visitor, tabs: list[Page]) -> None:
    """See Bea's name in each tab, and that no two have landed on one page."""
    for tab in tabs:
        expect(tab.locator("#name")).to_have_text("Bea Buyer")
    assert sorted(tab.url for tab in tabs) == [f"{visitor.place.app}/members?tab={tab}" for tab in range(TABS)]


@pytest.mark.parametrize("demo", ["starlette-v5", "flask-oauth21"], indirect=True)
def test_tabs_of_someone_known_at_whop_all_arrive_by_themselves(demo: Demo, visit: Visit) -> None:
    buyer = visit(demo)
    buyer.ask_for("/members")
    buyer.has_arrived(buyer.page)
    buyer.page.get_by_role("button", name="Sign out").click()
    expect(buyer.page.get_by_role("heading")).to_have_text("Signed out")
    all_have_arrived(buyer, open_tabs(buyer))


@pytest.mark.parametrize("demo", ["starlette-oauth21", "flask-v5"], indirect=True)
def test_tabs_of_a_browser_without_any_cookie_all_arrive_after_one_consent_each(demo: Demo, visit: Visit) -> None:
    buyer = visit(demo)
    tabs = open_tabs(buyer)
    press(tabs, "Bea Buyer")
    press(tabs, "Allow")
    all_have_arrived(buyer, tabs)

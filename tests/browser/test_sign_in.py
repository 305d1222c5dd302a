"""Signing in and out in Chromium: by the Hub, by the button, back, reload. Both examples, both generations of Whop."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .conftest import Demo, Visit, running_demo

EVERYWHERE = pytest.mark.parametrize(
    "demo", ["starlette-v5", "flask-v5", "starlette-oauth21", "flask-oauth21"], indirect=True
)
ON_BOTH = pytest.mark.parametrize("demo", ["starlette-v5", "flask-oauth21"], indirect=True)
ON_BOTH_THE_OTHER_WAY = pytest.mark.parametrize("demo", ["starlette-oauth21", "flask-v5"], indirect=True)


@EVERYWHERE
def test_hub_arrival_sees_name_picture_and_what_a_script_is_told(demo: Demo, visit: Visit) -> None:
    buyer = visit(demo)
    buyer.be("Bea Buyer")
    buyer.page.get_by_role("link", name="Open").click()
    if demo.dialect == "oauth21":
        buyer.agree()  # a Hub arrival starts a sign-in there, and this is the first
    buyer.has_arrived(buyer.page)
    expect(buyer.page.locator("main img")).to_have_js_property("naturalWidth", 96)
    expect(buyer.page.locator("#me")).to_contain_text('"id": "user_buyer"')
    expect(buyer.page.locator("#bought")).to_have_text(f"{demo.example.product} (customer)")


@EVERYWHERE
def test_button_asks_for_consent_and_comes_back_without_a_trace_of_the_code(demo: Demo, visit: Visit) -> None:
    owner = visit(demo)
    owner.page.goto(f"{demo.app}/")
    owner.page.get_by_role("link", name="Sign in with Whop").click()
    owner.page.get_by_role("button", name="Otto Owner").click()
    expect(owner.page.get_by_role("heading", level=1)).to_have_text(f"{demo.example.title} wants to know who you are")
    owner.page.get_by_role("button", name="Allow").click()
    owner.has_arrived(owner.page, "Otto Owner")
    assert "code" not in owner.page.evaluate("document.referrer")
    assert owner.page.evaluate("document.cookie") == ""
    owner.page.get_by_role("link", name="Home").click()
    expect(owner.page.get_by_role("link", name=re.compile("Otto Owner"))).to_be_visible()


@ON_BOTH
def test_declining_ends_on_a_page_that_says_so_and_has_a_way_on(demo: Demo, visit: Visit) -> None:
    buyer = visit(demo)
    buyer.page.goto(f"{demo.app}/members?week=3")
    buyer.page.get_by_role("button", name="nora").click()
    buyer.page.get_by_role("button", name="Cancel").click()
    expect(buyer.page.get_by_role("heading")).to_have_text("Sign-in cancelled")
    expect(buyer.page.get_by_text("sign_in_declined")).to_be_visible()
    buyer.page.keyboard.press("Tab")
    expect(buyer.page.get_by_role("link", name="Try again")).to_be_focused()
    buyer.page.keyboard.press("Enter")
    buyer.page.get_by_role("button", name="Allow").click()
    buyer.has_arrived(buyer.page, "nora", path="/members?week=3")


@ON_BOTH_THE_OTHER_WAY
def test_signing_out_stays_signed_out_until_someone_comes_back(demo: Demo, visit: Visit) -> None:
    buyer = visit(demo)
    buyer.ask_for("/members")
    buyer.has_arrived(buyer.page)
    buyer.page.get_by_role("button", name="Sign out").click()
    signed_out = buyer.page.get_by_role("heading", name="Signed out")
    expect(signed_out).to_be_visible()
    assert [cookie["name"] for cookie in buyer.context.cookies(demo.app)] == []
    buyer.page.goto(f"{demo.app}/logout/whop")
    expect(signed_out).to_be_visible()
    buyer.page.goto(f"{demo.app}/")
    expect(buyer.page.get_by_role("link", name="Sign in with Whop")).to_be_visible()
    buyer.page.goto(f"{demo.app}/logout/whop")
    buyer.page.get_by_role("link", name="Continue").click()
    buyer.has_arrived(buyer.page)


@ON_BOTH_THE_OTHER_WAY
def test_back_after_signing_out_shows_nothing_kept_but_signs_in_anew(demo: Demo, visit: Visit) -> None:
    buyer = visit(demo)
    buyer.ask_for("/members")
    buyer.has_arrived(buyer.page)
    buyer.page.get_by_role("button", name="Sign out").click()
    expect(buyer.page.get_by_role("heading")).to_have_text("Signed out")
    buyer.asked.clear()
    buyer.page.go_back()
    buyer.has_arrived(buyer.page)
    assert f"{demo.app}/login/whop?next=/members" in buyer.asked


@ON_BOTH
def test_back_and_reload_after_signing_in_replay_no_code(demo: Demo, visit: Visit) -> None:
    buyer = visit(demo)
    buyer.ask_for("/members")
    buyer.has_arrived(buyer.page)
    buyer.asked.clear()
    buyer.page.reload()
    buyer.has_arrived(buyer.page)
    assert not [url for url in buyer.asked if "code=" in url]
    # One step back is Whop's page: it has been agreed to, and sends the browser on at once, with a state now spent.
    buyer.page.go_back()
    buyer.has_arrived(buyer.page)
    buyer.page.reload()
    buyer.has_arrived(buyer.page)


@ON_BOTH_THE_OTHER_WAY
def test_sign_out_asked_for_from_elsewhere_needs_a_click(demo: Demo, visit: Visit) -> None:
    buyer = visit(demo)
    buyer.ask_for("/members")
    buyer.has_arrived(buyer.page)
    buyer.page.goto(f"{demo.app}/logout/whop")
    expect(buyer.page.get_by_role("heading")).to_have_text("Sign out of this site?")
    buyer.page.get_by_role("link", name="Stay signed in").click()
    buyer.has_arrived(buyer.page)
    buyer.page.goto(f"{demo.app}/logout/whop")
    buyer.page.get_by_role("button", name="Sign out").click()
    expect(buyer.page.get_by_role("heading")).to_have_text("Signed out")


@ON_BOTH_THE_OTHER_WAY
def test_form_sent_after_the_session_ended_gets_a_page_that_leads_back(demo: Demo, visit: Visit) -> None:
    buyer = visit(demo)
    buyer.ask_for("/members")
    buyer.has_arrived(buyer.page)
    buyer.context.clear_cookies(name="whop_session")
    buyer.page.evaluate("document.body.innerHTML = '<form method=post action=vip><button>Post</button></form>'")
    buyer.page.get_by_role("button", name="Post").click()
    expect(buyer.page.get_by_role("heading")).to_have_text("Please sign in first")
    buyer.page.get_by_role("link", name="Sign in").click()
    buyer.has_arrived(buyer.page)


@ON_BOTH
def test_everything_works_without_javascript(demo: Demo, visit: Visit) -> None:
    buyer = visit(demo, java_script_enabled=False)
    buyer.be("Bea Buyer")
    buyer.page.get_by_role("link", name="Open").click()
    if demo.dialect == "oauth21":
        buyer.agree()
    buyer.has_arrived(buyer.page)
    buyer.page.get_by_role("button", name="Sign out").click()
    expect(buyer.page.get_by_role("heading")).to_have_text("Signed out")


def test_websocket_knows_who_speaks_and_does_not_keep_ctrl_c_from_ending_the_demo(tmp_path: Path, visit: Visit) -> None:
    with running_demo(tmp_path, "starlette", "v5") as demo:
        buyer = visit(demo)
        with buyer.page.expect_websocket() as radio:
            buyer.ask_for("/members")
        buyer.has_arrived(buyer.page)
        with radio.value.expect_event("framereceived"):
            buyer.page.get_by_label("Message").fill("Ahoy!")
            buyer.page.get_by_role("button", name="Send").click()
        expect(buyer.page.locator("#heard")).to_have_text("Bea Buyer: Ahoy!")
        assert demo.interrupt() == 0

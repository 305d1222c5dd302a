"""Buying, cancelling and owning in Chromium: whom the app lets in, and what the others are told."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from .conftest import Demo, Visit, Visitor

ON_BOTH = pytest.mark.parametrize("demo", ["starlette-v5", "flask-oauth21"], indirect=True)
PHONE = {"width": 390, "height": 844}


def is_turned_away(visitor: Visitor, name: str, user_id: str, product: str) -> None:
    """See the 403 page: who they are, what is missing, and that it fits the screen."""
    expect(visitor.page.get_by_role("heading")).to_have_text("This page needs a purchase")
    expect(visitor.page.locator("main")).to_contain_text(f"Signed in as {name} ({user_id}).")
    expect(visitor.page.locator("main")).to_contain_text(product)
    expect(visitor.page.get_by_text("purchase_required")).to_be_visible()
    assert visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@ON_BOTH
def test_cancelling_turns_a_buyer_away_at_the_next_check_and_buying_lets_them_in(demo: Demo, visit: Visit) -> None:
    product = demo.example.product
    buyer = visit(demo, viewport=PHONE)
    buyer.ask_for("/members")
    buyer.has_arrived(buyer.page)
    buyer.change(product, "Cancel", pill="Canceled")
    buyer.page.goto(f"{demo.app}/members")
    heading = buyer.page.get_by_role("heading", name="This page needs a purchase")
    buyer.is_being_turned_away = True
    buyer.reload_until(heading.is_visible)
    is_turned_away(buyer, "Bea Buyer", "user_buyer", product)
    buyer.is_being_turned_away = False
    told = buyer.context.request.get(f"{demo.app}/api/me", headers={"Accept": "application/json"})
    assert (told.status, told.json()["code"]) == (403, "purchase_required")

    buyer.page.get_by_role("link", name="Buy access").click()
    buyer.row(product).get_by_role("button", name="Buy").click()
    expect(buyer.row(product).locator(".pill")).to_have_text("Bought")
    buyer.page.get_by_role("link", name="Open").click()
    buyer.has_arrived(buyer.page)


@ON_BOTH
def test_vip_part_needs_its_own_product_and_opens_by_check_again(demo: Demo, visit: Visit) -> None:
    buyer = visit(demo)
    buyer.ask_for("/members", "nora")
    buyer.has_arrived(buyer.page, "nora")
    buyer.page.get_by_role("link", name=demo.example.vip_page).click()
    is_turned_away(buyer, "nora", "user_no_email", demo.example.vip_product)
    shop = visit(demo)
    shop.be("nora")
    shop.change(demo.example.vip_product, "Buy", pill="Bought")
    buyer.page.get_by_role("link", name="Check again").click()
    expect(buyer.page).to_have_url(f"{demo.app}/vip")
    expect(buyer.page.get_by_role("heading", level=1)).to_have_text(demo.example.vip_page)


@ON_BOTH
def test_owner_is_let_in_without_a_purchase(demo: Demo, visit: Visit) -> None:
    owner = visit(demo)
    owner.ask_for("/vip", "Otto Owner")
    expect(owner.page.get_by_role("heading", level=1)).to_have_text(demo.example.vip_page)
    owner.page.goto(f"{demo.app}/members")
    expect(owner.page.locator("#bought")).to_contain_text(f"{demo.example.product} (admin)")


@ON_BOTH
def test_someone_who_never_bought_can_use_another_account(demo: Demo, visit: Visit) -> None:
    stranger = visit(demo)
    stranger.ask_for("/members", "Sam Stranger")
    is_turned_away(stranger, "Sam Stranger", "user_stranger", demo.example.product)
    expect(stranger.page.locator("dl")).to_contain_text("WHOP_ALLOW_USERS=user_stranger")
    stranger.page.get_by_role("button", name="Use another account").click()
    expect(stranger.page.get_by_role("heading")).to_have_text("Signed out")
    stranger.be("Bea Buyer")
    stranger.page.goto(f"{demo.app}/logout/whop")
    stranger.page.get_by_role("link", name="Continue").click()
    stranger.agree()
    expect(stranger.page).to_have_url(re.compile("/members$"))


@ON_BOTH
def test_ended_membership_opens_nothing(demo: Demo, visit: Visit) -> None:
    former = visit(demo)
    former.be("Fay Former")
    expect(former.row(demo.example.product).locator(".pill")).to_have_text("Expired")
    former.page.get_by_role("link", name="Open all the same").click()
    former.agree()
    is_turned_away(former, "Fay Former", "user_former", demo.example.product)

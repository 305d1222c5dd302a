"""The documented configurations of nginx and Caddy, run: who gets in, and what arrives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from whop_middleware.sandbox import Sandbox

from .fronts import FORWARDED, Site, binary, documented, keeper_of, proxy, told
from .processes import (
    SHOP,
    SPOOFS,
    Visitor,
    approve,
    command,
    environment,
    forged,
    free_port,
    running,
    send,
    serving_whop,
    sign_in,
)
from .support import FETCH, NAVIGATION


@pytest.fixture(scope="module")
def whop() -> Iterator[Sandbox]:
    with serving_whop() as sandbox:
        yield sandbox


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, whop: Sandbox) -> Iterator[Site]:
    """A WSGI app, which takes "_" for "-" in the names of headers, behind a documented configuration."""
    binary(request.param)
    folder, port, app = tmp_path_factory.mktemp(request.param), free_port(), free_port()
    (folder / "shop.py").write_text(SHOP)
    with ExitStack() as stack:
        keeper, alice = stack.enter_context(keeper_of(request.param, folder, port, whop))
        stack.enter_context(running(command("waitress", "shop:application", app), folder, [app], environment(app)))
        text = documented(request.param, port, keeper, app)
        stack.enter_context(proxy(request.param, folder, text, port))
        yield Site(request.param, port, alice)


# --- Who gets in ---


def test_the_page_asked_for_comes_back_after_the_sign_in(site: Site, whop: Sandbox) -> None:
    visitor = Visitor(site.port)
    first = visitor.send("GET", "/a%20b/%C3%A9?q=1&q=2")
    assert (first.status, first.location) == (303, "/login/whop?next=/a%2520b/%25C3%25A9%3Fq%3D1%26q%3D2")
    back = visitor.send("GET", approve(whop, visitor.go(first.location).location))
    assert back.location == "/a%20b/%C3%A9?q=1&q=2"
    page = visitor.send("GET", back.location)
    assert page.status == 200
    assert told(page)["x-whop-user-id"] == "user_buyer"
    assert told(page)["x-whop-email"] == "bea@example.com"


def test_strangers_get_the_answer_that_fits_and_the_app_is_not_asked(site: Site) -> None:
    script = send(site.port, "GET", "/api", FETCH)
    assert (script.status, script.header("content-type")) == (401, "application/problem+json")
    form = send(site.port, "POST", "/order", NAVIGATION, b"a=b")
    assert form.status == 401
    assert b"Please sign in first" in form.body
    assert script.seen is form.seen is None
    assert {script.header("cache-control"), form.header("cache-control")} == {"no-store"}


def test_without_the_purchase_there_is_the_page_that_says_so(site: Site, whop: Sandbox) -> None:
    page = sign_in(Visitor(site.port), whop, "/page", "stranger")
    assert (page.status, page.seen) == (403, None)
    assert b"Check again" in page.body


def test_a_form_of_a_buyer_reaches_the_app_whole(site: Site) -> None:
    answer = send(site.port, "POST", "/order", (*NAVIGATION, *site.alice), b"x" * 5000)
    assert answer.status == 200
    assert (answer.seen["method"], answer.seen["length"]) == ("POST", 5000)


def test_public_paths_are_open(site: Site) -> None:
    assert told(send(site.port, "GET", "/health")) == {}
    assert told(send(site.port, "GET", "/open/x", site.alice)) == {
        "x-whop-user-id": "user_alice", "x-whop-name": "Zo%C3%AB 100%25",
    }  # fmt: skip


@pytest.mark.parametrize(
    "target",
    ["/open/../page", "/open/%2e%2e/page", "/open//../page", "/open/%2e%2e%2fpage", "//page", "/open/..%5cpage",
     "/auth", "/auth?answer", "/health%20", "/health/", "/open%2fx", "/login/whop/x", "/whop-answer", "/LOGIN/whop"],
)  # fmt: skip
def test_no_spelling_of_a_path_gets_around_the_gate(site: Site, target: str) -> None:
    answer = send(site.port, "GET", target, FETCH)
    assert answer.seen is None
    assert answer.status in (400, 401, 404)


def test_a_changed_session_reaches_the_browser(site: Site) -> None:
    answer = send(site.port, "GET", "/health", (("Cookie", "whop_session=broken"), *NAVIGATION))
    assert answer.status == 200
    assert [line.partition(";")[0] for line in answer.all("set-cookie")] == ["whop_session="]


def test_a_buyers_page_is_private(site: Site) -> None:
    answer = send(site.port, "GET", "/page", site.alice)
    assert answer.status == 200
    assert answer.all("cache-control") == ["private"]
    assert answer.all("set-cookie") == []


# --- What arrives ---


@pytest.mark.parametrize("entry", SPOOFS, ids=lambda entry: str(entry["id"]))
def test_nothing_forged_arrives_behind_a_front(site: Site, entry: dict[str, object]) -> None:
    query, headers = forged(entry)
    for method in ("GET", "POST", "OPTIONS"):
        assert send(site.port, method, f"/page{query}", (*FETCH, *headers)).seen is None
        visitor = send(site.port, method, f"/health{query}", headers)
        alice = send(site.port, method, f"/page{query}", (*site.alice, *headers))
        assert max(visitor.status, alice.status) < 500
        assert visitor.seen is None or told(visitor) == {}
        assert alice.seen is None or told(alice)["x-whop-user-id"] == "user_alice"


@pytest.mark.parametrize("target", ["/health", "/page"])
def test_every_forwarded_and_identity_header_of_a_client_is_cleared(site: Site, target: str) -> None:
    answer = send(site.port, "GET", target, (*((name, "/health") for name in FORWARDED), *site.alice))
    assert answer.status == 200
    assert [pair for pair in answer.seen["headers"] if pair[1] == "/health"] == []


def test_a_forged_address_opens_nothing(site: Site) -> None:
    headers = (*((name, "/health") for name in FORWARDED), *FETCH)
    assert send(site.port, "GET", "/page", headers).status == 401
    preflight = (("Origin", "https://x.example"), ("Access-Control-Request-Method", "PUT"))
    methods = (("X-Original-Method", "OPTIONS"), ("X-Forwarded-Method", "OPTIONS"))
    assert send(site.port, "GET", "/page", (*preflight, *methods, *FETCH)).status == 401


@pytest.mark.parametrize("front", ["nginx", "caddy"])
def test_while_the_gatekeeper_is_down_nobody_gets_in(front: str, tmp_path: Path) -> None:
    binary(front)
    port, app = free_port(), free_port()
    (tmp_path / "shop.py").write_text(SHOP)
    with (
        running(command("waitress", "shop:application", app), tmp_path, [app], environment(app)),
        proxy(front, tmp_path, documented(front, port, free_port(), app), port),
    ):
        answer = send(port, "GET", "/health", NAVIGATION)
    assert (answer.status, answer.seen) == (502, None)

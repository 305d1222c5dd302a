"""One app, one set of settings: v5's credentials or today's `app_...`, and people sign in by either."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.processes import environment, free_port, running, whop_urls
from whop_middleware.sandbox import Sandbox

from .conftest import Place, Visit

SERVERS = {
    "starlette": ("uvicorn", "examples.starlette_app.app:app", "--log-level", "warning", "--port", "{port}"),
    "flask": ("waitress", "--listen", "127.0.0.1:{port}", "examples.flask_app.app:app"),
}
CREDENTIALS = {"v5": ("client_1", "the-secret-of-client-1"), "oauth21": ("app_1", "the-secret-of-app-1")}


@pytest.mark.parametrize("app", SERVERS)
def test_same_app_signs_in_with_v5_and_with_oauth21_credentials(app: str, tmp_path: Path, visit: Visit) -> None:
    port = free_port()
    redirect_uri = f"http://localhost:{port}/callback/whop"
    sandbox = Sandbox(rate_limit=False)
    for client_id, secret in CREDENTIALS.values():
        sandbox.add_app(client_id=client_id, client_secret=secret, redirect_uris=redirect_uri)
    with sandbox.serve() as hub:
        settings = environment(port, WHOP_REDIRECT_URI=redirect_uri, WHOP_REQUIRE="prod_members", **whop_urls(sandbox))
        place = Place(hub, f"http://localhost:{port}")
        for dialect, (client_id, secret) in CREDENTIALS.items():
            credentials = {"WHOP_CLIENT_ID": client_id, "WHOP_CLIENT_SECRET": secret}
            command = [sys.executable, "-m", *(part.format(port=port) for part in SERVERS[app])]
            with running(command, tmp_path, [port], settings | credentials):
                buyer = visit(place)
                buyer.ask_for("/members")
                buyer.has_arrived(buyer.page)
                expect(buyer.page.locator("#bought")).to_have_text("prod_members (customer)")
            assert {call.dialect for call in sandbox.calls if call.endpoint == "token"} == {dialect}
            sandbox.calls.clear()

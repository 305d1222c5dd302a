"""What a process says about itself at its first request."""

from __future__ import annotations

import logging

import pytest

from .steps import Core
from .support import NAVIGATION, ORIGIN, Headers


def said(caplog: pytest.LogCaptureFixture, core: Core, **surroundings: object) -> list[tuple[str, str]]:
    caplog.set_level(logging.INFO, "whop_middleware")
    caplog.clear()
    core.decide("/health", **surroundings)  # type: ignore[arg-type]
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_the_first_request_names_the_callback_url_once(caplog: pytest.LogCaptureFixture) -> None:
    core = Core()
    assert said(caplog, core) == [("INFO", f"Callback URL to register at Whop: {ORIGIN}/callback/whop")]
    assert said(caplog, core) == []


def test_with_a_path_the_request_says_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    core = Core(redirect_uri="/callback/whop")
    lines = said(caplog, core, host="localhost:8000", scheme="http", prefix="/shop")
    assert lines == [("INFO", "Callback URL to register at Whop: http://localhost:8000/shop/callback/whop")]


@pytest.mark.parametrize("host", ["a b", "evil.example/\x1b[31m", "x" * 500, ""])
def test_a_malformed_host_is_never_logged(caplog: pytest.LogCaptureFixture, host: str) -> None:
    assert said(caplog, Core(redirect_uri="/callback/whop"), host=host) == []
    lines = [text for _, text in said(caplog, Core(), host=host)]
    assert lines[0] == f"Callback URL to register at Whop: {ORIGIN}/callback/whop"
    assert not any(host in text for text in lines if host)


def test_the_default_port_makes_no_other_address(caplog: pytest.LogCaptureFixture) -> None:
    assert [level for level, _ in said(caplog, Core(), host="APP.example:443")] == ["INFO"]


def test_after_a_malformed_host_the_next_request_names_the_callback_url(caplog: pytest.LogCaptureFixture) -> None:
    core = Core(redirect_uri="/callback/whop")
    assert said(caplog, core, host="a b") == []
    assert said(caplog, core) == [("INFO", f"Callback URL to register at Whop: {ORIGIN}/callback/whop")]


@pytest.mark.parametrize(
    ("redirect_uri", "scheme", "host", "headers", "warning"),
    [
        ("/callback/whop", "http", "shop.example.com", (), "WHOP_REDIRECT_URI=https://shop.example.com/callback/whop"),
        ("/callback/whop", "http", "localhost", (("X-Forwarded-Proto", "https"),), "from a TLS proxy"),
        (f"{ORIGIN}/callback/whop", "https", "www.app.example", (), "this request asked for www.app.example"),
        (f"{ORIGIN}/callback/whop", "http", "app.example", (), "it is Secure"),
    ],
)
def test_what_will_not_work_is_a_warning(
    caplog: pytest.LogCaptureFixture, redirect_uri: str, scheme: str, host: str, headers: Headers, warning: str
) -> None:
    core = Core(redirect_uri=redirect_uri)
    _, (level, text) = said(caplog, core, scheme=scheme, host=host, headers=(*NAVIGATION, *headers))
    assert level == "WARNING"
    assert warning in text


def test_a_tls_proxy_in_front_of_a_full_redirect_uri_is_fine(caplog: pytest.LogCaptureFixture) -> None:
    lines = said(caplog, Core(), scheme="http", headers=(*NAVIGATION, ("X-Forwarded-Proto", "https")))
    assert [level for level, _ in lines] == ["INFO"]

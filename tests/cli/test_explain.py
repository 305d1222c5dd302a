"""`explain`: which rule it names for a path, what it prints, and its exit status."""

from __future__ import annotations

import json
from typing import Any

import pytest

from whop_middleware.cli import main

from .conftest import RULES, Environ


def explained(capsys: pytest.CaptureFixture[str], path: str) -> dict[str, Any]:
    assert main(["explain", path, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("path", "rule", "needs"),
    [
        ("/vip/video", "/vip/*", [["prod_vip"]]),
        ("/vip", "/vip/*", [["prod_vip"]]),
        ("/vip/video?x=/free/", "/vip/*", [["prod_vip"]]),
        ("https://app.example/vip/video#top", "/vip/*", [["prod_vip"]]),
        ("/%76ip/video", "/vip/*", [["prod_vip"]]),
        ("/free/tour", "/free/*", []),
        ("/members", "/*", [["prod_a", "prod_b"]]),
        ("https://app.example", "/*", [["prod_a", "prod_b"]]),
    ],
)
def test_explain_names_the_rule(
    path: str, rule: str, needs: list[list[str]], environ: Environ, capsys: pytest.CaptureFixture[str]
) -> None:
    environ(WHOP_REQUIRE=RULES)
    found = explained(capsys, path)
    assert (found["rule"], found["needs"], found["public"], found["odd"]) == (rule, needs, False, False)


def test_explain_says_what_is_public_and_by_which_pattern(environ: Environ, capsys: pytest.CaptureFixture[str]) -> None:
    environ(WHOP_REQUIRE=RULES, WHOP_PUBLIC="/health,/static/*", WHOP_SIGN_IN_PAGE="/welcome")
    patterns = {path: explained(capsys, path)["public_pattern"] for path in ("/health", "/static/a.css", "/welcome")}
    assert patterns == {"/health": "/health", "/static/a.css": "/static/*", "/welcome": "/welcome"}
    assert explained(capsys, "/health")["needs"] == []
    assert explained(capsys, "/health/")["public"] is False


def test_explain_knows_the_own_paths(environ: Environ, capsys: pytest.CaptureFixture[str]) -> None:
    environ(WHOP_PUBLIC="/*")
    endpoints = [explained(capsys, path)["endpoint"] for path in ("/login/whop", "/callback/whop", "/logout/whop")]
    assert endpoints == ["login", "callback", "logout"]
    assert explained(capsys, "/login/whop")["public"] is False


def test_explain_says_that_an_odd_path_satisfies_every_rule(
    environ: Environ, capsys: pytest.CaptureFixture[str]
) -> None:
    environ(WHOP_REQUIRE=RULES, WHOP_PUBLIC="/static/*")
    found = explained(capsys, "/static/%2e%2e/vip")
    assert (found["odd"], found["public"], found["rule"]) == (True, False, None)
    assert found["needs"] == [["prod_vip"], ["prod_a", "prod_b"]]
    assert found["summary"].endswith("own prod_vip and (prod_a or prod_b)")


def test_explain_in_words(environ: Environ, capsys: pytest.CaptureFixture[str]) -> None:
    environ(WHOP_REQUIRE=RULES, WHOP_PUBLIC="/health", WHOP_DENIED_PAGE="/vip/join")
    for path in ("/vip/video", "/health", "/login/whop", "/vip/join", "/a/%0a;b"):
        main(["explain", path])
    assert capsys.readouterr().out.splitlines() == [
        "/vip/video: for people who signed in with Whop and own prod_vip",
        "  rule     /vip/*",
        "/health: open to everyone, signed in or not",
        "  public   /health",
        "/login/whop: the middleware answers this path itself: it is the login path",
        "/vip/join: open to everyone signed in: people without the purchase are sent here",
        r"/a/\n;b: for people who signed in with Whop and own prod_vip and (prod_a or prod_b)",
        "  odd      programs may read this path differently: never public, and every rule must be satisfied",
    ]


def test_explain_says_when_nobody_is_turned_away(environ: Environ, capsys: pytest.CaptureFixture[str]) -> None:
    environ(WHOP_MODE="optional", WHOP_REQUIRE="prod_x")
    assert "open to everyone" in explained(capsys, "/")["summary"]


def test_explain_with_wrong_settings_names_the_mend(environ: Environ, capsys: pytest.CaptureFixture[str]) -> None:
    environ(WHOP_REQUIRE="nonsense")
    assert main(["explain", "/"]) == 1
    assert "WHOP_REQUIRE" in capsys.readouterr().err

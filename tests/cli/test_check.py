"""`check`: what it asks, what it finds wrong, and its exit status. Prints no secret and calls no real Whop."""

from __future__ import annotations

import json
import logging
import re
import time
from email.utils import formatdate
from typing import Any

import httpx
import pytest
import respx

from whop_middleware.cli import check, main

from .conftest import RULES, SECRETS, Environ

TOKEN_URL = "https://api.whop.com/v5/oauth/token"
ACCESS_URL = "https://api.whop.com/api/v1/users/user_whopmiddlewarecheck/access/prod_x"


def checked(capsys: pytest.CaptureFixture[str], status: int) -> dict[str, Any]:
    assert main(["check", "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["ok"] is (status == 0)
    return found


def test_check_finds_good_credentials_by_a_refused_code(
    environ: Environ, router: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    environ()
    route = router.post(TOKEN_URL).respond(400, json={"error": "invalid_grant"})
    found = checked(capsys, 0)
    assert (found["problems"], found["warnings"]) == ([], [])
    assert found["credentials"]["status"] == "good"
    assert found["callback_url"] == "https://app.example/callback/whop"
    assert found["cookies"] == [
        {
            "scheme": "https",
            "name": "__Host-whop_session",
            "attributes": ["Path=/", "HttpOnly", "SameSite=Lax", "Secure"],
        }
    ]
    sent = json.loads(route.calls[0].request.content)
    assert sent["redirect_uri"] == "https://app.example/callback/whop"
    assert sent["client_secret"] == SECRETS["WHOP_CLIENT_SECRET"]


def test_check_speaks_oauth21_with_a_verifier(
    environ: Environ, router: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    environ(WHOP_CLIENT_ID="app_1")
    route = router.post("https://api.whop.com/oauth/token").respond(400, json={"error": "invalid_grant"})
    assert checked(capsys, 0)["dialect"] == "oauth21"
    assert len(json.loads(route.calls[0].request.content)["code_verifier"]) >= 43


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (httpx.Response(401, json={"message": "unknown client"}), "refused", "WHOP_CLIENT_SECRET"),
        (httpx.Response(400, json={"error": "invalid_client"}), "refused", "WHOP_DIALECT=oauth21"),
        (httpx.Response(503), "unreachable", "503"),
        (httpx.Response(429, headers={"Retry-After": "9"}), "unreachable", "429"),
        (httpx.ConnectError("no route"), "unreachable", "could not be reached"),
        (httpx.ReadTimeout("slow"), "unreachable", "could not be reached"),
        (httpx.Response(200, text="<html>"), "unexpected", "not a JSON object"),
        (httpx.Response(302, headers={"Location": "https://elsewhere.example"}), "unexpected", "302"),
        (httpx.Response(200, json={"access_token": "AT"}), "unexpected", "this is not Whop"),
    ],
)
def test_check_says_what_is_wrong_at_whop(
    answer: httpx.Response | Exception,
    status: str,
    words: str,
    environ: Environ,
    router: respx.MockRouter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ()
    router.post(TOKEN_URL).mock(side_effect=[answer, answer])
    found = checked(capsys, 1)
    assert found["credentials"]["status"] == status
    assert words in found["problems"][0]


@pytest.mark.parametrize(("ahead", "words"), [(-3600, "3600 s ahead of"), (90, "s behind")])
def test_check_warns_of_a_clock_that_is_off(
    ahead: int, words: str, environ: Environ, router: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    environ()
    date = formatdate(time.time() + ahead, usegmt=True)
    router.post(TOKEN_URL).respond(400, json={}, headers={"Date": date})
    (warning,) = checked(capsys, 0)["warnings"]
    assert words in warning


@pytest.mark.parametrize("date", [None, "yesterday"])
def test_check_does_without_a_date(date: str | None) -> None:
    assert check.clock_skew(httpx.Response(400, headers={"Date": date} if date else {}), 0.0) is None


def test_check_shows_the_local_callback_url_for_a_path(
    environ: Environ, router: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    environ(WHOP_REDIRECT_URI="/back")
    router.post(TOKEN_URL).respond(400, json={})
    found = checked(capsys, 0)
    assert (found["callback_url"], found["callback_url_depends_on_host"]) == ("http://localhost:8000/back", True)
    assert [(cookie["scheme"], cookie["name"]) for cookie in found["cookies"]] == [
        ("http", "whop_session"),
        ("https", "__Host-whop_session"),
    ]
    assert "WHOP_REDIRECT_URI=https://" in found["warnings"][0]


def test_check_warns_of_a_callback_url_and_a_whop_that_are_for_development(
    environ: Environ, router: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    environ(WHOP_REDIRECT_URI="http://localhost:5000/callback/whop", WHOP_API_URL="http://localhost:9/")
    router.post("http://localhost:9/v5/oauth/token").respond(400, json={})
    plain, strange = checked(capsys, 0)["warnings"]
    assert "plain http" in plain
    assert "not the real Whop: http://localhost:9 " in strange


def test_check_repeats_what_reading_the_settings_warns_of(
    environ: Environ, router: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    environ(WHOP_PUBLC="/health")
    router.post(TOKEN_URL).respond(400, json={})
    (warning,) = checked(capsys, 0)["warnings"]
    assert "WHOP_PUBLIC" in warning


def test_check_warns_of_quotation_marks_that_became_part_of_a_value(
    environ: Environ, router: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = f'"{SECRETS["WHOP_CLIENT_SECRET"]}"'
    environ(WHOP_CLIENT_SECRET=secret)
    router.post(TOKEN_URL).respond(401, json={})
    (warning,) = checked(capsys, 1)["warnings"]
    assert "WHOP_CLIENT_SECRET begins with a quotation mark" in warning
    assert secret not in warning


def test_check_in_words(environ: Environ, router: respx.MockRouter, capsys: pytest.CaptureFixture[str]) -> None:
    environ(WHOP_REQUIRE=RULES, WHOP_PUBLIC="/health,/static/*")
    router.post(TOKEN_URL).respond(400, json={}, headers={"Date": formatdate(time.time(), usegmt=True)})
    assert main(["check"]) == 0
    text = re.sub(r"\d\.\d s", "0.1 s", capsys.readouterr().out)
    assert text.splitlines() == [
        "Callback URL  https://app.example/callback/whop",
        "              register exactly this at Whop, to the slash",
        "Client        client-1 (dialect v5)",
        "Cookie        __Host-whop_session: Path=/; HttpOnly; SameSite=Lax; Secure",
        "Public        /health, /static/*",
        "Required      /vip/* needs prod_vip",
        "Required      /free/* needs no purchase",
        "Required      /* needs prod_a or prod_b",
        "Credentials   good: Whop knows this client (it refused only the made-up code)",
        "Clock         0.1 s from Whop's",
        "",
        "All is well   people can sign in",
    ]


def test_check_in_words_names_problems_and_warnings(
    environ: Environ, router: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    environ(WHOP_MODE="optional", WHOP_REDIRECT_URI="/callback/whop", WHOP_API_KEY=SECRETS["WHOP_API_KEY"])
    router.post(TOKEN_URL).respond(401, json={})
    assert main(["check"]) == 1
    text = capsys.readouterr().out
    for line in (
        "http://localhost:8000/callback/whop (on this machine, port 8000)",
        "Secure (over https)",
        "Mode          optional: nobody is turned away",
        "Public        nothing",
        "Required      no purchase: signed in is enough",
        "API key       good: not used",
        "\nWarning       ",
        "\nProblem       The client: ",
    ):
        assert line in text
    assert "All is well" not in text


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (httpx.Response(200, json={"has_access": False, "access_level": "no_access"}), "good"),
        (httpx.Response(404, json={}), "good"),
        (httpx.Response(401, json={}), "refused"),
        (httpx.Response(403, json={}), "refused"),
        (httpx.Response(500), "unreachable"),
        (httpx.Response(200, json={}), "unexpected"),
    ],
)
def test_check_tries_the_api_key(
    answer: httpx.Response, status: str, environ: Environ, router: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    environ(WHOP_REQUIRE="prod_x", WHOP_API_KEY=SECRETS["WHOP_API_KEY"])
    router.post(TOKEN_URL).respond(400, json={})
    route = router.get(ACCESS_URL).mock(return_value=answer)
    found = checked(capsys, 0 if status == "good" else 1)
    assert found["api_key"]["status"] == status
    assert ("WHOP_API_KEY" in "".join(found["problems"])) is (status != "good")
    assert found["warnings"] == []
    assert route.calls[0].request.headers["authorization"] == f"Bearer {SECRETS['WHOP_API_KEY']}"


@pytest.mark.parametrize("arguments", [["check"], ["check", "--json"]])
def test_check_prints_a_wrong_setting_and_its_mend(
    arguments: list[str], environ: Environ, capsys: pytest.CaptureFixture[str]
) -> None:
    environ(WHOP_CLIENT_ID="", WHOP_PUBLC="/")
    assert main(arguments) == 1
    text = capsys.readouterr().out
    assert "WHOP_CLIENT_ID" in text
    assert "All is well" not in text
    if "--json" in arguments:
        assert json.loads(text)["ok"] is False


@pytest.mark.parametrize("status", [400, 401, 500, 200])
@pytest.mark.parametrize("arguments", [["check"], ["check", "--json"]])
def test_check_prints_no_secret(
    status: int,
    arguments: list[str],
    environ: Environ,
    router: respx.MockRouter,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    environ(**SECRETS, WHOP_REQUIRE="prod_x")
    echo = json.dumps({"error_description": " ".join(SECRETS.values()), "access_token": "the-token"})
    router.route(url__startswith="https://api.whop.com").respond(status, text=echo)
    main(arguments)
    captured = capsys.readouterr()
    told = captured.out + captured.err + caplog.text
    assert not [secret for secret in (*SECRETS.values(), "the-token") if secret in told]


def test_check_leaves_the_log_as_it_was(
    environ: Environ, router: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("whop_middleware")
    before = (list(logger.handlers), logger.propagate)
    environ()
    router.post(TOKEN_URL).respond(400, json={})
    checked(capsys, 0)
    assert (logger.handlers, logger.propagate) == before

"""The command line: what it prints, its exit status, and a demo that starts, serves and stops. Calls no real Whop."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from whop_middleware import WhopConfig, WhopMiddleware, WhopWSGIMiddleware
from whop_middleware.apps import load, speaks
from whop_middleware.cli import apps, check, demo, main, servers
from whop_middleware.errors import ConfigError

ROOT = Path(__file__).parent.parent
SECRETS = {
    "WHOP_CLIENT_SECRET": "the-client-secret-0123456789",
    "WHOP_SECRET_KEY": "the-signing-key-0123456789abcdef",
    "WHOP_API_KEY": "the-api-key-0123456789",
}
TOKEN_URL = "https://api.whop.com/v5/oauth/token"
ACCESS_URL = "https://api.whop.com/api/v1/users/user_whopmiddlewarecheck/access/prod_x"

Environ = Callable[..., None]


@pytest.fixture(autouse=True)
def whole_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start without `WHOP_*`, and undo what a command does to its process."""
    environ, path, modules = dict(os.environ), list(sys.path), set(sys.modules)
    level = logging.getLogger("whop_middleware").level
    for name in [name for name in os.environ if name.startswith("WHOP_")]:
        monkeypatch.delenv(name)
    yield
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("examples", "shop"):
            del sys.modules[name]
    logging.getLogger("whop_middleware").setLevel(level)


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Environ:
    def set_variables(**variables: str) -> None:
        given = {
            "WHOP_CLIENT_ID": "client-1",
            "WHOP_CLIENT_SECRET": SECRETS["WHOP_CLIENT_SECRET"],
            "WHOP_REDIRECT_URI": "https://app.example/callback/whop",
        } | variables
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.fixture
def router() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        yield router


# --- The command itself ---


def test_without_a_command_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert {"demo", "check", "explain"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["demo", "--help"], ["check", "--help"]])
def test_help_and_version_exit_0(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 0
    assert "whop-middleware" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [["explain", "vip"], ["demo", "--port", "70000"], ["demo", "--port", "x"], ["demo", "--recheck-after", "0"], ["x"]],
)
def test_wrong_command_line_exits_2(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 2
    assert "error:" in capsys.readouterr().err


# --- explain ---


RULES = '{"/vip/*": "prod_vip", "/free/*": [], "/*": ["prod_a", "prod_b"]}'


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


# --- check ---


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


# --- The app to show ---


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with the module `shop`."""
    (tmp_path / "shop.py").write_text(
        "class Box: pass\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http', 'no lifespan'\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'hello ' + repr(scope.get('whop_user', 0)).encode()})\n"
        "def wsgi(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [b'hello ' + repr(environ.get('whop_user', 0)).encode()]\n"
        "def factory(): return wsgi\n"
        "Box.inner = staticmethod(wsgi)\n"
        "async def broken(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive()\n"
        "        await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
        "settings = {}\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found", "asgi"),
    [
        ("shop", "app", True),
        ("shop:app", "app", True),
        ("shop:wsgi", "wsgi", False),
        ("shop:factory()", "wsgi", False),
        ("shop:Box.inner", "wsgi", False),
    ],
)
def test_app_is_loaded_by_name(name: str, found: str, asgi: bool, shop: Path) -> None:
    app = load(name, "--app ", str(shop))
    assert app.__name__ == found
    assert speaks(app, "asgi") is asgi


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shap:app", "no module 'shap'"),
        ("shop.api:app", "no module 'shop.api'"),
        ("shop:ap", "no 'ap'"),
        ("shop:settings", "no app, it holds {"),
        (":app", "not module:attribute"),
        (".shop:app", "not module:attribute"),
        ("shap.py", "such as --app shap:app"),
        ("shop/api.py:app", "such as --app shop.api:app"),
    ],
)
def test_missing_app_is_a_clear_error(name: str, words: str, shop: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        load(name, "--app ", str(shop))


def test_error_inside_the_app_keeps_its_traceback(shop: Path) -> None:
    (shop / "shop.py").write_text("import a_module_that_is_not_there", encoding="utf-8")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        load("shop", "--app ", str(shop))


def test_middleware_that_an_app_brings_is_found() -> None:
    from flask import Flask
    from starlette.applications import Starlette
    from starlette.middleware.gzip import GZipMiddleware

    config = WhopConfig(client_id="client-1", client_secret=SECRETS["WHOP_CLIENT_SECRET"], require="prod_x")
    starlette, flask = Starlette(), Flask("shop")
    assert (apps.middleware_config(starlette), apps.middleware_config(flask)) == (None, None)
    starlette.add_middleware(WhopMiddleware, config=config, home="/in")
    starlette.add_middleware(GZipMiddleware)
    flask.wsgi_app = WhopWSGIMiddleware(flask.wsgi_app, config)  # type: ignore[method-assign]
    found = apps.middleware_config(starlette)
    assert found is not None
    assert (found.required_ids, found.home) == (("prod_x",), "/in")
    assert apps.middleware_config(flask) == config
    wrapped = WhopMiddleware(Starlette(), config)
    assert apps.middleware_config(GZipMiddleware(wrapped)) == config


# --- demo ---


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def fetch(url: str, **headers: str) -> httpx.Response:
    """Ask until something answers."""
    ends = time.monotonic() + 20
    while True:
        try:
            return httpx.get(url, headers=headers, timeout=5, trust_env=False)
        except httpx.TransportError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)


def demo_in_this_process(*arguments: str, path: str = "/") -> tuple[int, httpx.Response]:
    """Run the demo here, ask its app for a path, then stop it as Ctrl-C does; return its exit status and the answer."""
    port, answers, over = free_port(), list[httpx.Response](), threading.Event()

    def visit() -> None:
        while not answers and not over.wait(0.02):
            with contextlib.suppress(httpx.TransportError):
                answers.append(httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False))
        if answers:
            os.kill(os.getpid(), signal.SIGINT)

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        status = main(["demo", "--port", str(port), *arguments])
    finally:
        over.set()
        visitor.join()
    (answer,) = answers
    return status, answer


@pytest.mark.parametrize("example", ["starlette", "flask"])
@pytest.mark.parametrize("dialect", ["v5", "oauth21"])
def test_demo_shows_an_example(
    example: str, dialect: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHOP_MODE", "optional")
    status, answer = demo_in_this_process("--app", example, "--dialect", dialect, path="/vip")
    assert status == 0
    assert (answer.status_code, answer.headers["location"]) == (303, "/login/whop?next=/vip")
    assert "Stopped." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--app", "shop:app"], 303, ""),
        (["--app", "shop:wsgi"], 303, ""),
        (["--app", "shop:app", "--no-wrap"], 200, "hello 0"),
        (["--app", "shop:wsgi", "--no-wrap"], 200, "hello 0"),
    ],
)
def test_demo_wraps_an_own_app_unless_told_not_to(
    arguments: list[str], status: int, text: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_status, answer = demo_in_this_process(*arguments)
    assert exit_status == 0
    assert (answer.status_code, answer.text) == (status, text)
    assert "WHOP_REQUIRE=prod_" in capsys.readouterr().out


def test_demo_keeps_the_settings_of_an_own_app(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHOP_PUBLIC", "/open")
    monkeypatch.setenv("WHOP_REQUIRE", "prod_mine")
    monkeypatch.setenv("WHOP_CLIENT_ID", "the real one")
    monkeypatch.setenv("WHOP_DIALECT", "oauth21")
    _, answer = demo_in_this_process("--app", "shop:app", "--recheck-after", "7", path="/open")
    assert answer.text == "hello None"
    assert "7 s later that buyer is turned away" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ids", "products"),
    [
        (("prod_a", "prod_b"), [("prod_a", "prod_a"), ("prod_b", "prod_b")]),
        (("biz_a", "exp_b"), [("prod_demo", "Demo product")]),
        ((), [("prod_demo", "Demo product")]),
    ],
)
def test_demo_sells_what_an_own_app_asks_for(ids: tuple[str, ...], products: list[tuple[str, str]]) -> None:
    assert list(demo.products_for(ids)) == products


def test_second_signal_insists(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def sandbox_that_hangs() -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(demo, "_sandbox", sandbox_that_hangs)
    before = signal.getsignal(signal.SIGINT)
    assert main(["demo"]) == 0
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("name", ["shop:app", "shop:wsgi"])
def test_signal_before_the_app_serves_is_kept(name: str, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_show_log", lambda: signal.raise_signal(signal.SIGTERM))
    assert main(["demo", "--app", name]) == 0


def test_signal_while_the_server_is_set_up_is_passed_on_to_it() -> None:
    import uvicorn

    stop = servers.Stop()
    stop.server = uvicorn.Server(uvicorn.Config(lambda: None))
    stop()
    assert stop.server.should_exit


def test_demo_ends_when_the_app_does_not_start(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--app", "shop:broken"]) == 1


@pytest.mark.parametrize("option", ["--port", "--hub-port"])
def test_demo_says_which_port_is_taken(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        assert main(["demo", option, port]) == 1
    error = capsys.readouterr().err
    assert port in error
    assert f"name another with {option}" in error


def test_demo_without_the_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("whop_middleware.sandbox")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    for name in [name for name in sys.modules if name.startswith("starlette.")]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["demo"]) == 1
    assert "pip install 'whop-middleware[sandbox]'" in capsys.readouterr().err


def test_demo_without_the_examples_says_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "a" / "b" / "demo.py"))
    assert main(["demo"]) == 1
    assert "clone of the repository" in capsys.readouterr().err


def test_demo_without_what_an_example_needs_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "flask", None)
    assert main(["demo", "--app", "flask"]) == 1
    assert "needs flask" in capsys.readouterr().err


@contextlib.contextmanager
def demo_process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Start the demo as a process of its own; yield it with the addresses of the Hub and of the app."""
    command = [sys.executable, "-m", "whop_middleware", "demo", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            urls: list[str] = []
            for line in process.stdout:
                urls += re.findall(r"http://\S+", line)
                if "Ctrl-C" in line:
                    break
            hub, app = urls
            yield process, hub, app
        finally:
            process.kill()


@pytest.mark.parametrize(("example", "number"), [("starlette", signal.SIGINT), ("flask", signal.SIGTERM)])
def test_demo_starts_serves_and_stops_cleanly(example: str, number: signal.Signals) -> None:
    with demo_process("--app", example) as (process, hub, app):
        assert fetch(hub).status_code == 200
        assert "Sign in with Whop" in fetch(app).text
        process.send_signal(number)
        rest, _ = process.communicate(timeout=15)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest


def test_demo_gives_hub_and_app_names_of_their_own() -> None:
    with demo_process() as (process, hub, app):
        assert {httpx.URL(hub).host, httpx.URL(app).host} == {"localhost", "127.0.0.1"}
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=15)
    assert process.returncode == 0


def test_demo_turns_away_a_buyer_whose_purchase_was_cancelled_and_lets_them_in_again() -> None:
    with (
        demo_process("--recheck-after", "1") as (process, hub, app),
        httpx.Client(follow_redirects=True, trust_env=False) as browser,
    ):
        browser.post(f"{hub}hub/person", data={"person": "buyer"})
        assert "Bea Buyer" in browser.get(f"{hub}hub/open/demo").text
        purchase = {"person": "buyer", "product": "prod_member"}
        browser.post(f"{hub}hub/membership", data=purchase | {"do": "cancel"})
        ends = time.monotonic() + 15
        while (turned_away := browser.get(f"{app}members")).status_code != 403:
            assert time.monotonic() < ends
            time.sleep(0.1)
        assert "Bea Buyer" in turned_away.text
        browser.post(f"{hub}hub/membership", data=purchase | {"do": "buy"})
        assert browser.get(f"{hub}hub/open/demo").status_code == 200
        assert browser.get(f"{app}members").status_code == 200
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)
    assert process.returncode == 0

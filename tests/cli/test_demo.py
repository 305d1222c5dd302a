"""`demo`: it starts, serves and stops, and says why when it cannot. Calls no real Whop."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.processes import ROOT
from whop_middleware.cli import demo, main, servers


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

"""`whop_middleware.serve` under real servers: nothing forged arrives, and a sign-in may change workers half-way."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from whop_middleware import WhopConfig
from whop_middleware.sandbox import Sandbox
from whop_middleware.testing import session_cookie

from .processes import (
    ASGI_SERVERS,
    COMMANDS,
    SHOP,
    SPOOFS,
    WSGI_SERVERS,
    Answer,
    Visitor,
    command,
    environment,
    forged,
    free_port,
    identities,
    running,
    send,
    serving_whop,
    sign_in,
    whop_urls,
)
from .snippets import blocks
from .support import FETCH

ALICE: dict[str, Any] = {"id": "user_alice", "username": "alice", "name": "Zoë 100%"}
SIGN_INS = 200
RELOAD_TIMEOUT = 60
"""Seconds; a reload takes one on an idle machine."""


def app_for(server: str) -> tuple[str, str]:
    """Return the target to serve and the app that WHOP_APP names."""
    if server in ASGI_SERVERS:
        return "whop_middleware.serve:asgi", "shop:app"
    return "whop_middleware.serve:wsgi", "shop:application"


@pytest.fixture(scope="module", params=[*ASGI_SERVERS, *WSGI_SERVERS])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The app of `processes.SHOP` behind the middleware, under each server."""
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    (folder / "shop.py").write_text(SHOP, encoding="utf-8")
    target, name = app_for(request.param)
    environ = environment(port, WHOP_APP=name, WHOP_PUBLIC="/health", WHOP_IDENTITY_HEADERS="on")
    with running(command(request.param, target, port), folder, [port], environ):
        yield Shop(port, WhopConfig.from_env({name: value for name, value in environ.items() if "WHOP" in name}))


class Shop:
    """A site that is being served."""

    def __init__(self, port: int, config: WhopConfig) -> None:
        self.port = port
        self.cookie = tuple(("Cookie", f"{name}={value}") for name, value in session_cookie(config, **ALICE).items())


# --- Nothing forged arrives ---


def is_nobody(answer: Answer) -> bool:
    facts = answer.seen
    return not (facts["user"] or facts["remote_user"] or identities(answer))


def is_alice(answer: Answer) -> bool:
    facts = answer.seen
    found = {name.lower().replace("_", "-"): value for name, value in identities(answer)}
    expected = {"x-whop-user-id": "user_alice", "x-whop-username": "alice", "x-whop-name": "Zo%C3%AB 100%25"}
    return facts["user"] == "user_alice" and found == expected and facts["remote_user"] in (None, "user_alice")


@pytest.mark.parametrize("entry", SPOOFS, ids=lambda entry: str(entry["id"]))
def test_nothing_forged_arrives(shop: Shop, entry: dict[str, Any]) -> None:
    query, headers = forged(entry)
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        stranger = send(shop.port, method, f"/page{query}", (*FETCH, *headers))
        visitor = send(shop.port, method, f"/health{query}", headers)
        alice = send(shop.port, method, f"/page{query}", (*shop.cookie, *headers))
        assert max(stranger.status, visitor.status, alice.status) < 500
        assert stranger.seen is None
        assert visitor.seen is None or is_nobody(visitor)
        assert alice.seen is None or is_alice(alice)


def test_alice_and_strangers_are_seen_as_they_are(shop: Shop) -> None:
    assert is_alice(send(shop.port, "GET", "/page", shop.cookie))
    assert is_nobody(send(shop.port, "GET", "/health"))
    assert send(shop.port, "GET", "/page").location == "/login/whop?next=/page"
    assert send(shop.port, "GET", "/page", FETCH).status == 401


# --- Several workers ---


@pytest.fixture(scope="module")
def whop() -> Iterator[Sandbox]:
    with serving_whop() as sandbox:
        yield sandbox


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn", "granian", "gunicorn", "preload"])
def test_a_sign_in_begun_on_one_worker_ends_on_any(server: str, whop: Sandbox, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    target, name = app_for(server)
    environ = environment(port, WHOP_APP=name, **whop_urls(whop))
    sign_ins = SIGN_INS if server in ("uvicorn", "preload") else SIGN_INS // 5
    with running(command(server, target, port, workers=4), tmp_path, [port], environ):
        answers = [sign_in(Visitor(port), whop, f"/page/{number}") for number in range(sign_ins)]
    seen = [answer.seen for answer in answers if answer.seen]
    assert [facts["user"] for facts in seen] == ["user_buyer"] * sign_ins
    assert len({facts["pid"] for facts in seen}) > 1


# --- Starting up ---


def said_at_the_start(server: str, app: str, folder: Path, expected: str) -> str:
    """Start a server, and return the line of its output with the words expected, or all of it."""
    port, text = free_port(), ""
    arguments, environ = command(server, app_for(server)[0], port), environment(port, WHOP_APP=app)
    with subprocess.Popen(
        arguments, cwd=folder, env=environ, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if expected in line:
                    return line
                text += line
        finally:
            process.kill()
    return text


@pytest.mark.parametrize("server", COMMANDS)
def test_a_misspelled_app_is_named_with_its_mend(server: str, tmp_path: Path) -> None:
    mend = "Write it as WHOP_APP=module:attribute, such as WHOP_APP=main:app for an app in ./main.py."
    assert said_at_the_start(server, "shp:app", tmp_path, mend).strip() == mend


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn", "preload", "waitress"])
def test_an_error_in_the_app_keeps_its_traceback(server: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("\nno_such_name\n", encoding="utf-8")
    line = said_at_the_start(server, "broken", tmp_path, 'broken.py", line 2')
    assert line.strip().startswith("File ")


def test_uvicorn_reloads_the_app(tmp_path: Path) -> None:
    port, until = free_port(), time.monotonic() + RELOAD_TIMEOUT
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    arguments = [sys.executable, "-m", "uvicorn", "whop_middleware.serve:asgi", "--port", str(port), "--reload"]
    with running(arguments, tmp_path, [port], environment(port, WHOP_APP="shop", WHOP_PUBLIC="/*")) as log:
        before = send(port, "GET", "/").seen["pid"]
        while time.monotonic() < until:
            if "Reloading" not in log.read_text():  # a change before uvicorn's first look around is none to it
                (tmp_path / "shop.py").write_text(f"{SHOP}\n# changed at {time.monotonic()}\n", encoding="utf-8")
            answer = send_patiently(port, "/")
            if answer is not None and answer.seen["pid"] != before:
                return
    raise AssertionError(log.read_text())


def send_patiently(port: int, target: str) -> Answer | None:
    time.sleep(0.05)
    try:
        answer = send(port, "GET", target)
    except ConnectionError:
        return None
    return answer if answer.status == 200 else None


# --- Datasette, by docs/datasette.md ---


@pytest.fixture(scope="module")
def dogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the documentation's files and a database."""
    pytest.importorskip("datasette")
    folder = tmp_path_factory.mktemp("datasette")
    with sqlite3.connect(folder / "dogs.db") as database:
        database.execute("create table dogs (name text)")
        database.execute("insert into dogs values ('Cleo')")
    database.close()
    plugin, site = blocks(Path(__file__).parent.parent / "docs" / "datasette.md")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "whop.py").write_text(plugin, encoding="utf-8")
    (folder / "dogs_site.py").write_text(site, encoding="utf-8")
    return folder


DATASETTE = {
    "plugin": ("datasette", "serve", "dogs.db", "--plugins-dir", "plugins", "--port"),
    "uvicorn": ("uvicorn", "whop_middleware.serve:asgi", "--port"),
}


@pytest.mark.parametrize("start", DATASETTE)
def test_datasette_is_closed_to_strangers_and_open_to_buyers(start: str, dogs: Path, whop: Sandbox) -> None:
    port = free_port()
    environ = environment(port, WHOP_APP="dogs_site", WHOP_REQUIRE="prod_members", **whop_urls(whop))
    with running([sys.executable, "-m", *DATASETTE[start], str(port)], dogs, [port], environ):
        assert send(port, "GET", "/dogs/dogs.json", FETCH).status == 401
        assert sign_in(Visitor(port), whop, "/dogs/dogs", "stranger").status == 403
        page = sign_in(Visitor(port), whop, "/dogs/dogs")
    assert page.status == 200
    assert b"Cleo" in page.body

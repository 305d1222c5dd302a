"""A process without settings of its own, for commands to run in, and an app for them to show. Calls no real Whop."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import respx

SECRETS = {
    "WHOP_CLIENT_SECRET": "the-client-secret-0123456789",
    "WHOP_SECRET_KEY": "the-signing-key-0123456789abcdef",
    "WHOP_API_KEY": "the-api-key-0123456789",
}
RULES = '{"/vip/*": "prod_vip", "/free/*": [], "/*": ["prod_a", "prod_b"]}'

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

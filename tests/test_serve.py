"""`whop_middleware.serve` finds the app that WHOP_APP names, or says what is wrong with it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler  # type: ignore[import-untyped]
from django.core.handlers.wsgi import WSGIHandler  # type: ignore[import-untyped]
from flask import Flask
from starlette.applications import Starlette

from whop_middleware import ConfigError, WhopMiddleware, WhopWSGIMiddleware, apps, serve

from .processes import environment

SHOP = """
import functools

async def app(scope, receive, send): ...
def application(environ, start_response): ...
def create_app(): return app
def create_wsgi(): return application
def need_settings(settings): return app
number = 7
class Site:
    async def __call__(self, scope, receive, send): ...
class Old:
    def __init__(self, environ, start_response): ...
class nested: inner = app
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with a module `shop` in it, and an environment to serve it; nothing of it stays imported."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for name in [name for name in os.environ if name.startswith("WHOP_")]:
        monkeypatch.delenv(name)
    for name, value in environment(80).items():
        if name.startswith("WHOP_"):
            monkeypatch.setenv(name, value)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    for name in {"asgi", "wsgi"} & set(vars(serve)):
        delattr(serve, name)


def refusal(monkeypatch: pytest.MonkeyPatch, target: str, interface: str = "asgi") -> str:
    monkeypatch.setenv("WHOP_APP", target)
    with pytest.raises(ConfigError) as caught:
        getattr(serve, interface)
    assert "WHOP_APP" in str(caught.value).splitlines()[-1]
    return str(caught.value)


@pytest.mark.parametrize("target", ["shop", "shop:app", "shop:create_app()", "shop:nested.inner", "shop:Site()"])
def test_an_asgi_app_is_found(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOP_APP", target)
    assert isinstance(serve.asgi, WhopMiddleware)
    assert serve.asgi is serve.asgi


@pytest.mark.parametrize("target", ["shop:application", "shop:create_wsgi()", "shop:Old"])
def test_a_wsgi_app_is_found(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOP_APP", target)
    assert isinstance(serve.wsgi, WhopWSGIMiddleware)


def test_a_module_in_a_package_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "site_of_ours").mkdir()
    (folder / "site_of_ours" / "main.py").write_text(SHOP)
    monkeypatch.setenv("WHOP_APP", "site_of_ours.main")
    assert serve.asgi.app.__module__ == "site_of_ours.main"


def test_hypercorn_s_way_of_looking_finds_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOP_APP", "shop")
    found: Any = eval("asgi", vars(serve))
    assert found is serve.asgi
    with pytest.raises(NameError):
        eval("nothing_of_this_name", vars(serve))


def test_other_attributes_are_missing_as_ever() -> None:
    with pytest.raises(AttributeError, match="no attribute 'wsgy'"):
        serve.wsgy  # type: ignore[attr-defined]  # noqa: B018


def test_importing_it_builds_nothing_and_needs_no_settings(folder: Path) -> None:
    environ = {name: value for name, value in environment(80).items() if not name.startswith("WHOP_")}
    done = subprocess.run([sys.executable, "-c", "import whop_middleware.serve"], env=environ, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("target", "interface", "what", "mend"),
    [
        ("", "asgi", "No app", "Set WHOP_APP to module:attribute, such as WHOP_APP=shop.main:app."),
        ("shop/main.py", "asgi", "not module:attribute", "such as WHOP_APP=shop.main:app."),
        ("shop:create_app(1)", "asgi", "not module:attribute", "WHOP_APP=shop:create_app()"),
        ("shp:app", "asgi", "no module 'shp'", "WHOP_APP=main:app"),
        ("shop.main:app", "asgi", "no module 'shop.main'", "WHOP_APP=main:app"),
        ("shop:ap", "asgi", "'shop' has no 'ap'", "WHOP_APP=shop:app"),
        ("shop:create_app", "asgi", "create_app", "WHOP_APP=shop:create_app()"),
        ("shop:Site", "asgi", "Site", "WHOP_APP=shop:Site()"),
        ("shop:number", "asgi", "holds 7", "WHOP_APP=shop:app"),
        ("shop:number()", "wsgi", "holds 7", "WHOP_APP=shop:app"),
        ("shop:application", "asgi", "a WSGI app", "serve:wsgi under a WSGI server"),
        ("shop:app", "wsgi", "an ASGI app", "serve:asgi under an ASGI server"),
    ],
)
def test_what_is_no_app_is_named_with_its_mend(
    target: str, interface: str, what: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(monkeypatch, target, interface)
    assert what in message
    assert mend in message.splitlines()[-1]


def test_without_any_likely_name_a_usual_one_is_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "empty.py").write_text("")
    assert "WHOP_APP=empty:application" in refusal(monkeypatch, "empty")


def test_naming_this_very_module_is_no_endless_loop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "being built" in refusal(monkeypatch, "whop_middleware.serve:asgi")


def test_a_missing_whop_setting_is_reported_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHOP_CLIENT_ID")
    monkeypatch.setenv("WHOP_APP", "shop")
    with pytest.raises(ConfigError, match="WHOP_CLIENT_ID"):
        serve.asgi  # noqa: B018


# --- The app's own errors ---


@pytest.mark.parametrize(
    ("code", "error"),
    [("1 / 0", ZeroDivisionError), ("import not_there", ModuleNotFoundError), ("int('x')", ValueError)],
)
def test_an_error_in_the_app_s_own_code_is_raised_as_it_is(
    code: str, error: type[Exception], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "broken.py").write_text(f"def create_app():\n    {code}\n")
    monkeypatch.setenv("WHOP_APP", "broken:create_app()")
    with pytest.raises(error):
        serve.asgi  # noqa: B018


def test_a_module_that_is_missing_in_the_app_s_own_code_is_not_called_the_app(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "broken.py").write_text("import not_there")
    monkeypatch.setenv("WHOP_APP", "broken")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="not_there"):
            serve.asgi  # noqa: B018


def test_threads_that_ask_at_once_get_one_and_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "slow.py").write_text("import time; time.sleep(0.1)\n" + SHOP)
    monkeypatch.setenv("WHOP_APP", "slow")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: serve.asgi, range(2))
    assert first is second


@pytest.mark.parametrize("code", ["print.nothing", "not_defined"])
def test_an_error_that_servers_would_take_for_a_missing_attribute_keeps_its_traceback(
    code: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "broken.py").write_text(code)
    monkeypatch.setenv("WHOP_APP", "broken")
    with pytest.raises(apps.BrokenApp, match="in the app's own code") as caught:
        serve.asgi  # noqa: B018
    assert isinstance(caught.value.__cause__, AttributeError | NameError)


# --- Which of the two is it? ---


class _Async:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


def _returns_awaitable(scope: Any, receive: Any, send: Any) -> Any: ...


def _wsgi_with_more(environ: Any, start_response: Any, more: Any = None) -> Any: ...


async def _async(scope: Any, receive: Any, send: Any) -> None: ...


def name_of(app: Any) -> str:
    inner = getattr(app, "func", app)
    return getattr(inner, "__name__", type(inner).__name__)


ASGI_APPS = [
    Starlette(), ASGIHandler, _Async(), _async, _returns_awaitable,
    functools.partial(_async), functools.partial(_Async()),
]  # fmt: skip
WSGI_APPS = [Flask("shop"), Flask("shop").wsgi_app, WSGIHandler, _wsgi_with_more, functools.partial(_wsgi_with_more)]


@pytest.mark.parametrize("app", ASGI_APPS, ids=name_of)
def test_asgi_apps_are_told_from_wsgi_apps(app: Any) -> None:
    app = ASGIHandler.__new__(ASGIHandler) if app is ASGIHandler else app
    assert (apps.speaks(app, "asgi"), apps.speaks(app, "wsgi")) == (True, False)


@pytest.mark.parametrize("app", WSGI_APPS, ids=name_of)
def test_wsgi_apps_are_told_from_asgi_apps(app: Any) -> None:
    app = WSGIHandler.__new__(WSGIHandler) if app is WSGIHandler else app
    assert (apps.speaks(app, "asgi"), apps.speaks(app, "wsgi")) == (False, True)


def test_an_app_that_takes_anything_is_what_the_server_says() -> None:
    def anything(*arguments: Any) -> Any: ...

    for app in (anything, functools.partial(anything), max):
        assert (apps.speaks(app, "asgi"), apps.speaks(app, "wsgi")) == (True, True)


def test_nothing_else_is_an_app() -> None:
    assert not apps.speaks(None, "wsgi")
    assert not apps.speaks(lambda: None, "asgi")
    assert not apps.speaks(_Async, "asgi")

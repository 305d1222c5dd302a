"""How the command line finds the app to show, and tells the middleware that an app brings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from whop_middleware import WhopConfig, WhopMiddleware, WhopWSGIMiddleware
from whop_middleware.apps import load, speaks
from whop_middleware.cli import apps
from whop_middleware.errors import ConfigError

from .conftest import SECRETS


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

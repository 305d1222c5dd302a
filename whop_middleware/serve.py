"""Run the app that WHOP_APP names behind the middleware, as `serve:asgi` or `serve:wsgi`. Guesses no app's name.

    WHOP_APP=shop.main:app uvicorn whop_middleware.serve:asgi
    WHOP_APP=shop:create_app() gunicorn whop_middleware.serve:wsgi

Everything else is set by the other `WHOP_*` variables.
"""

from __future__ import annotations

import inspect
import os
from typing import Any

from . import apps
from .apps import AN, Interface, speaks, wrong
from .asgi import WhopMiddleware
from .errors import ConfigError
from .lazy import build_on_access
from .wsgi import WhopWSGIMiddleware

asgi: WhopMiddleware
"""The ASGI app of WHOP_APP behind `WhopMiddleware`. Raises `ConfigError` on first access when a setting is wrong."""

wsgi: WhopWSGIMiddleware
"""The WSGI app of WHOP_APP behind `WhopWSGIMiddleware`. Raises `ConfigError` as `asgi` does."""

_SAID = "WHOP_APP="


def load(interface: Interface) -> Any:
    """Return the app that WHOP_APP names. Raises `ConfigError` when there is none, or one of the other interface."""
    target = os.environ.get("WHOP_APP", "").strip()
    if not target:
        raise ConfigError(
            "No app to put sign-in in front of.\nSet WHOP_APP to module:attribute, such as WHOP_APP=shop.main:app."
        )
    app = apps.load(target, _SAID)
    _check(target, app, interface)
    return app


def _check(target: str, app: Any, interface: Interface) -> None:
    other: Interface = "wsgi" if interface == "asgi" else "asgi"
    if speaks(app, interface):
        return
    if inspect.isclass(app) or not speaks(app, other):
        name = target if ":" in target else f"{target}:app"
        what = f"that is {AN[interface]} app's place, and it holds {repr(app)[:200]}"
        raise wrong(_SAID, target, what, f"{name}() if that makes the app")
    raise ConfigError(
        f"WHOP_APP={target}: that is {AN[other]} app, and serve:{interface} is for {AN[interface]} app.\n"
        f"Keep WHOP_APP={target} and start whop_middleware.serve:{other} {_UNDER[other]}."
    )


_UNDER: dict[Interface, str] = {
    "asgi": "under an ASGI server (uvicorn, hypercorn, granian)",
    "wsgi": "under a WSGI server (gunicorn, waitress)",
}


build_on_access(__name__, asgi=lambda: WhopMiddleware(load("asgi")), wsgi=lambda: WhopWSGIMiddleware(load("wsgi")))

"""Run the app that WHOP_APP names behind the middleware, as `serve:asgi` or `serve:wsgi`. Guesses no app's name.

    WHOP_APP=shop.main:app uvicorn whop_middleware.serve:asgi
    WHOP_APP=shop:create_app() gunicorn whop_middleware.serve:wsgi

Everything else is set by the other `WHOP_*` variables.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Literal, TypeAlias

from .asgi import WhopMiddleware
from .errors import ConfigError
from .lazy import build_on_access
from .reports import logger
from .wsgi import WhopWSGIMiddleware

Interface: TypeAlias = Literal["asgi", "wsgi"]

asgi: WhopMiddleware
"""The ASGI app of WHOP_APP behind `WhopMiddleware`. Raises `ConfigError` on first access when a setting is wrong."""

wsgi: WhopWSGIMiddleware
"""The WSGI app of WHOP_APP behind `WhopWSGIMiddleware`. Raises `ConfigError` as `asgi` does."""

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_TARGET = re.compile(rf"(?P<module>{_NAME})(?::(?P<attribute>{_NAME})(?P<call>\(\))?)?")
_LIKELY = ("app", "application", "api", "asgi", "wsgi", "server")
_PARAMETERS: dict[Interface, tuple[None, ...]] = {"asgi": (None,) * 3, "wsgi": (None,) * 2}


class BrokenApp(Exception):
    """The app's own code failed; its error is the cause."""


def load(interface: Interface) -> Any:
    """Return the app that WHOP_APP names. Raises `ConfigError` when there is none, or one of the other interface."""
    target = os.environ.get("WHOP_APP", "").strip()
    if not target:
        raise ConfigError(
            "No app to put sign-in in front of.\nSet WHOP_APP to module:attribute, such as WHOP_APP=shop.main:app."
        )
    parts = _TARGET.fullmatch(target)
    if parts is None:
        raise _wrong(target, "that is not module:attribute", "WHOP_APP=shop.main:app or WHOP_APP=shop:create_app()")
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    app = _attribute(_module(target, parts["module"]), target, parts["attribute"] or "app")
    if parts["call"] and callable(app):
        with _own_traceback(target):
            app = app()
    _check(target, app, interface)
    return app


def _wrong(target: str, what: str, mend: str) -> ConfigError:
    return ConfigError(f"WHOP_APP={target}: {what}.\nSet WHOP_APP to module:attribute, such as {mend}.")


def _module(target: str, name: str) -> ModuleType:
    with _own_traceback(target):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            # The module itself, or a package around it; anything else is missing in the app's own code.
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            what = f"there is no module {error.name!r} in {os.getcwd()} or among the installed packages"
            raise _wrong(target, what, "WHOP_APP=main:app for an app in ./main.py") from None


def _attribute(module: ModuleType, target: str, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            likely = next((word for word in _LIKELY if callable(getattr(module, word, None))), "application")
            raise _wrong(
                target, f"{module.__name__!r} has no {name!r}", f"WHOP_APP={module.__name__}:{likely}"
            ) from None
    return found


@contextmanager
def _own_traceback(target: str) -> Iterator[None]:
    """Let errors of the app's own code keep their traceback, also where a server would mistake them.

    Servers take an `AttributeError` or a `NameError` for "no such attribute". waitress prints no traceback of an
    `ImportError` or a `ValueError`, gunicorn with `--preload` none of a `RuntimeError`.
    """
    try:
        yield
    except (AttributeError, NameError) as error:
        raise BrokenApp(f"WHOP_APP={target}: {type(error).__name__} in the app's own code: {error}") from error
    except (ImportError, RuntimeError, ValueError):
        logger.exception("WHOP_APP=%s: the app's own code failed", target)
        raise


def _check(target: str, app: Any, interface: Interface) -> None:
    other: Interface = "wsgi" if interface == "asgi" else "asgi"
    if speaks(app, interface):
        return
    if inspect.isclass(app) or not speaks(app, other):
        name = target if ":" in target else f"{target}:app"
        mend = f"WHOP_APP={name}() if that makes the app" if callable(app) else f"WHOP_APP={name.partition(':')[0]}:app"
        raise _wrong(target, f"that is {_AN[interface]} app's place, and it holds {repr(app)[:200]}", mend)
    raise ConfigError(
        f"WHOP_APP={target}: that is {_AN[other]} app, and serve:{interface} is for {_AN[interface]} app.\n"
        f"Keep WHOP_APP={target} and start whop_middleware.serve:{other} {_UNDER[other]}."
    )


_AN: dict[Interface, str] = {"asgi": "an ASGI", "wsgi": "a WSGI"}
_UNDER: dict[Interface, str] = {
    "asgi": "under an ASGI server (uvicorn, hypercorn, granian)",
    "wsgi": "under a WSGI server (gunicorn, waitress)",
}


def speaks(app: Any, interface: Interface) -> bool:
    """Return whether an app can be called as `(scope, receive, send)` or as `(environ, start_response)`."""
    if not callable(app):
        return False
    is_async = _is_async(app)
    if interface == "wsgi":
        return not is_async and _takes(app, "wsgi")
    # A class is called without `await` first (ASGI 2, which no server has needed since 2019).
    return not inspect.isclass(app) and _takes(app, "asgi") and (is_async or not _takes(app, "wsgi") or _is_open(app))


def _is_async(app: Any) -> bool:
    while isinstance(app, functools.partial):
        app = app.func
    return inspect.iscoroutinefunction(app) or (
        not inspect.isclass(app) and inspect.iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004
    )


def _takes(app: Any, interface: Interface) -> bool:
    try:
        inspect.signature(app).bind(*_PARAMETERS[interface])
    except TypeError:
        return False
    except ValueError:  # written in C, it does not say what it takes
        return True
    return True


def _is_open(app: Any) -> bool:
    """Return whether an app takes anything, so that only the server's choice says what it speaks."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except ValueError:
        return True
    return any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)


build_on_access(__name__, asgi=lambda: WhopMiddleware(load("asgi")), wsgi=lambda: WhopWSGIMiddleware(load("wsgi")))

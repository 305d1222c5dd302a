"""Apps by name: load `module:attribute`, and tell ASGI from WSGI. Guesses no name and starts no server."""

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

from .config import WhopConfig
from .errors import ConfigError
from .reports import logger

Interface: TypeAlias = Literal["asgi", "wsgi"]

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_TARGET = re.compile(rf"(?P<module>{_NAME})(?::(?P<attribute>{_NAME})(?P<call>\(\))?)?")
_LIKELY = ("app", "application", "api", "asgi", "wsgi", "server")
_PARAMETERS: dict[Interface, tuple[None, ...]] = {"asgi": (None,) * 3, "wsgi": (None,) * 2}
AN: dict[Interface, str] = {"asgi": "an ASGI", "wsgi": "a WSGI"}


class BrokenApp(Exception):
    """The app's own code failed; its error is the cause."""


def load(target: str, said: str, folder: str | None = None) -> Any:
    """Return the app at `module:attribute` (default `app`; `factory()` is called); `folder` (here) is importable.

    `said` is what stands before the name where it was given: `"WHOP_APP="`, `"--app "`. Raises `ConfigError` when there
    is no such app; an error inside its module keeps its traceback.
    """
    parts = _TARGET.fullmatch(target)
    if parts is None:
        # A file's name is the usual slip.
        module, _, attribute = target.partition(":")
        module = module.removesuffix(".py").strip("./").replace("/", ".")
        meant = f"{module}:{attribute or 'app'}"
        example = meant if "/" in target and _TARGET.fullmatch(meant) else f"shop.main:app or {said}shop:create_app()"
        raise wrong(said, target, "that is not module:attribute", example)
    folder = folder or os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    app = _attribute(_module(said, target, parts["module"]), said, target, parts["attribute"] or "app")
    if parts["call"] and callable(app):
        with _own_traceback(said, target):
            app = app()
    if not callable(app):
        raise wrong(said, target, f"that is no app, it holds {repr(app)[:200]}", f"{parts['module']}:app")
    return app


def wrong(said: str, target: str, what: str, example: str) -> ConfigError:
    """Return the error for a name that leads to no app; its last line has the mend."""
    return ConfigError(f"{said}{target}: {what}.\nWrite it as {said}module:attribute, such as {said}{example}.")


def _module(said: str, target: str, name: str) -> ModuleType:
    with _own_traceback(said, target):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            # The module itself, or a package around it; anything else is missing in the app's own code.
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            what = f"there is no module {error.name!r} in {os.getcwd()} or among the installed packages"
            if name.endswith(".py"):
                raise wrong(said, target, what, f"{name.removesuffix('.py')}:app") from None
            raise wrong(said, target, what, "main:app for an app in ./main.py") from None


def _attribute(module: ModuleType, said: str, target: str, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            likely = next((word for word in _LIKELY if callable(getattr(module, word, None))), "application")
            raise wrong(said, target, f"{module.__name__!r} has no {name!r}", f"{module.__name__}:{likely}") from None
    return found


@contextmanager
def _own_traceback(said: str, target: str) -> Iterator[None]:
    """Let errors of the app's own code keep their traceback, also where a server would mistake them.

    Servers take an `AttributeError` or a `NameError` for "no such attribute". waitress prints no traceback of an
    `ImportError` or a `ValueError`, gunicorn with `--preload` none of a `RuntimeError`.
    """
    try:
        yield
    except (AttributeError, NameError) as error:
        raise BrokenApp(f"{said}{target}: {type(error).__name__} in the app's own code: {error}") from error
    except (ImportError, RuntimeError, ValueError):
        logger.exception("%s%s: the app's own code failed", said, target)
        raise


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


def refuse_other(app: object, interface: Interface, use: str) -> None:
    """Raise `ConfigError` for what is clearly no app of an interface; `use` names what the other one needs."""
    other: Interface = "wsgi" if interface == "asgi" else "asgi"
    if isinstance(app, WhopConfig):
        raise ConfigError("The first argument is the app, and this is its configuration: pass the app first")
    if not speaks(app, interface) and speaks(app, other):
        raise ConfigError(f"This is {AN[other]} app: put {use} around it")

"""The app to show: load it, tell ASGI from WSGI, find the middleware it brings. Starts no server."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, TypeAlias

from asgiref.sync import iscoroutinefunction

from whop_middleware import WhopConfig, WhopMiddleware, WhopWSGIMiddleware
from whop_middleware.errors import ConfigError

Middleware: TypeAlias = WhopMiddleware | WhopWSGIMiddleware

_LAYERS_SEARCHED = 20


def load(name: str, folder: Path) -> Any:
    """Return the app at `module:attribute` (default `app`; `factory()` is called); `folder` is made importable.

    Raises `ConfigError` when there is none; an error inside the module is the module's, and keeps its traceback.
    """
    module_name, _, attribute = name.partition(":")
    attribute, called = (attribute or "app").removesuffix("()"), attribute.endswith("()")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    found: Any = _import(module_name, name, folder)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"--app {name}: the module {module_name} is there, but has no {attribute!r}")
        found = getattr(found, part)
    app = found() if called else found
    if not callable(app):
        raise ConfigError(f"--app {name}: this is no app, but a {type(app).__name__}: name an ASGI or a WSGI app")
    return app


def _import(module_name: str, name: str, folder: Path) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        if module_name.endswith(".py"):
            module = module_name.removesuffix(".py").replace("/", ".")
            raise ConfigError(f"--app {name}: name the module, not its file, such as --app {module}:app") from error
        raise ConfigError(
            f"--app {name}: there is no module {error.name!r} in {folder}; "
            "write it as package.module:attribute, from the folder that holds the package"
        ) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--app {name}: write it as package.module:attribute") from error


def is_asgi(app: Any) -> bool:
    """Return whether an app speaks ASGI 3: servers tell by its being, or having, a coroutine `__call__`."""
    return iscoroutinefunction(app) or iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


def middleware_config(app: Any) -> WhopConfig | None:
    """Return the settings of the middleware that an app brings along, as far as can be seen from outside."""
    for _ in range(_LAYERS_SEARCHED):
        if isinstance(app, Middleware):
            return app.config
        for added in getattr(app, "user_middleware", ()):  # Starlette, FastAPI
            if getattr(added, "cls", None) is WhopMiddleware:
                options = dict(added.kwargs)
                return WhopConfig.build(options.pop("config", None), options)
        app = getattr(app, "wsgi_app", None) or getattr(app, "app", None)  # Flask; most middleware
    return None


def wrap(app: Any) -> Middleware:
    """Put the middleware around an app, with the settings of the environment."""
    return WhopMiddleware(app) if is_asgi(app) else WhopWSGIMiddleware(app)

"""The app to show: find the middleware it brings, or put one around it. Starts no server."""

from __future__ import annotations

from typing import Any, TypeAlias

from whop_middleware import WhopConfig, WhopMiddleware, WhopWSGIMiddleware
from whop_middleware.apps import speaks

Middleware: TypeAlias = WhopMiddleware | WhopWSGIMiddleware

_LAYERS_SEARCHED = 20


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
    return WhopMiddleware(app) if speaks(app, "asgi") else WhopWSGIMiddleware(app)

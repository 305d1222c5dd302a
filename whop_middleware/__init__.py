"""Sign in with Whop around any ASGI or WSGI app, in one line. Holds the public names, and loads none before its use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .asgi import WhopMiddleware
    from .config import WhopConfig
    from .errors import (
        AccessDenied,
        BadWhopAnswer,
        CodeRefused,
        ConfigError,
        CredentialsRefused,
        SignInDeclined,
        SignInError,
        StateError,
        WhopError,
        WhopUnreachable,
    )
    from .user import WhopUser, current_user
    from .wsgi import WhopWSGIMiddleware

__all__ = [
    "AccessDenied",
    "BadWhopAnswer",
    "CodeRefused",
    "ConfigError",
    "CredentialsRefused",
    "SignInDeclined",
    "SignInError",
    "StateError",
    "WhopConfig",
    "WhopError",
    "WhopMiddleware",
    "WhopUnreachable",
    "WhopUser",
    "WhopWSGIMiddleware",
    "current_user",
]

__version__ = "0.1.0"

# Everything that is not here is an error and lives in `errors`.
_MODULES = {
    "WhopConfig": "config",
    "WhopMiddleware": "asgi",
    "WhopUser": "user",
    "WhopWSGIMiddleware": "wsgi",
    "current_user": "user",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for (PEP 562): a WSGI worker never loads the ASGI side."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

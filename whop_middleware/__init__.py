"""Sign in with Whop around any ASGI or WSGI app, in one line. This module holds the public names and nothing else."""

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

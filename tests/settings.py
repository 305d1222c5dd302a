"""Settings to try: good ones, and the message that refuses bad ones. Reads no real environment."""

from __future__ import annotations

from typing import Any

import pytest

from whop_middleware import ConfigError, WhopConfig
from whop_middleware.config import SETTINGS

ID = "client_1"
SECRET = "client-secret-0123456789"
KEY = "0123456789abcdef0123456789abcdef"
HIDDEN = "hidden-value"
CALLBACK = "https://app.example/callback/whop"
VARIABLES = {"WHOP_CLIENT_ID": ID, "WHOP_CLIENT_SECRET": SECRET}
NAMES = [setting.name for setting in SETTINGS]


def config(**options: Any) -> WhopConfig:
    return WhopConfig(**({"client_id": ID, "client_secret": SECRET} | options))


def from_env(**variables: str) -> WhopConfig:
    return WhopConfig.from_env(VARIABLES | variables)


def refusal(**options: Any) -> str:
    """Return the message that refuses these options."""
    with pytest.raises(ConfigError) as caught:
        config(**options)
    assert caught.value.__cause__ is None
    return str(caught.value)

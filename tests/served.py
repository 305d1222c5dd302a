"""A module of a folder behind a real server, and a client for it. Sets two variables, as on localhost, and no third."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from whop_middleware import WhopConfig
from whop_middleware.testing import session_cookie

from .processes import command, environment, free_port, running

SETTINGS = {"WHOP_CLIENT_ID": "client_1", "WHOP_CLIENT_SECRET": "client-secret-0123456789"}


def localhost(**settings: str) -> dict[str, str]:
    """Return the environment of a program on localhost."""
    return environment(0, WHOP_SECRET_KEY="", WHOP_REDIRECT_URI="", **SETTINGS) | settings


def member(name: str = "Ada") -> dict[str, str]:
    """Return the cookie of `user_ada`, signed in to a program on `localhost`."""
    return session_cookie(WhopConfig.from_env(SETTINGS), id="user_ada", name=name)


@contextmanager
def serve(server: str, target: str, folder: Path, **settings: str) -> Iterator[httpx.Client]:
    """Run `target` (`module:attribute`) under a server, or Django's `runserver`; give a client that follows nothing."""
    port = free_port()
    runserver = [sys.executable, "-m", "django", "runserver", f"127.0.0.1:{port}", "--noreload"]
    arguments = runserver if server == "runserver" else command(server, target, port)
    # A proxy of the shell's must not be given a request to loopback.
    with (
        running(arguments, folder, [port], localhost(**settings)),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client,
    ):
        yield client

"""The `state` of a sign-in and the login cookie that binds it to one browser. Performs no I/O; stores nothing else."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, replace
from itertools import islice

from .config import WhopConfig
from .signing import (
    CLOCK_SKEW,
    COOKIE_LIMIT,
    COOKIES_TRIED,
    BadSignature,
    b64,
    cookie_pairs,
    set_cookie,
    signer,
    unb64,
)

STATE_MAX_AGE = 600
"""Seconds a sign-in may take; Whop's own codes live 5 to 10 minutes."""
STATE_LIMIT = 2048
START_WINDOW = 60
_STARTS_KEPT = 40


@dataclass(frozen=True, slots=True)
class State:
    """An opened `state`. `restarted` marks a sign-in that already started over by itself once."""

    return_path: str
    nonce: str
    binding: str
    issued_at: int
    restarted: bool


@dataclass(frozen=True, slots=True)
class LoginCookie:
    """The key that binds states to one browser, and when it started sign-ins: (return path digest, Unix s) pairs."""

    key: bytes
    starts: tuple[tuple[str, int], ...] = ()

    @classmethod
    def new(cls) -> LoginCookie:
        """Return a cookie with a fresh random key."""
        return cls(os.urandom(16))

    def derive(self, purpose: str, nonce: str) -> str:
        """Return 43 URL-safe characters that only this browser's key and this nonce give (RFC 7636 section 4.1)."""
        return b64(hmac.digest(self.key, f"{purpose}|{nonce}".encode(), "sha256"))


class States:
    """Seal and open states and login cookies."""

    def __init__(self, config: WhopConfig) -> None:
        self._state_signer = signer(config, "state")
        self._login_signer = signer(config, "login")
        self._names = (f"{config.session_cookie}_login", f"__Host-{config.session_cookie}_login")

    def seal_state(self, login: LoginCookie, return_path: str, *, restarted: bool, now: float) -> tuple[str, State]:
        """Return a fresh state of at most 2,048 characters, bound to the browser's key."""
        nonce = b64(os.urandom(12))
        state = State(return_path, nonce, login.derive("state", nonce)[:22], int(now), restarted)
        text = "\n".join((str(state.issued_at), nonce, state.binding, "r" if restarted else "", return_path))
        return self._state_signer.sign(b64(text.encode())).decode(), state

    def open_state(self, value: str) -> State | None:
        """Return the state when its signature is good; `is_good_state` says if it is fresh and this browser's."""
        if len(value) > STATE_LIMIT:
            return None
        try:
            text = unb64(self._state_signer.unsign(value.encode())).decode()
            issued_at, nonce, binding, restarted, return_path = text.split("\n", 4)
            return State(return_path, nonce, binding, int(issued_at), restarted == "r")
        except (BadSignature, ValueError):
            return None

    @staticmethod
    def is_good_state(state: State, login: LoginCookie | None, now: float) -> bool:
        """Return whether a state is fresh and was made for the browser that holds this login cookie."""
        if login is None or not -CLOCK_SKEW <= now - state.issued_at < STATE_MAX_AGE:
            return False
        return hmac.compare_digest(login.derive("state", state.nonce)[:22].encode(), state.binding.encode())

    def find_login(self, header: bytes, secure: bool, now: float) -> LoginCookie | None:
        """Return the browser's login cookie when it verifies and is younger than 10 minutes."""
        wanted = f"{self._names[secure]}=".encode()
        for pair in islice(cookie_pairs(header, wanted), COOKIES_TRIED):
            login = self._open_login(pair[len(wanted) :], now)
            if login is not None:
                return login
        return None

    def _open_login(self, value: bytes, now: float) -> LoginCookie | None:
        if len(value) > COOKIE_LIMIT:
            return None
        try:
            issued_at, key, *starts = unb64(self._login_signer.unsign(value)).decode().split(" ")
            if not -CLOCK_SKEW <= now - int(issued_at) < STATE_MAX_AGE:
                return None
            pairs = (start.split(":") for start in starts)
            return LoginCookie(unb64(key.encode()), tuple((digest, int(at)) for digest, at in pairs))
        except (BadSignature, ValueError):
            return None

    def set_login(self, login: LoginCookie, secure: bool, now: float) -> str:
        """Return the `Set-Cookie` value of a login cookie, good for another 10 minutes."""
        starts = [f"{digest}:{at}" for digest, at in login.starts[-_STARTS_KEPT:]]
        text = " ".join((str(int(now)), b64(login.key), *starts))
        value = self._login_signer.sign(b64(text.encode())).decode()
        return set_cookie(self._names[secure], value, STATE_MAX_AGE, secure=secure)

    def clear_login(self, secure: bool) -> str:
        """Return the `Set-Cookie` value that voids this browser's states."""
        return set_cookie(self._names[secure], "", 0, secure=secure)


def count_start(login: LoginCookie, return_path: str, now: float) -> tuple[LoginCookie, int]:
    """Return the login cookie with one more start, and how many starts this return path had within 60 s."""
    digest = b64(hashlib.sha256(return_path.encode()).digest()[:6])
    recent = tuple((name, at) for name, at in login.starts if -CLOCK_SKEW <= now - at < START_WINDOW)
    starts = (*recent, (digest, int(now)))
    return replace(login, starts=starts), sum(name == digest for name, _ in starts)

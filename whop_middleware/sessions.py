"""Signed cookies and states: the only module that knows itsdangerous. Performs no I/O; believes nothing unsigned."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf
from types import MappingProxyType
from typing import Any, NamedTuple

from itsdangerous import BadSignature, Signer, want_bytes

from .bounded import trim
from .config import WhopConfig
from .messages import Forward
from .user import Access, WhopUser

CLOCK_SKEW = 60
"""Seconds by which another server's clock may run ahead of ours (NTP keeps hosts far closer)."""
STATE_MAX_AGE = 600
"""Seconds a sign-in may take; Whop's own codes live 5 to 10 minutes."""
STATE_LIMIT = 2048
COOKIE_LIMIT = 4096
"""Bytes of a cookie with its name and attributes that every browser keeps (RFC 6265 section 6.1)."""
START_WINDOW = 60
_VERSION = 1
_TEXT = {str, type(None)}
_COOKIES_TRIED = 4
# The 32 bytes of HMAC-SHA256 in URL-safe base64: the last character has two bits to spare, and they are zero.
_SIGNATURE_LENGTH = 43
"""Characters of 32 bytes in base64 without its padding."""
_VERIFIED_KEPT = 4096
_STARTS_KEPT = 40
_OPTIONAL_FIELDS = ("profile_pic_url", "email", "name", "username")
_read_json = json.JSONDecoder().raw_decode
_NO_VERDICTS: Mapping[str, Verdict] = MappingProxyType({})
_NO_RULES: Mapping[tuple[str, ...], float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Whop said about one resource: `level` "customer", "admin" or `None` (not owned), `at` in Unix seconds."""

    level: str | None
    at: int


@dataclass(frozen=True, slots=True)
class Session:
    """What the session cookie holds. `sent_at` is when the browser was last sent off for a silent recheck (Unix s)."""

    user: WhopUser
    verdicts: Mapping[str, Verdict] = field(default_factory=lambda: _NO_VERDICTS)
    sent_at: int = 0


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
        return _b64(hmac.digest(self.key, f"{purpose}|{nonce}".encode(), "sha256"))


class Entry(NamedTuple):
    """A verified cookie: the session, the window of time in which to believe it, until when it satisfies each rule."""

    session: Session
    not_before: float
    not_after: float
    admitted_until: Mapping[tuple[str, ...], float]
    forward: Forward


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(data: bytes) -> bytes:
    return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))


def cookie_pairs(header: bytes, wanted: bytes) -> Iterator[bytes]:
    """Yield each pair that starts with `wanted` (`b"name="`): a linear split, no quotes, no escapes (RFC 6265)."""
    if wanted in header:
        for part in header.split(b";"):
            pair = part.lstrip(b" \t")
            if pair.startswith(wanted):
                yield pair


class _Signer(Signer):
    """HMAC-SHA256 with each key's state prepared, which halves its cost; a signature has one spelling only."""

    def __init__(self, keys: list[bytes]) -> None:
        super().__init__(keys, salt=b"", key_derivation="none", digest_method=hashlib.sha256)
        self._prepared = [hmac.new(key, digestmod="sha256") for key in reversed(keys)]

    def verify_signature(self, value: str | bytes, sig: str | bytes) -> bool:
        value, sig = want_bytes(value), want_bytes(sig)
        for prepared in self._prepared:
            digest = prepared.copy()
            digest.update(value)
            if hmac.compare_digest(base64.urlsafe_b64encode(digest.digest())[:_SIGNATURE_LENGTH], sig):
                return True
        return False


class Sessions:
    """Seal and open sessions, states and login cookies; remember which session cookies have been verified."""

    def __init__(self, config: WhopConfig) -> None:
        self.config = config
        self._session_signer = self._signer("session")
        self._state_signer = self._signer("state")
        self._login_signer = self._signer("login")
        self.verified: tuple[dict[bytes, Entry], dict[bytes, Entry]] = ({}, {})
        """Session cookies that have been verified, by the exact bytes of `name=value`; over http, over https."""
        self._rule_ids = tuple(dict.fromkeys(ids for ids in config.require.values() if ids))
        self._allowed = frozenset(config.allow_users)
        self._plain = config.session_cookie
        self._prefixed = f"__Host-{config.session_cookie}"
        self._wanted = (f"{self._plain}=".encode(), f"{self._prefixed}=".encode())

    def _signer(self, purpose: str) -> Signer:
        label = f"whop_middleware|{purpose}|{self.config.client_id}".encode()
        keys = [hmac.digest(key.encode(), label, "sha256") for key in self.config.signing_keys]
        # The last key of an itsdangerous list signs; of ours the first.
        return _Signer(keys[::-1])

    # Session cookies

    def name(self, secure: bool) -> str:
        """Return the session cookie's name."""
        return self._prefixed if secure else self._plain

    def carried(self, header: bytes, secure: bool) -> bool:
        """Return whether a `Cookie` header names the session cookie at all."""
        wanted = self._wanted[secure]
        return wanted in header and any(cookie_pairs(header, wanted))

    def find(self, header: bytes, secure: bool, now: float) -> Entry | None:
        """Return the first of the first four session cookies that verifies, or `None`."""
        if b";" not in header:
            return self._known(header, secure, now) if header.startswith(self._wanted[secure]) else None
        for pair in islice(cookie_pairs(header, self._wanted[secure]), _COOKIES_TRIED):
            entry = self._known(pair, secure, now)
            if entry is not None:
                return entry
        return None

    def forget(self, header: bytes, secure: bool) -> None:
        """Drop a signed-out browser's cookies from the map of verified ones."""
        for pair in cookie_pairs(header, self._wanted[secure]):
            self.verified[secure].pop(pair, None)

    def _known(self, pair: bytes, secure: bool, now: float) -> Entry | None:
        verified = self.verified[secure]
        entry = verified.get(pair)
        if entry is not None:
            if entry.not_before <= now < entry.not_after:
                return entry
            verified.pop(pair, None)
        session = self.open_session(pair[len(self._wanted[secure]) :], now)
        if session is None:
            return None
        entry = verified[pair] = self.entry(session, now)
        if len(verified) > _VERIFIED_KEPT:
            trim(verified, _VERIFIED_KEPT)
        return entry

    def seal_session(self, session: Session) -> str:
        """Return the signed value of a session."""
        user = session.user
        verdicts = {key: [verdict.level, verdict.at] for key, verdict in session.verdicts.items()}
        fields = (user.username, user.name, user.email, user.profile_pic_url)
        payload = [_VERSION, user.id, user.signed_in_at, *fields, verdicts, session.sent_at]
        data = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        return self._session_signer.sign(b2a_base64(data, newline=False).rstrip(b"=")).decode()

    def open_session(self, value: bytes, now: float) -> Session | None:
        """Return the session in a cookie's value, `None` when it is forged, cut, expired or from the future."""
        if len(value) > COOKIE_LIMIT:
            return None
        try:
            data = a2b_base64(self._session_signer.unsign(value) + b"==")
            payload, _ = _read_json(data.decode())
            session = _read_session(*payload)
        except (BadSignature, ValueError, TypeError, AttributeError, RecursionError):
            return None
        age = now - session.user.signed_in_at
        return session if -CLOCK_SKEW <= age < self.config.session_max_age else None

    def entry(self, session: Session, now: float) -> Entry:
        """Return a session with everything that a request needs to know of it, worked out once."""
        user = session.user
        expires, not_before = user.signed_in_at + self.config.session_max_age, user.signed_in_at - CLOCK_SKEW
        if not session.verdicts and not self._rule_ids:
            return Entry(session, not_before, expires, _NO_RULES, Forward(user))
        access, latest, ends = self._access(session, now)
        session = replace(session, user=replace(user, access=Access(access)))
        until = self._admitted_until(session, expires)
        return Entry(session, latest - CLOCK_SKEW, min(expires, ends), until, Forward(session.user))

    def _access(self, session: Session, now: float) -> tuple[dict[str, str], float, float]:
        """Return what is owned, and from when to when (Unix s) that is true of these verdicts."""
        if session.user.id in self._allowed:
            return dict.fromkeys(self.config.required_ids, "admin"), session.user.signed_in_at, inf
        access: dict[str, str] = {}
        not_before, not_after = session.user.signed_in_at, inf
        for key, verdict in session.verdicts.items():
            not_before = max(not_before, verdict.at)
            ends = self.stands_until(session, verdict)
            if verdict.level and now < ends:
                access[key] = verdict.level
                not_after = min(not_after, ends)
        return access, not_before, not_after

    def _admitted_until(self, session: Session, expires: float) -> dict[tuple[str, ...], float]:
        if session.user.id in self._allowed:
            return dict.fromkeys(self._rule_ids, expires)
        return {ids: max(self._due(session, key) for key in ids) for ids in self._rule_ids}

    def _due(self, session: Session, key: str) -> float:
        verdict = session.verdicts.get(key)
        return self.due_at(session, verdict) if verdict is not None and verdict.level else 0

    def due_at(self, session: Session, verdict: Verdict) -> float:
        """Return when a good verdict is due again (Unix s): spread, so that a launch day's buyers don't all ask."""
        spread = hashlib.sha256(session.user.id.encode()).digest()[0] / 255
        return verdict.at + self.config.recheck_seconds * (1 - spread / 10)

    def stands_until(self, session: Session, verdict: Verdict) -> float:
        """Return when a good verdict ends that nobody could renew (Unix s)."""
        return self.due_at(session, verdict) + self.config.recheck_grace

    def is_allowed(self, user: WhopUser) -> bool:
        """Return whether someone is let in without a purchase (`allow_users`)."""
        return user.id in self._allowed

    def set_session(self, session: Session, secure: bool, now: float) -> str:
        """Return a `Set-Cookie` value under 4,096 bytes; over-long optional fields are dropped, the id never."""
        max_age = max(0, session.user.signed_in_at + self.config.session_max_age - int(now))
        cookie = self._set_cookie(self.name(secure), self.seal_session(session), max_age, secure)
        for name in _OPTIONAL_FIELDS:
            if len(cookie) < COOKIE_LIMIT:
                break
            session = replace(session, user=_without(session.user, name))
            cookie = self._set_cookie(self.name(secure), self.seal_session(session), max_age, secure)
        return cookie

    def clear_session(self, secure: bool) -> str:
        """Return the `Set-Cookie` value that ends a session in the browser."""
        return self._set_cookie(self.name(secure), "", 0, secure)

    @staticmethod
    def _set_cookie(name: str, value: str, max_age: int, secure: bool) -> str:
        attributes = f"Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax"
        return f"{name}={value}; {attributes}{'; Secure' if secure else ''}"

    # States and the login cookie that binds them

    def seal_state(self, login: LoginCookie, return_path: str, *, restarted: bool, now: float) -> tuple[str, State]:
        """Return a fresh state of at most 2,048 characters, bound to the browser's key."""
        nonce = _b64(os.urandom(12))
        state = State(return_path, nonce, login.derive("state", nonce)[:22], int(now), restarted)
        text = "\n".join((str(state.issued_at), nonce, state.binding, "r" if restarted else "", return_path))
        return self._state_signer.sign(_b64(text.encode())).decode(), state

    def open_state(self, value: str) -> State | None:
        """Return the state when its signature is good; `is_good_state` says if it is fresh and this browser's."""
        if len(value) > STATE_LIMIT:
            return None
        try:
            text = _unb64(self._state_signer.unsign(value.encode())).decode()
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
        wanted = f"{self.name(secure)}_login=".encode()
        for pair in islice(cookie_pairs(header, wanted), _COOKIES_TRIED):
            login = self._open_login(pair[len(wanted) :], now)
            if login is not None:
                return login
        return None

    def _open_login(self, value: bytes, now: float) -> LoginCookie | None:
        if len(value) > COOKIE_LIMIT:
            return None
        try:
            issued_at, key, *starts = _unb64(self._login_signer.unsign(value)).decode().split(" ")
            if not -CLOCK_SKEW <= now - int(issued_at) < STATE_MAX_AGE:
                return None
            pairs = (start.split(":") for start in starts)
            return LoginCookie(_unb64(key.encode()), tuple((digest, int(at)) for digest, at in pairs))
        except (BadSignature, ValueError):
            return None

    def set_login(self, login: LoginCookie, secure: bool, now: float) -> str:
        """Return the `Set-Cookie` value of a login cookie, good for another 10 minutes."""
        starts = [f"{digest}:{at}" for digest, at in login.starts[-_STARTS_KEPT:]]
        text = " ".join((str(int(now)), _b64(login.key), *starts))
        value = self._login_signer.sign(_b64(text.encode())).decode()
        return self._set_cookie(f"{self.name(secure)}_login", value, STATE_MAX_AGE, secure)

    def clear_login(self, secure: bool) -> str:
        """Return the `Set-Cookie` value that voids this browser's states."""
        return self._set_cookie(f"{self.name(secure)}_login", "", 0, secure)


def count_start(login: LoginCookie, return_path: str, now: float) -> tuple[LoginCookie, int]:
    """Return the login cookie with one more start, and how many starts this return path had within 60 s."""
    digest = _b64(hashlib.sha256(return_path.encode()).digest()[:6])
    recent = tuple((name, at) for name, at in login.starts if -CLOCK_SKEW <= now - at < START_WINDOW)
    starts = (*recent, (digest, int(now)))
    return replace(login, starts=starts), sum(name == digest for name, _ in starts)


def now() -> float:
    """Return the time in Unix seconds; the one clock of the package."""
    return time.time()


def _read_session(
    version: object,
    user_id: object,
    signed_in_at: object,
    username: str | None,
    name: str | None,
    email: str | None,
    picture: str | None,
    verdicts: object,
    sent_at: object,
) -> Session:
    """Read a payload signed by our own key; anything unexpected raises."""
    if version != _VERSION or type(user_id) is not str or not user_id:
        raise ValueError("not a session of this version")
    if type(signed_in_at) is not int or type(sent_at) is not int:
        raise ValueError("not times")
    for text in (username, name, email, picture):
        if type(text) not in _TEXT:
            raise ValueError("not a user")
    user = WhopUser(
        id=user_id,
        username=username,
        name=name,
        email=email,
        profile_pic_url=picture,
        signed_in_at=signed_in_at,
    )
    return Session(user, _read_verdicts(verdicts) if verdicts else _NO_VERDICTS, sent_at)


def _read_verdicts(verdicts: object) -> dict[str, Verdict]:
    if not isinstance(verdicts, dict):
        raise ValueError("not verdicts")
    return {key: _read_verdict(*value) for key, value in verdicts.items()}


def _read_verdict(level: object, at: object) -> Verdict:
    if level not in ("customer", "admin", None) or type(at) is not int:
        raise ValueError("not a verdict")
    return Verdict(None if level is None else str(level), at)


def _without(user: WhopUser, name: str) -> WhopUser:
    fields: dict[str, Any] = {name: None}
    return replace(user, **fields)

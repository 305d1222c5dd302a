"""Sessions in a signed cookie, and what is known of those that were verified. Performs no I/O; holds no token."""

from __future__ import annotations

import hashlib
import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf
from types import MappingProxyType
from typing import Any

from .bounded import trim
from .config import WhopConfig
from .messages import Forward
from .signing import CLOCK_SKEW, COOKIE_LIMIT, COOKIES_TRIED, BadSignature, cookie_pairs, set_cookie, signer
from .user import Access, WhopUser

REFUSAL_LASTS = 60
"""Seconds after which a bad verdict is asked again, with an `api_key`: whoever has just bought is soon in."""
_VERSION = 1
_TEXT = {str, type(None)}
_VERIFIED_KEPT = 4096
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


@dataclass(slots=True)
class Entry:
    """A verified cookie: the session, the window of time in which to believe it, until when it satisfies each rule."""

    session: Session
    not_before: float
    not_after: float
    admitted_until: Mapping[tuple[str, ...], float]
    forward: Forward


class Sessions:
    """Seal and open sessions; remember which cookies have been verified."""

    def __init__(self, config: WhopConfig) -> None:
        self.config = config
        self._signer = signer(config, "session")
        self.verified: tuple[dict[bytes, Entry], dict[bytes, Entry]] = ({}, {})
        """Session cookies that have been verified, by the exact bytes of `name=value`; over http, over https."""
        self._optional = config.mode == "optional"
        self._rule_ids = tuple(dict.fromkeys(ids for ids in config.require.values() if ids))
        if self._optional:  # nobody is turned away, so only the api_key ever asks, about each id for itself
            self._rule_ids = tuple((key,) for key in config.required_ids) if config.api_key is not None else ()
        self._allowed = frozenset(config.allow_users)
        self._plain = config.session_cookie
        self._prefixed = f"__Host-{config.session_cookie}"
        self._wanted = (f"{self._plain}=".encode(), f"{self._prefixed}=".encode())

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
        for pair in islice(cookie_pairs(header, self._wanted[secure]), COOKIES_TRIED):
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
        return self._signer.sign(b2a_base64(data, newline=False).rstrip(b"=")).decode()

    def open_session(self, value: bytes, now: float) -> Session | None:
        """Return the session in a cookie's value, `None` when it is forged, cut, expired or from the future."""
        if len(value) > COOKIE_LIMIT:
            return None
        try:
            data = a2b_base64(self._signer.unsign(value) + b"==")
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
        if verdict is None or not (verdict.level or self._optional):
            return 0
        return self.due_at(session, verdict) if verdict.level else verdict.at + REFUSAL_LASTS

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
        cookie = set_cookie(self.name(secure), self.seal_session(session), max_age, secure=secure)
        for name in _OPTIONAL_FIELDS:
            if len(cookie) < COOKIE_LIMIT:
                break
            session = replace(session, user=_without(session.user, name))
            cookie = set_cookie(self.name(secure), self.seal_session(session), max_age, secure=secure)
        return cookie

    def clear_session(self, secure: bool) -> str:
        """Return the `Set-Cookie` value that ends a session in the browser."""
        return set_cookie(self.name(secure), "", 0, secure=secure)


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

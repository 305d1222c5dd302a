"""Proof of purchase: who owns what, when to ask again, what holds while Whop cannot be asked. Performs no I/O."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from .bounded import trim
from .errors import CredentialsRefused, SignInError, WhopUnreachable
from .messages import Flow, Once, Together
from .reports import report
from .sessions import REFUSAL_LASTS, Session, Sessions, Verdict
from .signing import CLOCK_SKEW, now
from .site import Site
from .upstream import PAUSE, Upstream
from .whop import Token
from .whop.access import (
    access_request,
    experience_request,
    memberships_request,
    parse_access,
    parse_experience,
    parse_memberships,
)

MEMBERSHIP_PAGES = 10
"""Pages of 50 memberships read at most: 500 is more than any person has."""
_VERDICTS_KEPT = 10_000
_SILENT_SIGN_IN = 600
"""Seconds after which a browser that was sent off for a recheck is no longer on its way: its state is void by then."""

Needs = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a session stands to the needs of a path.

    `fresh`: let in, nothing to ask. `holds`: a last good verdict stands for every need. `unknown`: without an answer
    there is no verdict at all. `ask`: the ids to ask about.
    """

    fresh: bool
    holds: bool
    unknown: bool
    ask: tuple[str, ...]


class Purchase:
    """Asks at sign-in, asks again when a verdict ages, and remembers recent verdicts of the process."""

    def __init__(self, site: Site, sessions: Sessions, upstream: Upstream) -> None:
        self.config = site.config
        self.rules = site.rules
        self.sessions = sessions
        self.upstream = upstream
        self._recent: dict[tuple[str, str], Verdict] = {}
        self._asking: set[tuple[int, str, str]] = set()
        self._in_trouble = False

    # At sign-in

    def ask_all(self, user_id: str, token: Token) -> Flow[dict[str, Verdict]]:
        """Ask about every id of `require`; raise the `SignInError` of the first that cannot be had."""
        ids = self.config.required_ids
        if not ids or user_id in self.config.allow_users:
            return {}
        levels = yield from (
            self._levels_by_access(user_id, token, ids) if self._asks_access else self._levels_by_token(token, ids)
        )
        verdicts = {key: Verdict(levels.get(key), int(now())) for key in ids}
        self._remember(user_id, verdicts)
        self._in_trouble = False
        return verdicts

    @property
    def _asks_access(self) -> bool:
        return self.config.api_key is not None or self.config.protocol == "oauth21"

    def _levels_by_access(self, user_id: str, token: Token, ids: tuple[str, ...]) -> Flow[dict[str, str | None]]:
        bearer = self.config.api_key or token.access_token
        levels = yield Together(tuple(self._access(user_id, bearer, key) for key in ids))
        return dict(zip(ids, levels, strict=True))

    def _access(self, user_id: str, bearer: str, key: str) -> Flow[str | None]:
        request = access_request(self.config.api_url, bearer, user_id, key)
        parse = partial(parse_access, resource_id=key, with_api_key=self.config.api_key is not None)
        return (yield from self.upstream.call(request, parse))

    def _levels_by_token(self, token: Token, ids: tuple[str, ...]) -> Flow[dict[str, str | None]]:
        flows: list[Flow[frozenset[str]]] = []
        if any(key.startswith("prod_") for key in ids):
            flows.append(self._products(token))
        flows += [self._company(token, key) for key in ids if key.startswith("biz_")]
        flows += [self._experience(token, key) for key in ids if key.startswith("exp_")]
        owned = frozenset[str]().union(*(yield Together(tuple(flows))))
        return {key: "customer" if key in owned else None for key in ids}

    def _products(self, token: Token, company_id: str | None = None) -> Flow[frozenset[str]]:
        owned: frozenset[str] = frozenset()
        page: int | None = 1
        while page is not None and page <= MEMBERSHIP_PAGES:
            request = memberships_request(self.config.api_url, token, page=page, company_id=company_id)
            memberships = yield from self.upstream.call(request, parse_memberships)
            owned |= memberships.product_ids
            page = memberships.next_page if memberships.next_page is None or memberships.next_page > page else None
        return owned

    def _company(self, token: Token, company_id: str) -> Flow[frozenset[str]]:
        products = yield from self._products(token, company_id)
        return frozenset({company_id}) if products else frozenset()

    def _experience(self, token: Token, experience_id: str) -> Flow[frozenset[str]]:
        request = experience_request(self.config.api_url, token, experience_id)
        owned = yield from self.upstream.call(request, parse_experience)
        return frozenset({experience_id}) if owned else frozenset()

    # Afterwards

    def needs(self, path_needs: Needs) -> Needs:
        """Return what to look into for a path: in optional mode each id for itself, as the app wants them all."""
        if self.config.mode == "optional":
            return tuple((key,) for key in self.config.required_ids)
        return path_needs

    def is_exempt(self, session: Session, needs: Needs) -> bool:
        """Return whether nothing has to be owned."""
        return not needs or self.sessions.is_allowed(session.user)

    def with_recent(self, session: Session) -> Session:
        """Return the session with the verdicts that this process knows to be newer than its cookie's."""
        newer = dict(session.verdicts)
        for key in self.config.required_ids:
            recent, known = self._recent.get((session.user.id, key)), newer.get(key)
            if recent is not None and self._is_newer(recent, known):
                newer[key] = recent
        return session if newer == session.verdicts else replace(session, verdicts=newer)

    @staticmethod
    def _is_newer(recent: Verdict, known: Verdict | None) -> bool:
        """Return whether a verdict takes another's place; one from the future is of a clock that has stepped back."""
        latest = now() + CLOCK_SKEW
        return recent.at <= latest and (known is None or known.at > latest or recent.at > known.at)

    def standing(self, session: Session, needs: Needs) -> Standing:
        """Return how a session stands to the needs of a path."""
        parts = [self._standing(session, ids) for ids in needs]
        return Standing(
            fresh=all(part.fresh for part in parts),
            holds=all(part.holds for part in parts),
            unknown=any(part.unknown for part in parts),
            ask=tuple(dict.fromkeys(key for part in parts for key in part.ask)),
        )

    def _standing(self, session: Session, ids: tuple[str, ...]) -> Standing:
        good = [key for key in ids if self._stands(session, key)]
        if any(self._is_fresh(session, key) for key in good):
            return Standing(fresh=True, holds=True, unknown=False, ask=())
        ask = tuple(key for key in ids if key in good or self._must_ask(session, key))
        unknown = not good and any(not self._is_refused(session, key) for key in ids)
        return Standing(fresh=False, holds=bool(good), unknown=unknown, ask=ask)

    def _stands(self, session: Session, key: str) -> bool:
        verdict = session.verdicts.get(key)
        return verdict is not None and bool(verdict.level) and now() < self.sessions.stands_until(session, verdict)

    def _is_fresh(self, session: Session, key: str) -> bool:
        verdict = session.verdicts[key]
        return verdict.at - CLOCK_SKEW <= now() < self.sessions.due_at(session, verdict)

    def _is_refused(self, session: Session, key: str) -> bool:
        verdict = session.verdicts.get(key)
        return verdict is not None and not verdict.level

    def _must_ask(self, session: Session, key: str) -> bool:
        verdict = session.verdicts.get(key)
        if verdict is None or verdict.level:
            return True
        return self.config.api_key is not None and not 0 <= now() - verdict.at < REFUSAL_LASTS

    def recheck(self, session: Session, standing: Standing) -> Flow[Session]:
        """Ask with the `api_key` about what is due; concurrent requests of the user go on with the last verdict.

        Raises the `SignInError` that kept the answer away, with the last verdicts untouched.
        """
        user_id = session.user.id
        if self._others_ask(user_id, standing):
            return session
        flows = tuple(self._once(user_id, key, session.verdicts.get(key)) for key in standing.ask)
        try:
            verdicts: list[Verdict] = yield Together(flows)
        except SignInError as error:
            self._note_failure(error, "access")
            raise
        self._in_trouble = False
        found = dict(zip(standing.ask, verdicts, strict=True))
        return replace(session, verdicts={**session.verdicts, **found})

    def _others_ask(self, user_id: str, standing: Standing) -> bool:
        """Return whether to go on with the last verdict: it is being asked about, or somebody tries if Whop is back.

        Raises `WhopUnreachable` when there is none to go on with while somebody tries: one request waits, not all.
        """
        process = os.getpid()  # a question that was in flight at a fork is the parent's
        asking = {(user, key) for asker, user, key in tuple(self._asking) if asker == process}
        same = any((user_id, key) in asking for key in standing.ask)
        if self._in_trouble and asking and standing.unknown and not same:
            raise WhopUnreachable("Whop is being tried after a failed recheck", retry_after=PAUSE)
        return not standing.unknown and (same or (self._in_trouble and bool(asking)))

    def _once(self, user_id: str, key: str, known: Verdict | None) -> Flow[Verdict]:
        verdict: Verdict = yield Once(("access", user_id, key), self._ask(user_id, key, known))
        return verdict

    def _ask(self, user_id: str, key: str, known: Verdict | None) -> Flow[Verdict]:
        recent = self._recent.get((user_id, key))
        if recent is not None and self._is_newer(recent, known):
            return recent  # another thread was answered since this one looked
        asking = (os.getpid(), user_id, key)
        self._asking.add(asking)
        try:
            level = yield from self._access(user_id, self.config.api_key or "", key)
        finally:
            self._asking.discard(asking)
        verdict = Verdict(level, int(now()))
        self._remember(user_id, {key: verdict})
        return verdict

    def note_silent_sign_in(self, session: Session, error: SignInError) -> None:
        """Leave the endpoint alone on which a silent sign-in failed, as after any other failed recheck."""
        if error.endpoint is not None and -CLOCK_SKEW <= now() - session.sent_at < _SILENT_SIGN_IN:
            self._note_failure(error, error.endpoint)

    def _note_failure(self, error: SignInError, endpoint: str) -> None:
        self.upstream.pause(endpoint)
        if not self._in_trouble:
            self._in_trouble = True
            report(
                logging.ERROR if isinstance(error, CredentialsRefused) else logging.WARNING,
                "Purchases cannot be rechecked (%s: %s); people who paid stay in for up to %d s",
                error.code,
                error,
                self.config.recheck_grace,
                event="recheck_failed",
                code=error.code,
            )

    def _remember(self, user_id: str, verdicts: Mapping[str, Verdict]) -> None:
        for key, verdict in verdicts.items():
            self._recent.pop((user_id, key), None)
            self._recent[user_id, key] = verdict
        trim(self._recent, _VERDICTS_KEPT)

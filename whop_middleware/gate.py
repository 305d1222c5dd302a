"""Who gets in, and what the others get. Performs no I/O: yields what it must ask Whop."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace

from . import pages, startup
from .authorize import Authorize
from .config import WhopConfig
from .errors import AccessDenied, SignInError, WhopUnreachable
from .fetch_metadata import is_document, is_navigation, is_prefetch, is_preflight, kind
from .messages import Flow, Forward, Reply, Request
from .pages import Action
from .purchase import Needs, Purchase, Standing
from .reports import new_reference, report
from .sessions import Entry, Session, Sessions
from .sign_in import SignIn
from .sign_out import SignOut
from .signing import CLOCK_SKEW, now
from .site import Endpoint, Site
from .states import States
from .upstream import Upstream
from .whop import dialect

ANONYMOUS = Forward(None)
ANONYMOUS_PUBLIC = Forward(None, public=True)
CALLBACK_BUDGET = 4
"""Times `timeout` that a whole callback may take; any other request waits at most one."""


class Gate:
    """The core of the middleware: one request in, one decision out."""

    def __init__(self, config: WhopConfig) -> None:
        self.config = config
        self.site = Site(config)
        self.sessions = Sessions(config)
        self.upstream = Upstream()
        self.purchase = Purchase(self.site, self.sessions, self.upstream)
        states = States(config)
        self.authorize = Authorize(self.site, states, dialect(config))
        self.sign_in = SignIn(self.authorize, self.sessions, self.upstream, self.purchase)
        self.sign_out = SignOut(self.site, self.sessions, states)
        self._optional = config.mode == "optional"
        self._anonymous_passes = ANONYMOUS if self._optional else None
        self._secure = None if config.origin is None else config.origin.startswith("https")
        self._public = self.site.public.decided
        self._verified = self.sessions.verified
        self._ready: dict[str, Mapping[str, Endpoint]] = {}
        self._announced = False
        self._owners_told = False

    def at_once(self, method: str, path: str, prefix: str, scheme: str, cookie: bytes) -> Forward | None:
        """Return the decision for the common cases, `None` when the request needs a closer look: see `handle`."""
        if prefix not in self._ready or path in self._ready[prefix] or method == "OPTIONS":
            return None
        public = self._public.get(path)
        if public is None:
            public = path in self.site.public
        if not cookie:
            return ANONYMOUS_PUBLIC if public else self._anonymous_passes
        secure = self._secure
        if secure is None:
            secure = scheme == "https" or scheme == "wss"
        at = time.time()
        entry = self._verified[secure].get(cookie)
        if entry is None or not entry.not_before <= at < entry.not_after:
            entry = self.sessions.find(cookie, secure, at)
            if entry is None:
                if self.sessions.carried(cookie, secure):
                    return None
                return ANONYMOUS_PUBLIC if public else self._anonymous_passes
        if public:
            return Forward(entry.session.user, public=True)
        return entry.forward if not entry.admitted_until or self._admits(entry, path, at) else None

    def _admits(self, entry: Entry, path: str, at: float) -> bool:
        """Return whether there is nothing to ask Whop before someone signed in sees a path."""
        if at < entry.not_before:  # a verdict from the future: the clock has stepped back
            return False
        needs = entry.admitted_until if self._optional else self.site.needs(path)
        return all(at < entry.admitted_until[ids] for ids in needs)

    def budget(self, request: Request) -> float:
        """Return how many seconds the answer may wait for Whop in all."""
        calls = CALLBACK_BUDGET if self.site.endpoints(request.prefix).get(request.path) == "callback" else 1
        return calls * self.config.timeout

    def handle(self, request: Request) -> Flow[Forward | Reply]:
        """Decide about any request."""
        self._announced = self._announced or startup.announce(self.site, request)
        endpoints = self.site.endpoints(request.prefix)
        self._ready = self.site.known_endpoints
        cookie, secure = request.cookies, self.site.is_secure(request.scheme)
        entry = self.sessions.find(cookie, secure, now())
        if request.path in endpoints:
            return (yield from self._own_path(request, entry.session if entry else None))
        public = request.path in self.site.public
        if is_preflight(request):
            return Forward(None, public=public, preflight=not (public or self._optional))
        broken = entry is None and is_navigation(request) and self.sessions.carried(cookie, secure)
        cleared = (self.sessions.clear_session(secure),) if broken else ()
        if entry is None and (public or self._optional):
            return Forward(None, cleared, public)
        if entry is None:
            return self._anonymous(request).with_cookies(cleared)
        if public:
            return Forward(entry.session.user, public=True)
        return (yield from self._signed_in(request, entry))

    def _own_path(self, request: Request, session: Session | None) -> Flow[Reply]:
        if request.websocket:
            return self._anonymous(request)
        endpoint = self.site.endpoints(request.prefix)[request.path]
        if endpoint == "login":
            return self.authorize.login(request)
        if endpoint == "logout":
            return self.sign_out.answer(request, session)
        return (yield from self.sign_in.callback(request, session))

    # Nobody is signed in

    def _anonymous(self, request: Request) -> Reply:
        asked_by = kind(request)
        if asked_by == "navigation":
            return pages.redirect(self._sign_in_location(request, request.target))
        if asked_by == "form":
            back = self._sign_in_location(request, self.site.path_of_own_url(request, request.header("referer")))
            return pages.sign_in_needed((Action("Sign in", back, primary=True),))
        login_url = self.site.sign_in_location(request, None)
        headers: tuple[tuple[str, str], ...] = ()
        if asked_by == "htmx":
            shown = self.site.path_of_own_url(request, request.header("hx-current-url"))
            headers = (("HX-Redirect", self._sign_in_location(request, shown or request.target)),)
        return pages.problem(
            401, "sign_in_required", "Sign in with Whop to see this.", login_url=login_url, headers=headers
        )

    def _sign_in_location(self, request: Request, wanted: str | None) -> str:
        return self.site.sign_in_location(request, self.site.return_path(request, wanted))

    # Someone is signed in: did they pay?

    def _signed_in(self, request: Request, entry: Entry) -> Flow[Forward | Reply]:
        needs = self.purchase.needs(self.site.needs(request.path))
        if self.purchase.is_exempt(entry.session, needs):
            return entry.forward
        session = self.purchase.with_recent(entry.session)
        standing = self.purchase.standing(session, needs)
        failure: SignInError | None = None
        if standing.ask and self.config.api_key is not None:
            session, failure = yield from self._recheck(session, standing)
            standing = self.purchase.standing(session, needs)
        elif standing.ask and self._may_send_off(request, session):
            return self._send_off(request, session)
        return self._decide(request, entry, session, standing, needs, failure)

    def _recheck(self, session: Session, standing: Standing) -> Flow[tuple[Session, SignInError | None]]:
        if wait := self.upstream.paused("access"):
            return session, WhopUnreachable("Whop is left alone after a failed recheck", retry_after=int(wait) + 1)
        try:
            return (yield from self.purchase.recheck(session, standing)), None
        except SignInError as error:
            return self.purchase.with_recent(session), error  # some ids may have been answered

    def _may_send_off(self, request: Request, session: Session) -> bool:
        """Only a page load can go through a silent sign-in; once per `recheck_after`, as Whop's page may be down."""
        if self._optional or not is_page_load(request) or self.upstream.rests():
            return False
        return not -CLOCK_SKEW <= now() - session.sent_at < self.config.recheck_seconds

    def _send_off(self, request: Request, session: Session) -> Reply:
        at = now()
        cookie = self.sessions.set_session(replace(session, sent_at=int(at)), self.site.is_secure(request.scheme), at)
        return_path = self.site.return_path(request, request.target)
        return self.authorize.start(request, return_path, cookies=(cookie,))

    def _decide(
        self,
        request: Request,
        entry: Entry,
        session: Session,
        standing: Standing,
        needs: Needs,
        failure: SignInError | None,
    ) -> Forward | Reply:
        changed = session.verdicts != entry.session.verdicts
        at, secure = now(), self.site.is_secure(request.scheme)
        cookies = (self.sessions.set_session(session, secure, at),) if changed else ()
        session = self.sessions.entry(session, at).session if changed else session
        if standing.holds or self._optional:
            return Forward(session.user, cookies)
        if not standing.unknown:
            return self._denied(request, session, needs).with_cookies(cookies)
        if self.config.api_key is None and not is_page_load(request):
            return self._unasked(request)
        return self._no_verdict(request, failure or WhopUnreachable("the purchase could not be checked"))

    def _unasked(self, request: Request) -> Reply:
        """Answer a request that cannot go through a silent sign-in: 401, also in a frame and for a browser's guess."""
        if kind(request) != "navigation":
            return self._anonymous(request)
        return pages.sign_in_needed((Action("Sign in", self._sign_in_location(request, request.target), primary=True),))

    def _no_verdict(self, request: Request, failure: SignInError) -> Reply:
        reference = new_reference()
        message = "Nobody could say whether a purchase is there: %s: %s [%s]"
        report(logging.WARNING, message, failure.code, failure, reference, code=failure.code, reference=reference)
        retry_after = failure.retry_after if isinstance(failure, WhopUnreachable) else None
        if kind(request) in ("navigation", "form"):
            again = self.site.login_location(request, self.site.return_path(request, request.target))
            actions = (Action("Try again", again, primary=True),)
            return pages.fault(failure.code, failure.status, actions, reference=reference, retry_after=retry_after)
        detail = "Whop could not be asked whether you bought this. Try again in a minute."
        return pages.problem(failure.status, failure.code, detail, retry_after=retry_after)

    def _denied(self, request: Request, session: Session, needs: Needs) -> Reply:
        reference = self._log_denial(session)
        asked_by, page = kind(request), self.config.denied_page
        location = None if page is None else self.site.page_location(request, page)
        if asked_by in ("navigation", "form"):
            return (
                self._denied_page(request, session, needs, reference) if location is None else pages.redirect(location)
            )
        headers = (("HX-Redirect", location),) if asked_by == "htmx" and location is not None else ()
        detail = "This needs a purchase on Whop that your account does not have."
        return pages.problem(AccessDenied.status, AccessDenied.code, detail, headers=headers)

    def _denied_page(self, request: Request, session: Session, needs: Needs, reference: str) -> Reply:
        return pages.denied(
            user=session.user,
            missing=next(ids for ids in needs if not any(key in session.user.access for key in ids)),
            buy_url=self.config.buy_url,
            check_again=self.site.login_location(request, self.site.return_path(request, request.target)),
            other_account=self.site.location(request, self.config.logout_path),
            reference=reference,
        )

    def _log_denial(self, session: Session) -> str:
        user_id, reference = session.user.id, new_reference()
        hint = "" if self._owners_told else f" (yours? set WHOP_ALLOW_USERS={user_id})"
        self._owners_told = True
        message = "No purchase: %s%s [%s]"
        report(logging.INFO, message, user_id, hint, reference, event="denial", user_id=user_id, reference=reference)
        return reference


def is_page_load(request: Request) -> bool:
    """Return whether a person waits for a page in a window of its own, which can go by way of Whop and come back."""
    return (
        request.method == "GET" and kind(request) == "navigation" and is_document(request) and not is_prefetch(request)
    )

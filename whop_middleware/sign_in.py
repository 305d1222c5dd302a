"""The callback: a code becomes a session, as a flow. Performs no I/O; puts no code or token in a page or log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from . import pages
from .authorize import NO_REFERRER, Authorize
from .bounded import trim
from .errors import CodeRefused, CredentialsRefused, SignInDeclined, SignInError, StateError, WhopUnreachable
from .fetch_metadata import is_document, is_prefetch
from .messages import Flow, Once, Reply, Request
from .purchase import Purchase
from .query import read_callback
from .reports import new_reference, report
from .sessions import Session, Sessions, Verdict
from .signing import now
from .states import State
from .upstream import Upstream
from .user import WhopUser

_CODES_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What an exchange found: the person, and the verdicts (`None`: somebody else than expected, not asked)."""

    fields: Mapping[str, str | None]
    verdicts: Mapping[str, Verdict] | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request at the callback path with what belongs to it."""

    request: Request
    session: Session | None
    parameters: Mapping[str, str]
    reference: str
    began: float


class SignIn:
    """Answers the callback path; a browser that needs another start gets it from `Authorize`."""

    def __init__(self, authorize: Authorize, sessions: Sessions, upstream: Upstream, purchase: Purchase) -> None:
        self.authorize = authorize
        self.site = authorize.site
        self.config = authorize.config
        self.states = authorize.states
        self.sessions = sessions
        self.dialect = authorize.dialect
        self.upstream = upstream
        self.purchase = purchase
        self._codes: dict[str, Arrival] = {}
        self._hub_refusals = 0

    def _restart(self, arrival: Arrival, return_path: str, reason: str) -> Reply:
        message = "Sign-in restarts: %s [%s]"
        reference = arrival.reference
        report(logging.INFO, message, reason, reference, event="restart", reason=reason, reference=reference)
        return self.authorize.start(arrival.request, return_path, restarted=True)

    # The callback

    def callback(self, request: Request, session: Session | None) -> Flow[Reply]:
        """Answer the callback path (RFC 6749 section 4.1.2; Whop's Web Apps guide)."""
        if request.method == "HEAD" or (request.method == "GET" and is_prefetch(request)):
            return pages.empty().with_headers(NO_REFERRER)
        if request.method != "GET":
            return pages.method_not_allowed("GET, HEAD").with_headers(NO_REFERRER)
        if refusal := self.authorize.wrong_origin(request):
            return refusal
        reply = yield from self._arrive(request, session)
        return reply.with_headers(NO_REFERRER)

    def _arrive(self, request: Request, session: Session | None) -> Flow[Reply]:
        parameters = read_callback(request.query)
        arrival = Arrival(request, session, parameters or {}, new_reference(), now())
        if parameters is None or ("code" in parameters) == ("error" in parameters):
            return self._refusal(arrival, "bad_callback")
        if self.dialect.issuer is not None and parameters.get("iss", self.dialect.issuer) != self.dialect.issuer:
            return self._refusal(arrival, "issuer_mismatch")
        if "error" in parameters:
            return self._error(arrival)
        if "state" in parameters:
            return (yield from self._with_state(arrival))
        return (yield from self._without_state(arrival))

    def _error(self, arrival: Arrival) -> Reply:
        state = self.states.open_state(arrival.parameters.get("state", ""))
        if arrival.session is not None:
            return self._back(arrival, state)
        return_path = state.return_path if state is not None else None
        error = arrival.parameters["error"]
        if error == "access_denied":
            return self._fault(arrival, SignInDeclined("the person declined on Whop's page"), return_path)
        if error in ("server_error", "temporarily_unavailable"):
            return self._fault(arrival, WhopUnreachable(f"Whop answered {error} at the authorize page"), return_path)
        return self._refusal(arrival, "bad_callback", return_path)

    def _with_state(self, arrival: Arrival) -> Flow[Reply]:
        request, text = arrival.request, arrival.parameters["state"]
        secure = self.site.is_secure(request.scheme)
        state = self.states.open_state(text)
        login = self.states.find_login(request.cookies, secure, arrival.began)
        if state is None or login is None or not self.states.is_good_state(state, login, arrival.began):
            return self._bad_state(arrival, state)
        verifier = login.derive("verifier", state.nonce) if self.dialect.uses_pkce else None
        nonce = login.derive("nonce", state.nonce) if self.dialect.uses_pkce else None
        exchange = self._exchange(arrival, verifier=verifier, nonce=nonce)
        try:
            found: SignedIn = yield Once(("exchange", arrival.parameters["code"], text), exchange)
        except CodeRefused as error:
            return self._refused(arrival, state, error)
        except SignInError as error:
            if arrival.session is not None:
                self.purchase.note_silent_sign_in(arrival.session, error)
            return self._in_trouble(arrival, error, state.return_path)
        return self._signed_in(arrival, found, state.return_path)

    def _bad_state(self, arrival: Arrival, state: State | None) -> Reply:
        if arrival.session is not None:
            return self._back(arrival, state)
        if state is not None and state.restarted:
            return self._fault(
                arrival, StateError("the state came back a second time without its browser's cookie"), state.return_path
            )
        return self._restart(
            arrival, state.return_path if state else self.config.home, "the state is stale, foreign or broken"
        )

    def _refused(self, arrival: Arrival, state: State, error: CodeRefused) -> Reply:
        if arrival.session is not None:
            return self._back(arrival, state)
        if not state.restarted:
            return self._restart(arrival, state.return_path, "Whop refused the code")
        self._suspect_redirect_uri(arrival, error)
        return self._fault(arrival, error, state.return_path)

    def _suspect_redirect_uri(self, arrival: Arrival, error: CodeRefused) -> None:
        report(
            logging.ERROR,
            "Whop refused the code twice in a row. The redirect_uri sent was %s: "
            "it must equal the Callback URL at Whop, to the slash [%s]",
            self.site.redirect_uri(arrival.request),
            arrival.reference,
            code=error.code,
            reference=arrival.reference,
        )

    # A code without a state: the Whop Hub

    def _without_state(self, arrival: Arrival) -> Flow[Reply]:
        if not is_document(arrival.request):
            return self._refusal(arrival, "bad_callback")
        policy = self._hub_policy(arrival.request)
        verifies = self.config.hub_login == "verify" and not self.dialect.uses_pkce
        if policy == "reject":
            return self._refusal(arrival, "state_missing")
        if policy == "restart":
            whence = ", not from Whop's own pages (by the Referer)" if verifies else ""
            return self._restart(arrival, self.config.home, f"a code without a state{whence}")
        code = arrival.parameters["code"]
        if self._codes.setdefault(code, arrival) is not arrival:
            return self._restart(arrival, self.config.home, "the same code is being exchanged already")
        trim(self._codes, _CODES_KEPT)
        try:
            return (yield from self._hub(arrival))
        finally:
            self._codes.pop(code, None)

    def _hub_policy(self, request: Request) -> Literal["accept", "restart", "reject"]:
        policy = self.config.hub_login
        if policy == "verify":
            return (
                "accept" if not self.dialect.uses_pkce and comes_from_whop(request, self.config.whop_url) else "restart"
            )
        if policy == "reject":
            return "reject"
        return "accept" if policy == "accept" and not self.dialect.uses_pkce else "restart"

    def _hub(self, arrival: Arrival) -> Flow[Reply]:
        session = arrival.session
        try:
            found: SignedIn = yield from self._exchange(arrival, only_for=session.user.id if session else None)
        except SignInError as error:
            self._count_refusal(arrival, error)
            return self._in_trouble(arrival, error, self.config.home)
        self._hub_refusals = 0
        if found.verdicts is None:
            return self._restart(arrival, self.config.home, "the code is another person's than the session")
        return self._signed_in(arrival, found, self.config.home)

    def _count_refusal(self, arrival: Arrival, error: SignInError) -> None:
        # One refusal is a buyer's reload. The second in a row is told once: anybody can send made-up codes.
        if isinstance(error, CodeRefused):
            self._hub_refusals += 1
            if self._hub_refusals == 2:
                self._suspect_redirect_uri(arrival, error)

    # Both

    def _exchange(
        self, arrival: Arrival, *, verifier: str | None = None, nonce: str | None = None, only_for: str | None = None
    ) -> Flow[SignedIn]:
        dialect = self.dialect
        request = dialect.token_request(
            code=arrival.parameters["code"],
            redirect_uri=self.site.redirect_uri(arrival.request),
            code_verifier=verifier,
        )
        token = yield from self.upstream.call(request, dialect.parse_token)
        fields = yield from self.upstream.call(
            dialect.user_request(token),
            lambda response: dialect.parse_user(response, token, nonce=nonce, now=now()),
            idempotent=True,
        )
        if only_for is not None and fields["id"] != only_for:
            return SignedIn(fields, None)
        verdicts = yield from self.purchase.ask_all(str(fields["id"]), token)
        return SignedIn(fields, verdicts)

    def _signed_in(self, arrival: Arrival, found: SignedIn, return_path: str) -> Reply:
        secure, at = self.site.is_secure(arrival.request.scheme), now()
        fields: dict[str, Any] = {**found.fields}
        user = WhopUser(signed_in_at=int(at), **fields)
        cookies = (
            self.sessions.set_session(Session(user, found.verdicts or {}), secure, at),
            self.states.clear_login(secure),
        )
        report(
            logging.INFO,
            "Signed in: %s (%s, %.0f ms) [%s]",
            user.id,
            self.dialect.name,
            (at - arrival.began) * 1000,
            arrival.reference,
            event="sign_in",
            user_id=user.id,
            dialect=self.dialect.name,
            duration=at - arrival.began,
            reference=arrival.reference,
        )
        return pages.redirect(self.site.location(arrival.request, return_path)).with_cookies(cookies)

    def _back(self, arrival: Arrival, state: State | None) -> Reply:
        return_path = state.return_path if state is not None else self.config.home
        return pages.redirect(self.site.location(arrival.request, return_path))

    def _in_trouble(self, arrival: Arrival, error: SignInError, return_path: str) -> Reply:
        if arrival.session is None:
            return self._fault(arrival, error, return_path)
        self._log_fault(arrival, error)
        return pages.redirect(self.site.location(arrival.request, return_path))

    def _fault(self, arrival: Arrival, error: SignInError, return_path: str | None) -> Reply:
        self._log_fault(arrival, error)
        retry_after = error.retry_after if isinstance(error, WhopUnreachable) else None
        return self._page(arrival, error.code, error.status, return_path, retry_after)

    def _refusal(self, arrival: Arrival, code: str, return_path: str | None = None) -> Reply:
        reference = arrival.reference
        report(
            logging.INFO, "Callback refused: %s [%s]", code, reference, event="failure", code=code, reference=reference
        )
        return self._page(arrival, code, 400, return_path)

    def _page(
        self, arrival: Arrival, code: str, status: int, return_path: str | None, retry_after: int | None = None
    ) -> Reply:
        actions = self.authorize.ways_on(arrival.request, return_path or self.config.home)
        return pages.fault(code, status, actions, reference=arrival.reference, retry_after=retry_after)

    def _log_fault(self, arrival: Arrival, error: SignInError) -> None:
        level = logging.INFO
        if isinstance(error, WhopUnreachable):
            level = logging.WARNING
        elif isinstance(error, CredentialsRefused) or error.status >= 500:
            level = logging.ERROR
        duration = now() - arrival.began
        report(
            level,
            "Sign-in failed: %s: %s (%.0f ms) [%s]",
            error.code,
            error,
            duration * 1000,
            arrival.reference,
            event="failure",
            code=error.code,
            dialect=self.dialect.name,
            duration=duration,
            reference=arrival.reference,
        )


def comes_from_whop(request: Request, whop_url: str) -> bool:
    """Return whether a code without a state may be taken for a Hub arrival: Whop's `Referer`, or no modern browser."""
    referer = request.header("referer")
    if referer is None:
        return not any(name.startswith("sec-fetch-") for name, _ in request.headers)
    return _is_of_whop(referer, whop_url)


def _is_of_whop(url: str, whop_url: str) -> bool:
    """Return whether a URL is on Whop's own hosts; `*.apps` below them is where other people's apps live."""
    try:
        parts, whop = urlsplit(url), urlsplit(whop_url)
        same_port = (parts.scheme, parts.port) == (whop.scheme, whop.port)
    except ValueError:
        return False
    host, own = parts.hostname or "", whop.hostname or ""
    return same_port and (host == own or (host.endswith(f".{own}") and not host.endswith(f".apps.{own}")))

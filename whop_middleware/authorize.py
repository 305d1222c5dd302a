"""The start of a sign-in: the login path, off to Whop with a state. Performs no I/O; starts no endless loop."""

from __future__ import annotations

import logging

from . import pages
from .fetch_metadata import is_navigation, is_prefetch
from .messages import Reply, Request
from .pages import Action
from .query import read_single
from .reports import new_reference, report
from .signing import now
from .site import Site
from .states import LoginCookie, States, count_start
from .whop import Dialect, code_challenge

NO_REFERRER = ("Referrer-Policy", "no-referrer")
_STARTS_ALLOWED = 9
"""Starts for one page within 60 s that are still taken for a person's own."""


class Authorize:
    """Sends browsers to Whop's authorize page (RFC 6749 section 4.1.1)."""

    def __init__(self, site: Site, states: States, dialect: Dialect) -> None:
        self.site = site
        self.config = site.config
        self.states = states
        self.dialect = dialect

    def login(self, request: Request) -> Reply:
        """Answer the login path: off to Whop, with a state that comes back to `next`."""
        if request.method not in ("GET", "HEAD"):
            return pages.method_not_allowed("GET, HEAD")
        return_path = self.site.return_path(request, read_single(request.query, "next"))
        return self.start(request, return_path)

    def start(
        self, request: Request, return_path: str, *, restarted: bool = False, cookies: tuple[str, ...] = ()
    ) -> Reply:
        """Send the browser to Whop's authorize page; the login cookie is set on navigations only."""
        if refusal := self.wrong_origin(request):
            return refusal
        secure, at = self.site.is_secure(request.scheme), now()
        login = self.states.find_login(request.cookies, secure, at) or LoginCookie.new()
        if is_navigation(request) and request.method == "GET" and not is_prefetch(request):
            login, count = count_start(login, return_path, at)
            if count > _STARTS_ALLOWED:
                reset = self.states.set_login(LoginCookie(login.key), secure, at)
                return self._not_reached(request, return_path, (*cookies, reset))
            cookies = (*cookies, self.states.set_login(login, secure, at))
        state, opened = self.states.seal_state(login, return_path, restarted=restarted, now=at)
        location = self.dialect.authorize_url(
            redirect_uri=self.site.redirect_uri(request),
            state=state,
            scope=self.config.effective_scope,
            nonce=login.derive("nonce", opened.nonce) if self.dialect.uses_pkce else None,
            code_challenge=code_challenge(login.derive("verifier", opened.nonce)) if self.dialect.uses_pkce else None,
        )
        return pages.redirect(location, headers=(NO_REFERRER,)).with_cookies(cookies)

    def wrong_origin(self, request: Request) -> Reply | None:
        """Return the page for a request whose origin no code may come back to, `None` when all is well."""
        reference = new_reference()
        home = (Action("To the start page", self.site.location(request, self.config.home)),)
        if self.site.origin(request) is None:
            return pages.fault("bad_callback", 400, home, reference=reference).with_headers(NO_REFERRER)
        if not self.site.is_insecure(request):
            return None
        host = request.header("host")
        path = self.site.location(request, self.config.redirect_path)
        message = "Sign-in over plain http is refused. Behind a TLS proxy set WHOP_REDIRECT_URI=https://%s%s [%s]"
        report(logging.ERROR, message, host, path, reference, code="insecure_origin", reference=reference)
        return pages.fault("insecure_origin", 500, home, reference=reference).with_headers(NO_REFERRER)

    def _not_reached(self, request: Request, return_path: str, cookies: tuple[str, ...]) -> Reply:
        reference = new_reference()
        report(
            logging.ERROR,
            "Ten sign-ins for one page within a minute, and none came back to the callback as a session. Check that "
            "WHOP_REDIRECT_URI (%s) is the Callback URL at Whop; look for a stripped prefix or http/https [%s]",
            self.site.redirect_uri(request),
            reference,
            code="callback_not_reached",
            reference=reference,
        )
        page = pages.fault("callback_not_reached", 500, self.ways_on(request, return_path), reference=reference)
        return page.with_headers(NO_REFERRER).with_cookies(cookies)

    def ways_on(self, request: Request, return_path: str) -> tuple[Action, ...]:
        """Return the button of a page from where signing in can be tried again."""
        return (Action("Try again", self.site.login_location(request, return_path), primary=True),)

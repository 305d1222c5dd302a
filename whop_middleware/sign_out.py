"""Signing out: the logout path. Performs no I/O; signs nobody out because another site says so."""

from __future__ import annotations

import logging

from . import pages
from .fetch_metadata import is_prefetch, same_origin_only
from .messages import Reply, Request
from .pages import Action
from .reports import report
from .sessions import Session, Sessions
from .site import Site
from .states import States


class SignOut:
    """Ends sessions of this browser; a copy of the cookie elsewhere stays good until `session_max_age`."""

    def __init__(self, site: Site, sessions: Sessions, states: States) -> None:
        self.site = site
        self.config = site.config
        self.sessions = sessions
        self.states = states

    def answer(self, request: Request, session: Session | None) -> Reply:
        """Answer the logout path: only a request from this very site signs anyone out by itself."""
        if request.method == "HEAD" or (request.method == "GET" and is_prefetch(request)):
            return pages.empty()
        if request.method not in ("GET", "POST"):
            return pages.method_not_allowed("GET, HEAD, POST")
        home = self.site.location(request, self.config.home)
        if session is None:
            return pages.signed_out((Action("Continue", home, primary=True),))
        if not same_origin_only(request, self.site.origin(request)):
            path = self.site.location(request, self.config.logout_path)
            actions = (Action("Sign out", path, post=True, primary=True), Action("Stay signed in", home))
            return pages.confirm_sign_out(actions)
        secure = self.site.is_secure(request.scheme)
        self.sessions.forget(request.cookies, secure)
        report(logging.INFO, "Signed out: %s", session.user.id, event="sign_out", user_id=session.user.id)
        page = pages.signed_out((Action("Continue", home, primary=True),))
        return page.with_cookies((self.sessions.clear_session(secure), self.states.clear_login(secure)))

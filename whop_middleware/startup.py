"""What a process says about itself at its first request: the Callback URL to register, and what will not work."""

from __future__ import annotations

import logging

from .messages import Request
from .reports import report
from .site import Site


def announce(site: Site, request: Request) -> bool:
    """Log the Callback URL, and a WARNING for each thing about this request that a sign-in will trip over.

    Return whether that was possible: a request with a malformed `Host` tells nothing, and is not quoted.
    """
    if site.origin(request) is None:
        return False
    report(logging.INFO, "Callback URL to register at Whop: %s", site.redirect_uri(request), event="start")
    for warning in _warnings(site, request):
        report(logging.WARNING, "%s", warning, event="start")
    return True


def _warnings(site: Site, request: Request) -> list[str]:
    behind_tls = "https" in (request.header("x-forwarded-proto") or "").lower() and request.scheme == "http"
    if site.config.origin is None:
        return _warnings_for_a_path(site, request, behind_tls)
    return _warnings_for_a_full_url(site, site.config.origin, request, behind_tls)


def _warnings_for_a_path(site: Site, request: Request, behind_tls: bool) -> list[str]:
    if not (behind_tls or site.is_insecure(request)):
        return []
    path = site.location(request, site.config.redirect_path)
    return [
        f"Requests arrive over plain http{' from a TLS proxy' if behind_tls else ''}: "
        f"set WHOP_REDIRECT_URI=https://{request.header('host')}{path}, or sign-in is refused"
    ]


def _warnings_for_a_full_url(site: Site, own: str, request: Request, behind_tls: bool) -> list[str]:
    found = []
    host, asked_for = own.partition("://")[2], (site.origin_asked_for(request) or "").partition("://")[2]
    if asked_for and asked_for != host:
        found.append(
            f"WHOP_REDIRECT_URI is on {own}, this request asked for {asked_for}: people who use another address "
            "than the Callback URL's lose their session on the way"
        )
    if own.startswith("https:") and request.scheme == "http" and not behind_tls:
        found.append(
            "WHOP_REDIRECT_URI is https, this request came over plain http: unless a TLS proxy is in front, "
            "browsers drop the session cookie (it is Secure)"
        )
    return found

"""What the settings mean for one request: own paths, origin, cookie names, where to send people. Performs no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import quote, urlsplit

from .config import WhopConfig, is_local_host
from .fetch_metadata import origin_of
from .messages import Request
from .paths import PublicPaths, Rules, is_odd, safe_return_path

Endpoint: TypeAlias = Literal["login", "logout", "callback"]

# RFC 3986 section 3.2.2, as far as a Host header of a real site goes.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIXES_KEPT = 64


class Site:
    """The settings, compiled once; every question about a request's surroundings is answered here."""

    def __init__(self, config: WhopConfig) -> None:
        self.config = config
        self.sign_in_path, self.denied_path = map(self._own_path_of, (config.sign_in_page, config.denied_page))
        # Where a proxy strips a prefix, the callback arrives as a page: never a place to come back to with a code.
        segments = config.redirect_path.rstrip("/").split("/")
        self._callback_spellings = tuple(f"/{'/'.join(segments[first:])}" for first in range(1, len(segments)))
        also_public = () if self.sign_in_path in (None, config.login_path) else (self.sign_in_path,)
        self.public = PublicPaths((*config.public, *(path for path in also_public if path)))
        self.rules = Rules(config.require)
        self.known_endpoints: dict[str, Mapping[str, Endpoint]] = {}
        """The middleware's own paths by prefix, as far as requests have asked."""

    def _own_path_of(self, page: str | None) -> str | None:
        """Return the path of a page on this site: closed, a redirect to it would go round in circles."""
        if page is None or page.startswith("/"):
            return page and page.partition("?")[0]
        return urlsplit(page).path or "/" if origin_of(page) == self.config.origin else None

    def endpoints(self, prefix: str) -> Mapping[str, Endpoint]:
        """Return the middleware's own paths below a prefix. The callback path is `redirect_uri`'s less the prefix."""
        known = self.known_endpoints.get(prefix)
        if known is None:
            known = {self.config.login_path: "login", self.config.logout_path: "logout"}
            known[self._callback_path(prefix)] = "callback"
            if len(self.known_endpoints) < _PREFIXES_KEPT:
                self.known_endpoints[prefix] = known
        return known

    def _callback_path(self, prefix: str) -> str:
        path = self.config.redirect_path
        if self.config.origin is not None and prefix and path.startswith(f"{prefix}/"):
            return path[len(prefix) :]
        return path

    def needs(self, path: str) -> tuple[tuple[str, ...], ...]:
        """Return the purchases a path needs; the denied page is open to everyone signed in."""
        return () if path == self.denied_path else self.rules.needs(path)

    def is_secure(self, scheme: str) -> bool:
        """Return whether the browser talks https to us; a full `redirect_uri` knows better than the last hop."""
        return (self.config.origin or scheme).startswith("https")

    def origin(self, request: Request) -> str | None:
        """Return our own origin as the browser sees it, `None` when the `Host` is malformed."""
        return self.config.origin or self.origin_asked_for(request)

    def origin_asked_for(self, request: Request) -> str | None:
        """Return the origin that a request names by its `Host`, `None` when that is malformed."""
        host = request.header("host") or ""
        return origin_of(f"{request.scheme}://{host}") if _HOST.fullmatch(host) else None

    def redirect_uri(self, request: Request) -> str:
        """Return the Callback URL to give to Whop; equal for the authorize and the token request."""
        if self.config.origin is not None:
            return self.config.redirect_uri
        return f"{self.origin(request)}{self.location(request, self.config.redirect_path)}"

    def is_insecure(self, request: Request) -> bool:
        """Return whether a code would cross the network in the clear."""
        host = request.header("host") or ""
        return self.config.origin is None and request.scheme == "http" and not is_local_host(host)

    def location(self, request: Request, path: str) -> str:
        """Return a path of the settings as the browser must ask for it."""
        prefix = request.prefix.strip("/")
        return path if not prefix or is_odd(f"/{prefix}") else f"/{quote(prefix, safe='/~:@')}{path}"

    def login_location(self, request: Request, return_path: str) -> str:
        """Return the address that starts a sign-in and comes back to `return_path`."""
        return f"{self.location(request, self.config.login_path)}?next={quote(return_path, safe='/')}"

    def sign_in_location(self, request: Request, return_path: str | None) -> str:
        """Return where someone without a session is redirected; a full URL gets nothing appended."""
        page = self.config.landing
        if not page.startswith("/"):
            return page
        location = self.location(request, page)
        if return_path is None:
            return location
        return f"{location}{'&' if '?' in page else '?'}next={quote(return_path, safe='/')}"

    def page_location(self, request: Request, page: str) -> str:
        """Return a page of the settings: a path below the prefix, or a full URL as it is."""
        return self.location(request, page) if page.startswith("/") else page

    def return_path(self, request: Request, value: str | None) -> str:
        """Return a `next` that stays on this site and off the middleware's own paths, else `home`."""
        own = [*self.endpoints(request.prefix)]
        own += [f"{request.prefix.rstrip('/')}{path}" for path in own]
        return safe_return_path(value, own=(*own, *self._callback_spellings), home=self.config.home)

    def path_of_own_url(self, request: Request, url: str | None) -> str | None:
        """Return path and query (below the prefix) of a full URL of this app, else `None`, also on our origin."""
        origin = self.origin(request)
        if not url or origin is None or origin_of(url) != origin:
            return None
        parts = urlsplit(url)
        path = parts.path or "/"
        prefix = self.location(request, "")
        if not f"{path}/".startswith(f"{prefix}/"):
            return None
        path = path[len(prefix) :] or "/"
        return f"{path}?{parts.query}" if parts.query else path

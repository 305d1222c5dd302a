"""What kind of request this is: a navigation, a form, htmx, a fetch. Reads headers and decides nothing about people."""

from __future__ import annotations

from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from .messages import Request

Kind: TypeAlias = Literal["navigation", "form", "htmx", "fetch", "websocket"]

_PREFETCH_HEADERS = ("sec-purpose", "purpose", "x-moz")
_METHOD_HEADERS = ("x-http-method-override", "x-http-method", "x-method-override")
_ACCEPT_LIMIT = 4096
"""Characters of `Accept` that are read; a browser sends some 150."""


def kind(request: Request) -> Kind:
    """Return who asks, as far as the answer to an anonymous request depends on it (Fetch Metadata, htmx's headers)."""
    if request.websocket:
        return "websocket"
    if (request.header("hx-request") or "").lower() == "true":
        return "htmx"
    if is_navigation(request):
        return "navigation"
    return "form" if _is_form(request) else "fetch"


def is_navigation(request: Request) -> bool:
    """Return whether a browser loads a page with GET or HEAD."""
    if request.websocket or request.method not in ("GET", "HEAD"):
        return False
    mode = request.header("sec-fetch-mode")
    if mode is not None or _has_fetch_metadata(request):
        return mode == "navigate"
    return request.header("x-requested-with") is None and _accepts_html(request)


def _is_form(request: Request) -> bool:
    mode = request.header("sec-fetch-mode")
    if request.method in ("GET", "HEAD"):
        return False
    if mode is not None or _has_fetch_metadata(request):
        return mode == "navigate"
    return request.header("x-requested-with") is None and "text/html" in _accept(request)


def is_document(request: Request) -> bool:
    """Return whether nothing says that this is anything but a top-level page load."""
    mode, destination = request.header("sec-fetch-mode"), request.header("sec-fetch-dest")
    return mode in (None, "navigate") and destination in (None, "document")


def is_prefetch(request: Request) -> bool:
    """Return whether a browser only looks ahead; nothing may be used up for that."""
    return any("prefetch" in (request.header(name) or "").lower() for name in _PREFETCH_HEADERS)


def is_preflight(request: Request) -> bool:
    """Return whether this is a CORS preflight, which never carries cookies (Fetch standard, section 4.8).

    No browser sends one with a method to use in place of `OPTIONS`, which the app might obey.
    """
    return (
        request.method == "OPTIONS"
        and request.header("origin") is not None
        and request.header("access-control-request-method") is not None
        and not any(name.replace("_", "-") in _METHOD_HEADERS for name, _ in request.headers)
    )


def same_origin_only(request: Request, origin: str | None) -> bool:
    """Return whether a page of this very origin sent the request; a POST without any hint counts, too."""
    site = request.header("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    source = request.header("origin") or request.header("referer")
    if source is None:
        return request.method == "POST"
    return origin is not None and origin_of(source) == origin


def origin_of(url: str) -> str | None:
    """Return the origin of a URL as `Origin` spells it: lower case, no default port (RFC 6454 section 6.2)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    default_port = ":443" if parts.scheme == "https" else ":80"
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(default_port)}"


def _has_fetch_metadata(request: Request) -> bool:
    return any(name.startswith("sec-fetch-") for name, _ in request.headers)


def _accept(request: Request) -> str:
    return ",".join(request.all_headers("accept"))[:_ACCEPT_LIMIT].lower()


def _accepts_html(request: Request) -> bool:
    accept = _accept(request).strip()
    if not accept:
        return True
    ranges = dict(_media_range(part) for part in accept.split(","))
    return next((ranges[name] for name in ("text/html", "text/*", "*/*") if name in ranges), False)


def _media_range(text: str) -> tuple[str, bool]:
    name, *parameters = (part.strip() for part in text.split(";"))
    return name, not any(_is_zero(parameter) for parameter in parameters)


def _is_zero(parameter: str) -> bool:
    key, _, value = parameter.partition("=")
    return key.strip() == "q" and not value.strip().strip("0.")

"""The WSGI adapter: turns an environ into the core's words and its decision into an answer. Decides nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .apps import refuse_other
from .config import WhopConfig
from .drive import Driver
from .gate import Gate
from .identity import set_identity
from .messages import Forward, Reply, Request
from .pages import phrase
from .responses import preflight_headers, private_text_headers
from .user import KEY

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class WhopWSGIMiddleware:
    """Put sign-in with Whop in front of a WSGI app: `app.wsgi_app = WhopWSGIMiddleware(app.wsgi_app)`.

    `options` are `WhopConfig` fields and win over `config`; without a `config` the `WHOP_*` variables fill the rest.
    Sets `environ["whop_user"]` to a `WhopUser` or `None`, and `REMOTE_USER`.
    Raises `ConfigError` when a setting is missing or wrong.
    """

    def __init__(self, app: WSGIApplication, config: WhopConfig | None = None, **options: Any) -> None:
        self.app = app
        refuse_other(app, "wsgi", "WhopMiddleware")
        self.config = WhopConfig.build(config, options)
        self._gate = Gate(self.config)
        self._driver = Driver(self.config.timeout)
        self._identity = self.config.identity_headers

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer or forward one request (PEP 3333)."""
        decision: Forward | Reply | None = self._decide_at_once(environ)
        if decision is None:
            request = read_request(environ)
            decision = self._driver.run(self._gate.handle(request), self._gate.budget(request))
        if isinstance(decision, Reply):
            return _reply(decision, environ["REQUEST_METHOD"], start_response)
        user = environ[KEY] = decision.user
        if user is None:
            environ.pop("REMOTE_USER", None)
        else:
            environ["REMOTE_USER"] = user.id
        if self._identity:
            set_identity(environ, user)
        if decision.preflight:
            return _without_body(self.app, environ, start_response)
        if user is not None or decision.set_cookies:
            start_response = _private(start_response, decision)
        return self.app(environ, start_response)

    def _decide_at_once(self, environ: WSGIEnvironment) -> Forward | None:
        path, prefix = environ.get("PATH_INFO") or "/", environ.get("SCRIPT_NAME", "")
        if not (path.isascii() and prefix.isascii()):
            path, prefix = _decoded(path), _decoded(prefix)
        cookie = environ.get("HTTP_COOKIE")
        raw = b"" if cookie is None else cookie.encode("latin-1", "replace")
        return self._gate.at_once(environ["REQUEST_METHOD"], path, prefix, environ.get("wsgi.url_scheme", "http"), raw)


def _decoded(text: str) -> str:
    """Return a WSGI string (bytes as Latin-1, PEP 3333) as the text that ASGI servers give for the same bytes."""
    return text if text.isascii() else text.encode("latin-1", "replace").decode("utf-8", "replace")


def read_request(environ: WSGIEnvironment) -> Request:
    """Return a WSGI environ in the core's words."""
    headers = [
        (key[5:].replace("_", "-").lower(), str(value)) for key, value in environ.items() if key.startswith("HTTP_")
    ]
    if "HTTP_HOST" not in environ:
        headers.append(("host", f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"))
    return Request(
        method=environ["REQUEST_METHOD"],
        path=_decoded(environ.get("PATH_INFO", "")) or "/",
        headers=tuple(headers),
        prefix=_decoded(environ.get("SCRIPT_NAME", "")),
        query=environ.get("QUERY_STRING", ""),
        scheme=environ.get("wsgi.url_scheme", "http"),
    )


def _private(start_response: StartResponse, decision: Forward) -> StartResponse:
    """Wrap `start_response` so that no cache keeps a signed-in person's page for the next one."""

    def private_start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        kept = private_text_headers(headers, public=decision.public and not decision.set_cookies)
        if decision.set_cookies:
            kept += [("Set-Cookie", value) for value in decision.set_cookies]
        return start_response(status, kept) if exc_info is None else start_response(status, kept, exc_info)

    return private_start_response


def _without_body(app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Pass a preflight on: an app that does not look at the method would show a stranger the whole page."""
    started: list[bool] = []

    def bodiless_start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        kept = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in preflight_headers(raw)]
        kept += [] if status.startswith("204") else [("Content-Length", "0")]
        started.append(True)
        start_response(status, kept) if exc_info is None else start_response(status, kept, exc_info)
        return lambda data: None

    body = app(environ, bodiless_start_response)
    try:
        # An app may call `start_response` as late as with its first piece.
        for _ in body:
            if started:
                break
    finally:
        if hasattr(body, "close"):
            body.close()
    return []


def _reply(reply: Reply, method: str, start_response: StartResponse) -> Iterable[bytes]:
    headers = list(reply.headers)
    if reply.status != 204:
        headers.append(("Content-Length", str(len(reply.body))))
    start_response(f"{reply.status} {phrase(reply.status)}", headers)
    return [] if method == "HEAD" or not reply.body else [reply.body]

"""What all calls to Whop share: request headers, the strict reading of answers. Performs no I/O; quotes no answer.

An answer's text may echo a code or a token: it reaches no error message, and no error is chained to one that holds it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlencode

from whop_middleware.errors import BadWhopAnswer, CodeRefused, CredentialsRefused, WhopUnreachable

if TYPE_CHECKING:
    import httpx

BODY_LIMIT = 1024 * 1024  # bytes; Whop's real answers are below 100 kB
RETRY_AFTER_LIMIT = 3600  # seconds
RETRY_AFTER_DEFAULT = 60  # seconds: Whop's own lock-out after too many requests
_TOKEN_LIMIT = 16 * 1024  # characters; more than servers accept in a header
_FIELD_LIMIT = 4096  # characters; a longer field fits in no cookie (RFC 6265 section 6.1)
_BODILESS = (204, 205, 206)  # no body, or a part of one (RFC 9110 section 15.3)
_CREDENTIAL_ERRORS = frozenset({"invalid_client", "unauthorized_client", "invalid_scope"})

_PRINTABLE = re.compile(r"[!-~]+")
_USER_ID = re.compile(r"[!-~]{1,255}")
_WEB_URL = re.compile(r"https?://[^\s/?#]", re.IGNORECASE)
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")  # Unicode category Cc


@dataclass(frozen=True, slots=True)
class Credentials:
    """This app's client id, and its secret unless the client is a public one."""

    client_id: str
    client_secret: str | None = field(repr=False)

    def as_parameters(self) -> dict[str, str]:
        """Return a token request's client authentication (RFC 6749 section 2.3.1); a public client has no secret."""
        secret = {} if self.client_secret is None else {"client_secret": self.client_secret}
        return {"client_id": self.client_id, **secret}


@dataclass(frozen=True, slots=True)
class Token:
    """What the token endpoint gave: the access token, and the ID token if one came."""

    access_token: str = field(repr=False)
    id_token: str | None = field(default=None, repr=False)


def build_request(
    method: str, url: str, *, bearer: str | None = None, body: Mapping[str, str] | None = None
) -> httpx.Request:
    """Build a request to Whop that asks for JSON, and for no compression: the body limit then counts what is read."""
    import httpx

    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": _user_agent(),
    }
    if bearer is not None:
        headers["Authorization"] = f"Bearer {bearer}"
    return httpx.Request(method, url, headers=headers, json=body)


@cache
def _user_agent() -> str:
    from importlib.metadata import PackageNotFoundError, version  # costs time that only a sign-in should pay

    try:
        return f"whop-middleware/{version('whop-middleware')}"
    except PackageNotFoundError:  # a copy of the sources, not an installation
        return "whop-middleware"


def with_query(url: str, parameters: Mapping[str, str | None]) -> str:
    """Append the parameters that are not `None` to a URL without a query; a space is `%20`, which all servers read."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"{url}?{urlencode(given, quote_via=quote, safe='')}"


def path_segment(text: str) -> str:
    """Return `text` quoted so that it stays one path segment, also when it is `..` (RFC 3986 section 5.2.4)."""
    return quote(text, safe="").replace(".", "%2E")


def retry_after(response: httpx.Response) -> int:
    """Return the seconds to wait: `Retry-After` when it is digits, at most 3600, else 60."""
    value = response.headers.get("retry-after", "").strip()
    if not (value.isascii() and value.isdigit()):
        return RETRY_AFTER_DEFAULT
    return RETRY_AFTER_LIMIT if len(value) > 9 else min(int(value), RETRY_AFTER_LIMIT)


def is_encoded(response: httpx.Response) -> bool:
    """Return whether the body is encoded though `identity` was asked for; the headers tell, before it is read."""
    coding: str = response.headers.get("content-encoding", "")
    return coding.strip().lower() not in ("", "identity")


def parse_object(text: bytes) -> dict[str, Any] | None:
    """Return the JSON object in UTF-8 bytes, `None` for anything else, `NaN` and `Infinity` included (RFC 8259)."""
    try:
        value = json.loads(text.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return None
    return value if isinstance(value, dict) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def read_object(response: httpx.Response, what: str) -> dict[str, Any]:
    """Return the JSON object of a 2xx answer; raise `WhopUnreachable` for 429 and 5xx, `BadWhopAnswer` for all else."""
    check_status(response, what)
    return _body(response, what)


def check_status(response: httpx.Response, what: str) -> None:
    """Pass a 2xx answer with a whole body; raise `WhopUnreachable` for 429 and 5xx, `BadWhopAnswer` for all else."""
    status = response.status_code
    if status == 429 or 500 <= status <= 599:
        raise WhopUnreachable(f"Whop answered {what} with HTTP {status}", retry_after=retry_after(response))
    if not 200 <= status <= 299 or status in _BODILESS:
        raise BadWhopAnswer(f"Whop answered {what} with an unexpected HTTP {status}")


def _body(response: httpx.Response, what: str) -> dict[str, Any]:
    if is_encoded(response):
        raise BadWhopAnswer(f"Whop answered {what} in an encoding that was not asked for")
    if len(response.content) > BODY_LIMIT:
        raise BadWhopAnswer(f"Whop answered {what} with more than {BODY_LIMIT} bytes")
    answer = parse_object(response.content)
    if answer is None:
        raise BadWhopAnswer(f"Whop answered {what} with something that is not a JSON object")
    return answer


def read_token_answer(response: httpx.Response, explain: Callable[[str, str], str]) -> tuple[str, dict[str, Any]]:
    """Return the access token and the whole answer of a token endpoint (RFC 6749 section 5).

    A known `error` decides first, whatever the status and whatever stands beside it, then the status.
    `explain(error, description)` words the usual causes of a refusal of the credentials; it must not quote either.
    Raises `CodeRefused`, `CredentialsRefused`, `WhopUnreachable` or `BadWhopAnswer`.
    """
    what, status = "the token request", response.status_code
    error, description = _error_of(response)
    if error == "invalid_grant" or (status == 400 and error not in _CREDENTIAL_ERRORS):
        raise CodeRefused(f"Whop refused the authorization code (HTTP {status})")
    if error in _CREDENTIAL_ERRORS or status in (401, 403):
        raise CredentialsRefused(f"Whop refused this app's credentials (HTTP {status}): {explain(error, description)}")
    answer = read_object(response, what)
    token, token_type = answer.get("access_token"), answer.get("token_type")
    if not is_token(token):
        raise BadWhopAnswer(f"Whop answered {what} without a usable access token")
    if token_type is not None and (not isinstance(token_type, str) or token_type.lower() != "bearer"):
        raise BadWhopAnswer(f"Whop answered {what} with a token that is not a bearer token")  # RFC 6749 section 7.1
    return str(token), answer


def is_token(value: object) -> bool:
    """Return whether a value can travel in an `Authorization` header (RFC 6750 section 2.1, a little wider)."""
    return isinstance(value, str) and len(value) <= _TOKEN_LIMIT and _PRINTABLE.fullmatch(value) is not None


def _error_of(response: httpx.Response) -> tuple[str, str]:
    """Return `error` and its description, flat or nested as Whop has both; empty when they cannot be read."""
    try:
        answer = _body(response, "")
    except BadWhopAnswer:
        return "", ""
    error = answer.get("error")
    if isinstance(error, dict):
        return _text(error.get("code")), _text(error.get("message"))
    return _text(error), _text(answer.get("error_description"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def read_user_id(value: object) -> str:
    """Return a user id of 1-255 printable ASCII characters; raises `BadWhopAnswer` for anything else."""
    if isinstance(value, str) and _USER_ID.fullmatch(value):
        return value
    raise BadWhopAnswer("Whop answered the user request without a usable user id")


def clean_text(value: object) -> str | None:
    """Return a text safe to print and to encode: controls become spaces; no text, blank or over-long is `None`."""
    if not isinstance(value, str) or len(value) > _FIELD_LIMIT:
        return None
    text = _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value.translate(_CONTROLS))
    return text if text.strip() else None


def clean_url(value: object) -> str | None:
    """Return an http(s) URL cleaned as text, `None` for any other scheme: a page may put it into a link."""
    text = clean_text(value)
    return text if text is not None and _WEB_URL.match(text) else None

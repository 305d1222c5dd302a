"""The pages and problem+json answers of the middleware. Pure: performs no I/O, shows no code, token or query value."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from .errors import AccessDenied
from .messages import Reply
from .texts import FAULTS
from .user import WhopUser

Header = tuple[str, str]

_NO_STORE = ("Cache-Control", "no-store")
_NO_SNIFF = ("X-Content-Type-Options", "nosniff")
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")
# A 401 names a scheme (RFC 9110 section 15.5.2); browsers show no dialogue for one that they do not know.
_CHALLENGE = ("WWW-Authenticate", 'Cookie realm="whop"')

# Overrides and isolates in a person's name could turn the words around it about (Unicode Annex 9, section 2).
_BIDI_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_STYLE = """
:root{color-scheme:light dark;--page:#f3f4f6;--card:#fff;--line:#dcdee4;--edge:#a3a8b5;--text:#1b1c21;--quiet:#585b66;--key:#2c55c9;--on-key:#fff}
@media (prefers-color-scheme:dark){:root{--page:#111216;--card:#1b1d23;--line:#353842;--edge:#676c7a;--text:#eceef3;--quiet:#a6aab6;--key:#a5bcff;--on-key:#101422}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;min-height:100dvh;display:flex;flex-direction:column;justify-content:center;align-items:center;padding:24px 16px;background:var(--page);color:var(--text);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;overflow-wrap:anywhere}
main{width:100%;max-width:36rem;padding:clamp(24px,6vw,40px);background:var(--card);border:1px solid var(--line);border-radius:16px;box-shadow:0 1px 2px #0000000a,0 12px 32px #0000000f}
h1{margin:0 0 16px;font-size:1.5rem;line-height:1.25;letter-spacing:-.01em;text-wrap:balance}
p{margin:0 0 12px;text-wrap:pretty}
nav{display:flex;flex-wrap:wrap;gap:12px;margin-top:24px}
form{display:contents}
a,button{display:inline-block;flex:0 1 auto;margin:0;padding:10px 18px;min-height:44px;border:1px solid var(--edge);border-radius:10px;background:none;color:var(--text);font:inherit;font-weight:600;line-height:1.4;text-align:center;text-decoration:none;cursor:pointer}
a:hover,button:hover{border-color:var(--quiet)}
.primary{border-color:var(--key);background:var(--key);color:var(--on-key)}
.primary:hover{border-color:var(--text)}
:focus-visible{outline:3px solid var(--key);outline-offset:3px}
dl{margin:28px 0 0;padding-top:20px;border-top:1px solid var(--line);font-size:.9375rem}
dt{font-weight:600}
dd{margin:0 0 12px;color:var(--quiet)}
dd:last-child{margin-bottom:0}
footer{max-width:36rem;margin-top:16px;color:var(--quiet);font-size:.8125rem;text-align:center}
@media (max-width:30rem){a,button{flex:1 1 100%}}
"""  # noqa: E501 (one rule a line)

_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_PAGE_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    _NO_STORE,
    ("Content-Security-Policy", _POLICY),
    _NO_SNIFF,
    # Not "no-referrer": under it browsers post our own forms with `Origin: null`, and signing out looks at the Origin.
    ("Referrer-Policy", "same-origin"),
)

_SHOWN_NAME = 80
"""Characters of a name that are shown: a name can be as long as a cookie, and would push the ways on out of sight."""

_KINDS = {"prod": "the product", "exp": "the experience", "biz": "something of the company"}


@dataclass(frozen=True, slots=True)
class Action:
    """A way on: a link, or with `post` a button that posts. `href` is a path with its prefix, or a full URL.

    A posting button must stay on this site, redirects included: the pages' `form-action` policy stops the rest.
    """

    label: str
    href: str
    post: bool = False
    primary: bool = False


def html(
    status: int,
    title: str,
    paragraphs: Sequence[str],
    actions: Sequence[Action] = (),
    *,
    error_code: str | None = None,
    reference: str | None = None,
    details: Sequence[tuple[str, str]] = (),
    headers: Sequence[Header] = (),
) -> Reply:
    """Return a page. All texts are plain and escaped here; `details` are questions and answers, in small print."""
    body = "".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="robots" content="noindex">\n',
            # Without an icon of its own a page has the browser ask for /favicon.ico, which a stranger is not given.
            '<link rel="icon" href="data:,">\n',
            f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{_text(title)}</h1>\n",
            *(f"<p>{_text(paragraph)}</p>\n" for paragraph in paragraphs),
            _ways_on(actions),
            _small_print(details),
            "</main>\n",
            _footer(reference, error_code),
            "</body>\n</html>\n",
        )
    )
    # Half a surrogate pair in a name has no UTF-8; a page with a "?" in it is better than none.
    return Reply(status, (*_PAGE_HEADERS, *headers), body.encode("utf-8", "replace"))


def _text(text: str) -> str:
    return _escape(_BIDI_CONTROLS.sub("", text))


def _escape(text: str) -> str:
    # Imported late, as in `phrase`: what only a page needs is no part of the import's cost.
    from html import escape

    return escape(text)


def phrase(status: int) -> str:
    """Return the reason phrase of a status (RFC 9110 section 15)."""
    from http import HTTPStatus

    return HTTPStatus(status).phrase


def _ways_on(actions: Sequence[Action]) -> str:
    return f'<nav aria-label="Ways on">\n{"".join(map(_way_on, actions))}</nav>\n' if actions else ""


def _way_on(action: Action) -> str:
    look = ' class="primary"' if action.primary else ""
    label, href = _text(action.label), _escape(action.href)
    if action.post:
        return f'<form method="post" action="{href}"><button{look}>{label}</button></form>\n'
    return f'<a{look} href="{href}">{label}</a>\n'


def _small_print(details: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{_text(question)}</dt>\n<dd>{_text(answer)}</dd>\n" for question, answer in details)
    return f"<dl>\n{rows}</dl>\n" if rows else ""


def _footer(reference: str | None, error_code: str | None) -> str:
    parts = [f"Reference: {_text(reference)}"] if reference else []
    parts += [_text(error_code)] if error_code else []
    return f"<footer>{' · '.join(parts)}</footer>\n" if parts else ""


def fault(
    error_code: str,
    status: int,
    actions: Sequence[Action],
    *,
    reference: str,
    retry_after: int | None = None,
    explanation: str | None = None,
) -> Reply:
    """Return the page of a fault, in the words for its code, or in `explanation`. `retry_after` is in seconds."""
    title, paragraphs = FAULTS.get(error_code, FAULTS["sign_in_failed"])
    if explanation is not None:
        paragraphs = (explanation,)
    headers: tuple[Header, ...] = ()
    if retry_after is not None:
        paragraphs = (*paragraphs, f"Try again in {_wait(retry_after)}.")
        headers = (("Retry-After", str(retry_after)),)
    return html(status, title, paragraphs, actions, error_code=error_code, reference=reference, headers=headers)


def _wait(seconds: int) -> str:
    minutes = max(1, -(-seconds // 60))
    return "about a minute" if minutes == 1 else f"about {minutes} minutes"


def sign_in_needed(actions: Sequence[Action]) -> Reply:
    """Return the 401 page for a form that was sent without a session."""
    paragraphs = (
        "What you just sent was not saved, because you are not signed in, or no longer: a session ends by itself after "
        "a while.",
        "Your browser's Back button usually brings back what you typed. Copy it, sign in, and send it again.",
    )
    return html(401, "Please sign in first", paragraphs, actions, headers=(_CHALLENGE,))


def signed_out(actions: Sequence[Action]) -> Reply:
    """Return the 200 page after a sign-out. It does not sign anyone in again by itself."""
    paragraphs = (
        "You are signed out of this site. At Whop you are still signed in, so coming back here takes one click.",
        "To use another account, switch to it at Whop first. On a shared computer, sign out at Whop too.",
    )
    return html(200, "Signed out", paragraphs, actions)


def confirm_sign_out(actions: Sequence[Action]) -> Reply:
    """Return the 200 page that asks before signing out, for a request that did not come from this site."""
    paragraphs = ("A link from outside this site asked to sign you out. Nothing has happened yet: you decide.",)
    return html(200, "Sign out of this site?", paragraphs, actions)


def denied(
    *,
    user: WhopUser,
    missing: Sequence[str],
    buy_url: str | None,
    check_again: str,
    other_account: str,
    reference: str | None = None,
) -> Reply:
    """Return the 403 page for someone without the purchase.

    `missing` are the resource ids of which any one would do. `check_again` is a link that signs in afresh,
    `other_account` a path of this site that signs out when posted to.
    """
    paragraphs = [
        f"Signed in as {_who(user)}.",
        f"This page is for people who own {_any_of(missing)}. This account does not, or no longer does.",
    ]
    if buy_url is None:
        paragraphs.append("Where to buy it, the owner of this site can tell you.")
    actions = (
        *((Action("Buy access", buy_url, primary=True),) if buy_url is not None else ()),
        Action("Check again", check_again, primary=buy_url is None),
        Action("Use another account", other_account, post=True),
    )
    details = (
        ("Just bought it?", "Choose “Check again”, and this site asks Whop once more."),
        (
            "Bought it with another account?",
            "Switch to that account at Whop first. Then choose “Use another account”, which signs you out here.",
        ),
        ("Is this your own site?", f"Set WHOP_ALLOW_USERS={user.id} on the server to let yourself in."),
    )
    title, code = FAULTS[AccessDenied.code][0], AccessDenied.code
    return html(403, title, paragraphs, actions, error_code=code, reference=reference, details=details)


def _who(user: WhopUser) -> str:
    name = user.display_name
    if name == user.id:
        return user.id
    shown = name if len(name) <= _SHOWN_NAME else f"{name[: _SHOWN_NAME - 1].rstrip()}…"
    return f"{shown} ({user.id})"


def _any_of(ids: Sequence[str]) -> str:
    if len(ids) > 1:
        return f"one of these: {', '.join(ids[:-1])} or {ids[-1]}"
    kind = _KINDS.get(ids[0].partition("_")[0])
    return f"{kind} {ids[0]}" if kind else ids[0]


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    login_url: str | None = None,
    retry_after: int | None = None,
    headers: Sequence[Header] = (),
) -> Reply:
    """Return an `application/problem+json` answer (RFC 9457) for a script. `retry_after` is in seconds."""
    fields = {
        "type": "about:blank",
        "title": phrase(status),
        "status": status,
        "detail": detail,
        "code": code,
    }
    if login_url is not None:
        fields["login_url"] = login_url
    if status == 401:
        headers = (_CHALLENGE, *headers)
    if retry_after is not None:
        headers = (("Retry-After", str(retry_after)), *headers)
    kind = ("Content-Type", "application/problem+json")
    return Reply(status, (kind, _NO_STORE, _NO_SNIFF, *headers), json.dumps(fields).encode())


def redirect(location: str, *, headers: Sequence[Header] = ()) -> Reply:
    """Return a `303 See Other`: whatever was sent here, the next request is a GET."""
    return Reply(303, (("Location", location), _PLAIN, _NO_STORE, *headers))


def empty(status: int = 204, *, headers: Sequence[Header] = ()) -> Reply:
    """Return an answer without a body; every status but 204 names a type, as the WSGI validator asks."""
    kind = () if status == 204 else (_PLAIN,)
    return Reply(status, (*kind, _NO_STORE, *headers))


def method_not_allowed(allow: str) -> Reply:
    """Return a 405 with the methods that would do, such as `"GET, HEAD"`."""
    return Reply(405, (_PLAIN, _NO_STORE, ("Allow", allow)), f"This address only answers to: {allow}.\n".encode())

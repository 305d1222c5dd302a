"""The look of the sandbox's pages: frame, people, pictures. Every text is escaped here; no page holds a script."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from html import escape
from pathlib import Path

from starlette.responses import HTMLResponse, RedirectResponse, Response

from .people import Person

STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")

_HEADERS = {
    "Cache-Control": "no-store",
    # No form-action: consent leads on to the app's own address, which browsers would count.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}
# What whop.com's own pages leave to the browser's default: an app sees the origin that sent the buyer, never the path.
REFERRER = {"Referrer-Policy": "strict-origin-when-cross-origin"}


def page(title: str, body: str, *, narrow: bool = False, status: int = 200) -> Response:
    """Return a page; `body` is HTML, `title` plain text."""
    look = ' class="narrow"' if narrow else ""
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · Whop sandbox</title>
<link rel="stylesheet" href="/style.css">
<link rel="icon" href="data:,">
</head>
<body>
<header><strong><a href="/">Whop Hub</a></strong> <span class="badge">Sandbox</span>
<p class="small">A stand-in for Whop on this machine. Nobody here is real, and nothing costs money.</p></header>
<main{look}>
{body}
</main>
</body>
</html>
"""
    return HTMLResponse(text, status, _HEADERS | REFERRER)


def problem(title: str, text: str, *, status: int = 400) -> Response:
    """Return a page about something that cannot go on, for the developer to read."""
    body = (
        f'<div class="card"><h1>{escape(title)}</h1><p>{escape(text)}</p>'
        '<div class="ways"><a class="button" href="/">To the Hub</a></div></div>'
    )
    return page(title, body, narrow=True, status=status)


def see_other(url: str) -> Response:
    """Send the browser on. The app it arrives at gets this server's origin as the `Referer`."""
    return RedirectResponse(url, 303, {"Cache-Control": "no-store"} | REFERRER)


def face(person: Person) -> str:
    """Return someone's picture, or their initial."""
    if person.has_picture:
        return f'<img class="face" src="/pictures/{escape(person.id)}.svg" alt="" width="44" height="44">'
    return f'<span class="face" aria-hidden="true">{escape(person.display_name[:1].upper())}</span>'


def person_card(person: Person) -> str:
    """Return someone as a line that cannot be pressed."""
    return f'<div class="person">{_person(person)}</div>'


def people_form(people: Iterable[Person], chosen: Person | None, then: str) -> str:
    """Return the buttons to be someone; `then` is where to go on, a path of the sandbox."""
    buttons = "".join(
        f'<button class="person" name="person" value="{escape(person.id)}" '
        f'aria-pressed="{str(person == chosen).lower()}">{_person(person)}</button>\n'
        for person in people
    )
    return (
        f'<form method="post" action="/hub/person"><input type="hidden" name="then" value="{escape(then)}">'
        f'<div class="people">{buttons}</div></form>'
    )


def _person(person: Person) -> str:
    return f"{face(person)}<span><b>{escape(person.display_name)}</b><small>{escape(person.about)}</small></span>"


def picture(person: Person) -> Response:
    """Return someone's picture: their initials on a colour of their own."""
    hue = sha256(person.id.encode()).digest()[2] * 360 // 256
    initials = "".join(word[0] for word in person.display_name.split()[:2]).upper()
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96" width="96" height="96">'
        f'<rect width="96" height="96" fill="hsl({hue} 45% 38%)"/>'
        '<text x="48" y="50" fill="#fff" font-family="system-ui, sans-serif" font-size="38" font-weight="600" '
        f'text-anchor="middle" dominant-baseline="central">{escape(initials)}</text></svg>'
    )
    return Response(svg, media_type="image/svg+xml", headers={"Cache-Control": "max-age=60"})

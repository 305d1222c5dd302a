"""What the Hub and the checkout show. Pure: builds HTML from what is true now, changes nothing; escapes every text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape

from .faults import KINDS, NAMES, Faults, RateLimit
from .pages import people_form, person_card
from .people import App, Person, Product
from .world import World

_KINDS = {"slow": "Slow", "5xx": "500", "429": "429", "cut": "Cut off", "nonsense": "Nonsense"}
_ENDPOINTS = {
    "all": ("All of the API", "what your app's server calls"),
    "authorize": ("Sign-in page", "where the browser goes"),
    "token": ("Token", "trades a code for a token"),
    "user": ("User", "/v5/me, userinfo"),
    "memberships": ("Memberships", "what someone bought, v5"),
    "experiences": ("Experiences", "one experience, v5"),
    "access": ("Access check", "by API key or OAuth 2.1 token"),
    "revoke": ("Revoke", "OAuth 2.1"),
    "discovery": ("Discovery", "OpenID Connect, with the keys"),
}
_STATUS = {"canceled": "Canceled", "expired": "Expired"}


def hub(world: World, faults: Faults, limit: RateLimit, calls: Counter[str], person: Person | None) -> str:
    """Return the Hub as someone sees it."""
    return (
        f'<h2 id="you">You are</h2><p class="soft">{"Choose who to be." if person is None else "Choose to be another."}'
        f"</p>{people_form(list(world.people.values()), person, '/')}"
        f'<h2 id="apps">Your apps</h2>{_apps(world, person)}'
        '<h2 id="faults">Make Whop misbehave</h2>'
        '<p class="soft">Switch a fault on, then see what your buyers would see. After a failure an app may leave Whop '
        "alone for a minute: when all works again, wait that long or restart your app.</p>"
        f"{_lock_out(limit)}{_faults(faults, calls)}"
    )


def _apps(world: World, person: Person | None) -> str:
    if person is None:
        return '<p class="soft">Choose who you are, and their apps appear here.</p>'
    apps = list(world.apps.values())
    if not apps:
        return '<p class="soft">No app is registered yet: <code>Sandbox.add_app</code> adds one.</p>'
    return '<p class="soft">A click on Open sends you there as the real Hub does: with a code, without a state.</p>' + (
        "".join(_app(world, app, person) for app in apps)
    )


def _app(world: World, app: App, person: Person) -> str:
    is_on_team = world.is_on_team(person, app.company_id)
    is_theirs = is_on_team or any(world.has(person, product.id) for product in app.products)
    look, label = ("button primary", "Open") if is_theirs else ("button", "Open all the same")
    note = "" if is_theirs else '<p class="small soft">Not bought: the real Hub would not list it.</p>'
    rows = "".join(_product(world, product, person) for product in app.products)
    return (
        '<section class="card"><div class="head">'
        f'<span class="face app" aria-hidden="true">{escape(app.name[:1])}</span>'
        f"<div><h3>{escape(app.name)}</h3><p><code>{escape(app.redirect_uris[0])}</code></p>{note}</div>"
        f'<a class="{look}" href="/hub/open/{escape(app.client_id)}">{label}</a></div>'
        f'<ul class="rows">{rows}{_team(app, person, is_on_team)}</ul>{_settings(world, app)}</section>'
    )


def _product(world: World, product: Product, person: Person) -> str:
    hidden = _hidden(person=person.id, product=product.id)
    if world.has(person, product.id):
        pill, buttons = '<span class="pill good">Bought</span>', [("cancel", "Cancel"), ("expire", "Let expire")]
    else:
        pill, buttons = _past(world, product, person), [("buy", "Buy")]
    return (
        f'<li><span class="what"><b>{escape(product.name)}</b><code>{escape(product.id)}</code></span>{pill}'
        f'<form method="post" action="/hub/membership">{hidden}{_buttons("do", buttons)}</form></li>'
    )


def _past(world: World, product: Product, person: Person) -> str:
    status = next((m.status for m in world.memberships_of(person) if m.product_id == product.id), None)
    if status is None:
        return '<span class="pill">Not bought</span>'
    return f'<span class="pill bad">{escape(_STATUS.get(status, status))}</span>'


def _team(app: App, person: Person, is_on_team: bool) -> str:
    pill = '<span class="pill good">Admin</span>' if is_on_team else '<span class="pill">Not on it</span>'
    button = ("leave", "Leave") if is_on_team else ("join", "Own it")
    return (
        f'<li><span class="what"><b>Team of the company</b><code>{escape(app.company_id)}</code></span>{pill}'
        f'<form method="post" action="/hub/team">{_hidden(person=person.id, company=app.company_id)}'
        f"{_buttons('do', (button,))}</form></li>"
    )


def _settings(world: World, app: App) -> str:
    lines = [
        f"WHOP_CLIENT_ID={app.client_id}",
        f"WHOP_REDIRECT_URI={app.redirect_uris[0]}",
        f"WHOP_URL={world.base_url}",
        f"WHOP_API_URL={world.base_url}",
    ]
    return f"<details><summary>Settings of this app</summary><pre>{escape(chr(10).join(lines))}</pre></details>"


def _lock_out(limit: RateLimit) -> str:
    wait = limit.wait()
    if not wait:
        return ""
    return f'<p class="alert">More than 20 requests in 10 s: v5 answers 429 for another {wait:.0f} s, as Whop does.</p>'


def _faults(faults: Faults, calls: Counter[str]) -> str:
    rows = "".join(_fault(name, faults, calls[name]) for name in ("all", *NAMES))
    return (
        f'<section class="card faults"><ul class="rows first">{rows}</ul>'
        f'<form class="ways" method="post" action="/hub/fault">{_hidden(endpoint="everything")}'
        "<button>All works again</button></form></section>"
    )


def _fault(name: str, faults: Faults, calls: int) -> str:
    title, about = _ENDPOINTS[name]
    now = faults.kind(name)
    count = f" · called {'once' if calls == 1 else f'{calls} times'}" if calls else ""
    off = _button("kind", "", "Works", pressed=now is None, look="off")
    kinds = "".join(_button("kind", kind, _KINDS[kind], pressed=kind == now) for kind in KINDS)
    return (
        f'<li><span class="what"><b>{escape(title)}</b> <small class="soft">{escape(about)}{count}</small></span>'
        f'<form method="post" action="/hub/fault" aria-label="{escape(title)}">'
        f"{_hidden(endpoint=name)}{off}{kinds}</form></li>"
    )


def checkout(world: World, product: Product, person: Person | None) -> str:
    """Return the page where a product is bought; afterwards the buyer is sent to the app, as from the real checkout."""
    title = f"<h1>Buy {escape(product.name)}</h1>"
    here = f"/checkout/{product.id}"
    if person is None:
        return (
            f'<div class="card">{title}<p>Who are you?</p>{people_form(list(world.people.values()), None, here)}</div>'
        )
    has_it = '<p class="small soft">You have it already.</p>' if world.has(person, product.id) else ""
    return (
        f'<div class="card">{title}{person_card(person)}<p class="gap">It costs nothing here. Afterwards you go to the '
        f"app, with a code and without a state.</p>{has_it}"
        f'<form class="ways" method="post" action="/hub/checkout">{_hidden(person=person.id, product=product.id)}'
        '<button class="primary">Buy</button><a class="button" href="/">To the Hub</a></form></div>'
    )


def _hidden(**fields: str) -> str:
    return "".join(f'<input type="hidden" name="{name}" value="{escape(text)}">' for name, text in fields.items())


def _buttons(name: str, choices: Iterable[tuple[str, str]]) -> str:
    return "".join(f'<button name="{name}" value="{value}">{escape(label)}</button>' for value, label in choices)


def _button(name: str, value: str, label: str, *, pressed: bool, look: str = "") -> str:
    look = f' class="{look}"' if look else ""
    pressed_text = str(pressed).lower()
    return f'<button{look} name="{name}" value="{value}" aria-pressed="{pressed_text}">{escape(label)}</button>'

"""The "Login with Whop" page of both generations: who are you, do you agree. Sends nobody to a stranger."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .grants import Grant
from .pages import page, people_form, person_card, problem, see_other
from .people import App, Person
from .requests import is_foreign_post, parameters, unique
from .world import World

COOKIE = "whop_sandbox_person"
_CHALLENGE = re.compile(r"[\w-]{43}", re.ASCII)  # the base64url of a SHA-256 (RFC 7636 section 4.2)
_DECLINED = "The resource owner or authorization server denied the request."
_IN_WORDS = {
    "read_user": "Your name, username, picture and e-mail address",
    "user": "Your name, username, picture and e-mail address",
    "openid": "Your user id",
    "profile": "Your name, username and picture",
    "email": "Your e-mail address",
}


class Unanswerable(Exception):
    """The request is not to be trusted with a redirect; the message is for the developer."""


class Refused(Exception):
    """The request is wrong in a way the app is told about (RFC 6749 section 4.1.2.1): `args` are error, description."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What an app asks for, its client and redirect_uri already found good."""

    app: App
    redirect_uri: str
    dialect: str
    parameters: Mapping[str, str]

    @property
    def scope(self) -> list[str]:
        """Return the single scopes, in order."""
        return self.parameters.get("scope", "").split()

    def back(self, issuer: str, **answer: str) -> Response:
        """Send the browser back with an answer, and the state unchanged."""
        if "state" in self.parameters:
            answer["state"] = self.parameters["state"]
        if self.dialect == "oauth21":
            answer["iss"] = issuer  # RFC 9207
        joint = "&" if "?" in self.redirect_uri else "?"
        return see_other(f"{self.redirect_uri}{joint}{urlencode(answer)}")

    def check(self) -> None:
        """Raise `Refused` when something is missing that Whop insists on."""
        if self.parameters.get("response_type") != "code":
            raise Refused("unsupported_response_type", 'response_type must be "code"')
        if self.dialect == "oauth21":
            self._check_oauth21()

    def _check_oauth21(self) -> None:
        challenge, method = (self.parameters.get(f"code_challenge{end}") for end in ("", "_method"))
        if not self.scope:
            raise Refused("invalid_scope", "scope is missing")
        if "openid" in self.scope and not self.parameters.get("nonce"):
            raise Refused("invalid_request", "nonce is required when the scope has openid")
        if challenge is None and self.app.client_secret is None:
            raise Refused("invalid_request", "code_challenge is required for a public app")
        if challenge is not None and (method != "S256" or not _CHALLENGE.fullmatch(challenge)):
            raise Refused("invalid_request", "code_challenge must be one of the method S256")


class Authorize:
    """The page."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Return the routes; `/oauth/` is what `@whop/api` 0.0.5x opens."""
        paths = (("/oauth", "v5"), ("/oauth/", "v5"), ("/oauth/authorize", "oauth21"))
        return [
            Route(path, partial(handler, dialect=dialect), methods=[method])
            for path, dialect in paths
            for method, handler in (("GET", self.show), ("POST", self.decide))
        ]

    async def show(self, request: Request, *, dialect: str) -> Response:
        """Ask who it is and whether they agree; someone who agreed before goes straight back."""
        ask = self._read(request, dialect)
        if isinstance(ask, Response):
            return ask
        person = visitor(request, self._world)
        if person is not None and self._world.has_agreed(person, ask.app, ask.scope):
            return self._give_code(ask, person)
        here = f"{request.url.path}?{request.url.query}"
        return page(f"Sign in to {ask.app.name}", _question(self._world, ask, person, here), narrow=True)

    async def decide(self, request: Request, *, dialect: str) -> Response:
        """Take the answer that was given on the page."""
        ask = self._read(request, dialect)
        if isinstance(ask, Response):
            return ask
        if is_foreign_post(request):
            return problem("Not from here", "This form was posted by a page of another site.", status=403)
        person, decision = visitor(request, self._world), (await parameters(request)).get("decision")
        if decision == "decline":
            return ask.back(self._world.base_url, error="access_denied", error_description=_DECLINED)
        if person is None or decision != "allow":
            return see_other(f"{request.url.path}?{request.url.query}")
        self._world.agree(person, ask.app, ask.scope)
        return self._give_code(ask, person)

    def _read(self, request: Request, dialect: str) -> Ask | Response:
        try:
            ask = self._trusted(request, dialect)
        except Unanswerable as unanswerable:
            return problem("Whop cannot go on with this sign-in", str(unanswerable))
        try:
            ask.check()
        except Refused as refused:
            error, description = refused.args
            return ask.back(self._world.base_url, error=error, error_description=description)
        return ask

    def _trusted(self, request: Request, dialect: str) -> Ask:
        """Find the client and the redirect_uri; until both are good nobody is redirected (RFC 6749 section 4.1.2.1)."""
        given = unique(request.query_params.multi_items())
        if given is None:
            raise Unanswerable("A parameter is repeated.")
        app = self._world.apps.get(given.get("client_id", ""))
        if app is None:
            raise Unanswerable("No app is registered with this client_id.")
        if app.dialect != dialect:
            right = "/oauth/authorize" if app.dialect == "oauth21" else "/oauth"
            raise Unanswerable(f"This client_id belongs to another generation of the API, whose page is {right}.")
        redirect_uri = given.get("redirect_uri", "")
        if redirect_uri not in app.redirect_uris:
            known = ", ".join(app.redirect_uris)
            raise Unanswerable(f"redirect_uri is {redirect_uri!r}; it must equal a registered one exactly: {known}")
        return Ask(app, redirect_uri, dialect, given)

    def _give_code(self, ask: Ask, person: Person) -> Response:
        given = ask.parameters
        grant = Grant(
            user_id=person.id,
            client_id=ask.app.client_id,
            redirect_uri=ask.redirect_uri,
            scope=" ".join(ask.scope),
            dialect=ask.dialect,
            nonce=given.get("nonce"),
            code_challenge=given.get("code_challenge"),
        )
        return ask.back(self._world.base_url, code=self._world.grants.new_code(grant))


def visitor(request: Request, world: World) -> Person | None:
    """Return who this browser chose to be."""
    try:
        return world.person(request.cookies.get(COOKIE, ""))
    except LookupError:
        return None


def _question(world: World, ask: Ask, person: Person | None, here: str) -> str:
    name, people = escape(ask.app.name), list(world.people.values())
    if person is None:
        return (
            f'<div class="card"><h1>Sign in to {name}</h1><p>Who are you?</p>{people_form(people, None, here)}'
            f'<form class="ways" method="post" action="{escape(here)}">'
            '<button name="decision" value="decline">Cancel</button></form></div>'
        )
    asks = "".join(f"<li>{line}</li>" for line in _in_words(ask.scope))
    return (
        f'<div class="card"><h1>{name} wants to know who you are</h1>{person_card(person)}'
        f'<p class="gap">It asks for:</p><ul class="asks">{asks}</ul>'
        f'<p class="small soft">Afterwards you go to <code>{escape(ask.redirect_uri)}</code></p>'
        f'<form class="ways" method="post" action="{escape(here)}">'
        '<button class="primary" name="decision" value="allow">Allow</button>'
        '<button name="decision" value="decline">Cancel</button></form>'
        f"<details><summary>Be someone else</summary>{people_form(people, person, here)}</details></div>"
    )


def _in_words(scope: list[str]) -> list[str]:
    words = [_IN_WORDS.get(name, escape(name)) for name in scope] or [_IN_WORDS["read_user"]]
    return list(dict.fromkeys(words))

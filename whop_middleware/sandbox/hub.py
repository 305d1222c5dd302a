"""The Whop Hub: be someone, open their apps, buy and cancel, make Whop fail. Changes nothing for a foreign page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import hub_page
from .authorize import COOKIE, visitor
from .faults import Faults, RateLimit
from .grants import Grant
from .pages import STYLE, page, picture, problem, see_other
from .people import App, Person
from .requests import is_foreign_post, parameters
from .world import World

Handler: TypeAlias = Callable[[Request, dict[str, str]], Awaitable[Response]]


class Hub:
    """The pages, and the buttons on them."""

    def __init__(self, world: World, faults: Faults, limit: RateLimit, count: Callable[[], Counter[str]]) -> None:
        self._world = world
        self._faults = faults
        self._limit = limit
        self._count = count

    def routes(self) -> list[Route]:
        """Return the routes."""
        buttons: dict[str, Handler] = {
            "/hub/person": self._be,
            "/hub/membership": self._change_membership,
            "/hub/team": self._change_team,
            "/hub/fault": self._change_fault,
            "/hub/checkout": self._buy_and_go,
        }
        return [
            Route("/", self.show, methods=["GET"]),
            Route("/hub/open/{client_id}", self.open, methods=["GET"]),
            Route("/checkout/{product_id}", self.checkout, methods=["GET"]),
            Route("/pictures/{user_id}.svg", self.picture, methods=["GET"]),
            Route("/style.css", _style, methods=["GET"]),
            *(Route(path, _from_here_only(handler), methods=["POST"]) for path, handler in buttons.items()),
        ]

    async def show(self, request: Request) -> Response:
        """Show the Hub."""
        body = hub_page.hub(self._world, self._faults, self._limit, self._count(), visitor(request, self._world))
        return page("Whop Hub", body)

    async def open(self, request: Request) -> Response:
        """Send someone from the Hub into an app: a code, no state, no return path."""
        app = self._world.apps.get(request.path_params["client_id"])
        if app is None:
            return problem("No such app", "No app is registered with this client_id.", status=404)
        person = visitor(request, self._world)
        return see_other("/") if person is None else self._into(app, person)

    async def checkout(self, request: Request) -> Response:
        """Show the page where a product is bought; a `buy_url` for the sandbox."""
        product = self._world.products.get(request.path_params["product_id"])
        if product is None:
            return problem("No such product", "No app brought a product with this id.", status=404)
        return page(
            f"Buy {product.name}", hub_page.checkout(self._world, product, visitor(request, self._world)), narrow=True
        )

    async def picture(self, request: Request) -> Response:
        """Draw someone's picture."""
        try:
            return picture(self._world.person(request.path_params["user_id"]))
        except LookupError:
            return Response(status_code=404)

    def _into(self, app: App, person: Person) -> Response:
        # The Hub knows one Callback URL of an app, and takes no part in PKCE.
        redirect_uri = app.redirect_uris[0]
        grant = Grant(person.id, app.client_id, redirect_uri, "read_user", app.dialect)
        joint = "&" if "?" in redirect_uri else "?"
        return see_other(f"{redirect_uri}{joint}code={self._world.grants.new_code(grant)}")

    # --- Buttons ---

    async def _be(self, request: Request, given: dict[str, str]) -> Response:
        person = self._world.person(given["person"])
        response = see_other(_own_path(given.get("then", "/")))
        response.set_cookie(COOKIE, person.id, httponly=True, samesite="lax")
        return response

    async def _change_membership(self, request: Request, given: dict[str, str]) -> Response:
        person, product_id = self._world.person(given["person"]), given["product"]
        if given["do"] == "buy":
            if not self._world.has(person, product_id):
                self._world.buy(person, product_id)
        else:
            self._world.end(person, product_id, {"cancel": "canceled", "expire": "expired"}[given["do"]])
        return see_other("/#apps")

    async def _change_team(self, request: Request, given: dict[str, str]) -> Response:
        change = {"join": self._world.team.add, "leave": self._world.team.discard}[given["do"]]
        change((self._world.person(given["person"]).id, given["company"]))
        return see_other("/#apps")

    async def _change_fault(self, request: Request, given: dict[str, str]) -> Response:
        if given["endpoint"] == "everything":
            self._faults.clear()
        else:
            self._faults.set(given["endpoint"], given["kind"] or None)
        return see_other("/#faults")

    async def _buy_and_go(self, request: Request, given: dict[str, str]) -> Response:
        person, product = self._world.person(given["person"]), self._world.products[given["product"]]
        if not self._world.has(person, product.id):
            self._world.buy(person, product.id)
        app = next(app for app in reversed(self._world.apps.values()) if product in app.products)
        return self._into(app, person)


def _from_here_only(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        if is_foreign_post(request):
            return problem("Not from here", "This form was posted by a page of another site.", status=403)
        try:
            return await handler(request, await parameters(request))
        except (LookupError, ValueError):
            return problem("That did not work", "The form names something that the sandbox does not know.")

    return answer


def _own_path(path: str) -> str:
    return path if path.startswith("/") and not path.startswith("//") and "\\" not in path else "/"


async def _style(_request: Request) -> Response:
    return Response(STYLE, media_type="text/css", headers={"Cache-Control": "no-cache"})

"""What is true at the sandbox: who bought what, who is on whose team, who agreed to which app. Performs no I/O."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from .grants import Grants
from .people import STATUSES, App, Membership, Person, Product, default_buyers, default_people

Who: TypeAlias = Person | str
Level: TypeAlias = Literal["customer", "admin"]

_MONTH = 30 * 86400  # seconds


class World:
    """The people, apps and purchases; changed by the Hub, by tests, and by nothing that an app sends."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.base_url = "http://whop.test"
        self.people = default_people()
        self.apps: dict[str, App] = {}
        self.products: dict[str, Product] = {}
        self.experiences: dict[str, str] = {}
        self.memberships: list[Membership] = []
        self.team: set[tuple[str, str]] = set()
        self.grants = Grants(clock)
        self._consents: dict[tuple[str, str], frozenset[str]] = {}

    def register(self, app: App, experiences: dict[str, str]) -> None:
        """Add an app; the products it is the first to bring get their buyers, its company its owner."""
        self.apps[app.client_id] = app
        self.experiences.update(experiences)
        if "owner" in self.people:
            self.team.add((self.people["owner"].id, app.company_id))
        new = [product for product in app.products if product.id not in self.products]
        self.products.update({product.id: product for product in app.products})
        if app.products[:1] == tuple(new[:1]) and new:
            self._first_sales(new[0])

    def _first_sales(self, product: Product) -> None:
        for person in default_buyers(self.people):
            self.buy(person, product.id)
        if "former" in self.people:
            self.buy("former", product.id, status="expired", valid=False)

    def person(self, who: Who) -> Person:
        """Return someone by their key or user id. Raises `LookupError`."""
        return who if isinstance(who, Person) else self.people[who]

    def company_of(self, resource_id: str) -> str | None:
        """Return the company that a product, an experience or a company id belongs to, `None` when unknown."""
        product = self.products.get(self.experiences.get(resource_id, resource_id))
        if product is not None:
            return product.company_id
        return resource_id if any(app.company_id == resource_id for app in list(self.apps.values())) else None

    def picture_of(self, person: Person) -> str | None:
        """Return the address of someone's picture."""
        return f"{self.base_url}/pictures/{person.id}.svg" if person.has_picture else None

    # --- Purchases ---

    def buy(self, who: Who, product_id: str, *, status: str = "active", valid: bool = True) -> Membership:
        """Add a membership, as a purchase does. Raises `LookupError` (product) or `ValueError` (status)."""
        person, product = self.person(who), self.products[product_id]
        if status not in STATUSES:
            raise ValueError(f"{status!r} is no status of a membership: {', '.join(STATUSES)}")
        now = int(self.clock())
        membership = Membership(f"mem_{secrets.token_hex(8)}", product.id, person.id, status, valid, now)
        if status == "expired":
            membership.expires_at = now
        elif status != "completed":  # a one-time purchase is completed, and never renewed
            membership.renewal_period_end = now + _MONTH
        self.memberships.append(membership)
        return membership

    def end(self, who: Who, product_id: str, status: str) -> None:
        """End every valid membership someone has of a product."""
        for membership in self.memberships_of(who):
            if membership.product_id == product_id and membership.valid:
                membership.status, membership.valid = status, False
                membership.expires_at, membership.renewal_period_end = int(self.clock()), None

    def memberships_of(self, who: Who) -> list[Membership]:
        """Return someone's memberships, the newest first, ended ones included."""
        person = self.person(who)
        return [membership for membership in reversed(self.memberships) if membership.user_id == person.id]

    def has(self, who: Who, product_id: str) -> bool:
        """Return whether someone has a valid membership of a product."""
        return any(m.valid and m.product_id == product_id for m in self.memberships_of(who))

    def is_on_team(self, who: Who, company_id: str) -> bool:
        """Return whether someone is the owner, or on the team, of a company."""
        return (self.person(who).id, company_id) in self.team

    def level(self, who: Who, resource_id: str) -> Level | None:
        """Return how someone has access to a product, an experience or anything of a company; `None`: not at all."""
        company_id = self.company_of(resource_id)
        if company_id is not None and self.is_on_team(who, company_id):
            return "admin"
        if resource_id == company_id:
            wanted = {product.id for product in list(self.products.values()) if product.company_id == company_id}
        else:
            wanted = {self.experiences.get(resource_id, resource_id)}
        return "customer" if any(self.has(who, product_id) for product_id in wanted) else None

    # --- Consent ---

    def has_agreed(self, person: Person, app: App, scope: Sequence[str]) -> bool:
        """Return whether someone agreed before to everything an app asks for now."""
        agreed = self._consents.get((person.id, app.client_id))
        return agreed is not None and frozenset(scope) <= agreed

    def agree(self, person: Person, app: App, scope: Sequence[str]) -> None:
        """Remember that someone lets an app know what it asks for."""
        key = (person.id, app.client_id)
        self._consents[key] = self._consents.get(key, frozenset()) | frozenset(scope)

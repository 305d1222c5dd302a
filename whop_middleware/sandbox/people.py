"""Who and what the sandbox knows: people, apps, products, memberships. Plain values; holds nobody real."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from whop_middleware.errors import ConfigError

# Every status of the v5 reference; none of them says whether a membership counts, only `valid` does.
STATUSES = ("trialing", "active", "past_due", "completed", "canceled", "expired", "unresolved")


@dataclass(frozen=True, slots=True)
class Person:
    """Someone to be in the sandbox; `about` is a short sentence for the Hub."""

    id: str
    username: str
    name: str | None
    email: str | None
    about: str
    has_picture: bool = True

    @property
    def display_name(self) -> str:
        """Return the name, or else the username."""
        return self.name or self.username


class People(dict[str, Person]):
    """The people by their short key ("buyer"); a user id finds them as well."""

    def __missing__(self, key: str) -> Person:
        person = next((person for person in list(self.values()) if person.id == key), None)
        if person is None:
            raise KeyError(key)
        return person


@dataclass(frozen=True, slots=True)
class Product:
    """Something to buy from a company."""

    id: str
    name: str
    company_id: str


@dataclass(frozen=True, slots=True)
class App:
    """An app registered at the sandbox; a client id that starts with `app_` speaks OAuth 2.1, any other v5."""

    client_id: str
    client_secret: str | None = field(repr=False)
    redirect_uris: tuple[str, ...]
    name: str
    products: tuple[Product, ...]
    company_id: str
    api_key: str | None = field(repr=False)
    may_exchange: bool

    def __post_init__(self) -> None:
        if not self.redirect_uris:
            raise ConfigError("add_app needs at least one redirect_uri")
        for uri in self.redirect_uris:
            _check_redirect_uri(uri)
        if self.dialect == "v5" and not self.client_secret:
            raise ConfigError("a v5 app needs a client_secret; only an app_... client can do without")

    @property
    def dialect(self) -> str:
        """Return the generation of the API that the client id belongs to."""
        return "oauth21" if self.client_id.startswith("app_") else "v5"


def _check_redirect_uri(uri: str) -> None:
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.fragment:
        raise ConfigError(f"redirect_uri {uri!r} is not a full http(s) URL without a fragment")


@dataclass(slots=True)
class Membership:
    """What a person has, or had, of a product; times in Unix seconds."""

    id: str
    product_id: str
    user_id: str
    status: str
    valid: bool
    created_at: int
    expires_at: int | None = None
    renewal_period_end: int | None = None

    def as_json(self, base_url: str) -> dict[str, Any]:
        """Return it as v5's listing has it."""
        suffix = self.id.removeprefix("mem_")
        return {
            "id": self.id,
            "product_id": self.product_id,
            "user_id": self.user_id,
            "plan_id": f"plan_{self.product_id.partition('_')[2]}",
            "status": self.status,
            "valid": self.valid,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "renewal_period_end": self.renewal_period_end,
            "cancel_at_period_end": False,
            "license_key": f"S-{suffix.upper()}",
            "manage_url": f"{base_url}/",
        }


_LONG_NAME = " ".join(
    ["Maximiliane-Theodora Ωmega von und zu Wolkenstein-Trostburg-Hohenlohe-Waldenburg-Schillingsfürst 王小明 🌊"] * 8
)


def default_people() -> People:
    """Return six people, each here for one thing that goes wrong in apps."""
    return People(
        buyer=Person("user_buyer", "bea_buyer", "Bea Buyer", "bea@example.com", "Bought the first product"),
        owner=Person("user_owner", "otto_owner", "Otto Owner", "otto@example.com", "Runs the company, bought nothing"),
        stranger=Person("user_stranger", "sam", "Sam Stranger", "sam@example.com", "Never bought anything"),
        no_email=Person("user_no_email", "nora", None, None, "Bought, but has no e-mail, name or picture", False),
        long_name=Person("user_long_name", "max", _LONG_NAME, "max@example.com", "Bought, and has a very long name"),
        former=Person("user_former", "fay_former", "Fay Former", "fay@example.com", "Her membership has expired"),
    )


def default_buyers(people: People) -> Iterable[Person]:
    """Return who of the default people buys the first product of each new app."""
    return [people[key] for key in ("buyer", "no_email", "long_name") if key in people]

"""Who is signed in: WhopUser, and current_user to find one. Performs no I/O and trusts no header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

__all__ = ["Access", "WhopUser", "current_user"]

KEY = "whop_user"


class Access(dict[str, str]):
    """A read-only dict of resource id to "customer" or "admin"; copies, pickles and serialises like a dict."""

    def _read_only(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError("WhopUser.access is read-only")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _read_only

    def __reduce__(self) -> tuple[type[Access], tuple[dict[str, str]]]:
        return (type(self), (dict(self),))

    def __copy__(self) -> Access:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Access:
        return self


_NOTHING = Access()


@dataclass(frozen=True, init=False)
class WhopUser:
    """A person signed in with Whop. Key your own records by `id`, never by `email`.

    `id` is 1-255 printable ASCII characters ("user_..."). The optional fields are `None` when Whop did not say.
    `access` maps each resource id that was checked and found to "customer" or "admin".
    `signed_in_at` is in Unix seconds.
    Serves as a Starlette `BaseUser` as well.
    """

    id: str
    username: str | None = None
    name: str | None = None
    email: str | None = None
    profile_pic_url: str | None = None
    access: Mapping[str, str] = field(default_factory=lambda: _NOTHING, hash=False)
    signed_in_at: int = 0

    def __init__(
        self,
        *,
        id: str,
        username: str | None = None,
        name: str | None = None,
        email: str | None = None,
        profile_pic_url: str | None = None,
        access: Mapping[str, str] = _NOTHING,
        signed_in_at: int = 0,
    ) -> None:
        # A frozen dataclass's own __init__ takes three times as long, for every cookie seen for the first time.
        fields = {
            "id": id,
            "username": username,
            "name": name,
            "email": email,
            "profile_pic_url": profile_pic_url,
            "access": access if type(access) is Access else Access(access),
            "signed_in_at": signed_in_at,
        }
        object.__setattr__(self, "__dict__", fields)

    @property
    def is_authenticated(self) -> bool:
        """Return `True`: a `WhopUser` exists only for someone signed in."""
        return True

    @property
    def display_name(self) -> str:
        """Return the name, else the username, else the id."""
        return self.name or self.username or self.id

    @property
    def identity(self) -> str:
        """Return the id, as Starlette's `BaseUser.identity` asks."""
        return self.id


def current_user(where: object) -> WhopUser | None:
    """Return the `WhopUser` of a Starlette, FastAPI, Django or Flask request, a scope or an environ, else `None`."""
    for place in (where, *(_attribute(where, name) for name in ("scope", "environ", "META"))):
        if isinstance(place, Mapping):
            user = dict.get(place, KEY) if isinstance(place, dict) else place.get(KEY)
            if isinstance(user, WhopUser):
                return user
    return None


def _attribute(where: object, name: str) -> object:
    try:
        return getattr(where, name, None)
    except Exception:  # a lazy proxy outside its context (flask.request) has no user to give
        return None

"""Cookies of signed-in people, for the tests of an app behind the middleware. Not imported unless asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .config import WhopConfig
from .sessions import Session, Sessions, Verdict
from .signing import now
from .user import WhopUser


def session_cookie(
    config: WhopConfig,
    *,
    origin: str = "http://testserver",
    id: str = "user_test",
    username: str | None = None,
    name: str | None = None,
    email: str | None = None,
    profile_pic_url: str | None = None,
    access: Mapping[str, str] | None = None,
    signed_in_at: float | None = None,
) -> dict[str, str]:
    """Return the session cookie of a signed-in person as a dict for any test client.

    The fields are `WhopUser`'s; `access` maps resource ids to "customer" or "admin", and the other ids of `require`
    count as checked and not owned. `origin` (scheme and host of the app under test) decides the cookie's name when
    `redirect_uri` is a path; a full one decides it alone. `signed_in_at` is in Unix seconds, now by default.
    Over-long fields are dropped as at a sign-in. Raises `ValueError` for a field that no sign-in would give.
    """
    sessions, time = Sessions(config), now()
    at = int(time if signed_in_at is None else signed_in_at)
    owned = dict(access or {})
    user = WhopUser(id=id, username=username, name=name, email=email, profile_pic_url=profile_pic_url, signed_in_at=at)
    _check(user, owned)
    verdicts = {key: Verdict(owned.get(key), at) for key in (*config.required_ids, *owned)}
    secure = (config.origin or origin).startswith("https")
    cookie, value = sessions.set_session(Session(user, verdicts), secure, time).partition(";")[0].split("=", 1)
    return {cookie: value}


def _check(user: WhopUser, access: Mapping[str, str]) -> None:
    """Raise `ValueError` for what no sign-in would give: the cookie would silently be nobody's."""
    if not isinstance(user.id, str) or not re.fullmatch(r"[\x21-\x7e]{1,255}", user.id):
        raise ValueError(f"id must be 1-255 printable ASCII characters, not {user.id!r}")
    for text in (user.username, user.name, user.email, user.profile_pic_url):
        if not isinstance(text, str | None):
            raise ValueError(f"username, name, email and profile_pic_url are text or None, not {text!r}")
    if not set(access.values()) <= {"customer", "admin"}:
        raise ValueError(f'access maps ids to "customer" or "admin", not {access!r}')

"""Cookies of signed-in people, for the tests of an app behind the middleware. Not imported unless asked for."""

from __future__ import annotations

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
    signed_in_at: int | None = None,
) -> dict[str, str]:
    """Return the session cookie of a signed-in person as a dict for any test client.

    The fields are `WhopUser`'s; `access` maps resource ids to "customer" or "admin", and the other ids of `require`
    count as checked and not owned. `origin` (scheme and host of the app under test) decides the cookie's name when
    `redirect_uri` is a path; a full one decides it alone. `signed_in_at` is in Unix seconds, now by default.
    """
    sessions = Sessions(config)
    at = int(now()) if signed_in_at is None else signed_in_at
    user = WhopUser(id=id, username=username, name=name, email=email, profile_pic_url=profile_pic_url, signed_in_at=at)
    owned = dict(access or {})
    verdicts = {key: Verdict(owned.get(key), at) for key in (*config.required_ids, *owned)}
    secure = (config.origin or origin).startswith("https")
    return {sessions.name(secure): sessions.seal_session(Session(user, verdicts))}

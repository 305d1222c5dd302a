"""The identity headers: what the app is given, and every other spelling that it is not."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from whop_middleware import WhopUser
from whop_middleware.identity import forwarded_headers, identity_headers, is_identity_header, set_identity
from whop_middleware.testing import session_cookie

from .conftest import MakeSite
from .support import FETCH

USER = WhopUser(id="user_1", username="alice", name="Zoë 100%", email="a@example.com")
SENT = (
    "X-Whop-User-Id", "x-whop-user-id", "X_Whop_User_Id", "X-WHOP_USER-ID", "X.Whop.User.Id", "X-Whop-User-Id ",
    "X-Whop-Username", "x_whop_username", "X-Whop-Name", "X-WHOP-NAME", "X-Whop-Email", "x-Whop_email",
)  # fmt: skip


@pytest.mark.parametrize("name", SENT)
def test_every_spelling_of_the_four_is_known(name: str) -> None:
    assert is_identity_header(name)


@pytest.mark.parametrize("name", ["X-Whop", "Whop-User-Id", "X-Whop-User-Id-2", "XWhopUserId", "X--Whop-User-Id", ""])
def test_another_header_is_left_alone(name: str) -> None:
    assert not is_identity_header(name)


def test_values_are_printable_ascii_and_lose_nothing() -> None:
    sent = dict(identity_headers(USER))
    assert sent == {
        "x-whop-user-id": "user_1", "x-whop-username": "alice", "x-whop-name": "Zo%C3%AB 100%25",
        "x-whop-email": "a@example.com",
    }  # fmt: skip
    assert unquote(sent["x-whop-name"]) == USER.name
    hostile = WhopUser(id="user_1", name="a\r\nX-Admin: 1\x7f\u202e\ud800!\"#$&'()*+,/:;<=>?@[\\]^_`{|}~")
    name = dict(identity_headers(hostile))["x-whop-name"]
    assert name == "a%0D%0AX-Admin: 1%7F%E2%80%AE?!\"#$&'()*+,/:;<=>?@[\\]^_`{|}~"


def test_a_missing_field_is_a_missing_header() -> None:
    assert list(identity_headers(WhopUser(id="user_1"))) == [("x-whop-user-id", "user_1")]
    assert list(identity_headers(None)) == []


def test_an_asgi_app_is_given_the_user_s_and_nobody_else_s() -> None:
    given = [(name.lower().encode(), b"user_admin") for name in SENT] + [(b"accept", b"*/*"), (b"x-whop-user-id", b"2")]
    assert forwarded_headers(given, None) == [(b"accept", b"*/*")]
    headers = forwarded_headers(given, WhopUser(id="user_1"))
    assert headers == [(b"accept", b"*/*"), (b"x-whop-user-id", b"user_1")]


def test_a_wsgi_app_is_given_the_user_s_and_nobody_else_s() -> None:
    environ: dict[str, object] = {f"HTTP_{name.upper().replace('-', '_')}": "user_admin" for name in SENT}
    environ |= {"HTTP_ACCEPT": "*/*", "x_whop_user_id": "kept"}
    set_identity(environ, WhopUser(id="user_1", name="é"))
    assert environ == {
        "HTTP_ACCEPT": "*/*", "HTTP_X_WHOP_USER_ID": "user_1", "HTTP_X_WHOP_NAME": "%C3%A9", "x_whop_user_id": "kept"
    }  # fmt: skip


def seen(place: Any) -> dict[str, str]:
    """Return the identity headers that the app was given, under one spelling."""
    if "headers" in place:
        pairs = [(name.decode(), value.decode()) for name, value in place["headers"]]
    else:
        pairs = [(key[5:].replace("_", "-").lower(), value) for key, value in place.items() if key.startswith("HTTP_")]
    found = {name: value for name, value in pairs if is_identity_header(name)}
    assert len(found) == len([name for name, _ in pairs if is_identity_header(name)])
    return found


@pytest.mark.parametrize("path", ["/a", "/health"])
@pytest.mark.parametrize("is_on", [True, False])
def test_the_app_sees_the_session_s_identity_only(make_site: MakeSite, path: str, is_on: bool) -> None:
    site = make_site(identity_headers=is_on)
    cookie = "; ".join(f"{k}={v}" for k, v in session_cookie(site.middleware.config, id="user_1", name="Zoë").items())
    for _ in range(2):
        site.request("GET", path, (*FETCH, ("X-Whop-User-Id", "user_admin"), ("Cookie", cookie)))
        expected = (
            {"x-whop-user-id": "user_1", "x-whop-name": "Zo%C3%AB"} if is_on else {"x-whop-user-id": "user_admin"}
        )
        assert seen(site.seen.places[-1]) == expected


def test_on_a_public_path_and_on_a_preflight_nobody_has_an_identity(make_site: MakeSite) -> None:
    site = make_site(identity_headers=True)
    forged = tuple((name, "user_admin") for name in SENT)
    preflight = (*forged, ("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT"))
    for _ in range(2):
        site.request("GET", "/health", forged)
        site.request("OPTIONS", "/a", preflight)
    assert [seen(place) for place in site.seen.places] == [{}] * 4

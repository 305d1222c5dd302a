"""What every answer about the user is taken for, and which of its fields are kept. No server, no client."""

from __future__ import annotations

import json

import pytest

from whop_middleware.errors import BadWhopAnswer, SignInError, WhopUnreachable
from whop_middleware.whop import Dialect

from .dialects import CURRENT, USER, V5, answer, both_dialects, short, user_of


@pytest.mark.parametrize(
    "body", ["null", "[]", '{"user":{"id":"user_1","sub":"user_1"}}', '{"id":"user_1"', "{}", "<html>", ""]
)
@both_dialects
def test_user_answer_without_an_object_with_an_id_is_nonsense(speech: Dialect, body: str) -> None:
    with pytest.raises(BadWhopAnswer):
        user_of(speech, answer(body))


@both_dialects
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (429, WhopUnreachable),
        (500, WhopUnreachable),
        (599, WhopUnreachable),
        *((status, BadWhopAnswer) for status in (204, 206, 301, 302, 304, 400, 401, 403, 404, 422, 600)),
    ],
)
def test_user_answer_of_another_status_is_trouble(speech: Dialect, status: int, expected: type[SignInError]) -> None:
    for body in ('{"id":"user_1","sub":"user_1"}', '{"error":"invalid_grant"}', ""):
        with pytest.raises(expected):
            user_of(speech, answer(body, status))


def test_v5_user_has_the_documented_fields() -> None:
    body = {
        "id": "user_1",
        "username": "u",
        "name": "U",
        "email": "u@example.com",
        "profile_pic_url": "https://p/x.png",
    }
    assert user_of(V5, answer({**body, "bio": "b" * 8000})) == body


def test_oauth21_user_has_the_standard_claims() -> None:
    body = {"sub": "user_1", "preferred_username": "u", "name": "U", "email": "u@example.com", "picture": "http://p/x"}
    assert user_of(CURRENT, answer({**body, "email_verified": True})) == {
        "id": "user_1",
        "username": "u",
        "name": "U",
        "email": "u@example.com",
        "profile_pic_url": "http://p/x",
    }


@pytest.mark.parametrize(("verified", "is_kept"), [(True, True), (None, True), (False, False), ("false", False)])
def test_email_that_whop_calls_unverified_is_none(verified: object, is_kept: bool) -> None:
    body = {"sub": "user_1", "email": "u@example.com", "email_verified": verified}
    assert user_of(CURRENT, answer(body))["email"] == ("u@example.com" if is_kept else None)


@both_dialects
@pytest.mark.parametrize(
    "user_id",
    [
        None,
        "",
        False,
        True,
        7,
        1.5,
        ["user_1"],
        {"id": "user_1"},
        "user 1",
        "user_1\r\nX-Admin: 1",
        "user_1\n",
        "usér",
        "u" * 256,
    ],
    ids=short,
)
def test_id_that_is_not_printable_ascii_is_nonsense(speech: Dialect, user_id: object) -> None:
    with pytest.raises(BadWhopAnswer, match="user id"):
        user_of(speech, answer({"id": user_id, "sub": user_id}))


@both_dialects
@pytest.mark.parametrize("user_id", ["u", "u" * 255, "../../admin", "!~"])
def test_id_may_be_any_printable_ascii(speech: Dialect, user_id: str) -> None:
    assert user_of(speech, answer({"id": user_id, "sub": user_id}))["id"] == user_id


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        ("\U0001f4a9\u202e", "\U0001f4a9\u202e"),
        ("a\u0000b\r\n\u007f\u009fc", "a b    c"),
        ("\u0000x", " x"),
        ("a\ud800b", "a\ufffdb"),
        ("", None),
        ("\n ", None),
        (7, None),
        (False, None),
        (["u"], None),
        (None, None),
        ("n" * 4096, "n" * 4096),
        ("n" * 4097, None),
    ],
    ids=short,
)
def test_optional_fields_are_cleaned(value: object, cleaned: str | None) -> None:
    user = user_of(V5, answer({"id": "user_1", "username": value, "name": value, "email": value}))
    assert (user["username"], user["name"], user["email"]) == (cleaned, cleaned, cleaned)
    assert json.dumps(user, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("url", "is_kept"),
    [
        ("https://cdn.example/x y.png", True),
        ("HTTP://cdn.example", True),
        ("javascript:alert(1)", False),
        ("data:image/png;base64,AA", False),
        ("//cdn.example/x", False),
        ("https:///x", False),
        ("\thttps://cdn.example", False),
        (7, False),
    ],
)
def test_picture_is_kept_only_as_a_web_address(url: object, is_kept: bool) -> None:
    expected = {**USER, "profile_pic_url": url if is_kept else None}
    assert user_of(V5, answer({"id": "user_1", "profile_pic_url": url})) == expected

"""WhopUser as a value, and current_user, which finds one in whatever a framework hands out."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest

from whop_middleware import WhopUser, current_user
from whop_middleware.user import Access

USER = WhopUser(id="user_1", username="alice", name="Alice", access={"prod_a": "customer"}, signed_in_at=7)


def test_a_user_is_frozen_hashable_and_equal_by_value() -> None:
    same = WhopUser(id="user_1", username="alice", name="Alice", access={"prod_a": "customer"}, signed_in_at=7)
    assert {USER: 1}[same] == 1
    assert replace(USER, access={}) != USER
    assert hash(replace(USER, access={})) == hash(USER)
    with pytest.raises(FrozenInstanceError):
        USER.id = "user_2"  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [
        lambda access: access.__setitem__("prod_b", "admin"),
        lambda access: access.__delitem__("prod_a"),
        lambda access: access.clear(),
        lambda access: access.pop("prod_a"),
        lambda access: access.popitem(),
        lambda access: access.setdefault("prod_b", "admin"),
        lambda access: access.update(prod_b="admin"),
        lambda access: access.__ior__({"prod_b": "admin"}),
    ],
)
def test_access_is_read_only(change: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="read-only"):
        change(USER.access)
    assert USER.access == {"prod_a": "customer"}


def test_access_is_a_copy_of_what_was_given() -> None:
    given = {"prod_a": "customer"}
    user = WhopUser(id="user_1", access=given)
    given["prod_b"] = "admin"
    assert user.access == {"prod_a": "customer"}
    assert isinstance(user.access, dict)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda user: pickle.loads(pickle.dumps(user))])
def test_a_user_survives_copying_and_pickling(again: Callable[[WhopUser], WhopUser]) -> None:
    assert again(USER) == USER
    assert type(again(USER).access) is Access


def test_access_needs_no_copying() -> None:
    assert copy.copy(USER.access) is USER.access
    assert copy.deepcopy(USER.access) is USER.access


def test_a_user_goes_into_json() -> None:
    assert json.loads(json.dumps(asdict(USER))) == {
        "id": "user_1", "username": "alice", "name": "Alice", "email": None, "profile_pic_url": None,
        "access": {"prod_a": "customer"}, "signed_in_at": 7,
    }  # fmt: skip


def test_a_user_serves_as_starlette_s_base_user() -> None:
    assert USER.is_authenticated is True
    assert USER.identity == "user_1"
    names = (USER, replace(USER, name=None), replace(USER, name="", username=None))
    assert [user.display_name for user in names] == ["Alice", "alice", "user_1"]


def test_fields_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        WhopUser("user_1")  # type: ignore[call-arg]


class Lazy:
    """Raises for every attribute, as flask.request does outside a request."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("working outside of request context")


@pytest.mark.parametrize(
    "where",
    [
        {"whop_user": USER, "type": "http"},
        {"whop_user": USER, "REQUEST_METHOD": "GET"},
        SimpleNamespace(scope={"whop_user": USER}),
        SimpleNamespace(environ={"whop_user": USER}),
        SimpleNamespace(META={"whop_user": USER}),
        SimpleNamespace(scope={}, META={"whop_user": USER}),
    ],
)
def test_current_user_finds_the_user(where: object) -> None:
    assert current_user(where) is USER


@pytest.mark.parametrize(
    "where",
    [
        None, 0, "whop_user", [], object(), {}, {"whop_user": None}, {"whop_user": {"id": "user_1"}},
        {"whop_user": "user_1"}, SimpleNamespace(), SimpleNamespace(scope=None), SimpleNamespace(environ=[USER]),
        SimpleNamespace(whop_user=USER), USER, WhopUser,
    ],
)  # fmt: skip
def test_current_user_finds_nobody_in_anything_else(where: object) -> None:
    assert current_user(where) is None


def test_current_user_finds_nobody_in_a_proxy_outside_its_context() -> None:
    assert current_user(Lazy()) is None


def test_current_user_reads_the_requests_of_the_frameworks() -> None:
    starlette_requests = pytest.importorskip("starlette.requests")
    flask = pytest.importorskip("flask")
    assert current_user(starlette_requests.Request({"type": "http", "headers": [], "whop_user": USER})) is USER
    assert current_user(starlette_requests.Request({"type": "http", "headers": []})) is None
    assert current_user(flask.request) is None
    with flask.Flask("a").test_request_context(environ_overrides={"whop_user": USER}):
        assert current_user(flask.request) is USER

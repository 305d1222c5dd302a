"""What is asked about purchases, and what every answer is taken for. No server, no client."""

from __future__ import annotations

import logging

import httpx
import pytest

from whop_middleware.errors import BadWhopAnswer, CredentialsRefused, SignInError, WhopUnreachable
from whop_middleware.whop import access, endpoint

from .dialects import ACCESS_TOKEN, API, TOKEN, answer


def membership(product_id: object = "prod_1", **fields: object) -> dict[str, object]:
    return {"id": "mem_1", "product_id": product_id, "status": "active", "valid": True, **fields}


def listing(*memberships: object, pagination: object = None) -> access.Memberships:
    return access.parse_memberships(answer({"pagination": pagination, "data": list(memberships)}))


def test_memberships_request_asks_for_a_page_of_valid_ones() -> None:
    request = access.memberships_request(API, TOKEN, page=2)
    assert str(request.url) == f"{API}/v5/me/memberships?valid=true&per=50&page=2"
    assert request.headers["authorization"] == f"Bearer {ACCESS_TOKEN}"
    assert endpoint(request) == "memberships"


def test_memberships_request_may_name_one_company() -> None:
    request = access.memberships_request(API, TOKEN, page=1, company_id="biz_1")
    assert str(request.url) == f"{API}/v5/me/memberships?valid=true&per=50&page=1&company_id=biz_1"
    assert endpoint(request) == "memberships"


@pytest.mark.parametrize("valid", [True, False, None, "true", 1])
@pytest.mark.parametrize(
    "status", ["trialing", "active", "past_due", "completed", "canceled", "expired", "unresolved", None]
)
def test_valid_alone_decides_whatever_the_status(status: str | None, valid: object) -> None:
    found = listing(membership(status=status, valid=valid))
    assert found.product_ids == (frozenset({"prod_1"}) if valid is True else frozenset())


def test_memberships_count_once_per_product() -> None:
    found = listing(membership("prod_1"), membership("prod_2"), membership("prod_1"), membership(None), membership(7))
    assert found == access.Memberships(frozenset({"prod_1", "prod_2"}), None)


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": {}}, {"data": ["mem_1"]}, {"data": [None]}], ids=str)
def test_listing_without_a_list_of_memberships_is_nonsense(body: object) -> None:
    with pytest.raises(BadWhopAnswer, match="list of memberships"):
        access.parse_memberships(answer(body))


@pytest.mark.parametrize(
    ("pagination", "next_page"),
    [
        (None, None),
        ({}, None),
        ({"current_page": 1, "total_pages": 0, "next_page": None}, None),
        ({"current_page": 1, "total_pages": 1, "next_page": None}, None),
        ({"current_page": 1, "total_pages": 3, "next_page": 2}, 2),
        ({"current_page": 3, "total_pages": 3, "next_page": None}, None),
        ({"current_page": 3, "total_pages": 3, "next_page": 4}, None),
        ({"current_page": 1, "total_pages": 2}, 2),
        ({"total_pages": 2}, None),
        ({"current_page": 1}, None),
        ({"next_page": 2}, 2),
    ],
    ids=str,
)
def test_next_page_is_the_one_after_this_while_there_is_one(pagination: object, next_page: int | None) -> None:
    assert listing(pagination=pagination).next_page == next_page


@pytest.mark.parametrize(
    "pagination",
    [
        [],
        "1",
        {"next_page": "2"},
        {"next_page": True},
        {"next_page": 0},
        {"next_page": -1},
        {"current_page": 1.5},
        {"total_pages": []},
        {"current_page": 2, "next_page": 2},
        {"current_page": 2, "next_page": 1},
    ],
    ids=str,
)
def test_broken_or_circular_pages_are_nonsense(pagination: object) -> None:
    with pytest.raises(BadWhopAnswer):
        listing(pagination=pagination)


@pytest.mark.parametrize(("status", "expected"), [(429, WhopUnreachable), (502, WhopUnreachable), (401, BadWhopAnswer)])
def test_listing_of_another_status_is_trouble(status: int, expected: type[SignInError]) -> None:
    with pytest.raises(expected):
        access.parse_memberships(answer({"data": []}, status))


def test_experience_is_owned_when_whop_shows_it() -> None:
    request = access.experience_request(API, TOKEN, "exp_1")
    assert str(request.url) == f"{API}/v5/me/experiences/exp_1"
    assert request.headers["authorization"] == f"Bearer {ACCESS_TOKEN}"
    assert endpoint(request) == "experiences"
    assert access.parse_experience(answer({"id": "exp_1"})) is True
    assert access.parse_experience(answer("", 404)) is False


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, "<html>", BadWhopAnswer),
        (204, "", BadWhopAnswer),
        (302, "", BadWhopAnswer),
        (401, "{}", BadWhopAnswer),
        (429, "{}", WhopUnreachable),
        (500, "{}", WhopUnreachable),
    ],
)
def test_experience_answer_of_another_kind_opens_no_door(status: int, body: str, expected: type[SignInError]) -> None:
    with pytest.raises(expected):
        access.parse_experience(answer(body, status))


def test_access_request_bears_the_given_key() -> None:
    request = access.access_request(API, "apik_1", "user_1", "prod_1")
    assert (request.method, str(request.url)) == ("GET", f"{API}/api/v1/users/user_1/access/prod_1")
    assert request.headers["authorization"] == "Bearer apik_1"
    assert endpoint(request) == "access"


@pytest.mark.parametrize(
    "odd", ["../../admin", "..", ".", "a/b", "a?b", "a#b", "%2e%2e", "a%2Fb", ";x", "\\..\\x", "/"]
)
def test_odd_id_stays_one_path_segment(odd: str) -> None:
    for request in (access.access_request(API, "k", odd, "prod_1"), access.access_request(API, "k", "user_1", odd)):
        path, _, query = request.url.raw_path.partition(b"?")
        assert (path.count(b"/"), query, request.url.fragment) == (6, b"", "")
        assert b"." not in path
        assert endpoint(request) == "access"
    assert httpx.URL(f"{API}/v5/me/experiences/").raw_path in access.experience_request(API, TOKEN, odd).url.raw_path


def test_no_id_can_pass_for_another_endpoint() -> None:
    assert endpoint(access.access_request(API, "k", "x/oauth", "token")) == "access"
    assert endpoint(access.experience_request(API, TOKEN, "/oauth/token")) == "experiences"
    assert endpoint(httpx.Request("GET", f"{API}/elsewhere?/oauth/token")) == "other"


@pytest.mark.parametrize(
    ("has_access", "level", "expected"),
    [
        (True, "customer", "customer"),
        (True, "admin", "admin"),
        (True, None, "customer"),
        (True, "of a later kind", "customer"),
        (True, "no_access", None),
        (False, "no_access", None),
        (False, "admin", None),
        (False, None, None),
    ],
)
@pytest.mark.parametrize("with_api_key", [True, False])
def test_access_is_what_whop_says(
    has_access: bool, level: str | None, expected: str | None, with_api_key: bool
) -> None:
    response = answer({"has_access": has_access, "access_level": level})
    assert access.parse_access(response, "prod_1", with_api_key=with_api_key) == expected


def test_access_without_a_level_is_a_customers() -> None:
    assert access.parse_access(answer({"has_access": True}), "prod_1", with_api_key=True) == "customer"


@pytest.mark.parametrize(
    "body",
    [{}, {"has_access": "true"}, {"has_access": 1}, {"access_level": "admin"}, {"has_access": True, "access_level": 1}],
    ids=str,
)
def test_access_answer_without_yes_or_no_is_nonsense(body: object) -> None:
    with pytest.raises(BadWhopAnswer, match="yes or no"):
        access.parse_access(answer(body), "prod_1", with_api_key=True)


def test_unknown_resource_is_not_owned_and_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    assert access.parse_access(answer("", 404), "prod_typo", with_api_key=True) is None
    [record] = caplog.records
    assert (record.name, record.levelno) == ("whop_middleware", logging.ERROR)
    assert "prod_typo" in record.getMessage()


@pytest.mark.parametrize("status", [401, 403])
def test_refused_api_key_is_named(status: int) -> None:
    with pytest.raises(CredentialsRefused, match="WHOP_API_KEY is wrong"):
        access.parse_access(answer("", status), "prod_1", with_api_key=True)
    with pytest.raises(CredentialsRefused, match=r"user's token.*set WHOP_API_KEY"):
        access.parse_access(answer("", status), "prod_1", with_api_key=False)


@pytest.mark.parametrize(("status", "expected"), [(429, WhopUnreachable), (503, WhopUnreachable), (400, BadWhopAnswer)])
def test_access_answer_of_another_status_is_trouble(status: int, expected: type[SignInError]) -> None:
    with pytest.raises(expected):
        access.parse_access(answer({"has_access": True}, status), "prod_1", with_api_key=True)

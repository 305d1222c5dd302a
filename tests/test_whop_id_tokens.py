"""Which ID tokens of OAuth 2.1 are accepted beside an answer about the user. No server, no client."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from whop_middleware.errors import BadWhopAnswer
from whop_middleware.whop import Credentials, OAuth21, Token

from .dialects import ACCESS_TOKEN, API, CURRENT, NOW, USER, answer, user_of


def encoded(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


CLAIMS = {"iss": API, "aud": "app_1", "exp": NOW + 60, "nonce": "n", "sub": "user_1"}


def sign_in_with(
    claims: dict[str, Any], *, without: str = "", alg: object = "ES256", nonce: str | None = "n"
) -> str | None:
    kept = {name: value for name, value in {**CLAIMS, **claims}.items() if name != without}
    token = Token(ACCESS_TOKEN, f"{encoded({'alg': alg})}.{encoded(kept)}.c2ln")
    return user_of(CURRENT, answer({"sub": "user_1"}), token, nonce)["id"]


def test_missing_id_token_is_accepted() -> None:
    assert user_of(CURRENT, answer({"sub": "user_1"})) == USER


@pytest.mark.parametrize("alg", ["ES256", "RS256"])
def test_id_token_that_fits_is_accepted(alg: str) -> None:
    assert sign_in_with({}, alg=alg) == "user_1"


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "", None, ["ES256"]])
def test_id_token_with_alg_none_or_unknown_is_refused(alg: object) -> None:
    with pytest.raises(BadWhopAnswer, match="wrong alg"):
        sign_in_with({}, alg=alg)


@pytest.mark.parametrize("issuer", ["https://evil.example", f"{API}/", "", None, [API]])
def test_id_token_with_wrong_iss_is_refused(issuer: object) -> None:
    with pytest.raises(BadWhopAnswer, match="wrong iss"):
        sign_in_with({"iss": issuer})


@pytest.mark.parametrize(
    "audience",
    [
        {"aud": "app_2"},
        {"aud": None},
        {"aud": {"app_1": 1}},
        {"aud": []},
        {"aud": ["app_2"]},
        {"aud": ["app_1", "app_2"]},
        {"aud": ["app_1", "app_2"], "azp": "app_2"},
        {"aud": "app_1", "azp": "app_2"},
        {"aud": "app_1", "azp": ["app_1"]},
    ],
    ids=str,
)
def test_id_token_with_wrong_aud_is_refused(audience: dict[str, object]) -> None:
    with pytest.raises(BadWhopAnswer, match="wrong aud"):
        sign_in_with(audience)


@pytest.mark.parametrize(
    "audience",
    [{"aud": ["app_1"]}, {"aud": "app_1", "azp": "app_1"}, {"aud": ["app_2", "app_1"], "azp": "app_1"}],
    ids=str,
)
def test_id_token_for_this_client_among_others_is_accepted(audience: dict[str, object]) -> None:
    assert sign_in_with(audience) == "user_1"


@pytest.mark.parametrize("expires_at", [NOW, NOW - 1, 0, -1, True, None, "9999999999", float("1e308") * 10, []])
def test_expired_id_token_is_refused(expires_at: object) -> None:
    with pytest.raises(BadWhopAnswer):
        sign_in_with({"exp": expires_at})


def test_id_token_that_never_expires_is_refused() -> None:
    claims = json.dumps(CLAIMS).replace(str(CLAIMS["exp"]), "1e400").encode()
    token = Token(ACCESS_TOKEN, f"{encoded({'alg': 'ES256'})}.{encoded(claims)}.c2ln")
    with pytest.raises(BadWhopAnswer, match="wrong exp"):
        user_of(CURRENT, answer({"sub": "user_1"}), token)


@pytest.mark.parametrize("nonce", ["other", "", "é", "\ud800", None, 1, ["n"]])
def test_id_token_with_wrong_nonce_is_refused(nonce: object) -> None:
    with pytest.raises(BadWhopAnswer, match="wrong nonce"):
        sign_in_with({"nonce": nonce})


def test_id_token_with_a_nonce_that_was_never_sent_is_refused() -> None:
    assert sign_in_with({}, without="nonce", nonce=None) == "user_1"
    with pytest.raises(BadWhopAnswer, match="wrong nonce"):
        sign_in_with({}, nonce=None)


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "nonce", "sub"])
def test_id_token_with_a_missing_claim_is_refused(name: str) -> None:
    with pytest.raises(BadWhopAnswer, match=f"wrong {name}"):
        sign_in_with({}, without=name)


def test_userinfo_of_another_sub_than_the_id_token_is_refused() -> None:
    with pytest.raises(BadWhopAnswer, match="wrong sub"):
        sign_in_with({"sub": "user_2"})


@pytest.mark.parametrize(
    "id_token",
    [
        "",
        "a.b",
        "a.b.c.d",
        f"{encoded({'alg': 'ES256'})}.{encoded(CLAIMS)}.",
        f"{encoded({'alg': 'ES256'})}.{encoded(CLAIMS)}.c2ln\n",
        f"{encoded({'alg': 'ES256'})}.{encoded([CLAIMS])}.c2ln",
        f"{encoded(b'nonsense')}.{encoded(CLAIMS)}.c2ln",
        f"aaaaa.{encoded(CLAIMS)}.c2ln",
        f"{encoded({'alg': 'ES256'})}.é.c2ln",
    ],
    ids=range(9),
)
def test_id_token_that_is_no_jwt_is_refused(id_token: str) -> None:
    with pytest.raises(BadWhopAnswer, match="not a JWT"):
        user_of(CURRENT, answer({"sub": "user_1"}), Token(ACCESS_TOKEN, id_token))


def test_oauth21_issuer_follows_the_api_url() -> None:
    sandbox = OAuth21(Credentials("app_1", None), "https://sandbox-api.whop.com")
    assert sandbox.issuer == "https://sandbox-api.whop.com"

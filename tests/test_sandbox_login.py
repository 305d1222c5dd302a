"""The sandbox's "Login with Whop" page of both generations: who agrees, what goes back, what is refused."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from whop_middleware.whop import code_challenge

from .conftest import Clock
from .sandboxes import CALLBACK, SECRET, VERIFIER, Visitor, be, make_sandbox, query_of, v5_url

CHALLENGE = code_challenge(VERIFIER)


@pytest.fixture
def visitor(clock: Clock) -> Visitor:
    return Visitor(make_sandbox(clock, rate_limit=False))


@pytest.fixture
def buyer(visitor: Visitor) -> Visitor:
    be(visitor, "buyer")
    return visitor


def oauth_url(**changes: str | None) -> str:
    asked: dict[str, str | None] = {
        "response_type": "code",
        "client_id": "app_1",
        "redirect_uri": CALLBACK,
        "scope": "openid profile email",
        "state": "st",
        "nonce": "n",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    given = {name: value for name, value in (asked | changes).items() if value is not None}
    return f"/oauth/authorize?{urlencode(given)}"


def test_authorize_page_asks_first_who_it_is_and_then_whether_they_agree(visitor: Visitor) -> None:
    url = v5_url()
    page = visitor.get(url)
    assert page.status_code == 200
    assert "Who are you?" in page.text
    assert "Otto Owner" in page.text
    chosen = be(visitor, "buyer", url)
    assert (chosen.status_code, chosen.headers["location"]) == (303, url)
    page = visitor.get(url)
    assert "Club wants to know who you are" in page.text
    assert "Bea Buyer" in page.text
    assert CALLBACK in page.text


def test_consent_sends_the_browser_back_with_code_and_the_very_state(buyer: Visitor) -> None:
    response = buyer.post(v5_url(), decision="allow")
    assert response.status_code == 303
    assert response.headers["location"].startswith(f"{CALLBACK}?")
    answer = query_of(response)
    assert set(answer) == {"code", "state"}
    assert answer["state"] == "st&te=1"
    body = {
        "grant_type": "authorization_code",
        "client_id": "client_1",
        "client_secret": SECRET,
        "redirect_uri": CALLBACK,
        "code": answer["code"],
    }
    assert buyer.request("POST", "/v5/oauth/token", json=body).status_code == 200


def test_someone_who_agreed_before_goes_straight_back(buyer: Visitor) -> None:
    buyer.post(v5_url(), decision="allow")
    response = buyer.get(v5_url(state="again"))
    assert response.status_code == 303
    assert query_of(response)["state"] == "again"


def test_consent_covers_one_person_one_app_and_what_was_asked_for(buyer: Visitor) -> None:
    buyer.post(v5_url(), decision="allow")
    assert buyer.get(v5_url(scope="read_user more")).status_code == 200
    assert buyer.get(oauth_url()).status_code == 200
    be(buyer, "owner")
    assert buyer.get(v5_url()).status_code == 200


def test_state_and_scope_may_be_missing_in_v5(buyer: Visitor) -> None:
    url = v5_url(state=None, scope=None)
    assert "Your name" in buyer.get(url).text
    assert set(query_of(buyer.post(url, decision="allow"))) == {"code"}


def test_old_address_with_a_slash_works_as_well(visitor: Visitor) -> None:
    assert visitor.get(v5_url().replace("/oauth?", "/oauth/?")).status_code == 200


@pytest.mark.parametrize("who", ["buyer", None])
def test_declining_is_access_denied(visitor: Visitor, who: str | None) -> None:
    if who is not None:
        be(visitor, who)
    answer = query_of(visitor.post(v5_url(), decision="decline"))
    assert answer["error"] == "access_denied"
    assert answer["error_description"]
    assert answer["state"] == "st&te=1"
    assert "code" not in answer


@pytest.mark.parametrize("decision", ["", "perhaps"])
def test_neither_yes_nor_no_asks_again(buyer: Visitor, decision: str) -> None:
    assert buyer.post(v5_url(), decision=decision).headers["location"] == v5_url()


def test_nobody_cannot_agree(visitor: Visitor) -> None:
    assert visitor.post(v5_url(), decision="allow").headers["location"] == v5_url()


@pytest.mark.parametrize(
    "url",
    [
        v5_url(client_id="unknown"),
        v5_url(client_id=None),
        v5_url(client_id="app_1"),
        v5_url(redirect_uri=f"{CALLBACK}/"),
        v5_url(redirect_uri=CALLBACK.replace("http:", "https:")),
        v5_url(redirect_uri="https://evil.example/callback/whop"),
        v5_url(redirect_uri=None),
        f"{v5_url()}&state=twice",
        oauth_url(client_id="client_1"),
        oauth_url(client_id="app_unknown"),
        oauth_url(redirect_uri=f"{CALLBACK}?x=1"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_request_that_cannot_be_trusted_ends_on_a_page(buyer: Visitor, method: str, url: str) -> None:
    response = buyer.request(method, url)
    assert response.status_code == 400
    assert "location" not in response.headers
    assert "Whop cannot go on with this sign-in" in response.text


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (v5_url(response_type="token"), "unsupported_response_type"),
        (v5_url(response_type=None), "unsupported_response_type"),
        (oauth_url(response_type=None), "unsupported_response_type"),
        (oauth_url(scope=None), "invalid_scope"),
        (oauth_url(nonce=None), "invalid_request"),
        (oauth_url(code_challenge_method="plain"), "invalid_request"),
        (oauth_url(code_challenge_method=None), "invalid_request"),
        (oauth_url(code_challenge="short"), "invalid_request"),
        (oauth_url(client_id="app_public", code_challenge=None, code_challenge_method=None), "invalid_request"),
    ],
)
def test_request_that_lacks_something_is_told_at_the_callback(buyer: Visitor, url: str, error: str) -> None:
    answer = query_of(buyer.get(url))
    assert answer["error"] == error
    assert "state" in answer


def test_confidential_app_may_leave_pkce_out_and_plain_oauth_the_nonce(buyer: Visitor) -> None:
    url = oauth_url(scope="profile", nonce=None, code_challenge=None, code_challenge_method=None)
    assert buyer.get(url).status_code == 200


def test_current_api_names_its_issuer_in_every_answer(buyer: Visitor) -> None:
    granted = query_of(buyer.post(oauth_url(), decision="allow"))
    assert set(granted) == {"code", "state", "iss"}
    assert granted["iss"] == buyer.sandbox.api_url
    assert query_of(buyer.post(oauth_url(), decision="decline"))["iss"] == buyer.sandbox.api_url


def test_code_of_the_current_api_wants_the_verifier_of_its_page(buyer: Visitor) -> None:
    body = {
        "grant_type": "authorization_code",
        "client_id": "app_1",
        "client_secret": SECRET,
        "redirect_uri": CALLBACK,
        "code": query_of(buyer.post(oauth_url(), decision="allow"))["code"],
    }
    assert buyer.request("POST", "/oauth/token", json=body | {"code_verifier": "w" * 43}).status_code == 400
    assert buyer.request("POST", "/oauth/token", json=body | {"code_verifier": VERIFIER}).status_code == 200


def test_callback_with_a_query_keeps_it(buyer: Visitor) -> None:
    callback = f"{CALLBACK}?tenant=1"
    buyer.sandbox.add_app(client_id="client_q", client_secret="s", redirect_uris=callback)
    back = buyer.post(v5_url(client_id="client_q", redirect_uri=callback), decision="allow")
    assert query_of(back)["tenant"] == "1"
    assert set(query_of(buyer.get("/hub/open/client_q"))) == {"tenant", "code"}

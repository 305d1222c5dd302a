"""The sandbox's pages: the Hub and its buttons, the checkout, and who may ask for any of them."""

from __future__ import annotations

from typing import Any

import pytest

from whop_middleware.sandbox import Person, Sandbox

from .conftest import Clock
from .sandboxes import CALLBACK, SECRET, Visitor, be, make_sandbox, memberships, products, query_of, v5_url


@pytest.fixture
def visitor(clock: Clock) -> Visitor:
    return Visitor(make_sandbox(clock, rate_limit=False))


@pytest.fixture
def buyer(visitor: Visitor) -> Visitor:
    be(visitor, "buyer")
    return visitor


# --- The Hub ---


def test_hub_lists_the_people_and_says_that_it_is_a_sandbox(visitor: Visitor) -> None:
    page = visitor.get("/")
    assert "Sandbox" in page.text
    assert 'aria-pressed="true"' not in page.text.partition('id="apps"')[0]
    for person in visitor.sandbox.people.values():
        assert person.display_name in page.text
    assert "Choose who you are" in page.text
    assert "/hub/open/" not in page.text


def test_hub_without_apps_says_how_to_add_one() -> None:
    visitor = Visitor(Sandbox())
    be(visitor, "buyer")
    assert "Sandbox.add_app" in visitor.get("/").text


def test_hub_opens_an_app_with_a_code_and_without_a_state(buyer: Visitor) -> None:
    assert 'href="/hub/open/client_1"' in buyer.get("/").text
    response = buyer.get("/hub/open/client_1")
    assert response.status_code == 303
    assert response.headers["location"].startswith(f"{CALLBACK}?code=")
    assert set(query_of(response)) == {"code"}
    assert response.headers["referrer-policy"] == "strict-origin-when-cross-origin"


def test_code_from_the_hub_is_good_for_the_callback_url(buyer: Visitor) -> None:
    body = {
        "grant_type": "authorization_code",
        "client_id": "client_1",
        "client_secret": SECRET,
        "redirect_uri": CALLBACK,
        "code": query_of(buyer.get("/hub/open/client_1"))["code"],
    }
    answer = buyer.request("POST", "/v5/oauth/token", json=body).json()
    assert buyer.get("/v5/me", answer["access_token"]).json()["id"] == "user_buyer"


def test_hub_sends_nobody_nowhere(visitor: Visitor) -> None:
    assert visitor.get("/hub/open/client_1").headers["location"] == "/"
    assert visitor.get("/hub/open/unknown").status_code == 404


def test_app_that_was_not_bought_is_told_apart(visitor: Visitor) -> None:
    be(visitor, "stranger")
    assert "the real Hub would not list it" in visitor.get("/").text
    be(visitor, "owner")
    page = visitor.get("/").text.partition('id="apps"')[2]
    assert page.count("the real Hub would not list it") == 0
    assert "Admin" in page


def test_buttons_buy_cancel_and_expire(visitor: Visitor) -> None:
    be(visitor, "stranger")

    def press(do: str) -> str:
        response = visitor.post("/hub/membership", person="user_stranger", product="prod_vip", do=do)
        assert response.headers["location"] == "/#apps"
        return visitor.get("/").text

    assert "Bought" in press("buy").partition('id="apps"')[2]
    assert products(memberships(visitor, who="stranger")) == {"prod_vip"}
    press("buy")
    assert len(memberships(visitor, who="stranger")["data"]) == 1
    assert "Canceled" in press("cancel")
    assert products(memberships(visitor, who="stranger")) == set()
    press("buy")
    assert "Expired" in press("expire")


def test_past_status_of_any_kind_is_shown(visitor: Visitor) -> None:
    be(visitor, "stranger")
    visitor.sandbox.buy("stranger", "prod_vip", status="past_due", valid=False)
    assert "past_due" in visitor.get("/").text


def test_button_makes_someone_an_owner_and_back(buyer: Visitor) -> None:
    buyer.post("/hub/team", person="user_buyer", company="biz_sandbox", do="join")
    assert buyer.sandbox._world.level("buyer", "prod_vip") == "admin"
    buyer.post("/hub/team", person="user_buyer", company="biz_sandbox", do="leave")
    assert buyer.sandbox._world.level("buyer", "prod_vip") is None


def test_fault_switches_set_show_and_clear(buyer: Visitor) -> None:
    response = buyer.post("/hub/fault", endpoint="token", kind="5xx")
    assert response.headers["location"] == "/#faults"
    assert 'value="5xx" aria-pressed="true"' in buyer.get("/").text
    assert buyer.post("/v5/oauth/token").status_code == 500
    buyer.post("/hub/fault", endpoint="token", kind="")
    assert buyer.post("/v5/oauth/token").status_code == 401
    buyer.post("/hub/fault", endpoint="all", kind="429")
    buyer.post("/hub/fault", endpoint="everything")
    page = buyer.get("/").text
    assert buyer.get("/v5/me").status_code == 401
    assert 'value="429" aria-pressed="true"' not in page
    assert "called 2 times" in page


def test_hub_says_that_an_app_takes_a_minute_to_come_back_after_a_fault(visitor: Visitor) -> None:
    switches = visitor.get("/").text.partition('id="faults"')[2]
    assert "After a failure an app may leave Whop alone for a minute" in switches
    assert "wait that long or restart your app" in switches


def test_hub_says_when_the_rate_limit_has_shut() -> None:
    visitor = Visitor(make_sandbox())
    for _ in range(21):
        visitor.get("/v5/me")
    assert "v5 answers 429 for another" in visitor.get("/").text


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/hub/person", {}),
        ("/hub/person", {"person": "user_unknown"}),
        ("/hub/membership", {"person": "user_buyer", "product": "prod_unknown", "do": "buy"}),
        ("/hub/membership", {"person": "user_buyer", "product": "prod_vip", "do": "steal"}),
        ("/hub/team", {"person": "user_buyer", "company": "biz_sandbox", "do": "x"}),
        ("/hub/fault", {"endpoint": "nothing", "kind": "slow"}),
        ("/hub/fault", {"endpoint": "token", "kind": "fire"}),
        ("/hub/checkout", {"person": "user_buyer", "product": "prod_unknown"}),
    ],
)
def test_form_with_unknown_names_is_a_400(buyer: Visitor, path: str, fields: dict[str, str]) -> None:
    assert buyer.post(path, **fields).status_code == 400


@pytest.mark.parametrize("then", ["https://evil.example/", "//evil.example/", "/\\evil.example", ""])
def test_choosing_a_person_leads_nowhere_else(visitor: Visitor, then: str) -> None:
    assert be(visitor, "buyer", then).headers["location"] == "/"


# --- The checkout ---


def test_checkout_sells_and_sends_the_buyer_into_the_app(visitor: Visitor) -> None:
    assert "Who are you?" in visitor.get("/checkout/prod_app").text
    be(visitor, "stranger", "/checkout/prod_app")
    assert "You have it already" not in visitor.get("/checkout/prod_app").text
    for _ in range(2):
        response = visitor.post("/hub/checkout", person="user_stranger", product="prod_app")
        assert set(query_of(response)) == {"code"}
    assert products(memberships(visitor, who="stranger")) == {"prod_app"}
    assert len(memberships(visitor, who="stranger")["data"]) == 1
    assert "You have it already" in visitor.get("/checkout/prod_app").text
    assert visitor.get("/checkout/prod_unknown").status_code == 404


# --- Every page ---

PAGES = ("/", v5_url(), v5_url(client_id="unknown"), "/checkout/prod_vip", "/checkout/x")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("who", [None, "buyer"])
def test_page_has_no_script_and_loads_nothing_from_elsewhere(visitor: Visitor, path: str, who: str | None) -> None:
    if who is not None:
        be(visitor, who)
    response = visitor.get(path)
    assert "<script" not in response.text
    assert 'src="http' not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["cache-control"] == "no-store"
    assert 'name="viewport"' in response.text


def test_names_are_escaped_everywhere(visitor: Visitor) -> None:
    evil = '<script>alert("1")</script>'
    visitor.sandbox.people["evil"] = Person('user_"><script>', evil, evil, None, evil, has_picture=False)
    visitor.sandbox.add_app(
        client_id='"><script>',
        client_secret="s",
        redirect_uris=f"{CALLBACK}?<script>",
        name=evil,
        products={evil: evil},
    )
    be(visitor, "evil")
    url = v5_url(client_id='"><script>', redirect_uri=f"{CALLBACK}?<script>", scope="<script>", state="<script>")
    for path in ("/", url, f"/checkout/{evil.replace('/', '%2F')}", v5_url(redirect_uri="<script>")):
        assert "<script" not in visitor.get(path).text


def test_style_and_pictures_are_served(visitor: Visitor) -> None:
    assert visitor.get("/style.css").headers["content-type"].startswith("text/css")
    picture = visitor.get("/pictures/user_buyer.svg")
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert ">BB<" in picture.text
    assert visitor.get("/pictures/user_unknown.svg").status_code == 404


# --- Who may ask ---


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.nip.io", "whop.com", ""])
@pytest.mark.parametrize("path", ["/", "/v5/me", "/style.css"])
def test_name_that_is_not_local_is_refused(visitor: Visitor, host: str, path: str) -> None:
    assert visitor.request("GET", path, headers={"Host": host}).status_code == 403
    assert not visitor.sandbox.calls


@pytest.mark.parametrize("host", ["127.0.0.1:1234", "[::1]:1234", "localhost", "whop.localhost", "testserver"])
def test_local_name_is_answered(visitor: Visitor, host: str) -> None:
    assert visitor.request("GET", "/", headers={"Host": host}).status_code == 200


FOREIGN: list[dict[str, Any]] = [
    {"Origin": "http://localhost:8000"},
    {"Origin": "null"},
    {"Origin": "http://whop.test", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (v5_url(), {"decision": "allow"}),
        ("/hub/person", {"person": "user_owner"}),
        ("/hub/membership", {"person": "user_buyer", "product": "prod_vip", "do": "buy"}),
        ("/hub/team", {"person": "user_buyer", "company": "biz_sandbox", "do": "join"}),
        ("/hub/fault", {"endpoint": "all", "kind": "cut"}),
        ("/hub/checkout", {"person": "user_buyer", "product": "prod_vip"}),
    ],
)
def test_form_posted_by_another_site_is_refused(
    buyer: Visitor, path: str, fields: dict[str, str], headers: dict[str, str]
) -> None:
    response = buyer.request("POST", path, data=fields, headers=headers)
    assert response.status_code == 403
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("headers", [{"Origin": "http://whop.test"}, {"Sec-Fetch-Site": "same-origin"}])
def test_form_of_the_sandbox_itself_is_accepted(visitor: Visitor, headers: dict[str, str]) -> None:
    response = visitor.request("POST", "/hub/person", data={"person": "user_owner"}, headers=headers)
    assert response.status_code == 303

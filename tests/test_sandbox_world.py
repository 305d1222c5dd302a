"""The sandbox as Python sees it: read by the package's own code, and its people, apps and calls. Opens no socket."""

from __future__ import annotations

from typing import Any

import pytest

from whop_middleware.errors import BadWhopAnswer, CodeRefused, ConfigError, CredentialsRefused
from whop_middleware.sandbox import App, Call, Person, Sandbox
from whop_middleware.whop import V5, Credentials, OAuth21, Token, code_challenge
from whop_middleware.whop.access import (
    access_request,
    experience_request,
    memberships_request,
    parse_access,
    parse_experience,
    parse_memberships,
)

from .conftest import Clock
from .sandboxes import CALLBACK, SECRET, VERIFIER, Visitor, make_sandbox, v5_token


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    return make_sandbox(clock)


@pytest.fixture
def visitor(sandbox: Sandbox) -> Visitor:
    return Visitor(sandbox)


# --- Together with the package's own reading of Whop ---


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_v5_dialect_signs_in_and_reads_purchases(sandbox: Sandbox, backend: str) -> None:
    visitor, url = Visitor(sandbox, backend=backend), sandbox.api_url
    whop = V5(Credentials("client_1", SECRET), sandbox.whop_url, url)
    request = whop.token_request(code=sandbox.code("buyer", "client_1"), redirect_uri=CALLBACK, code_verifier=None)
    token = whop.parse_token(visitor.send(request))
    user = whop.parse_user(visitor.send(whop.user_request(token)), token, nonce=None, now=0)
    assert user["id"] == "user_buyer"
    page = parse_memberships(visitor.send(memberships_request(url, token, page=1)))
    assert page.product_ids == {"prod_members", "prod_app"}
    assert parse_experience(visitor.send(experience_request(url, token, "exp_chat")))
    with pytest.raises(CodeRefused):
        whop.parse_token(visitor.send(request))
    with pytest.raises(BadWhopAnswer):
        whop.parse_user(visitor.send(whop.user_request(Token("made-up"))), token, nonce=None, now=0)


@pytest.mark.parametrize("who", ["buyer", "no_email", "long_name"])
def test_oauth21_dialect_signs_in_and_checks_the_id_token(visitor: Visitor, clock: Clock, who: str) -> None:
    sandbox = visitor.sandbox
    whop = OAuth21(Credentials("app_public", None), sandbox.api_url)
    code = sandbox.code(who, "app_public", nonce="n", code_challenge=code_challenge(VERIFIER))
    request = whop.token_request(code=code, redirect_uri=CALLBACK, code_verifier=VERIFIER)
    token = whop.parse_token(visitor.send(request))
    user = whop.parse_user(visitor.send(whop.user_request(token)), token, nonce="n", now=clock())
    assert user["id"] == sandbox.people[who].id
    assert user["email"] == sandbox.people[who].email
    question = access_request(sandbox.api_url, token.access_token, sandbox.people[who].id, "prod_app")
    assert parse_access(visitor.send(question), "prod_app", with_api_key=False) == "customer"


@pytest.mark.parametrize("credentials", [Credentials("client_1", SECRET), Credentials("app_1", "wrong")])
def test_mixed_up_credentials_are_recognised(visitor: Visitor, credentials: Credentials) -> None:
    whop = OAuth21(credentials, visitor.sandbox.api_url)
    request = whop.token_request(code="made-up", redirect_uri=CALLBACK, code_verifier=VERIFIER)
    with pytest.raises(CredentialsRefused):
        whop.parse_token(visitor.send(request))


# --- The Python API ---


def test_people_are_found_by_key_and_by_user_id(sandbox: Sandbox) -> None:
    assert sandbox.people["buyer"] is sandbox.people["user_buyer"]
    with pytest.raises(KeyError):
        sandbox.people["nobody"]


def test_a_person_of_ones_own_can_sign_in(visitor: Visitor) -> None:
    visitor.sandbox.people["eve"] = Person("user_eve", "eve", "Eve", None, "Mine")
    assert visitor.get("/v5/me", v5_token(visitor, "eve")).json()["username"] == "eve"


def test_app_comes_back_as_registered_and_hides_its_secrets(sandbox: Sandbox) -> None:
    app = sandbox.add_app(client_id="x", client_secret="s3cr3t", redirect_uris=CALLBACK, api_key="k3y", name="X")
    assert isinstance(app, App)
    assert (app.dialect, app.redirect_uris, app.company_id) == ("v5", (CALLBACK,), "biz_sandbox")
    assert "s3cr3t" not in repr(app)
    assert "k3y" not in repr(app)


def test_product_that_is_there_already_is_not_sold_again(sandbox: Sandbox) -> None:
    sandbox.cancel("buyer", "prod_members")
    sandbox.add_app(client_id="x", client_secret="s", redirect_uris=CALLBACK)
    assert not sandbox._world.has("buyer", "prod_members")


def test_app_without_products_sells_nothing(sandbox: Sandbox) -> None:
    before = len(sandbox._world.memberships)
    assert sandbox.add_app(client_id="x", client_secret="s", redirect_uris=CALLBACK, products=()).products == ()
    assert len(sandbox._world.memberships) == before


def test_world_without_the_default_people_stays_empty() -> None:
    sandbox = Sandbox()
    sandbox.people.clear()
    sandbox.add_app(client_id="x", client_secret="s", redirect_uris=CALLBACK)
    assert (sandbox._world.memberships, sandbox._world.team) == ([], set())


@pytest.mark.parametrize(
    "options",
    [
        {"redirect_uris": ()},
        {"redirect_uris": ("/callback/whop",)},
        {"redirect_uris": ("ftp://localhost/",)},
        {"redirect_uris": (f"{CALLBACK}#x",)},
        {"client_secret": None},
    ],
)
def test_app_that_could_not_work_is_refused(sandbox: Sandbox, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        sandbox.add_app(**({"client_id": "x", "client_secret": "s", "redirect_uris": CALLBACK} | options))


def test_unknown_names_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(LookupError):
        sandbox.buy("buyer", "prod_unknown")
    with pytest.raises(LookupError):
        sandbox.cancel("nobody", "prod_vip")
    with pytest.raises(LookupError):
        sandbox.own("buyer", "prod_unknown")
    with pytest.raises(LookupError):
        sandbox.code("buyer", "unknown")
    with pytest.raises(ValueError, match="no status"):
        sandbox.buy("buyer", "prod_vip", status="bought")


def test_calls_are_counted_and_hold_no_secret(visitor: Visitor) -> None:
    visitor.get("/v5/me", v5_token(visitor))
    visitor.get("/")
    assert list(visitor.sandbox.calls) == [Call("token", "POST", "v5"), Call("user", "GET", "v5")]
    assert visitor.sandbox.count("token") == 1
    assert visitor.sandbox.count("access") == 0

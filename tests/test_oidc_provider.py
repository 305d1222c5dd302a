"""Signing in against an OpenID provider that others wrote and certified: npm's oidc-provider, at Whop's paths.

What the sandbox takes could be what this package happens to send; here someone else decides. Needs Node.js and
`npm ci --prefix tests/oidc_provider`, which .ci/run does. Reaches nothing beyond loopback.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import pytest

from whop_middleware import WhopUser
from whop_middleware.whop import code_challenge

from .conftest import MakeSite
from .processes import end, wait_until
from .support import ORIGIN, SECRET, Answer, Browser

FOLDER = Path(__file__).parent / "oidc_provider"
REDIRECT_URIS = (f"{ORIGIN}/callback/whop", f"{ORIGIN}/shop/callback/whop")  # what `make_site` uses
CLIENTS: dict[str, dict[str, Any]] = {
    "confidential": {"client_id": "app_confidential"},
    "public": {"client_id": "app_public", "client_secret": None},
}


@dataclass
class Provider:
    """The running provider, and a person's way through its pages."""

    issuer: str
    log: Path
    read: int = 0

    def settings(self, **options: Any) -> dict[str, Any]:
        """Return the settings of a site that signs in here; `options` win."""
        return {"api_url": self.issuer, "whop_url": self.issuer, "client_id": "app_confidential"} | options

    def consent(self, authorize_url: str, account: str | None = "user_alice") -> str:
        """Sign in and consent, or decline as nobody: return the callback address that the provider redirects to."""
        # Nothing here speaks TLS, and reading the system's certificates takes longer than the rest.
        with httpx.Client(base_url=self.issuer, trust_env=False, verify=False) as person:
            url = person.get(authorize_url).headers["location"]
            url = person.post(url, data={"account": account or ""}).headers["location"]
            return str(person.get(url).headers["location"])

    def refusals(self) -> list[str]:
        """Return why token requests were refused since the last call, in the provider's own words."""
        facts = [json.loads(line) for line in self.log.read_text().splitlines()[1:]]
        before, self.read = self.read, len(facts)
        return [f"{fact['error']}: {fact['because']}" for fact in facts[before:]]


@pytest.fixture(scope="module")
def running_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        pytest.skip("needs node, and `npm ci --prefix tests/oidc_provider`")
    folder = tmp_path_factory.mktemp("oidc_provider")
    log, trouble = folder / "stdout", folder / "stderr"
    with log.open("wb") as output, trouble.open("wb") as errors:
        arguments = [node, str(FOLDER / "server.mjs"), SECRET, *REDIRECT_URIS]
        process = subprocess.Popen(arguments, stdout=output, stderr=errors, start_new_session=True)
    try:
        wait_until(lambda: log.read_bytes().endswith(b"\n"), process, trouble)
        yield Provider(json.loads(log.read_text())["listening"], log)
    finally:
        end(process)


@pytest.fixture
def provider(running_provider: Provider) -> Provider:
    running_provider.refusals()
    return running_provider


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, provider: Provider) -> dict[str, Any]:
    """The settings of a site with either kind of client."""
    return provider.settings(**CLIENTS[request.param])


def leave(browser: Browser, target: str = "/reports") -> str:
    """Ask for a page, and return the address at the provider where that leads."""
    leaving = browser.go(target)
    assert leaving.status == 303, leaving.body
    return leaving.location


def altered(url: str, **parameters: str) -> str:
    """Return a URL with parameters of its query replaced."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | parameters)))


def value(url: str, name: str) -> str:
    return dict(parse_qsl(urlsplit(url).query))[name]


def is_page(answer: Answer, status: int, code: str) -> bool:
    return answer.status == status and code in answer.text and not answer.called


def test_its_discovery_names_the_addresses_that_are_asked(make_site: MakeSite, provider: Provider) -> None:
    found = httpx.get(f"{provider.issuer}/.well-known/openid-configuration", trust_env=False).json()
    assert found["issuer"] == provider.issuer
    assert leave(Browser(make_site(**provider.settings()))).startswith(f"{found['authorization_endpoint']}?")
    assert found["token_endpoint"] == f"{provider.issuer}/oauth/token"
    assert found["userinfo_endpoint"] == f"{provider.issuer}/oauth/userinfo"
    assert found["jwks_uri"] == f"{provider.issuer}/.well-known/jwks.json"
    assert found["id_token_signing_alg_values_supported"] == ["ES256"]


def test_a_sign_in_ends_on_the_page_asked_for(make_site: MakeSite, provider: Provider, client: dict[str, Any]) -> None:
    browser = Browser(make_site(**client))
    callback = provider.consent(leave(browser, "/reports?year=2024"))
    assert value(callback, "iss") == provider.issuer
    answer = browser.get(callback)
    assert (answer.status, answer.location) == (303, f"{browser.site.prefix}/reports?year=2024")
    user = browser.go(answer.location).user
    assert user == WhopUser(
        id="user_alice",
        username="alice",
        name="Alice Übung",
        email="alice@example.com",
        profile_pic_url="https://img.example/alice.png",
        access={},
        signed_in_at=user.signed_in_at if user else 0,
    )
    assert provider.refusals() == []


def test_claims_that_are_missing_or_not_verified_are_none(make_site: MakeSite, provider: Provider) -> None:
    browser = Browser(make_site(**provider.settings()))
    user = browser.go(provider.consent(leave(browser), "user_bob")).user
    assert user is not None
    assert (user.id, user.username, user.name, user.email, user.profile_pic_url) == (
        "user_bob",
        "bob",
        None,
        None,
        None,
    )


def test_a_code_made_for_another_challenge_is_refused(
    make_site: MakeSite, provider: Provider, client: dict[str, Any]
) -> None:
    browser = Browser(make_site(**client))
    other = code_challenge("a-verifier-that-nobody-derived-from-this-state")
    again = browser.get(provider.consent(altered(leave(browser), code_challenge=other)))
    assert again.location.startswith(f"{provider.issuer}/oauth/authorize?"), "the sign-in starts over once"
    ended = browser.get(provider.consent(altered(again.location, code_challenge=other)))
    assert is_page(ended, 400, "code_refused")
    assert provider.refusals() == ["invalid_grant: PKCE verification failed"] * 2
    assert browser.go("/reports").status == 303


def test_another_persons_code_is_refused(make_site: MakeSite, provider: Provider, client: dict[str, Any]) -> None:
    site = make_site(**client)
    victim, attacker = Browser(site), Browser(site)
    stolen = value(provider.consent(leave(attacker), "user_bob"), "code")
    again = victim.get(altered(provider.consent(leave(victim)), code=stolen))
    assert again.location.startswith(f"{provider.issuer}/oauth/authorize?")
    assert provider.refusals() == ["invalid_grant: PKCE verification failed"]
    assert victim.go(provider.consent(again.location)).user is not None, "the second try goes through"


def test_a_code_is_good_once(make_site: MakeSite, provider: Provider, client: dict[str, Any]) -> None:
    browser = Browser(make_site(**client))
    callback = provider.consent(leave(browser))
    before = dict(browser.cookies)
    assert browser.get(callback).location.endswith("/reports")
    browser.cookies = before
    again = browser.get(callback)
    assert again.location.startswith(f"{provider.issuer}/oauth/authorize?")
    assert provider.refusals() == ["invalid_grant: authorization code already consumed"]


def test_an_unregistered_redirect_uri_gets_no_code(make_site: MakeSite, provider: Provider) -> None:
    browser = Browser(make_site(**provider.settings(redirect_uri=f"{ORIGIN}/callback/elsewhere")))
    refused = httpx.get(leave(browser), trust_env=False)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_redirect_uri")
    assert "location" not in refused.headers


def test_a_code_made_for_another_redirect_uri_is_refused(
    make_site: MakeSite, provider: Provider, client: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(make_site(**client))
    (other,) = set(REDIRECT_URIS) - {value(leave(browser), "redirect_uri")}

    def callback(authorize_url: str) -> str:
        elsewhere = provider.consent(altered(authorize_url, redirect_uri=other))
        return f"/callback/whop?{urlsplit(elsewhere).query}"

    again = browser.get(callback(leave(browser)))
    assert is_page(browser.get(callback(again.location)), 400, "code_refused")
    assert provider.refusals() == ["invalid_grant: authorization code redirect_uri mismatch"] * 2
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert value(again.location, "redirect_uri") in error


@pytest.mark.parametrize("secret", ["another-secret-0123456789", None], ids=["wrong", "missing"])
def test_wrong_credentials_are_told_from_a_bad_code(
    make_site: MakeSite, provider: Provider, secret: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(make_site(**provider.settings(client_secret=secret)))
    ended = browser.get(provider.consent(leave(browser)))
    assert is_page(ended, 502, "credentials_refused")
    (refusal,) = provider.refusals()
    assert refusal.startswith("invalid_client: ")
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "WHOP_CLIENT_SECRET" in error
    assert browser.go("/reports").status == 303


def test_an_answer_by_another_issuer_is_refused_before_the_code_is_sent(
    make_site: MakeSite, provider: Provider, client: dict[str, Any]
) -> None:
    browser = Browser(make_site(**client))
    callback = provider.consent(leave(browser))
    for issuer in ("https://evil.example", f"{provider.issuer}/"):
        assert is_page(browser.get(altered(callback, iss=issuer)), 400, "issuer_mismatch")
    assert browser.go(callback).user is not None, "the code was still good"
    assert provider.refusals() == []


def test_an_id_token_with_another_nonce_is_refused(
    make_site: MakeSite, provider: Provider, client: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(make_site(**client))
    ended = browser.get(provider.consent(altered(leave(browser), nonce="another")))
    assert is_page(ended, 502, "bad_whop_answer")
    assert any("wrong nonce" in record.getMessage() for record in caplog.records)
    assert provider.refusals() == []
    assert browser.go("/reports").status == 303


def test_declining_ends_on_a_page(make_site: MakeSite, provider: Provider) -> None:
    browser = Browser(make_site(**provider.settings()))
    callback = provider.consent(leave(browser), account=None)
    assert value(callback, "error") == "access_denied"
    assert value(callback, "iss") == provider.issuer
    declined = browser.get(callback)
    assert is_page(declined, 403, "sign_in_declined")
    assert "declined on the page" not in declined.text

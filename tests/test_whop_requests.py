"""What is sent to Whop, in both generations: addresses, bodies, headers. No server, no client."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

import pytest

from whop_middleware.whop import Credentials, Dialect, Token, code_challenge, dialect, endpoint
from whop_middleware.whop import answers as reading

from .dialects import ACCESS_TOKEN, API, CODE, CURRENT, SECRET, TOKEN, V5, Settings

PUBLIC = dialect(Settings("oauth21", "app_1", None))


def authorize_query(speech: Dialect, nonce: str | None = "n", challenge: str | None = "c") -> dict[str, list[str]]:
    url = speech.authorize_url(
        redirect_uri="https://app.example/callback/whop?a=b&c=é",
        state="s.t-a_te",
        scope="openid profile",
        nonce=nonce,
        code_challenge=challenge,
    )
    assert "+" not in url
    return parse_qs(urlsplit(url).query, strict_parsing=True)


def token_body(speech: Dialect, verifier: str | None = None) -> dict[str, str]:
    request = speech.token_request(code=CODE, redirect_uri="https://app.example/cb", code_verifier=verifier)
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json"
    body: dict[str, str] = json.loads(request.content)
    return body


def test_dialect_follows_the_protocol_setting() -> None:
    assert (V5.name, V5.default_scope, V5.uses_pkce, V5.issuer) == ("v5", "read_user", False, None)
    assert (CURRENT.name, CURRENT.default_scope, CURRENT.uses_pkce) == ("oauth21", "openid profile email", True)
    assert CURRENT.issuer == API


def test_secret_and_tokens_are_in_no_repr() -> None:
    told = repr((V5, CURRENT, Credentials("client_1", SECRET), Token(ACCESS_TOKEN, ACCESS_TOKEN)))
    assert SECRET not in told
    assert ACCESS_TOKEN not in told


def test_v5_authorize_url_has_the_documented_parameters_only() -> None:
    assert authorize_query(V5) == {
        "client_id": ["client_1"],
        "redirect_uri": ["https://app.example/callback/whop?a=b&c=é"],
        "response_type": ["code"],
        "scope": ["openid profile"],
        "state": ["s.t-a_te"],
    }


def test_oauth21_authorize_url_has_pkce_and_nonce() -> None:
    assert authorize_query(CURRENT) == {
        "client_id": ["app_1"],
        "redirect_uri": ["https://app.example/callback/whop?a=b&c=é"],
        "response_type": ["code"],
        "scope": ["openid profile"],
        "state": ["s.t-a_te"],
        "nonce": ["n"],
        "code_challenge": ["c"],
        "code_challenge_method": ["S256"],
    }


def test_oauth21_authorize_url_leaves_out_what_it_was_not_given() -> None:
    assert not authorize_query(CURRENT, nonce=None, challenge=None).keys() & {
        "nonce",
        "code_challenge",
        "code_challenge_method",
    }


@pytest.mark.parametrize(
    ("speech", "authorize", "token", "user"),
    [
        (V5, "https://whop.com/oauth", "https://api.whop.com/v5/oauth/token", "https://api.whop.com/v5/me"),
        (
            CURRENT,
            "https://api.whop.com/oauth/authorize",
            "https://api.whop.com/oauth/token",
            "https://api.whop.com/oauth/userinfo",
        ),
        (
            dialect(Settings("v5", "c", whop_url="http://localhost:1/site", api_url="http://localhost:1/api")),
            "http://localhost:1/site/oauth",
            "http://localhost:1/api/v5/oauth/token",
            "http://localhost:1/api/v5/me",
        ),
        (
            dialect(Settings("oauth21", "app_1", api_url="http://localhost:1/api")),
            "http://localhost:1/api/oauth/authorize",
            "http://localhost:1/api/oauth/token",
            "http://localhost:1/api/oauth/userinfo",
        ),
    ],
    ids=["v5", "oauth21", "v5 below a path", "oauth21 below a path"],
)
def test_each_generation_has_its_own_three_urls(speech: Dialect, authorize: str, token: str, user: str) -> None:
    url = speech.authorize_url(redirect_uri="r", state="s", scope="x", nonce=None, code_challenge=None)
    token_request = speech.token_request(code=CODE, redirect_uri="r", code_verifier=None)
    user_request = speech.user_request(TOKEN)
    assert url.partition("?")[0] == authorize
    assert (str(token_request.url), endpoint(token_request)) == (token, "token")
    assert (str(user_request.url), endpoint(user_request)) == (user, "user")
    assert user_request.headers["authorization"] == f"Bearer {ACCESS_TOKEN}"


def test_v5_token_request_is_json_with_grant_type() -> None:
    assert token_body(V5, verifier="never sent") == {
        "grant_type": "authorization_code",
        "code": CODE,
        "client_id": "client_1",
        "client_secret": SECRET,
        "redirect_uri": "https://app.example/cb",
    }


def test_oauth21_confidential_client_sends_secret_and_verifier() -> None:
    assert token_body(CURRENT, verifier="v") == {
        "grant_type": "authorization_code",
        "code": CODE,
        "client_id": "app_1",
        "client_secret": SECRET,
        "code_verifier": "v",
        "redirect_uri": "https://app.example/cb",
    }


def test_oauth21_public_client_sends_no_secret() -> None:
    assert "client_secret" not in token_body(PUBLIC, verifier="v")


def test_requests_ask_for_json_and_no_compression() -> None:
    for request in (V5.user_request(TOKEN), V5.token_request(code=CODE, redirect_uri="r", code_verifier=None)):
        assert request.headers["accept"] == "application/json"
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["user-agent"] == f"whop-middleware/{importlib.metadata.version('whop-middleware')}"


def test_a_copy_that_is_not_installed_names_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    assert reading._user_agent.__wrapped__() == "whop-middleware"


def test_code_challenge_is_the_example_of_rfc_7636_appendix_b() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert code_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_http_client_is_not_imported_before_a_request_is_built() -> None:
    program = (
        "import sys\n"
        "from whop_middleware.whop import Credentials, OAuth21, V5, access\n"
        "for speech in (V5(Credentials('c', 's'), 'https://w', 'https://a'), OAuth21(Credentials('c', 's'), 'https://a')):\n"
        "    speech.authorize_url(redirect_uri='r', state='s', scope='x', nonce='n', code_challenge='c')\n"
        "assert 'httpx' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

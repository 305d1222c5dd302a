"""Whop's API as pure pairs: what is sent, and what every answer is taken for. No server, no client."""

from __future__ import annotations

import base64
import gzip
import importlib.metadata
import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from whop_middleware.errors import BadWhopAnswer, CodeRefused, CredentialsRefused, SignInError, WhopUnreachable
from whop_middleware.whop import Credentials, Dialect, OAuth21, Token, access, code_challenge, dialect, endpoint
from whop_middleware.whop import answers as reading
from whop_middleware.whop.answers import BODY_LIMIT, is_encoded

WHOP, API = "https://whop.com", "https://api.whop.com"
SECRET, CODE, ACCESS_TOKEN = "s3cr3t-of-the-app", "c0de-of-the-user", "t0ken-of-the-user"
NOW = 1_800_000_000.0
TOKEN = Token(ACCESS_TOKEN)
USER = {"id": "user_1", "username": None, "name": None, "email": None, "profile_pic_url": None}


@dataclass(frozen=True)
class Settings:
    protocol: str
    client_id: str
    client_secret: str | None = SECRET
    whop_url: str = WHOP
    api_url: str = API


V5 = dialect(Settings("v5", "client_1"))
CURRENT = dialect(Settings("oauth21", "app_1"))
PUBLIC = dialect(Settings("oauth21", "app_1", None))
both_dialects = pytest.mark.parametrize("speech", [V5, CURRENT], ids=["v5", "oauth21"])


def short(value: object) -> str:
    """Name a case alike in every process: xdist's workers must agree on what they collect."""
    if isinstance(value, type):
        return value.__name__
    return repr(value[:20] if isinstance(value, bytes | str) else value)[:30]


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return httpx.Response(status, content=content, headers=headers)


def user_of(
    speech: Dialect, response: httpx.Response, token: Token = TOKEN, nonce: str | None = "n"
) -> dict[str, str | None]:
    return speech.parse_user(response, token, nonce=nonce, now=NOW)


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


# What is sent


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


# What a token answer is taken for

KNOWN_ERRORS = {
    "invalid_grant": CodeRefused,
    "invalid_client": CredentialsRefused,
    "unauthorized_client": CredentialsRefused,
    "invalid_scope": CredentialsRefused,
}


@both_dialects
@pytest.mark.parametrize("status", [200, 201])
def test_token_is_taken_from_any_whole_2xx(speech: Dialect, status: int) -> None:
    body = {
        "access_token": ACCESS_TOKEN,
        "token_type": "BEARER",
        "expires_in": "3600",
        "id_token": None,
        "x": {"y": [1]},
    }
    assert speech.parse_token(answer(body, status)) == TOKEN


def test_id_token_is_taken_by_oauth21_alone() -> None:
    body = {"access_token": ACCESS_TOKEN, "id_token": "a.b.c"}
    assert CURRENT.parse_token(answer(body)) == Token(ACCESS_TOKEN, "a.b.c")
    assert V5.parse_token(answer(body)) == TOKEN


def test_id_token_that_is_not_text_is_nonsense() -> None:
    with pytest.raises(BadWhopAnswer):
        CURRENT.parse_token(answer({"access_token": ACCESS_TOKEN, "id_token": 1}))


@both_dialects
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize(("error", "expected"), KNOWN_ERRORS.items())
def test_known_error_decides_whatever_the_status_and_beside_a_token(
    speech: Dialect, status: int, error: str, expected: type[SignInError]
) -> None:
    for body in ({"error": error, "access_token": "AT"}, {"error": {"code": error, "message": "m"}}):
        with pytest.raises(expected):
            speech.parse_token(answer(body, status))


@both_dialects
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, CodeRefused),
        (401, CredentialsRefused),
        (403, CredentialsRefused),
        (429, WhopUnreachable),
        *((status, WhopUnreachable) for status in (500, 502, 503, 504, 599)),
        *((status, BadWhopAnswer) for status in (101, 204, 205, 206, 301, 302, 304, 307, 404, 408, 410, 422, 451, 600)),
    ],
)
@pytest.mark.parametrize(
    "body",
    ["", "<html>", '{"error":"invalid_request"}', '{"error":{"code":7}}', '{"error":["x"]}', '{"message":"no"}', "[]"],
)
def test_status_decides_when_no_known_error_does(
    speech: Dialect, status: int, expected: type[SignInError], body: str
) -> None:
    with pytest.raises(expected):
        speech.parse_token(answer(body, status))


@both_dialects
@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "42",
        '"AT"',
        "[]",
        "{}",
        "<html></html>",
        "access_token=AT",
        "{'access_token':'AT'}",
        '{"access_token":"AT"',
        '{"access_token":"AT"}}',
        '{"access_token":"AT"}{}',
        '{"access_token":"AT","expires_in":NaN}',
        '{"access_token":"AT","expires_in":-Infinity}',
        '{"access_token":"AT","expires_in":' + "9" * 5000 + "}",
        '{"access_token":"AT","token_type":"mac"}',
        '{"access_token":"AT","token_type":["bearer"]}',
        '{"Access_Token":"AT"}',
        *(f'{{"access_token":{value}}}' for value in ("null", '""', "true", "1", "{}", '["AT"]')),
        '{"access_token":"A B"}',
        '{"access_token":"A\\r\\nX: y"}',
        '{"access_token":"A\\n"}',
        '{"access_token":"A\\u0000B"}',
        '{"access_token":"\\u00e9"}',
        '{"access_token":"\\ud800"}',
        '{"access_token":"' + "A" * (16 * 1024 + 1) + '"}',
        '{"access_token":"AT","pad":"' + "p" * BODY_LIMIT + '"}',
        "[" * 100_000,
        '{"access_token":' * 100_000,
        b"\x00\x01\x02\xff",
        b'\xef\xbb\xbf{"access_token":"AT"}',
        '{"access_token":"AT"}'.encode("utf-16"),
        b'{"access_token":"\xff"}',
    ],
    ids=short,
)
def test_anything_but_one_json_object_with_a_usable_token_is_nonsense(speech: Dialect, body: str | bytes) -> None:
    with pytest.raises(BadWhopAnswer):
        speech.parse_token(answer(body))


def test_token_of_exactly_the_limit_is_usable() -> None:
    token = "A" * 16 * 1024
    assert V5.parse_token(answer({"access_token": token})).access_token == token


@both_dialects
def test_encoded_body_is_nonsense_though_it_would_decode(speech: Dialect) -> None:
    body = gzip.compress(b'{"access_token":"AT"}', mtime=0)
    with pytest.raises(BadWhopAnswer):
        speech.parse_token(answer(body, headers={"Content-Encoding": "gzip"}))


def test_identity_is_no_encoding() -> None:
    response = answer({"access_token": ACCESS_TOKEN}, headers={"Content-Encoding": " Identity"})
    assert not is_encoded(response)
    assert V5.parse_token(response) == TOKEN


def test_encoded_refusal_is_read_by_its_status() -> None:
    body = gzip.compress(b'{"error":"invalid_client"}', mtime=0)
    with pytest.raises(CodeRefused):
        V5.parse_token(answer(body, 400, {"Content-Encoding": "gzip"}))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30),
        (" 30 ", 30),
        ("0", 0),
        ("3600", 3600),
        ("3601", 3600),
        ("99999999999", 3600),
        ("9" * 5000, 3600),
        ("-1", 60),
        ("1.5", 60),
        ("", 60),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 60),
        ("٣", 60),
        (None, 60),
    ],
    ids=short,
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_digits_up_to_an_hour_else_a_minute(header: str | None, seconds: int, status: int) -> None:
    headers = None if header is None else httpx.Headers({"Retry-After": header}, encoding="utf-8")
    response = httpx.Response(status, headers=headers)
    for parse in (lambda: V5.parse_token(response), lambda: user_of(V5, response)):
        with pytest.raises(WhopUnreachable) as caught:
            parse()
        assert caught.value.retry_after == seconds


def test_v5_refusal_of_credentials_names_the_two_usual_causes() -> None:
    with pytest.raises(CredentialsRefused, match=r"WHOP_CLIENT_SECRET is wrong.*app_.*WHOP_DIALECT=oauth21"):
        V5.parse_token(answer({"message": "Client authentication failed due to unknown client"}, 401))


def test_oauth21_refusal_of_credentials_names_the_two_usual_causes() -> None:
    with pytest.raises(CredentialsRefused, match=r"lacks the permission oauth:token_exchange.*WHOP_DIALECT=v5"):
        CURRENT.parse_token(answer("", 401))


def test_oauth21_refusal_names_the_missing_permission_when_whop_does() -> None:
    body = {"error": "invalid_client", "error_description": "client_secret lacks oauth:token_exchange permission"}
    with pytest.raises(CredentialsRefused, match="the client secret lacks the permission oauth:token_exchange"):
        CURRENT.parse_token(answer(body, 401))


@both_dialects
def test_refused_scope_names_the_setting(speech: Dialect) -> None:
    with pytest.raises(CredentialsRefused, match="WHOP_SCOPE"):
        speech.parse_token(answer({"error": "invalid_scope"}, 400))


@both_dialects
@pytest.mark.parametrize("status", [200, 302, 400, 401, 429, 500])
@pytest.mark.parametrize("error", [None, "invalid_client", "invalid_grant"])
def test_no_message_and_no_cause_holds_what_whop_said(speech: Dialect, status: int, error: str | None) -> None:
    said = f"{SECRET} {CODE} {ACCESS_TOKEN}"
    for body in ({"error": error, "error_description": said, "access_token": said}, f"{{{said}"):
        with pytest.raises(SignInError) as caught:
            speech.parse_token(answer(body, status))
        assert "Whop" in str(caught.value)
        for secret in said.split():
            assert secret not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


# Answers as they come off the wire, with the headers that must change nothing

GOOD = '{"access_token":"AT","token_type":"bearer","expires_in":3600}'
JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}
ELSEWHERE = {"Location": "https://evil.example/collect"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (GOOD, {"Content-Type": "application/json; charset=UTF-8"}),
        (GOOD, {"Content-Type": "application/json; charset=utf-16"}),
        (GOOD, {"Content-Type": "image/png"}),
        (GOOD, HTML),
        (GOOD, {}),
        (GOOD, {"Set-Cookie": "sid=evil; Path=/"}),
        ('{"access_token":"AT","token_type":"Bearer","expires_in":null,"refresh_token":"RT","scope":""}', JSON),
        ('{"access_token":"AT","expires_in":"3600"}', JSON),
        ('{"access_token":"AT","expires_in":-1}', JSON),
        ('{"access_token":"AT","expires_in":1e400}', JSON),
        ('{"access_token":"EVIL","access_token":"AT"}', JSON),
    ],
)
@both_dialects
def test_good_json_is_taken_whatever_it_is_labelled(speech: Dialect, body: str, headers: dict[str, str]) -> None:
    assert speech.parse_token(answer(body, headers=headers)) == Token("AT")


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (200, JSON, '{"access_token":"AT","error":"invalid_grant"}', CodeRefused),
        (200, JSON, '{"error":"invalid_grant"}', CodeRefused),
        (400, JSON, '{"error":"invalid_request"}', CodeRefused),
        (400, JSON, '{"error":"invalid_scope"}', CredentialsRefused),
        (400, HTML, "", CodeRefused),
        (400, HTML, "<html>bad</html>", CodeRefused),
        (401, HTML, "", CredentialsRefused),
        (404, JSON, '{"error":"Route /v5/oauth/token not found"}', BadWhopAnswer),
        (415, HTML, "", BadWhopAnswer),
        (418, HTML, "tea", BadWhopAnswer),
        (422, JSON, '{"errors":[]}', BadWhopAnswer),
        (429, JSON, '{"message":"You are being rate limited"}', WhopUnreachable),
        (429, JSON, '{"error":"rate_limit_exceeded"}', WhopUnreachable),
        (501, JSON, "", WhopUnreachable),
        (504, HTML, "<html>gateway timeout</html>", WhopUnreachable),
        (200, JSON, '[{"access_token":"AT"}]', BadWhopAnswer),
        (200, JSON, "NaN", BadWhopAnswer),
        (200, JSON, '{"a":' * 50_000 + "1" + "}" * 50_000, BadWhopAnswer),
        (200, JSON, b"\xed\xa0\x80", BadWhopAnswer),
        (200, JSON, '{"access_token":"AT","pad":"' + "p" * 10_000_000 + '"}', BadWhopAnswer),
        (200, {**JSON, "Content-Encoding": "gzip"}, gzip.compress(bytes(10_000_000), mtime=0), BadWhopAnswer),
        *((status, ELSEWHERE, GOOD, BadWhopAnswer) for status in (301, 302, 303, 307, 308)),
        (302, {"Location": "//evil.example/leak"}, "", BadWhopAnswer),
        (302, {"Location": f"https://{'a' * 1_000_000}/"}, "", BadWhopAnswer),
        (204, JSON, "", BadWhopAnswer),
        (206, JSON, GOOD, BadWhopAnswer),
        (304, JSON, "", BadWhopAnswer),
    ],
    ids=short,
)
@both_dialects
def test_trouble_of_the_token_endpoint_has_its_class(
    speech: Dialect, status: int, headers: dict[str, str], body: str | bytes, expected: type[SignInError]
) -> None:
    with pytest.raises(expected):
        speech.parse_token(answer(body, status, headers))


@pytest.mark.parametrize(
    "body", ["null", "[]", '{"user":{"id":"user_1","sub":"user_1"}}', '{"id":"user_1"', "{}", "<html>", ""]
)
@both_dialects
def test_user_answer_without_an_object_with_an_id_is_nonsense(speech: Dialect, body: str) -> None:
    with pytest.raises(BadWhopAnswer):
        user_of(speech, answer(body))


# What a user answer is taken for


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


# ID tokens


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


# Who owns what


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


def test_oauth21_issuer_follows_the_api_url() -> None:
    sandbox = OAuth21(Credentials("app_1", None), "https://sandbox-api.whop.com")
    assert sandbox.issuer == "https://sandbox-api.whop.com"

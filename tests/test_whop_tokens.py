"""What every answer to a request for a token is taken for. No server, no client."""

from __future__ import annotations

import gzip

import httpx
import pytest

from whop_middleware.errors import BadWhopAnswer, CodeRefused, CredentialsRefused, SignInError, WhopUnreachable
from whop_middleware.whop import Dialect, Token
from whop_middleware.whop.answers import BODY_LIMIT, is_encoded

from .dialects import ACCESS_TOKEN, CODE, CURRENT, SECRET, TOKEN, V5, answer, both_dialects, short, user_of

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

"""Every way a network and an answer can be wrong, over real loopback sockets, on both adapters."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import socket
import ssl
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from whop_middleware.drive import ssl_context
from whop_middleware.testing import session_cookie

from .faults import (
    PERSON,
    TOKEN,
    Connection,
    FaultServer,
    Handler,
    answers,
    answers_well,
    breaks_off,
    closes,
    endless,
    expand,
    fault_server,
    hangs,
    http,
    informs_without_end,
    keeps_alive,
    make_certificate,
    planned,
    resets,
    resets_after_headers,
    sends,
    server_context,
    trickles_body,
    trickles_headers,
)
from .support import NAVIGATION, SECRET, Answer, AsgiSite, Browser, Site, WsgiSite, make_config

CORPUS = json.loads((Path(__file__).parent / "corpora" / "upstream.json").read_text())["entries"]
TIMEOUT = 0.3
CODE = "CODE-0123456789"
HUB = (*NAVIGATION, ("Referer", "https://whop.com/"))
SITES = {"asgi": AsgiSite, "wsgi": WsgiSite}
CODES = ("code_refused", "credentials_refused", "bad_whop_answer", "whop_unreachable")

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as server:
        yield server


@pytest.fixture(params=["asgi", "wsgi"])
def make_site(request: pytest.FixtureRequest) -> Callable[..., Site]:
    def make(api_url: str, **options: Any) -> Site:
        site: Site = SITES[request.param](make_config(**{"api_url": api_url, "timeout": TIMEOUT} | options))
        return site

    return make


def arrive(site: Site, *, signed_in: bool = False) -> tuple[Answer, Browser]:
    """Come from the Hub with a code, and return what came back within four timeouts and a second."""
    browser = Browser(site)
    if signed_in:
        browser.cookies |= session_cookie(site.middleware.config, id="user_1")
    began = time.monotonic()
    answer = browser.get(f"/callback/whop?code={CODE}", HUB)
    assert time.monotonic() - began < 4 * site.middleware.config.timeout + 1
    return answer, browser


def has_session(browser: Browser) -> bool:
    return "__Host-whop_session" in browser.cookies


def assert_failed(answer: Answer, browser: Browser, *statuses: int) -> None:
    assert answer.status in statuses, (answer.status, answer.text)
    assert not has_session(browser)
    assert any(code in answer.text for code in CODES)
    assert answer.header("cache-control") == "no-store"
    for secret in ("Traceback", "evil", SECRET, CODE, "AT-fault", "bad</html>", "gateway timeout", "Some Words"):
        assert secret not in answer.text
    if answer.status == 503:
        assert re.fullmatch(r"\d{1,4}", answer.header("retry-after") or "")
        assert int(answer.header("retry-after") or "") <= 3600


def assert_in(answer: Answer, browser: Browser) -> None:
    assert (answer.status, answer.location) == (303, "/"), answer.text
    assert has_session(browser)
    cookies = answer.all("set-cookie")
    assert len([cookie for cookie in cookies if cookie.startswith("__Host-whop_session=")]) == 1
    assert all(cookie.startswith("__Host-whop_session") and cookie.isascii() for cookie in cookies)
    assert max(map(len, cookies)) < 4096


def assert_log_is_clean(caplog: pytest.LogCaptureFixture) -> None:
    text = "\n".join(f"{record.getMessage()}\n{record.exc_text or ''}" for record in caplog.records)
    for secret in (SECRET, CODE, "AT-fault", "Bearer A", '"AT"'):
        assert secret not in text
    for record in caplog.records:
        if getattr(record, "whop_event", None) == "failure":
            assert {"whop_code", "whop_duration", "whop_reference"} <= set(vars(record))


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    ends = time.monotonic() + 3
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < ends:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= before


def check(site: Site, expect: str, caplog: pytest.LogCaptureFixture) -> None:
    """Assert the outcome for somebody new, and that somebody signed in stays so."""
    caplog.set_level(logging.INFO, "whop_middleware")
    answer, browser = arrive(site)
    if expect == "login_ok" or (expect == "login_ok_or_failed" and answer.status == 303):
        assert_in(answer, browser)
    elif expect == "upstream_busy":
        assert_failed(answer, browser, 503)
    elif expect == "upstream_down":
        assert_failed(answer, browser, 502, 503)
    else:
        assert_failed(answer, browser, 400, 502)
    answer, browser = arrive(site, signed_in=True)
    assert answer.status == 303
    assert has_session(browser)
    assert Browser.get(browser, "/page").user is not None
    assert_log_is_clean(caplog)


# Answers

ANSWERS = [entry for entry in CORPUS if "fault" not in entry["response"]]
FAULTS = {entry["response"]["fault"]: entry for entry in CORPUS if "fault" in entry["response"]}
RETRY_AFTERS = ("30", "99999999999", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "garbage", "1e3", "٣")


@pytest.mark.parametrize("entry", ANSWERS, ids=[f"{entry['id']}-{entry['title'][:30]}" for entry in ANSWERS])
def test_an_answer_of_the_corpus(
    entry: dict[str, Any], make_site: Callable[..., Site], server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    response = entry["response"]
    if entry["endpoint"] == "me":
        server.handlers["me"] = planned(response)
    else:
        server.handlers["token"] = planned(response)
        me = response.get("me")
        server.handlers["me"] = answers_well("me") if me is None else sends(http(200, {}, expand(me)))
    with no_descriptor_left():
        check(make_site(server.url, timeout=2), entry["expect"], caplog)
    assert not any(b"sid=evil" in head or b"evil.example" in head for head in server.requests)
    assert {head.split(b" ")[1] for head in server.requests} <= {b"/v5/oauth/token", b"/v5/me"}
    assert server.sent < 20_000_000


def test_every_entry_of_the_corpus_is_tested() -> None:
    assert len(ANSWERS) + len(FAULTS) == len(CORPUS) == 99


@pytest.mark.parametrize("value", RETRY_AFTERS)
def test_a_wait_is_passed_on_only_when_it_is_digits(
    value: str, make_site: Callable[..., Site], server: FaultServer
) -> None:
    server.handlers["token"] = sends(
        http(429, {}, b"").replace(b"Connection", f"Retry-After: {value}\r\nConnection".encode())
    )
    site = make_site(server.url)
    answer, browser = arrive(site)
    assert_failed(answer, browser, 503)
    assert answer.header("retry-after") == {"30": "30", "99999999999": "3600"}.get(value, "60")
    arrive(site)
    assert len(server.requests) == 1


def test_no_answer_makes_the_process_grow(make_site: Callable[..., Site], server: FaultServer) -> None:
    head = http(200, {"Content-Type": "application/json"}, b"", length=False)
    site = make_site(server.url, timeout=2)
    for handler in (endless(head), endless(http(200, {"Content-Encoding": "gzip"}, b"", length=False))):
        server.handlers["token"] = handler
        arrive(site)
        tracemalloc.start()
        assert_failed(*arrive(site), 502)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * 1024 * 1024
    assert server.sent < 40_000_000


# Faults of the network

SOCKET_FAULTS: dict[str, Handler] = {
    "rst_immediately": resets,
    "rst_after_headers": resets_after_headers,
    "fin_immediately": closes,
    "trickle_1s_forever": trickles_body,
    "slow headers": trickles_headers,
    "informational answers without end": informs_without_end,
    "silence": hangs,
    "a body that breaks off": breaks_off,
}
OTHER_FAULTS = ("stale_keepalive", "dns_servfail", "bad_proxy_env", "flaky_50", "latency_jitter", "outage_60s")
TLS_FAULTS = ("tls_expired", "tls_wrong_host", "tls_hang", "tls_old", "tls_truncation")


def test_every_fault_of_the_corpus_is_tested() -> None:
    assert set(FAULTS) - {*SOCKET_FAULTS, *OTHER_FAULTS, *TLS_FAULTS} == set()


@pytest.mark.parametrize("endpoint", ["token", "me"])
@pytest.mark.parametrize("fault", SOCKET_FAULTS)
def test_a_fault_of_the_socket(
    fault: str, endpoint: str, make_site: Callable[..., Site], server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.handlers[endpoint] = SOCKET_FAULTS[fault]
    with no_descriptor_left():
        check(make_site(server.url), "upstream_down", caplog)
    tokens = [head for head in server.requests if b"/token" in head]
    assert len(tokens) == 2  # a code is never sent twice: one for each arrival


def test_silence_before_the_first_byte_of_a_request_is_bounded(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    with silence("127.0.0.1", 0) as port:
        check(make_site(f"http://127.0.0.1:{port}"), "upstream_down", caplog)


@contextmanager
def silence(address: str, port: int) -> Iterator[int]:
    """Listen, and answer no handshake of TCP."""
    with socket.create_server((address, port), backlog=0) as listener, ExitStack() as stack:
        for _ in range(3):  # fill the queue
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize("first", ["127.0.0.2 refuses", "127.0.0.3 is silent"])
def test_one_dead_address_of_several_is_passed_over(
    first: str, make_site: Callable[..., Site], server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = socket.getaddrinfo
    dead = first.split(" ")[0]

    def both(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if host not in ("whop.test", b"whop.test"):
            return genuine(host, port, *arguments, **options)
        return [genuine(address, port, *arguments, **options)[0] for address in (dead, "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with silence("127.0.0.3", server.port):
        assert_in(*arrive(make_site(f"http://whop.test:{server.port}", timeout=1.5)))


def test_a_stale_connection_costs_no_sign_in(make_site: Callable[..., Site], server: FaultServer) -> None:
    server.handlers = {"token": keeps_alive(TOKEN), "me": keeps_alive(PERSON)}
    site = make_site(server.url, timeout=2)
    for _ in range(3):
        assert_in(*arrive(site))


@pytest.mark.parametrize("error", [socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_FAIL])
def test_a_name_that_cannot_be_looked_up(
    error: int, make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_arguments: Any, **_options: Any) -> Any:
        raise socket.gaierror(error, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    check(make_site("http://whop.test"), "upstream_down", caplog)


def test_a_name_without_any_address(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [])
    assert_failed(*arrive(make_site("http://whop.test")), 503)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:1", "127.0.0.1:1", "garbage://x", "http://[::bad", "socks5://127.0.0.1:1", "ftp://x"]
)
def test_a_proxy_that_leads_nowhere(
    name: str,
    proxy: str,
    make_site: Callable[..., Site],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(name.lower(), proxy)
    check(make_site("http://whop.test"), "upstream_down", caplog)


@pytest.mark.parametrize("spelling", ["http://127.0.0.1:{}", "127.0.0.1:{}"])
def test_a_proxy_that_works_is_used_unless_no_proxy_says_otherwise(
    spelling: str, make_site: Callable[..., Site], server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", spelling.format(server.port))
    assert_in(*arrive(make_site("http://whop.test", timeout=2)))
    assert server.requests[0].startswith(b"POST http://whop.test/v5/oauth/token HTTP/1.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert_in(*arrive(make_site(server.url, timeout=2)))


def test_half_of_all_connections_reset(make_site: Callable[..., Site], server: FaultServer) -> None:
    dice = random.Random(7)

    def flaky(name: str) -> Handler:
        return lambda connection: (resets if dice.random() < 0.5 else answers_well(name))(connection)

    server.handlers = {"token": flaky("token"), "me": flaky("me")}
    site = make_site(server.url, timeout=2)
    outcomes = set()
    for _ in range(20):
        answer, browser = arrive(site)
        outcomes.add(answer.status)
        if answer.status == 303:
            assert_in(answer, browser)
        else:
            assert_failed(answer, browser, 503)
    assert outcomes == {303, 503}


def test_answers_that_take_their_time(make_site: Callable[..., Site], server: FaultServer) -> None:
    dice = random.Random(7)

    def late(name: str) -> Handler:
        def handler(connection: Connection) -> None:
            time.sleep(dice.random() * TIMEOUT * 1.5)
            answers_well(name)(connection)

        return handler

    server.handlers = {"token": late("token"), "me": late("me")}
    site = make_site(server.url)
    for _ in range(4):
        answer, browser = arrive(site)
        if answer.status == 303:
            assert_in(answer, browser)
        else:
            assert_failed(answer, browser, 503)


def test_after_an_outage_the_first_sign_in_works(make_site: Callable[..., Site]) -> None:
    with fault_server() as server:
        site = make_site(server.url, timeout=2)
    for _ in range(3):
        assert_failed(*arrive(site), 503)
    with fault_server(port=server.port):
        assert_in(*arrive(site))


def test_me_is_asked_once_more_after_an_error_of_transport_or_server(
    make_site: Callable[..., Site], server: FaultServer
) -> None:
    for fault in (resets, closes, answers({}, 503), answers({}, 500)):
        faults = iter([fault, answers_well("me")])
        server.requests.clear()
        server.handlers["me"] = lambda connection, faults=faults: next(faults)(connection)  # type: ignore[misc]
        assert_in(*arrive(make_site(server.url, timeout=2)))
        assert [head.split(b" ")[1] for head in server.requests] == [b"/v5/oauth/token", b"/v5/me", b"/v5/me"]


def test_under_wsgi_no_thread_is_left_behind(server: FaultServer) -> None:
    site = WsgiSite(make_config(api_url=server.url, timeout=TIMEOUT))
    names = {thread.name for thread in threading.enumerate() if "_serve" not in thread.name}
    for handler in (hangs, answers_well("token")):
        server.handlers["token"] = handler
        arrive(site)
    assert {thread.name for thread in threading.enumerate() if "_serve" not in thread.name} == names


# TLS


@contextmanager
def trusting(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    ssl_context.cache_clear()
    try:
        yield
    finally:
        ssl_context.cache_clear()


def truncates(connection: Connection) -> None:
    """Close the connection below TLS, without a close_notify, in the middle of the body."""
    connection.send(http(200, {"Content-Type": "application/json"}, b'{"access_token":"AT-fa', length=False))
    with socket.socket(fileno=os.dup(connection.socket.fileno())) as below:
        below.shutdown(socket.SHUT_RDWR)


@needs_openssl
def test_a_good_certificate_is_good(
    make_site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path)
    with trusting(certificate, monkeypatch), fault_server(server_context(certificate, key)) as server:
        assert_in(*arrive(make_site(server.url, timeout=5)))


@needs_openssl
@pytest.mark.parametrize("fault", ["tls_expired", "tls_wrong_host", "tls_old", "unknown authority"])
def test_a_certificate_or_protocol_that_is_not_good_enough(
    fault: str,
    make_site: Callable[..., Site],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = "DNS:other.example" if fault == "tls_wrong_host" else "IP:127.0.0.1"
    certificate, key = make_certificate(tmp_path, name=name, days=-1 if fault == "tls_expired" else 1)
    context = server_context(certificate, key)
    if fault == "tls_old":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    (tmp_path / "other").mkdir()
    trusted = make_certificate(tmp_path / "other")[0] if fault == "unknown authority" else certificate
    with trusting(trusted, monkeypatch), fault_server(context) as server, no_descriptor_left():
        check(make_site(server.url), "upstream_down", caplog)
    assert server.requests == []


@needs_openssl
def test_tls_that_is_cut_off(
    make_site: Callable[..., Site],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    certificate, key = make_certificate(tmp_path)
    with trusting(certificate, monkeypatch), fault_server(server_context(certificate, key)) as server:
        server.handlers["token"] = truncates
        check(make_site(server.url), "upstream_down", caplog)


@pytest.mark.parametrize(
    "greeting", [b"", b"\x16\x03\x03\x00\x7a\x02", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x03\x00\x02\x02\x28"]
)
def test_a_handshake_that_never_ends_or_never_begins(
    greeting: bytes, make_site: Callable[..., Site], server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    def greet(connection: Connection) -> None:
        connection.send(greeting)
        connection.hang()

    server.on_connect = greet
    check(make_site(server.url.replace("http:", "https:")), "upstream_down", caplog)

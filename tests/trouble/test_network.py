"""Every way a network can be wrong, over real loopback sockets, on both adapters."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.faults import (
    PERSON,
    TOKEN,
    FaultServer,
    Handler,
    answers_well,
    breaks_off,
    closes,
    fault_server,
    hangs,
    informs_without_end,
    keeps_alive,
    resets,
    resets_after_headers,
    trickles_body,
    trickles_headers,
)
from tests.support import Site, WsgiSite, make_config

from .conftest import FAULTS, TIMEOUT, arrive, assert_failed, assert_in, check, no_descriptor_left

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


def test_after_an_outage_the_first_sign_in_works(make_site: Callable[..., Site]) -> None:
    with fault_server() as server:
        site = make_site(server.url, timeout=2)
    for _ in range(3):
        assert_failed(*arrive(site), 503)
    with fault_server(port=server.port):
        assert_in(*arrive(site))


def test_under_wsgi_no_thread_is_left_behind(server: FaultServer) -> None:
    site = WsgiSite(make_config(api_url=server.url, timeout=TIMEOUT))
    names = {thread.name for thread in threading.enumerate() if "_serve" not in thread.name}
    for handler in (hangs, answers_well("token")):
        server.handlers["token"] = handler
        arrive(site)
    assert {thread.name for thread in threading.enumerate() if "_serve" not in thread.name} == names

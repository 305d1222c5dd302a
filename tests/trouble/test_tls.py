"""Every way TLS can be wrong, over real loopback sockets, on both adapters."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults import Connection, FaultServer, fault_server, http, make_certificate, server_context
from tests.support import Site
from whop_middleware.drive import ssl_context

from .conftest import arrive, assert_in, check, no_descriptor_left

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


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

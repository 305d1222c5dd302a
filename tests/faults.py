"""A Whop on a loopback socket that can fail in every way a network can. Speaks just enough HTTP, follows no rule."""

from __future__ import annotations

import gzip
import io
import json
import re
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Handler = Callable[["Connection"], None]
TOKEN = {"access_token": "AT-fault-test", "token_type": "bearer"}
PERSON = {"id": "user_1", "username": "u", "email": "u@example.com"}
CHUNK = 64 * 1024
ENDLESS = 64 * 1024 * 1024
"""Bytes after which an endless answer ends after all, so that a test of it does."""


class Connection:
    """One accepted connection; counts what it managed to send."""

    def __init__(self, server: FaultServer, sock: socket.socket) -> None:
        self.server = server
        self.socket = sock
        self.path = ""

    def read_request(self) -> bytes:
        """Read one request and return its head; empty at the end of the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            received = self.socket.recv(CHUNK)
            if not received:
                return b""
            data += received
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        while len(body) < (int(length[1]) if length else 0):
            received = self.socket.recv(CHUNK)
            if not received:
                return b""
            body += received
        self.path = head.split(b" ")[1].decode("latin-1").partition("?")[0]
        return head

    def send(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            self.socket.sendall(data[start : start + CHUNK])
            self.server.sent += len(data[start : start + CHUNK])

    def trickle(self, data: bytes, seconds: float) -> None:
        for byte in data:
            self.send(bytes([byte]))
            if self.server.stopped.wait(seconds):
                return

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def hang(self) -> None:
        """Say nothing until the client has gone."""
        with suppress(OSError):
            while self.socket.recv(CHUNK):
                pass


class FaultServer:
    """Answers `/…/token` by `token`, `/v5/me` by `me`, the rest by `other`; each is free to misbehave."""

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        self.handlers: dict[str, Handler] = {}
        self.on_connect: Handler | None = None
        self.requests: list[bytes] = []
        self.sent = 0
        self.stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512, reuse_port=False)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in tuple(self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in (self._acceptor, *self._threads):
            thread.join(5)

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        plain = sock
        try:
            if self.on_connect is not None:
                self.on_connect(Connection(self, sock))
            elif self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
                self._answer(sock)
            else:
                self._answer(sock)
        except OSError:
            pass  # the client has gone away, which is what many tests are about
        finally:
            self._open.discard(plain)
            with suppress(OSError):
                sock.shutdown(socket.SHUT_WR)  # a bare close would reset the connection if bytes were unread
            sock.close()

    def _answer(self, sock: socket.socket) -> None:
        connection = Connection(self, sock)
        while head := connection.read_request():
            self.requests.append(head)
            name = "token" if connection.path.endswith("/token") else connection.path.rpartition("/")[2]
            handler = self.handlers.get(name) or self.handlers.get("other") or answers_well(name)
            handler(connection)
            if not getattr(handler, "keeps_alive", False):
                return


@contextmanager
def fault_server(context: ssl.SSLContext | None = None, port: int = 0) -> Iterator[FaultServer]:
    server = FaultServer(port, context)
    try:
        yield server
    finally:
        server.stop()


def http(status: int, headers: dict[str, str], body: bytes, *, length: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status} Some Words", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body


def sends(data: bytes) -> Handler:
    return lambda connection: connection.send(data)


def answers(body: object, status: int = 200, **headers: str) -> Handler:
    return sends(http(status, {"Content-Type": "application/json", **headers}, json.dumps(body).encode()))


def answers_well(name: str) -> Handler:
    return answers(TOKEN if name == "token" else PERSON)


def keeps_alive(body: object) -> Handler:
    """Answer, promise to keep the connection, and close it."""
    data = http(200, {"Content-Type": "application/json"}, json.dumps(body).encode())
    return sends(data.replace(b"Connection: close", b"Connection: keep-alive"))


def planned(response: dict[str, Any]) -> Handler:
    """Return the handler for a `response` of `corpora/upstream.json`."""
    if "raw" in response:
        return sends(response["raw"].encode("latin-1"))
    headers = dict(response["headers"])
    if "{{many}}" in headers:
        headers |= {f"X-Header-{number}": "v" for number in range(int(headers.pop("{{many}}")))}
    headers = {name: expand(value).decode() for name, value in headers.items()}
    if "{{endless" in response["body"]:
        return endless(http(response["status"], headers, b"", length=False))
    return sends(http(response["status"], headers, expand(response["body"])))


def endless(head: bytes) -> Handler:
    def handler(connection: Connection) -> None:
        connection.send(head)
        for _ in range(ENDLESS // CHUNK):
            connection.send(b"a" * CHUNK)

    return handler


def expand(text: str) -> bytes:
    """Fill in the generators of a corpus: `{{repeat:X:N}}`, `{{gzip:zeros:N}}`, `{{nest_objects:N}}`."""
    if zeros := re.fullmatch(r"\{\{gzip:zeros:(\d+)\}\}", text):
        return _zeros(min(int(zeros[1]), ENDLESS))
    if nested := re.fullmatch(r"\{\{nest_objects:(\d+)\}\}", text):
        return b'{"a":' * int(nested[1]) + b"1" + b"}" * int(nested[1])
    text = re.sub(r"\{\{repeat:(.):(\d+)\}\}", lambda found: found[1] * int(found[2]), text)
    return text.encode("latin-1" if text.isascii() or max(text) <= "\xff" else "utf-8", "surrogatepass")


def _zeros(count: int) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        for _ in range(count // CHUNK):
            file.write(bytes(CHUNK))
    return packed.getvalue()


# Faults of the socket


def resets(connection: Connection) -> None:
    connection.reset()


def resets_after_headers(connection: Connection) -> None:
    connection.send(http(200, {"Content-Length": "100"}, b"", length=False))
    time.sleep(0.02)  # or the reset would overtake the headers
    connection.reset()


def closes(connection: Connection) -> None:
    """Close without a byte."""


def trickles_body(connection: Connection) -> None:
    connection.send(http(200, {"Content-Length": "3600"}, b"", length=False))
    connection.trickle(b"a" * 3600, 0.02)


def trickles_headers(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\n")
    connection.trickle(b"X-Slow: 1\r\n" * 1000, 0.02)


def informs_without_end(connection: Connection) -> None:
    while not connection.server.stopped.wait(0.02):
        connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")


def hangs(connection: Connection) -> None:
    connection.hang()


def breaks_off(connection: Connection) -> None:
    """End the body early, without a word."""
    connection.send(http(200, {"Content-Length": "1000"}, b'{"access_token":"AT', length=False))


# TLS


def make_certificate(folder: Path, *, name: str = "IP:127.0.0.1", days: int = 1) -> tuple[Path, Path]:
    """Make a self-signed certificate with `openssl`; return it and its key."""
    key, request, certificate, extensions = (folder / f for f in ("key.pem", "request.pem", "cert.pem", "extensions"))
    extensions.write_text(f"subjectAltName={name}\nbasicConstraints=critical,CA:TRUE\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl("req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=fault-server")
    signed = ["-signkey", key, "-days", str(days), "-extfile", extensions]
    _openssl("x509", "-req", "-in", request, *signed, "-out", certificate)
    return certificate, key


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context

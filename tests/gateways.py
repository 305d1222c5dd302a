"""An app behind FastCGI, uwsgi or SCGI, that says what it was told. Listens on loopback, and reads no body."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import TypeAlias

Parameters: TypeAlias = list[tuple[str, str]]


def fastcgi(stream: BufferedIOBase) -> Parameters:
    """Read the parameters of one request (FastCGI 1.0, sections 3.3 and 3.4)."""
    content = b""
    while True:
        _, kind, _, length, padding = struct.unpack(">BBHHBx", stream.read(8))
        piece = stream.read(length + padding)[:length]
        if kind == 5:  # the body: all parameters have come
            return list(_pairs(content))
        content += piece if kind == 4 else b""


def _pairs(content: bytes) -> Iterator[tuple[str, str]]:
    while content:
        sizes = []
        for _ in range(2):
            width = 4 if content[0] & 0x80 else 1
            sizes.append(int.from_bytes(content[:width], "big") & 0x7FFFFFFF)
            content = content[width:]
        name, value, content = content[: sizes[0]], content[sizes[0] : sum(sizes)], content[sum(sizes) :]
        yield name.decode("latin-1"), value.decode("latin-1")


def uwsgi(stream: BufferedIOBase) -> Parameters:
    """Read the variables of one request (uwsgi's protocol, modifier 0)."""
    _, left, _ = struct.unpack("<BHB", stream.read(4))
    words = []
    while left:
        (length,) = struct.unpack("<H", stream.read(2))
        words.append(stream.read(length).decode("latin-1"))
        left -= 2 + length
    return list(zip(words[::2], words[1::2], strict=True))


def scgi(stream: BufferedIOBase) -> Parameters:
    """Read the headers of one request: a netstring of words that end in NUL."""
    digits = b""
    while (digit := stream.read(1)) != b":":
        digits += digit
    words = stream.read(int(digits)).decode("latin-1").split("\0")[:-1]
    return list(zip(words[::2], words[1::2], strict=True))


PROTOCOLS: Mapping[str, Callable[[BufferedIOBase], Parameters]] = {"fastcgi": fastcgi, "uwsgi": uwsgi, "scgi": scgi}


def _answer(parameters: Parameters) -> bytes:
    """Say in a header what the app was told, as processes.SHOP does; of two parameters the last counts, as in PHP."""
    told = [(name[5:].lower(), value[:99]) for name, value in parameters if name.startswith("HTTP_") and value]
    told = [pair for pair in told if pair[0] != "cookie"]
    seen = json.dumps({"headers": told, "remote_user": dict(parameters).get("REMOTE_USER")})
    return f"Status: 200 OK\r\nX-Seen: {seen}\r\nContent-Type: text/plain\r\n\r\nfor members".encode()


def _records(answer: bytes) -> bytes:
    """Return an answer as FastCGI's records, and that the request is over."""
    out = struct.pack(">BBHHBx", 1, 6, 1, len(answer), 0) + answer
    return out + struct.pack(">BBHHBx", 1, 3, 1, 8, 0) + bytes(8)


@contextmanager
def gateway(protocol: str) -> Iterator[int]:
    """Serve the app until the block ends; give its port."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            answer = _answer(PROTOCOLS[protocol](self.rfile))
            self.wfile.write(_records(answer) if protocol == "fastcgi" else answer)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()

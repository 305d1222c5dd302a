"""Programs that a test starts, and a client that sends bytes as they are. Ends what it started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from whop_middleware.identity import IDENTITY_HEADERS
from whop_middleware.sandbox import Sandbox

from .support import KEY, NAVIGATION, SECRET, Headers

ROOT = Path(__file__).parent.parent
START_TIMEOUT = 30
"""Seconds; a server with four workers takes three on two idle cores."""

SHOP = """
import json, os


def seen(user, headers, method, remote_user=None, length=0):
    facts = {"user": user and user.id, "headers": sorted(headers), "method": method, "pid": os.getpid()}
    return json.dumps(facts | {"remote_user": remote_user, "length": length})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    headers = [[name.decode("latin-1"), value.decode("latin-1")[:999]] for name, value in scope["headers"]]
    headers = [pair for pair in headers if pair[0] != "cookie"]
    facts = seen(scope.get("whop_user"), headers, scope["method"]).encode()
    kind, length = (b"content-type", b"application/json"), (b"content-length", str(len(facts)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-seen", facts), kind, length]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else facts})


def application(environ, start_response):
    length = len(environ["wsgi.input"].read())
    headers = [[key[5:].lower(), value[:999]] for key, value in environ.items() if key.startswith("HTTP_")]
    headers = [pair for pair in headers if pair[0] != "cookie"]
    facts = seen(environ.get("whop_user"), headers, environ["REQUEST_METHOD"], environ.get("REMOTE_USER"), length)
    headers = [("X-Seen", facts), ("Content-Type", "application/json"), ("Content-Length", str(len(facts)))]
    start_response("200 OK", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [facts.encode()]
"""
"""An app that says in a header what it was told about the person: `X-Seen`, also on HEAD."""

COMMANDS: Mapping[str, Sequence[str]] = {
    "uvicorn": ("uvicorn", "TARGET", "--port", "PORT", "--workers", "WORKERS", "--log-level", "warning"),
    "hypercorn": ("hypercorn", "TARGET", "--bind", "127.0.0.1:PORT", "--workers", "WORKERS"),
    "granian": ("granian", "--interface", "asgi", "TARGET", "--port", "PORT", "--workers", "WORKERS"),
    "gunicorn": ("gunicorn", "TARGET", "--bind", "127.0.0.1:PORT", "--workers", "WORKERS", "--no-control-socket"),
    "gthread": ("gunicorn", "TARGET", "--bind", "127.0.0.1:PORT", "--workers", "WORKERS", "--threads", "4",
                "--worker-class", "gthread", "--no-control-socket"),
    "preload": ("gunicorn", "TARGET", "--bind", "127.0.0.1:PORT", "--workers", "WORKERS", "--preload",
                "--no-control-socket"),
    "waitress": ("waitress", "--listen", "127.0.0.1:PORT", "TARGET"),
}  # fmt: skip
"""How docs/servers.md starts each server, as arguments of `python -m`."""

ASGI_SERVERS, WSGI_SERVERS = ("uvicorn", "hypercorn", "granian"), ("gunicorn", "gthread", "preload", "waitress")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(port: int, **settings: str) -> dict[str, str]:
    """Return the environment of a site on `http://127.0.0.1:port`; no `WHOP_*` variable of the shell is in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WHOP_")}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "WHOP_CLIENT_ID": "client_1",
        "WHOP_CLIENT_SECRET": SECRET,
        "WHOP_SECRET_KEY": KEY,
        "WHOP_REDIRECT_URI": f"http://127.0.0.1:{port}/callback/whop",
        **settings,
    }


def command(server: str, target: str, port: int, *, workers: int = 1) -> list[str]:
    """Return the command that serves `target` (`module:attribute`) on a loopback port."""
    values = {"TARGET": target, "PORT": str(port), "WORKERS": str(workers)}
    parts = (part.replace("127.0.0.1:PORT", f"127.0.0.1:{port}") for part in COMMANDS[server])
    return [sys.executable, "-m", *(values.get(part, part) for part in parts)]


@contextmanager
def running(
    arguments: Sequence[str], folder: Path, ports: Sequence[int], environ: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """Run a program until the block ends; give its log. It is up when every port takes connections."""
    log = folder / f"{Path(arguments[0]).name}-{ports[0]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments, cwd=folder, env=environ, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until(lambda: all(is_open(port) for port in ports), process, log)
        yield log
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program and its workers, which share its process group."""
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(ready: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until and process.poll() is None:
        if ready():
            return
        time.sleep(0.02)
    raise AssertionError(f"the program did not start:\n{log.read_text()}")


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Answer:
    """What came back over the wire; `status` 0 when the server closed the connection without a word."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def location(self) -> str:
        return self.header("location") or ""

    @property
    def seen(self) -> Any:
        """What the app was told, `None` when it was not asked."""
        text = self.header("x-seen")
        return json.loads(text) if text else None


def send(port: int, method: str, target: str, headers: Headers = (), body: bytes = b"") -> Answer:
    """Send one request on a connection of its own, names and values as they are (code points up to 255 as bytes)."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    raw = "\r\n".join((*lines, "", "")).encode("latin-1", "xmlcharrefreplace") + body
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            connection.sendall(raw)
            response = HTTPResponse(connection, method=method)
            response.begin()
            return Answer(response.status, response.getheaders(), response.read())
        except (OSError, HTTPException):
            return Answer(0)


class Visitor:
    """A person at a browser: keeps cookies by name, and goes where redirects on the own site lead."""

    def __init__(self, port: int, headers: Headers = NAVIGATION) -> None:
        self.port = port
        self.headers = headers
        self.cookies: dict[str, str] = {}

    def send(self, method: str, target: str, headers: Headers | None = None, body: bytes = b"") -> Answer:
        origin = f"http://127.0.0.1:{self.port}"
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        extra = (("Cookie", cookie),) if cookie else ()
        headers = self.headers if headers is None else headers
        answer = send(self.port, method, target.removeprefix(origin) or "/", (*headers, *extra), body)
        for line in answer.all("set-cookie"):
            name, _, rest = line.partition("=")
            self.cookies[name] = rest.partition(";")[0]
            if "max-age=0" in rest.lower():
                del self.cookies[name]
        return answer

    def go(self, target: str) -> Answer:
        """Load a page, and follow redirects as long as they stay on this site."""
        for _ in range(12):
            answer = self.send("GET", target)
            target = answer.location
            if answer.status not in (302, 303) or urlsplit(target).port not in (None, self.port):
                return answer
        return answer


# --- Whop, as a server of its own ---


@contextmanager
def serving_whop() -> Iterator[Sandbox]:
    """Serve Whop's stand-in without its limits; "buyer" owns `prod_members`."""
    sandbox = Sandbox(rate_limit=False)
    sandbox.add_app(client_id="client_1", client_secret=SECRET, redirect_uris="http://127.0.0.1:1/callback/whop")
    with sandbox.serve():
        yield sandbox


def whop_urls(whop: Sandbox) -> dict[str, str]:
    return {"WHOP_URL": whop.whop_url, "WHOP_API_URL": whop.api_url}


def approve(whop: Sandbox, authorize_url: str, who: str = "buyer") -> str:
    """Agree on Whop's page: return the callback address that Whop redirects to."""
    assert authorize_url.startswith(whop.whop_url), authorize_url
    query = {key: values[0] for key, values in parse_qs(urlsplit(authorize_url).query).items()}
    code = whop.code(who, "client_1", redirect_uri=query["redirect_uri"])
    return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"


def sign_in(visitor: Visitor, whop: Sandbox, target: str = "/", who: str = "buyer") -> Answer:
    """Ask for a page, agree at Whop, and come back."""
    return visitor.go(approve(whop, visitor.go(target).location, who))


# --- What people may try to send: corpora/spoof.json ---

CORPUS = json.loads((Path(__file__).parent / "corpora" / "spoof.json").read_text(encoding="utf-8"))


def forged(entry: dict[str, Any]) -> tuple[str, Headers]:
    """Return the query and the headers of an entry of the corpus."""
    name, value = entry["name"], entry["value"]
    if entry["kind"] == "query":
        return f"?{name}", ()
    if entry["kind"] == "header-duplicate":
        names = name.removesuffix(" twice").split(" and ")
        return "", tuple(zip((names * 2)[:2], value, strict=True))
    value = "u" * 100_000 if value.startswith("{{repeat") else value
    return "", ((name, value),)


SPOOFS = [entry for entry in CORPUS["entries"] if entry["kind"].startswith(("header", "query"))]


def identities(answer: Answer) -> list[tuple[str, str]]:
    """Return what the app could take for our headers, by WSGI's folding."""
    names = {name.replace("-", "_") for name in IDENTITY_HEADERS}
    pairs = answer.seen["headers"]
    return [(name, value) for name, value in pairs if name.strip().lower().replace("-", "_") in names]

"""nginx and Caddy, run with the documented configurations, and the gatekeeper behind them. Listens on loopback only."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from whop_middleware import WhopConfig
from whop_middleware.identity import IDENTITY_HEADERS
from whop_middleware.sandbox import Sandbox
from whop_middleware.testing import session_cookie

from .processes import ROOT, Answer, command, environment, free_port, identities, running, whop_urls
from .support import Headers

FRONTS = ROOT / "docs" / "fronts"
ALICE = {"prod_members": "customer"}

NGINX = """
daemon off;
master_process off;
pid FOLDER/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    include MIME;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    {site}
}}
"""
"""What a distribution's own nginx.conf brings: everything that is not about the site."""


def binary(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"needs {name}")
    return found


@contextmanager
def nginx(folder: Path, site: str, *ports: int) -> Iterator[Path]:
    """Run nginx with a site's configuration until the block ends."""
    program, mime = binary("nginx"), folder / "mime.types"
    mime.write_text("types { text/html html; text/css css; }")
    text = NGINX.format(site=site).replace("FOLDER", str(folder)).replace("MIME", str(mime))
    (folder / "nginx.conf").write_text(text)
    with running([program, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder, ports) as log:
        yield log


@contextmanager
def caddy(folder: Path, site: str, port: int) -> Iterator[Path]:
    """Run Caddy with a Caddyfile until the block ends; it serves no API and keeps nothing outside of the folder."""
    program = binary("caddy")
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https off\n}\n" + site)
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    arguments = [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with running(arguments, folder, [port], environ) as log:
        yield log


def documented(front: str, port: int, keeper: int, app: int) -> str:
    """Return docs/fronts' configuration with a test's ports."""
    name, listen = {"nginx": ("nginx.conf", "listen 80;"), "caddy": ("Caddyfile", "\n:80 {")}[front]
    text = (FRONTS / name).read_text()
    assert listen in text
    text = text.replace(listen, listen.replace("80", f"127.0.0.1:{port}" if front == "nginx" else str(port)))
    return text.replace("127.0.0.1:8001", f"127.0.0.1:{keeper}").replace("127.0.0.1:8000", f"127.0.0.1:{app}")


@contextmanager
def proxy(front: str, folder: Path, site: str, port: int) -> Iterator[Path]:
    with nginx(folder, site, port) if front == "nginx" else caddy(folder, site, port) as log:
        yield log


@dataclass
class Site:
    """A closed site behind a front."""

    front: str
    port: int
    alice: Headers


@contextmanager
def keeper_of(front: str, folder: Path, port: int, whop: Sandbox) -> Iterator[tuple[int, Headers]]:
    """Run the gatekeeper of a site; give its port and Alice's cookie."""
    own = free_port()
    environ = environment(
        port, WHOP_FORWARD_AUTH=front, WHOP_PUBLIC="/health,/open/*", WHOP_REQUIRE="prod_members", **whop_urls(whop)
    )
    config = WhopConfig.from_env({name: value for name, value in environ.items() if name.startswith("WHOP_")})
    cookies = session_cookie(config, id="user_alice", name="Zoë 100%", access=ALICE)
    alice = tuple(("Cookie", f"{name}={value}") for name, value in cookies.items())
    with running(command("uvicorn", "whop_middleware.forward_auth:app", own), folder, [own], environ):
        yield own, alice


def told(answer: Answer) -> dict[str, str]:
    """Return the identity headers that the app got, empty ones left out."""
    return {name.replace("_", "-"): value for name, value in identities(answer) if value}


FORWARDED = (
    "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Proto",
    "X-Forwarded-Server", "X-Forwarded-User", "X-Forwarded-Uri", "X-Forwarded-Method", "X-Original-URI",
    "X-Original-Method", "X-Original-URL", "X-Rewrite-URL", "X-Real-IP", "Remote-User", "REMOTE_USER", "X-Remote-User",
    "X-Auth-Request-User", "X-SSL-Client-Cert", *IDENTITY_HEADERS,
)  # fmt: skip

"""Proxies run around other sites: junk codes, a static site, a cache, and configurations that are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from whop_middleware.sandbox import Sandbox

from .fronts import binary, documented, keeper_of, nginx, proxy
from .processes import (
    SHOP,
    Answer,
    Visitor,
    approve,
    command,
    environment,
    free_port,
    running,
    send,
    serving_whop,
    sign_in,
    whop_urls,
)
from .support import FETCH, NAVIGATION


@pytest.fixture(scope="module")
def whop() -> Iterator[Sandbox]:
    with serving_whop() as sandbox:
        yield sandbox


# --- Junk codes ---


def test_junk_codes_from_one_address_do_not_use_up_what_whop_allows(whop: Sandbox, tmp_path: Path) -> None:
    binary("nginx")
    port = free_port()
    with (
        keeper_of("nginx", tmp_path, port, whop) as (keeper, alice),
        nginx(tmp_path, documented("nginx", port, keeper, 8000), port),
    ):
        before = len(whop.calls)
        statuses = [send(port, "GET", f"/callback/whop?code=junk{number}").status for number in range(30)]
        asked = len(whop.calls) - before
        others = [send(port, "GET", target, NAVIGATION).status for target in ("/page", "/login/whop")]
        member = send(port, "GET", "/page", (*NAVIGATION, *alice)).status
    assert set(statuses) == {400, 429}
    assert 5 <= asked <= 12
    assert others == [303, 303]
    assert member == 502  # past the gate; no app stands behind it


# --- A static site ---

STATIC = {
    "nginx": ("proxy_pass http://app;", "root FOLDER;"),
    "caddy": ("reverse_proxy 127.0.0.1:8000", "root * FOLDER\n\t\tfile_server"),
}


@pytest.mark.parametrize("front", STATIC)
def test_a_static_site_is_closed_to_strangers_and_open_to_buyers(front: str, whop: Sandbox, tmp_path: Path) -> None:
    binary(front)
    port, folder = free_port(), tmp_path / "site"
    (folder / "open").mkdir(parents=True)
    (folder / "index.html").write_text("for members")
    (folder / "open" / "style.css").write_text("for all")
    with keeper_of(front, tmp_path, port, whop) as (keeper, _):
        before, after = STATIC[front]
        text = documented(front, port, keeper, 8000)
        assert before in text
        text = text.replace(before, after.replace("FOLDER", str(folder)))
        with proxy(front, tmp_path, text, port):
            stranger = send(port, "GET", "/index.html", FETCH)
            public = send(port, "GET", "/open/style.css", FETCH)
            page = sign_in(Visitor(port), whop, "/")
    assert (stranger.status, public.body, page.body) == (401, b"for all", b"for members")
    assert page.header("cache-control") == "private"


# --- A proxy that caches, in front of the middleware itself ---

CACHE = """
    proxy_cache_path FOLDER/cache keys_zone=pages:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{app};
            proxy_set_header Host $http_host;
            proxy_cache pages;
            proxy_cache_key $request_uri;
            proxy_cache_valid any 10m;
            add_header X-Cache $upstream_cache_status always;
        }}
    }}
"""

PAGES = 200


@contextmanager
def shop_behind(folder: Path, app: int, **settings: str) -> Iterator[Path]:
    (folder / "shop.py").write_text(SHOP)
    environ = environment(app, WHOP_APP="shop", WHOP_PUBLIC="/health", **settings)
    with running(command("uvicorn", "whop_middleware.serve:asgi", app), folder, [app], environ) as log:
        yield log


def test_a_caching_proxy_gives_nobody_another_ones_page(whop: Sandbox, tmp_path: Path) -> None:
    binary("nginx")
    port, app = free_port(), free_port()
    callback = f"http://127.0.0.1:{port}/callback/whop"
    with (
        shop_behind(tmp_path, app, WHOP_REDIRECT_URI=callback, **whop_urls(whop)),
        nginx(tmp_path, CACHE.format(port=port, app=app), port),
    ):
        people = {"user_buyer": Visitor(port), "user_stranger": Visitor(port)}
        ways = [sign_in(visitor, whop, "/", user.removeprefix("user_")) for user, visitor in people.items()]
        seen = [
            (user, visitor.send("GET", f"/page/{number}"))
            for number in range(PAGES)
            for user, visitor in people.items()
        ]
        stranger = Visitor(port)
        redirects = [stranger.send("GET", target) for target in ("/page/1", "/login/whop?next=/page/1") * 2]
        back = approve(whop, redirects[-1].location)
        callbacks = [stranger.send("GET", back), Visitor(port).send("GET", back)]
        public = [send(port, "GET", "/health") for _ in range(2)]
    assert [answer.seen["user"] for _, answer in seen] == [user for user, _ in seen]
    assert {answer.header("x-cache") for _, answer in seen} == {"MISS"}
    assert [answer.seen["user"] for answer in ways] == list(people)
    assert {answer.header("x-cache") for answer in (*redirects, *callbacks)} == {"MISS"}
    assert [answer.header("x-cache") for answer in public] == ["MISS", "HIT"]


# --- Proxies that are set wrong: the loop ends on a page ---


def wander(whop: Sandbox, start: str) -> Answer:
    """Follow every redirect, over ports and Whop, as a browser does, until there is a page."""
    cookies: dict[str, str] = {}
    url = start
    for _ in range(80):
        parts = urlsplit(url)
        visitor = Visitor(parts.port or 0)
        visitor.cookies = cookies
        answer = visitor.send("GET", parts._replace(scheme="", netloc="").geturl())
        if answer.status not in (301, 302, 303):
            return answer
        url = answer.location
        if url.startswith(whop.whop_url):
            url = approve(whop, url)
        elif url.startswith("/"):
            url = f"http://127.0.0.1:{parts.port}{url}"
    raise AssertionError(f"a redirect loop: {url}")


STRIPPED = """
    server {{
        listen 127.0.0.1:{port};
        proxy_set_header Host $http_host;
        location /shop/ {{ proxy_pass http://127.0.0.1:{app}/; }}
        location / {{ proxy_pass http://127.0.0.1:{app}; }}
    }}
"""

# The second port stands for https: a redirect to it that forgets the path.
MIXED = """
    server {{
        listen 127.0.0.1:{other};
        return 301 http://127.0.0.1:{port}/;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{app}; proxy_set_header Host $http_host; }}
    }}
"""


@pytest.mark.parametrize(
    ("site", "callback"),
    [
        pytest.param(
            STRIPPED,
            "http://127.0.0.1:{port}/shop/callback/whop",
            id="a stripped prefix",
        ),
        pytest.param(MIXED, "http://127.0.0.1:{other}/callback/whop", id="an http and https mix"),
    ],
)
def test_a_callback_that_is_not_reached_ends_on_a_page(site: str, callback: str, whop: Sandbox, tmp_path: Path) -> None:
    binary("nginx")
    ports = {"port": free_port(), "other": free_port(), "app": free_port()}
    settings = {"WHOP_REDIRECT_URI": callback.format(**ports), **whop_urls(whop)}
    listening = [ports["port"]] + ([ports["other"]] if site is MIXED else [])
    with (
        shop_behind(tmp_path, ports["app"], **settings) as log,
        nginx(tmp_path, site.format(**ports), *listening),
    ):
        page = wander(whop, f"http://127.0.0.1:{ports['port']}/shop/page")
    assert page.status == 500
    assert b"callback_not_reached" in page.body
    assert "a stripped prefix or http/https" in log.read_text()

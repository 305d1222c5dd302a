"""The documented configurations of nginx and Caddy, run: who gets in, what arrives, what is cached."""

from __future__ import annotations

import re
import shutil
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from whop_middleware import WhopConfig
from whop_middleware.identity import IDENTITY_HEADERS
from whop_middleware.sandbox import Sandbox
from whop_middleware.testing import session_cookie

from .gateways import PROTOCOLS, gateway
from .processes import (
    ROOT,
    SHOP,
    SPOOFS,
    Answer,
    Visitor,
    approve,
    command,
    environment,
    forged,
    free_port,
    identities,
    running,
    send,
    serving_whop,
    sign_in,
    whop_urls,
)
from .support import FETCH, NAVIGATION, Headers

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


@pytest.fixture(scope="module")
def whop() -> Iterator[Sandbox]:
    with serving_whop() as sandbox:
        yield sandbox


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


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, whop: Sandbox) -> Iterator[Site]:
    """A WSGI app, which takes "_" for "-" in the names of headers, behind a documented configuration."""
    binary(request.param)
    folder, port, app = tmp_path_factory.mktemp(request.param), free_port(), free_port()
    (folder / "shop.py").write_text(SHOP)
    with ExitStack() as stack:
        keeper, alice = stack.enter_context(keeper_of(request.param, folder, port, whop))
        stack.enter_context(running(command("waitress", "shop:application", app), folder, [app], environment(app)))
        text = documented(request.param, port, keeper, app)
        stack.enter_context(proxy(request.param, folder, text, port))
        yield Site(request.param, port, alice)


def told(answer: Answer) -> dict[str, str]:
    """Return the identity headers that the app got, empty ones left out."""
    return {name.replace("_", "-"): value for name, value in identities(answer) if value}


# --- Who gets in ---


def test_the_page_asked_for_comes_back_after_the_sign_in(site: Site, whop: Sandbox) -> None:
    visitor = Visitor(site.port)
    first = visitor.send("GET", "/a%20b/%C3%A9?q=1&q=2")
    assert (first.status, first.location) == (303, "/login/whop?next=/a%2520b/%25C3%25A9%3Fq%3D1%26q%3D2")
    back = visitor.send("GET", approve(whop, visitor.go(first.location).location))
    assert back.location == "/a%20b/%C3%A9?q=1&q=2"
    page = visitor.send("GET", back.location)
    assert page.status == 200
    assert told(page)["x-whop-user-id"] == "user_buyer"
    assert told(page)["x-whop-email"] == "bea@example.com"


def test_strangers_get_the_answer_that_fits_and_the_app_is_not_asked(site: Site) -> None:
    script = send(site.port, "GET", "/api", FETCH)
    assert (script.status, script.header("content-type")) == (401, "application/problem+json")
    form = send(site.port, "POST", "/order", NAVIGATION, b"a=b")
    assert form.status == 401
    assert b"Please sign in first" in form.body
    assert script.seen is form.seen is None
    assert {script.header("cache-control"), form.header("cache-control")} == {"no-store"}


def test_without_the_purchase_there_is_the_page_that_says_so(site: Site, whop: Sandbox) -> None:
    page = sign_in(Visitor(site.port), whop, "/page", "stranger")
    assert (page.status, page.seen) == (403, None)
    assert b"Check again" in page.body


def test_a_form_of_a_buyer_reaches_the_app_whole(site: Site) -> None:
    answer = send(site.port, "POST", "/order", (*NAVIGATION, *site.alice), b"x" * 5000)
    assert answer.status == 200
    assert (answer.seen["method"], answer.seen["length"]) == ("POST", 5000)


def test_public_paths_are_open(site: Site) -> None:
    assert told(send(site.port, "GET", "/health")) == {}
    assert told(send(site.port, "GET", "/open/x", site.alice)) == {
        "x-whop-user-id": "user_alice", "x-whop-name": "Zo%C3%AB 100%25",
    }  # fmt: skip


@pytest.mark.parametrize(
    "target",
    ["/open/../page", "/open/%2e%2e/page", "/open//../page", "/open/%2e%2e%2fpage", "//page", "/open/..%5cpage",
     "/auth", "/auth?answer", "/health%20", "/health/", "/open%2fx", "/login/whop/x", "/whop-answer", "/LOGIN/whop"],
)  # fmt: skip
def test_no_spelling_of_a_path_gets_around_the_gate(site: Site, target: str) -> None:
    answer = send(site.port, "GET", target, FETCH)
    assert answer.seen is None
    assert answer.status in (400, 401, 404)


def test_a_changed_session_reaches_the_browser(site: Site) -> None:
    answer = send(site.port, "GET", "/health", (("Cookie", "whop_session=broken"), *NAVIGATION))
    assert answer.status == 200
    assert [line.partition(";")[0] for line in answer.all("set-cookie")] == ["whop_session="]


def test_a_buyers_page_is_private(site: Site) -> None:
    answer = send(site.port, "GET", "/page", site.alice)
    assert answer.status == 200
    assert answer.all("cache-control") == ["private"]
    assert answer.all("set-cookie") == []


# --- What arrives ---


@pytest.mark.parametrize("entry", SPOOFS, ids=lambda entry: str(entry["id"]))
def test_nothing_forged_arrives_behind_a_front(site: Site, entry: dict[str, object]) -> None:
    query, headers = forged(entry)
    for method in ("GET", "POST", "OPTIONS"):
        assert send(site.port, method, f"/page{query}", (*FETCH, *headers)).seen is None
        visitor = send(site.port, method, f"/health{query}", headers)
        alice = send(site.port, method, f"/page{query}", (*site.alice, *headers))
        assert max(visitor.status, alice.status) < 500
        assert visitor.seen is None or told(visitor) == {}
        assert alice.seen is None or told(alice)["x-whop-user-id"] == "user_alice"


FORWARDED = (
    "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Proto",
    "X-Forwarded-Server", "X-Forwarded-User", "X-Forwarded-Uri", "X-Forwarded-Method", "X-Original-URI",
    "X-Original-Method", "X-Original-URL", "X-Rewrite-URL", "X-Real-IP", "Remote-User", "REMOTE_USER", "X-Remote-User",
    "X-Auth-Request-User", "X-SSL-Client-Cert", *IDENTITY_HEADERS,
)  # fmt: skip


@pytest.mark.parametrize("target", ["/health", "/page"])
def test_every_forwarded_and_identity_header_of_a_client_is_cleared(site: Site, target: str) -> None:
    answer = send(site.port, "GET", target, (*((name, "/health") for name in FORWARDED), *site.alice))
    assert answer.status == 200
    assert [pair for pair in answer.seen["headers"] if pair[1] == "/health"] == []


def test_a_forged_address_opens_nothing(site: Site) -> None:
    headers = (*((name, "/health") for name in FORWARDED), *FETCH)
    assert send(site.port, "GET", "/page", headers).status == 401
    preflight = (("Origin", "https://x.example"), ("Access-Control-Request-Method", "PUT"))
    methods = (("X-Original-Method", "OPTIONS"), ("X-Forwarded-Method", "OPTIONS"))
    assert send(site.port, "GET", "/page", (*preflight, *methods, *FETCH)).status == 401


@pytest.mark.parametrize("front", ["nginx", "caddy"])
def test_while_the_gatekeeper_is_down_nobody_gets_in(front: str, tmp_path: Path) -> None:
    binary(front)
    port, app = free_port(), free_port()
    (tmp_path / "shop.py").write_text(SHOP)
    with (
        running(command("waitress", "shop:application", app), tmp_path, [app], environment(app)),
        proxy(front, tmp_path, documented(front, port, free_port(), app), port),
    ):
        answer = send(port, "GET", "/health", NAVIGATION)
    assert (answer.status, answer.seen) == (502, None)


# --- An app behind FastCGI, uwsgi or SCGI, which no proxy_set_header reaches ---

PARAMETERS = ("QUERY_STRING", "REQUEST_METHOD", "CONTENT_TYPE", "CONTENT_LENGTH", "REQUEST_URI", "REMOTE_USER")
"""Those of nginx's own `fastcgi_params` that say something of the request; `$remote_user` is what the client says."""


def documented_gateway(protocol: str, port: int, keeper: int, app: int) -> str:
    """Return nginx.conf with its commented location in place of the one for HTTP, and with lenient header names."""
    text = documented("nginx", port, keeper, 8000)
    commented = re.search(r"^    #location / \{\n(?:    #.*\n)+?    #\}\n", text, re.MULTILINE)
    plain = re.search(r"^    location / \{\n.*\n    \}\n", text, re.MULTILINE)
    assert commented is not None
    assert plain is not None
    block = re.sub("^    #", "    ", commented[0], flags=re.MULTILINE).replace("127.0.0.1:9000", f"127.0.0.1:{app}")
    text = text.replace(commented[0], block.replace("fastcgi_", f"{protocol}_")).replace(plain[0], "")
    return text.replace("    server_name _;", "    underscores_in_headers on;\n    server_name _;")


@pytest.fixture(scope="module", params=PROTOCOLS)
def gateway_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, whop: Sandbox
) -> Iterator[Site]:
    binary("nginx")
    protocol, port, folder = request.param, free_port(), tmp_path_factory.mktemp(request.param)
    parameters = "".join(f"{protocol}_param {name} ${name.lower()};\n" for name in PARAMETERS)
    (folder / f"{protocol}_params").write_text(parameters)
    with (
        gateway(protocol) as app,
        keeper_of("nginx", folder, port, whop) as (keeper, alice),
        nginx(folder, documented_gateway(protocol, port, keeper, app), port),
    ):
        yield Site(protocol, port, alice)


def test_behind_a_gateway_strangers_are_kept_out_and_buyers_are_named(gateway_site: Site, whop: Sandbox) -> None:
    stranger = send(gateway_site.port, "GET", "/page", FETCH)
    assert (stranger.status, stranger.seen) == (401, None)
    page = sign_in(Visitor(gateway_site.port), whop, "/page?q=1")
    assert (page.status, page.seen["remote_user"]) == (200, "user_buyer")
    assert told(page)["x-whop-user-id"] == "user_buyer"
    assert told(page)["x-whop-email"] == "bea@example.com"
    assert page.header("cache-control") == "private"


@pytest.mark.parametrize("entry", SPOOFS, ids=lambda entry: str(entry["id"]))
def test_nothing_forged_arrives_behind_a_gateway(gateway_site: Site, entry: dict[str, object]) -> None:
    query, headers = forged(entry)
    visitor = send(gateway_site.port, "GET", f"/health{query}", headers)
    alice = send(gateway_site.port, "GET", f"/page{query}", (*gateway_site.alice, *headers))
    assert max(visitor.status, alice.status) < 500
    assert visitor.seen is None or (told(visitor), visitor.seen["remote_user"]) == ({}, "")
    assert alice.seen is None or told(alice)["x-whop-user-id"] == alice.seen["remote_user"] == "user_alice"


def spellings(name: str) -> Iterator[str]:
    """Yield a header's name with "-" and "_" in every place, in three cases."""
    for marks in product("-_", repeat=name.count("-")):
        spelling = name.replace("-", "{}").format(*marks)
        yield from (spelling, spelling.title(), spelling.upper())


@pytest.mark.parametrize("name", IDENTITY_HEADERS)
def test_no_spelling_of_an_identity_header_gets_through_a_gateway(gateway_site: Site, name: str) -> None:
    for spelling in spellings(name):
        for headers in (((spelling, "forged"),), ((spelling, "forged"), (name, "forged"))):
            visitor = send(gateway_site.port, "GET", "/health", headers)
            alice = send(gateway_site.port, "GET", "/page", (*headers, *gateway_site.alice))
            assert (visitor.status, told(visitor)) == (200, {})
            assert told(alice) == {"x-whop-user-id": "user_alice", "x-whop-name": "Zo%C3%AB 100%25"}


def test_a_name_in_basic_credentials_is_no_user_behind_a_gateway(gateway_site: Site) -> None:
    credentials = (("Authorization", f"Basic {b64encode(b'user_admin:x').decode()}"),)
    assert send(gateway_site.port, "GET", "/health", credentials).seen["remote_user"] == ""
    alice = send(gateway_site.port, "GET", "/page", (*credentials, *gateway_site.alice))
    assert alice.seen["remote_user"] == "user_alice"


@pytest.mark.parametrize("target", ["/health", "/page"])
def test_every_forwarded_and_identity_header_is_cleared_behind_a_gateway(gateway_site: Site, target: str) -> None:
    headers = ((name, "/health") for name in (*FORWARDED, "Proxy"))
    answer = send(gateway_site.port, "GET", target, (*headers, *gateway_site.alice))
    assert answer.status == 200
    assert [pair for pair in answer.seen["headers"] if pair[1] == "/health"] == []


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

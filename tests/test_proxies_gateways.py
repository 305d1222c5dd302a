"""The documented configuration of nginx for an app behind FastCGI, uwsgi or SCGI, run: who gets in, what arrives."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from itertools import product

import pytest

from whop_middleware.identity import IDENTITY_HEADERS
from whop_middleware.sandbox import Sandbox

from .fronts import FORWARDED, Site, binary, documented, keeper_of, nginx, told
from .gateways import PROTOCOLS, gateway
from .processes import SPOOFS, Visitor, forged, free_port, send, serving_whop, sign_in
from .support import FETCH


@pytest.fixture(scope="module")
def whop() -> Iterator[Sandbox]:
    with serving_whop() as sandbox:
        yield sandbox


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

"""The sandbox on a socket: loopback only, faults and limits as a client feels them, and a whole sign-in through it."""

from __future__ import annotations

import logging
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from whop_middleware.errors import ConfigError
from whop_middleware.sandbox import Person, Sandbox, server

from .conftest import Clock, MakeSite
from .sandboxes import SECRET, Visitor, access, make_sandbox, message, oauth_body, token_body, v5_token
from .snippets import snippet
from .support import NAVIGATION, ORIGIN, Browser

CLIENT_ENDPOINTS = {
    "token": "/v5/oauth/token",
    "user": "/v5/me",
    "memberships": "/v5/me/memberships",
    "experiences": "/v5/me/experiences/exp_chat",
    "access": "/api/v1/users/user_buyer/access/prod_vip",
    "discovery": "/.well-known/jwks.json",
    "authorize": "/oauth?client_id=client_1",
}


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    sandbox = make_sandbox(rate_limit=False)
    with sandbox.serve():
        yield sandbox


@pytest.fixture
def sandbox(served: Sandbox) -> Iterator[Sandbox]:
    yield served
    served.clear_faults()


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox.api_url, trust_env=False) as client:
        yield client


# --- Faults, in process ---


def test_every_endpoint_has_a_fault_of_its_own() -> None:
    visitor = Visitor(make_sandbox(rate_limit=False))
    for name in CLIENT_ENDPOINTS:
        visitor.sandbox.set_fault(name, "500")
        for other, other_path in CLIENT_ENDPOINTS.items():
            assert (visitor.get(other_path).status_code == 500) is (other == name), (name, other)
        visitor.sandbox.set_fault(name, None)
    assert visitor.get("/v5/me").status_code == 401


def test_all_means_what_servers_call_and_not_the_page_people_see() -> None:
    visitor = Visitor(make_sandbox(rate_limit=False))
    visitor.sandbox.set_fault("all", "5xx")
    visitor.sandbox.set_fault("user", "429", seconds=7)
    failed = {name for name, path in CLIENT_ENDPOINTS.items() if visitor.get(path).status_code == 500}
    assert failed == set(CLIENT_ENDPOINTS) - {"authorize", "user"}
    assert visitor.get("/").status_code == 200


def test_fault_can_pass_by_itself() -> None:
    visitor = Visitor(make_sandbox())
    visitor.sandbox.set_fault("user", "5xx", times=2)
    assert [visitor.get("/v5/me").status_code for _ in range(3)] == [500, 500, 401]


def test_429_is_the_one_of_its_generation() -> None:
    visitor = Visitor(make_sandbox())
    visitor.sandbox.set_fault("all", "429", seconds=7)
    old, new = visitor.get("/v5/me"), visitor.get("/oauth/userinfo")
    assert message(old) == (429, "You are being rate limited")
    assert "retry-after" not in old.headers
    assert (new.status_code, new.json()["error"]) == (429, "rate_limit_exceeded")
    assert new.headers["retry-after"] == "7"


def test_nonsense_is_a_200_that_is_no_json() -> None:
    visitor = Visitor(make_sandbox())
    visitor.sandbox.set_fault("user", "nonsense")
    response = visitor.get("/v5/me")
    assert response.status_code == 200
    with pytest.raises(ValueError, match="Expecting value"):
        response.json()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_slow_answers_all_the_same(backend: str) -> None:
    visitor = Visitor(make_sandbox(), backend=backend)
    visitor.sandbox.set_fault("user", "slow", seconds=0.15)
    started = time.monotonic()
    assert visitor.get("/v5/me").status_code == 401
    assert time.monotonic() - started >= 0.15


def test_cut_is_the_clients_own_error() -> None:
    visitor = Visitor(make_sandbox())
    visitor.sandbox.set_fault("user", "cut")
    with pytest.raises(httpx.RemoteProtocolError):
        visitor.get("/v5/me")


@pytest.mark.parametrize(("endpoint", "kind"), [("nothing", "slow"), ("token", "fire")])
def test_unknown_fault_is_refused(endpoint: str, kind: str) -> None:
    with pytest.raises(ValueError, match="is no "):
        Sandbox().set_fault(endpoint, kind)


# --- Rate limits ---


def test_twenty_one_requests_in_ten_seconds_lock_v5_for_a_minute(clock: Clock) -> None:
    visitor = Visitor(make_sandbox(clock))
    token = v5_token(visitor)
    assert [visitor.get("/v5/me", token).status_code for _ in range(20)] == [200] * 19 + [429]
    assert visitor.request("POST", "/v5/oauth/token", json=token_body(visitor.sandbox)).status_code == 429
    assert visitor.get("/oauth/userinfo").status_code == 401
    assert visitor.get("/oauth?client_id=client_1").status_code == 400
    clock.tick(59)
    assert message(visitor.get("/v5/me", token)) == (429, "You are being rate limited")
    clock.tick(1)
    assert visitor.get("/v5/me", token).status_code == 200


def test_twenty_requests_in_each_ten_seconds_are_fine(clock: Clock) -> None:
    visitor = Visitor(make_sandbox(clock))
    for _ in range(3):
        assert {visitor.get("/v5/me").status_code for _ in range(20)} == {401}
        clock.tick(10)


def test_access_check_has_six_hundred_a_minute(clock: Clock) -> None:
    visitor = Visitor(make_sandbox(clock))
    for _ in range(600):
        assert visitor.sandbox._access_limit.admit()
    clock.tick(20)
    response = access(visitor, "key_1", "user_buyer", "prod_vip")
    assert response.status_code == 429
    assert response.headers["retry-after"] == "40"
    clock.tick(40)
    assert access(visitor, "key_1", "user_buyer", "prod_vip").status_code == 200


def test_limits_can_be_lifted() -> None:
    visitor = Visitor(make_sandbox(rate_limit=False))
    assert {visitor.get("/v5/me").status_code for _ in range(30)} == {401}


# --- On a socket ---


def test_served_sandbox_is_its_own_origin(sandbox: Sandbox, client: httpx.Client) -> None:
    assert sandbox.whop_url == sandbox.api_url
    assert sandbox.api_url.startswith("http://127.0.0.1:")
    assert client.get("/.well-known/openid-configuration").json()["issuer"] == sandbox.api_url
    assert "Sandbox" in client.get("/").text


def test_cut_breaks_the_connection_and_stays_out_of_the_log(
    sandbox: Sandbox, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.set_fault("user", "cut", times=1)
    with caplog.at_level(logging.INFO), pytest.raises(httpx.RemoteProtocolError):
        client.get("/v5/me")
    assert not [record for record in caplog.records if record.name != "httpx"]
    assert client.get("/v5/me").status_code == 401


def test_accident_in_the_sandbox_is_logged(
    sandbox: Sandbox, client: httpx.Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox._faults, "take", lambda endpoint: 1 / 0)
    assert client.get("/v5/me").status_code == 500
    assert "ZeroDivisionError" in caplog.text


def test_logging_of_the_process_is_left_alone() -> None:
    loggers = [logging.getLogger(f"uvicorn{name}") for name in ("", ".error", ".access")]
    before = [(logger.level, logger.propagate, logger.handlers, logger.filters) for logger in loggers]
    with make_sandbox().serve():
        pass
    assert before == [(logger.level, logger.propagate, logger.handlers, logger.filters) for logger in loggers]


def test_slow_outlasts_a_clients_patience(sandbox: Sandbox, client: httpx.Client) -> None:
    sandbox.set_fault("user", "slow", seconds=0.5)
    with pytest.raises(httpx.ReadTimeout):
        client.get("/v5/me", timeout=0.1)


@pytest.mark.parametrize("path", ["/v5/oauth/token", "/oauth/token"])
def test_client_that_gives_up_on_a_slow_answer_stays_out_of_the_log(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox = make_sandbox()
    sandbox.set_fault("token", "slow", seconds=0.5)
    with sandbox.serve() as url, pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}{path}", data={"code": "made-up"}, timeout=0.1, trust_env=False)
    assert sandbox.count("token") == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_sandbox_stops_at_once_though_an_answer_is_slow() -> None:
    sandbox = make_sandbox()
    sandbox.set_fault("user", "slow", seconds=60)
    threads = set(threading.enumerate())
    with sandbox.serve() as url:
        asking = threading.Thread(target=lambda: httpx.get(f"{url}/v5/me", timeout=30, trust_env=False))
        asking.start()
        while not sandbox.count("user"):
            time.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    asking.join()
    assert set(threading.enumerate()) <= threads
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)
    assert sandbox.api_url == "http://whop.test"


def test_sandbox_can_be_served_again_on_a_port_of_choice() -> None:
    sandbox = make_sandbox()
    with sandbox.serve() as url:
        port = httpx.URL(url).port
    assert port is not None
    with sandbox.serve(port=port, host="localhost") as again:
        assert again == f"http://localhost:{port}"
        assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_sandbox_listens_on_the_ipv6_loopback() -> None:
    with make_sandbox().serve(host="::1") as url:
        assert url.startswith("http://[::1]:")
        assert httpx.get(url, trust_env=False).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "10.0.0.1", "example.com", "", "0"])
def test_anything_but_loopback_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback only"), Sandbox().serve(host=host):
        raise AssertionError("it listens")


def test_taken_port_is_the_operating_systems_error(sandbox: Sandbox) -> None:
    port = httpx.URL(sandbox.api_url).port or 0
    with pytest.raises(OSError, match="in use"), Sandbox().serve(port=port):
        raise AssertionError("it listens")


@pytest.mark.parametrize("limit", [0.0, 60.0])
def test_server_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch, limit: float) -> None:
    monkeypatch.setattr(server, "_STARTS_WITHIN", limit)
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: time.sleep(0.05))
    with pytest.raises(RuntimeError, match="did not start"), Sandbox().serve():
        raise AssertionError("it runs")


def test_request_from_another_machine_is_refused() -> None:
    sent: list[Any] = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"host", b"localhost")],
        "client": ("192.168.1.7", 5),
    }
    assert _drive(Sandbox(), scope, sent)[0]["status"] == 403
    assert _drive(Sandbox(), scope | {"client": ("::1", 5)}, [])[0]["status"] == 200
    assert _drive(Sandbox(), scope | {"client": None}, [])[0]["status"] == 200


def test_lifespan_and_websocket_are_answered() -> None:
    def lifespan(message_type: str) -> Any:
        return {"type": message_type}

    sent = _drive(Sandbox(), {"type": "lifespan", "asgi": {}}, [], lifespan("lifespan.startup"))
    assert sent[0]["type"] == "lifespan.startup.complete"
    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "subprotocols": []}
    assert _drive(Sandbox(), scope, [], lifespan("websocket.connect"))[0]["type"] == "websocket.close"


def _drive(app: Sandbox, scope: dict[str, Any], sent: list[Any], first: Any = None) -> list[Any]:
    import anyio

    messages = [first] if first is not None else [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "lifespan.shutdown"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"query_string": b"", "scheme": "http", "server": ("127.0.0.1", 80), "root_path": ""} | scope
    anyio.run(app, scope, receive, send)
    return sent


def test_exchange_works_over_the_socket(sandbox: Sandbox, client: httpx.Client) -> None:
    answer = client.post("/oauth/token", json=oauth_body(sandbox)).json()
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    assert client.get("/oauth/userinfo", headers=headers).json()["sub"] == "user_buyer"


def test_importing_the_sandbox_leaves_cryptography_for_those_who_need_it() -> None:
    import subprocess

    program = "import sys, whop_middleware.sandbox; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_importing_the_sandbox_without_the_extra_says_how_to_install_it(missing: str) -> None:
    import subprocess

    program = f"import sys; sys.modules[{missing!r}] = None; import whop_middleware.sandbox"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: whop_middleware.sandbox needs {missing}")
    assert last.endswith("which is not installed: pip install 'whop-middleware[sandbox]'")
    assert "direct cause" in done.stderr


# --- The middleware in front, the sandbox behind ---


@pytest.mark.parametrize("client_id", ["client_mw", "app_mw"])
def test_middleware_signs_in_at_the_sandbox(
    make_site: MakeSite, sandbox: Sandbox, client: httpx.Client, client_id: str
) -> None:
    sandbox.people[client_id] = Person(f"user_{secrets.token_hex(4)}", "newcomer", None, None, "Agreed to nothing yet")
    user_id = sandbox.people[client_id].id
    site = make_site(
        client_id=client_id,
        client_secret=SECRET,
        whop_url=sandbox.whop_url,
        api_url=sandbox.api_url,
    )
    callback = site.middleware.config.redirect_uri
    sandbox.add_app(client_id=client_id, client_secret=SECRET, redirect_uris=callback)
    browser = Browser(site)
    leaving = browser.go("/reports?week=7")
    assert leaving.location.startswith(sandbox.whop_url)
    client.post("/hub/person", data={"person": user_id})
    assert "wants to know who you are" in client.get(leaving.location).text
    back = client.post(leaving.location, data={"decision": "allow"}).headers["location"]
    assert back.startswith(f"{ORIGIN}{site.prefix}/callback/whop?")
    page = browser.go(back)
    assert (page.status, page.user and page.user.id) == (200, user_id)


def test_middleware_lets_a_hub_arrival_in(make_site: MakeSite, sandbox: Sandbox, client: httpx.Client) -> None:
    site = make_site(client_id="client_hub", client_secret=SECRET, whop_url=sandbox.whop_url, api_url=sandbox.api_url)
    callback = site.middleware.config.redirect_uri
    sandbox.add_app(client_id="client_hub", client_secret=SECRET, redirect_uris=callback)
    client.post("/hub/person", data={"person": "user_no_email"})
    arrival = client.get("/hub/open/client_hub").headers["location"]
    page = Browser(site).go(arrival, (*NAVIGATION, ("Referer", f"{sandbox.whop_url}/")))
    assert (page.status, page.user and page.user.id) == (200, "user_no_email")


# --- docs/sandbox.md ---


def test_the_documented_test_passes() -> None:
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(snippet("docs/sandbox.md", "def test_only_buyers_get_in"), "docs/sandbox.md", "exec"), names)
    names["test_only_buyers_get_in"]()


def test_the_documented_script_registers_its_app() -> None:
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(snippet("docs/sandbox.md", "input("), "docs/sandbox.md", "exec"), names)
    assert isinstance(names["sandbox"].code("buyer", "client_1"), str)

"""The gatekeeper for front proxies, asked as nginx, Caddy and Traefik ask it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from whop_middleware import ConfigError, forward_auth
from whop_middleware.forward_auth import FRONTS, ForwardAuth
from whop_middleware.identity import IDENTITY_HEADERS
from whop_middleware.testing import session_cookie

from .conftest import Clock
from .support import FETCH, NAVIGATION, ORIGIN, FakeWhop, Headers, make_config

SETTINGS = {
    "WHOP_CLIENT_ID": "client_1",
    "WHOP_CLIENT_SECRET": "client-secret-0123456789",
    "WHOP_REDIRECT_URI": f"{ORIGIN}/callback/whop",
    "WHOP_FORWARD_AUTH": "nginx",
}


class Gatekeeper:
    """A forward-auth app, and how its front asks it."""

    def __init__(self, front: str, **options: Any) -> None:
        self.front = FRONTS[front]
        self.config = make_config(**options)
        self.app = ForwardAuth(front, self.config)

    def get(self, path: str, headers: Headers = (), *, method: str = "GET") -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001") as client:
                return await client.send(httpx.Request(method, f"http://127.0.0.1:8001{path}", headers=list(headers)))

        return anyio.run(ask)

    def ask(
        self, target: str, headers: Headers = NAVIGATION, *, method: str = "GET", query: str = ""
    ) -> httpx.Response:
        """Ask about a page as the front does."""
        own = ((self.front.uri, target), (self.front.method, method))
        return self.get(f"/auth{query}", (*own, *headers))

    def member(self, **fields: Any) -> tuple[tuple[str, str], ...]:
        """Return the `Cookie` header of someone signed in."""
        return tuple(("Cookie", f"{name}={value}") for name, value in session_cookie(self.config, **fields).items())


@pytest.fixture(params=FRONTS)
def keeper(request: pytest.FixtureRequest) -> Gatekeeper:
    return Gatekeeper(request.param)


@pytest.fixture
def nginx() -> Gatekeeper:
    return Gatekeeper("nginx", require="prod_a")


def identity(response: httpx.Response) -> dict[str, str]:
    return {name: response.headers[name] for name in IDENTITY_HEADERS}


# --- Let in ---


def test_a_member_is_let_in_with_all_four_headers(keeper: Gatekeeper) -> None:
    response = keeper.ask("/reports", (*NAVIGATION, *keeper.member(id="user_1", name="Zoë 100%")))
    assert response.status_code == 204
    assert response.headers["cache-control"] == "no-store"
    assert identity(response) == {
        "x-whop-user-id": "user_1",
        "x-whop-username": "",
        "x-whop-name": "Zo%C3%AB 100%25",
        "x-whop-email": "",
    }


def test_a_public_path_is_open_and_names_whoever_is_signed_in(keeper: Gatekeeper) -> None:
    stranger = keeper.ask("/health?x=1")
    assert stranger.status_code == 204
    assert set(identity(stranger).values()) == {""}
    assert identity(keeper.ask("/health", keeper.member(id="user_1")))["x-whop-user-id"] == "user_1"


def test_a_preflight_passes_on_public_paths_only(keeper: Gatekeeper) -> None:
    headers = (("Origin", "https://other.example"), ("Access-Control-Request-Method", "PUT"))
    member = keeper.member(id="user_1")
    response = keeper.ask("/health", (*headers, *member), method="OPTIONS")
    assert response.status_code == 204
    assert set(identity(response).values()) == {""}
    assert keeper.ask("/api", (*headers, *member), method="OPTIONS").status_code == 403


def test_a_changed_session_is_passed_on(keeper: Gatekeeper) -> None:
    response = keeper.ask("/health", (("Cookie", "__Host-whop_session=broken"), *NAVIGATION))
    assert response.status_code == 204
    assert response.headers["set-cookie"].startswith("__Host-whop_session=; ")


def test_identity_a_client_sends_is_not_believed(keeper: Gatekeeper) -> None:
    forged = tuple((name, "user_admin") for name in (*IDENTITY_HEADERS, "X_Whop_User_Id", "Remote-User"))
    assert set(identity(keeper.ask("/health", forged)).values()) == {""}
    assert keeper.ask("/page", (*forged, *FETCH)).status_code == 401


# --- Not let in: Caddy and Traefik pass the answer on ---


@pytest.mark.parametrize("front", ["caddy", "traefik"])
def test_a_stranger_is_sent_to_sign_in_and_will_come_back(front: str) -> None:
    response = Gatekeeper(front).ask("/a%20b/%C3%A9?q=1&q=2")
    assert response.status_code == 303
    assert response.headers["location"] == "/login/whop?next=/a%2520b/%25C3%25A9%3Fq%3D1%26q%3D2"


@pytest.mark.parametrize("front", ["caddy", "traefik"])
def test_scripts_forms_and_buyers_of_nothing_get_the_usual_answers(front: str) -> None:
    keeper = Gatekeeper(front, require="prod_a")
    assert keeper.ask("/api", FETCH).json()["code"] == "sign_in_required"
    form = keeper.ask("/order", NAVIGATION, method="POST")
    assert (form.status_code, form.headers["content-type"]) == (401, "text/html; charset=utf-8")
    denied = keeper.ask("/page", (*NAVIGATION, *keeper.member(id="user_1")))
    assert denied.status_code == 403
    assert "purchase_required" in denied.text


# --- Not let in: nginx knows 401 and 403 ---


def test_nginx_gets_401_and_where_to_send_the_stranger(nginx: Gatekeeper) -> None:
    response = nginx.ask("/reports?year=2026")
    assert response.status_code == 401
    assert response.headers["x-whop-redirect"] == "/login/whop?next=/reports%3Fyear%3D2026"
    assert response.headers["www-authenticate"] == 'Cookie realm="whop"'
    assert "location" not in response.headers


def test_nginx_gets_401_without_a_redirect_for_a_script(nginx: Gatekeeper) -> None:
    response = nginx.ask("/api", FETCH)
    assert response.status_code == 401
    assert "x-whop-redirect" not in response.headers


def test_nginx_gets_403_for_someone_without_the_purchase(nginx: Gatekeeper) -> None:
    response = nginx.ask("/page", (*NAVIGATION, *nginx.member(id="user_1")))
    assert response.status_code == 403
    assert "x-whop-redirect" not in response.headers


def test_nginx_gets_403_and_the_denied_page() -> None:
    keeper = Gatekeeper("nginx", require="prod_a", denied_page="/pricing")
    member = keeper.member(id="user_1")
    response = keeper.ask("/page", (*NAVIGATION, *member))
    assert (response.status_code, response.headers["x-whop-redirect"]) == (403, "/pricing")
    assert keeper.ask("/pricing", (*NAVIGATION, *member)).status_code == 204


def test_nginx_gets_401_and_both_cookies_for_a_silent_recheck(clock: Clock) -> None:
    keeper = Gatekeeper("nginx", require="prod_a")
    member = keeper.member(id="user_1", access={"prod_a": "customer"})
    assert keeper.ask("/page", (*NAVIGATION, *member)).status_code == 204
    clock.tick(90_000)
    response = keeper.ask("/page", (*NAVIGATION, *member))
    assert response.status_code == 401
    assert response.headers["x-whop-redirect"].startswith("https://whop.com/oauth?")
    assert len(response.headers.get_list("set-cookie")) == 2


def test_nginx_gets_5xx_when_nobody_can_say(whop: FakeWhop) -> None:
    keeper = Gatekeeper("nginx", require="prod_new", api_key="key-0123456789")
    whop.answers["access"] = httpx.ConnectError("down")
    member = keeper.member(id="user_1")
    keeper = Gatekeeper("nginx", require=("prod_new", "prod_newer"), api_key="key-0123456789")
    assert keeper.ask("/page", (*NAVIGATION, *member)).status_code == 503


def test_nginx_may_fetch_the_whole_answer_afterwards(nginx: Gatekeeper) -> None:
    assert nginx.ask("/page", query="?answer").headers["location"] == "/login/whop?next=/page"
    denied = nginx.ask("/page", (*NAVIGATION, *nginx.member(id="user_1")), query="?answer")
    assert (denied.status_code, "purchase_required" in denied.text) == (403, True)


def test_the_whole_answer_lets_nobody_in(keeper: Gatekeeper) -> None:
    response = keeper.ask("/health", query="?answer")
    assert response.status_code == 503
    assert not set(IDENTITY_HEADERS) & set(response.headers)


# --- What page? ---


def test_without_its_header_nobody_is_let_in(keeper: Gatekeeper, caplog: pytest.LogCaptureFixture) -> None:
    others = {front.uri for front in FRONTS.values()} - {keeper.front.uri}
    spoofed = (*((name, "/health") for name in (*others, "x-original-url", "x-rewrite-url")), *NAVIGATION)
    response = keeper.get("/auth", spoofed)
    assert response.status_code == 500
    assert keeper.front.uri in caplog.text


@pytest.mark.parametrize(
    "target", ["", "health", "{http.request.uri}", "http://app.example/health", "*", "/a b", "/a#/health", "/\x7f"]
)
def test_an_address_that_is_no_path_is_refused(keeper: Gatekeeper, target: str) -> None:
    response = keeper.ask(target, keeper.member(id="user_1"))
    assert response.status_code == (403 if keeper.front.name == "nginx" else 400)


def test_two_addresses_or_methods_are_refused(keeper: Gatekeeper) -> None:
    uri, method = keeper.front.uri, keeper.front.method
    for headers in (((uri, "/health"), (uri, "/health")), ((uri, "/health"), (method, "GET"), (method, "GET"))):
        assert keeper.get("/auth", headers).status_code in (400, 403)


@pytest.mark.parametrize("method", ["", "get", "{method}", "GET, POST"])
def test_a_method_that_is_none_is_refused(keeper: Gatekeeper, method: str) -> None:
    assert keeper.ask("/health", method=method).status_code in (400, 403)


def test_without_a_method_it_is_get_whatever_other_fronts_headers_say(keeper: Gatekeeper) -> None:
    other = "x-original-method" if keeper.front.name != "nginx" else "x-forwarded-method"
    preflight = (("Origin", "https://other.example"), ("Access-Control-Request-Method", "PUT"))
    headers = ((keeper.front.uri, "/page"), (other, "OPTIONS"), *preflight, *FETCH)
    assert keeper.get("/auth", headers).status_code == 401


@pytest.mark.parametrize(
    "target",
    ["/static/../page", "/static/%2e%2e/page", "/static//page", "/static%2fpage", "/static/x%2Fy", "/static/%ff"],
)
def test_a_path_that_apps_read_differently_is_not_public(keeper: Gatekeeper, target: str) -> None:
    assert keeper.ask("/static/page", FETCH).status_code == 204
    assert keeper.ask(target, FETCH).status_code == 401


def test_an_encoded_slash_needs_every_purchase_and_comes_back_as_it_was() -> None:
    keeper = Gatekeeper("caddy", require={"/vip/*": "prod_vip", "/*": "prod_a"})
    member = keeper.member(id="user_1", access={"prod_a": "customer"})
    assert keeper.ask("/page", (*NAVIGATION, *member)).status_code == 204
    assert keeper.ask("/vip%2fpage", (*NAVIGATION, *member)).status_code == 403
    assert keeper.ask("/a%2fb").headers["location"] == "/login/whop?next=/a%252fb"


@pytest.mark.parametrize("path", ["/login/whop?next=/x", "/logout/whop", "/callback/whop?code=C", "/%63allback/whop"])
def test_a_front_that_asks_about_an_own_path_is_told_so(
    keeper: Gatekeeper, path: str, whop: FakeWhop, caplog: pytest.LogCaptureFixture
) -> None:
    response = keeper.ask(path, (*NAVIGATION, *keeper.member(id="user_1")))
    assert response.status_code == 500
    assert "location" not in response.headers
    assert "must pass" in caplog.text
    assert whop.calls == []


# --- Its own paths ---


def test_sign_in_and_sign_out_are_served(keeper: Gatekeeper, whop: FakeWhop) -> None:
    leaving = keeper.get("/login/whop?next=/reports", NAVIGATION)
    cookie = leaving.headers["set-cookie"].partition(";")[0]
    back = whop.approve(leaving.headers["location"]).removeprefix(ORIGIN)
    landing = keeper.get(back, (*NAVIGATION, ("Cookie", cookie)))
    assert (landing.status_code, landing.headers["location"]) == (303, "/reports")
    session = next(line for line in landing.headers.get_list("set-cookie") if "session=" in line).partition(";")[0]
    response = keeper.ask("/reports", (("Cookie", session), *NAVIGATION))
    assert identity(response)["x-whop-username"] == "alice"
    out = keeper.get("/logout/whop", (("Cookie", session), ("Sec-Fetch-Site", "same-origin")), method="POST")
    assert out.headers["set-cookie"].startswith("__Host-whop_session=; ")


@pytest.mark.parametrize("path", ["/", "/auth/", "/authx", "/health", "/reports"])
def test_nothing_else_is_there(keeper: Gatekeeper, path: str) -> None:
    own = ((keeper.front.uri, "/health"), *keeper.member(id="user_1"))
    assert keeper.get(path, own).status_code == 404


def test_auth_answers_get_only(keeper: Gatekeeper) -> None:
    response = keeper.get("/auth", ((keeper.front.uri, "/health"),), method="POST")
    assert (response.status_code, response.headers["allow"]) == (405, "GET")


def _connect(keeper: Gatekeeper, scope_type: str, *, denial: bool = False, path: str = "/auth") -> list[Any]:
    sent: list[Any] = []
    events = iter(({"type": f"{scope_type}.startup"}, {"type": f"{scope_type}.shutdown"}))

    async def receive() -> Any:
        return next(events)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(keeper.front.uri.encode(), b"/live")]
    extensions: dict[str, Any] = {"websocket.http.response": {}} if denial else {}
    scope = {"type": scope_type, "path": path, "headers": headers, "query_string": b"", "extensions": extensions}
    anyio.run(keeper.app, scope, receive, send)
    return sent


def test_a_handshake_passed_on_as_it_came_is_never_accepted(keeper: Gatekeeper) -> None:
    assert _connect(keeper, "websocket", denial=True)[0]["status"] == 401
    assert _connect(keeper, "websocket")[0]["type"] == "websocket.close"
    assert _connect(keeper, "websocket", denial=True, path="/login/whop")[0]["status"] == 401


def test_the_server_s_lifespan_is_answered_and_the_unknown_refused(keeper: Gatekeeper) -> None:
    kinds = [message["type"] for message in _connect(keeper, "lifespan")]
    assert kinds == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(RuntimeError, match="quic"):
        _connect(keeper, "quic")


# --- Settings ---


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    if "app" in vars(forward_auth):
        del forward_auth.app


def test_the_environment_decides(settings: pytest.MonkeyPatch) -> None:
    app = forward_auth.app
    assert app is forward_auth.app
    assert app.front is FRONTS["nginx"]
    assert app.config.client_id == "client_1"


@pytest.mark.parametrize(
    ("name", "value", "mend"),
    [
        ("WHOP_FORWARD_AUTH", "", "Set WHOP_FORWARD_AUTH to nginx, caddy or traefik."),
        ("WHOP_FORWARD_AUTH", "apache", "Set WHOP_FORWARD_AUTH to nginx, caddy or traefik."),
        ("WHOP_REDIRECT_URI", "/callback/whop", "Set WHOP_REDIRECT_URI to the full Callback URL"),
        ("WHOP_LOGIN_PATH", "/auth", "Set WHOP_LOGIN_PATH"),
    ],
)
def test_a_wrong_setting_is_named_with_its_mend(settings: pytest.MonkeyPatch, name: str, value: str, mend: str) -> None:
    settings.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        forward_auth.app  # noqa: B018
    assert str(caught.value).splitlines()[-1].startswith(mend)


def test_problems_stay_problems_through_the_front() -> None:
    response = Gatekeeper("caddy").ask("/api", FETCH)
    assert json.loads(response.text)["login_url"] == "/login/whop"


def test_odd_questions_are_logged_with_their_reference(keeper: Gatekeeper, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    response = keeper.ask("nowhere")
    assert response.text.rpartition(" ")[2].strip() in caplog.text

"""What the ASGI adapter adds: scopes, WebSockets, event loops. What it decides is in test_gate."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import httpx
import pytest

from whop_middleware import ConfigError, WhopMiddleware, WhopWSGIMiddleware
from whop_middleware.asgi import read_request, route_path
from whop_middleware.testing import session_cookie

from .support import FETCH, NAVIGATION, ORIGIN, AsgiSite, Browser, FakeWhop, Headers, make_config

Sent = list[dict[str, Any]]
SCOPE: dict[str, Any] = {
    "type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "scheme": "https",
    "server": ("127.0.0.1", 80),
}  # fmt: skip
DENIAL: dict[str, Any] = {"websocket.http.response": {}}


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the app must not run")


async def accepting(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"x-a", b"1")]})


def run(app: Any, scope: dict[str, Any], *, received: Sent | None = None, config: Any = None) -> Sent:
    """Send one scope through the middleware; return what it sent, and in `received` what it took."""
    sent: Sent = []

    async def receive() -> Any:
        message = {"type": f"{scope['type']}.connect"}
        if received is not None:
            received.append(message)
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    middleware = WhopMiddleware(app, config=config or make_config())
    anyio.run(middleware.__call__, scope, receive, send)
    return sent


def cookies(config: Any = None, **fields: Any) -> list[tuple[bytes, bytes]]:
    return [(b"cookie", f"{k}={v}".encode()) for k, v in session_cookie(config or make_config(), **fields).items()]


def websocket(**changes: Any) -> dict[str, Any]:
    scope = {key: value for key, value in SCOPE.items() if key != "method"}
    return {**scope, "type": "websocket", "scheme": "wss", **changes}


# WebSockets


def test_a_websocket_is_refused_before_the_handshake_by_a_close_code() -> None:
    received: Sent = []
    assert run(never, websocket(), received=received) == [{"type": "websocket.close", "code": 4401, "reason": ""}]
    assert received == [{"type": "websocket.connect"}]


@pytest.mark.parametrize("extensions", [{}, None])
def test_without_the_denial_extension_a_close_code_must_do(extensions: Any) -> None:
    assert run(never, websocket(extensions=extensions))[0]["code"] == 4401


def test_with_the_denial_extension_a_websocket_gets_an_answer() -> None:
    start, body = run(never, websocket(extensions=DENIAL))
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (b"content-type", b"application/problem+json") in start["headers"]
    assert (b"www-authenticate", b'Cookie realm="whop"') in start["headers"]
    assert (body["type"], b"sign_in_required" in body["body"]) == ("websocket.http.response.body", True)


@pytest.mark.parametrize("path", ["/login/whop", "/logout/whop", "/callback/whop"])
@pytest.mark.parametrize("mode", ["required", "optional"])
def test_a_websocket_on_an_own_path_is_refused(path: str, mode: str) -> None:
    config = make_config(mode=mode)
    scope = websocket(path=path, headers=cookies(), query_string=b"code=CODE")
    assert run(never, scope, config=config)[0]["code"] == 4401


def test_without_the_purchase_a_websocket_is_refused_with_its_own_code() -> None:
    config = make_config(require="prod_a")
    headers = cookies(config)
    assert run(never, websocket(headers=headers), config=config)[0]["code"] == 4403
    start, _ = run(never, websocket(headers=headers, extensions=DENIAL), config=config)
    assert start["status"] == 403


def test_someone_signed_in_connects() -> None:
    (accepted,) = run(accepting, websocket(headers=cookies()))
    assert accepted["type"] == "websocket.accept"
    assert (b"x-a", b"1") in accepted["headers"]


def test_a_public_websocket_connects_without_anyone() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["whop_user"])

    run(app, websocket(path="/static/live"))
    assert seen == [None]


# Other scopes


def test_lifespan_passes_untouched() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        seen.append(await receive())
        await send({"type": "lifespan.startup.complete"})

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    assert run(app, scope) == [{"type": "lifespan.startup.complete"}]
    assert seen[0] is scope
    assert "whop_user" not in scope


def test_a_scope_without_a_path_passes_untouched() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": "task.queue"}
    run(app, scope)
    assert seen == [scope]


def test_an_unknown_scope_with_a_path_lets_nobody_through() -> None:
    with pytest.raises(RuntimeError, match=r"webtransport"):
        run(never, {"type": "webtransport", "path": "/"})


def test_the_outer_scope_is_never_changed_and_what_was_in_it_never_believed() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    before = {**SCOPE, "path": "/health", "whop_user": "user_admin", "user": "kept", "state": {"whop_user": "kept"}}
    scope = dict(before)
    run(app, scope)
    assert scope == before
    assert seen[0]["whop_user"] is None
    assert (seen[0]["user"], seen[0]["state"]) == ("kept", {"whop_user": "kept"})


# What a scope may lack or hold twice


def test_a_scope_with_the_bare_minimum_is_understood() -> None:
    scope = {"type": "http", "method": "GET", "path": "", "headers": []}
    (start, body) = run(never, scope)
    assert start["status"] == 303
    assert body["body"] == b""


@pytest.mark.parametrize(
    ("server", "host"),
    [(("10.0.0.1", 8000), "10.0.0.1:8000"), (("/run/app.sock", None), "/run/app.sock"), (None, None)],
)
def test_without_a_host_header_the_server_s_address_is_the_host(server: Any, host: str | None) -> None:
    assert read_request({**SCOPE, "server": server}).header("host") == host
    assert read_request({**SCOPE, "headers": [(b"host", b"a.example")]}).header("host") == "a.example"


def test_cookie_headers_in_crumbs_are_read_together() -> None:
    crumbs = [(b"cookie", b"a=1"), *cookies(), (b"cookie", b"b=2")]
    (accepted,) = run(accepting, websocket(headers=crumbs))
    assert accepted["type"] == "websocket.accept"


@pytest.mark.parametrize(
    ("path", "prefix", "expected"),
    [
        ("/shop/a", "/shop", "/a"), ("/shop", "/shop", "/"), ("/shopping", "/shop", "/shopping"), ("/a", "", "/a"),
        ("/a", "/shop", "/a"), ("", "", "/"), ("/shop/a", "/shop/", "/shop/a"), ("/shop//a", "/shop", "//a"),
    ],
)  # fmt: skip
def test_the_path_is_what_starlette_takes_for_the_route(path: str, prefix: str, expected: str) -> None:
    assert route_path(path, prefix) == expected
    routing = pytest.importorskip("starlette._utils")
    assert (routing.get_route_path({"path": path, "root_path": prefix}) or "/") == expected


# Answers


@pytest.mark.parametrize("path", ["/a", "/logout/whop", "/callback/whop"])
def test_head_gets_the_headers_of_get_and_no_body(path: str) -> None:
    start, body = run(never, {**SCOPE, "method": "HEAD", "path": path})
    assert body == {"type": "http.response.body", "body": b""}
    assert start["status"] in (204, 303)
    lengths = [value for name, value in start["headers"] if name == b"content-length"]
    assert lengths == ([] if start["status"] == 204 else [b"0"])


def test_a_refused_request_is_answered_without_reading_its_body() -> None:
    received: Sent = []
    run(never, {**SCOPE, "method": "POST"}, received=received)
    assert received == []


def test_an_answer_is_passed_on_piece_by_piece() -> None:
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            order.append(f"made {number}")
            await send({"type": "http.response.body", "body": b"x", "more_body": number < 2})
            order.append(f"sent {number}")

    sent = run(app, {**SCOPE, "headers": cookies()})
    assert [message["type"] for message in sent] == ["http.response.start", *["http.response.body"] * 3]
    assert order == ["made 0", "sent 0", "made 1", "sent 1", "made 2", "sent 2"]


def test_an_error_of_the_app_is_the_app_s_own() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("of the app")

    with pytest.raises(LookupError, match="of the app"):
        run(app, {**SCOPE, "headers": cookies()})


def test_servers_see_an_asgi_3_app() -> None:
    assert asyncio.iscoroutinefunction(WhopMiddleware(never, config=make_config()).__call__)


def test_options_win_over_the_config() -> None:
    middleware = WhopMiddleware(never, config=make_config(), mode="optional", home="/start")
    assert (middleware.config.mode, middleware.config.home) == ("optional", "/start")


# Event loops


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_whole_sign_in_runs_on_asyncio_and_on_trio(whop: FakeWhop, backend: str) -> None:
    site = AsgiSite(make_config(require="prod_a"), backend=backend)
    whop.owned["user_1"] = {"prod_a": "customer"}
    answer = Browser(site).sign_in(whop, "/a")
    assert answer.user is not None
    assert answer.user.access == {"prod_a": "customer"}


def test_one_middleware_serves_several_event_loops_in_turn(whop: FakeWhop) -> None:
    site = AsgiSite(make_config())
    for backend in ("asyncio", "trio", "asyncio"):
        site.backend = backend
        browser = Browser(site)
        assert browser.sign_in(whop).user is not None
        assert browser.arrive_from_hub(whop).status == 303


def take_time(whop: FakeWhop) -> None:
    """Let Whop's answers take a moment, so that requests overlap."""

    async def answer(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(0.01)
        return whop._answer(request)

    whop.router.routes[0].side_effect = answer


def together(site: AsgiSite, requests: list[tuple[str, Headers]], backend: str) -> list[Any]:
    answers: list[Any] = [None] * len(requests)

    async def one(index: int, target: str, headers: Headers) -> None:
        answers[index] = await site.arequest("GET", target, headers)

    async def all_of_them() -> None:
        async with anyio.create_task_group() as group:
            for index, (target, headers) in enumerate(requests):
                group.start_soon(one, index, target, headers)

    anyio.run(all_of_them, backend=backend)
    return answers


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_concurrent_requests_with_one_code_and_state_share_one_exchange(whop: FakeWhop, backend: str) -> None:
    take_time(whop)
    site = AsgiSite(make_config())
    browser = Browser(site)
    back = whop.approve(browser.go("/a").location).removeprefix(ORIGIN)
    answers = together(site, [(back, browser.headers(NAVIGATION))] * 8, backend)
    assert [(answer.status, answer.location) for answer in answers] == [(303, "/a")] * 8
    assert all(len(answer.all("set-cookie")) == 2 for answer in answers)
    assert whop.calls == ["token", "me"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_of_concurrent_hub_arrivals_with_one_code_one_is_served(whop: FakeWhop, backend: str) -> None:
    take_time(whop)
    site = AsgiSite(make_config())
    hub = (*NAVIGATION, ("Referer", "https://whop.com/"))
    answers = together(site, [(f"/callback/whop?code={whop.code()}", hub)] * 4, backend)
    assert sorted(answer.location.partition("?")[0] for answer in answers) == ["/", *["https://whop.com/oauth"] * 3]
    assert whop.calls == ["token", "me"]


def test_a_fetch_below_a_prefix_is_told_the_whole_login_url() -> None:
    answer = AsgiSite(make_config(redirect_uri=f"{ORIGIN}/shop/callback/whop"), prefix="/shop").request(
        "GET", "/a", FETCH
    )
    assert answer.json()["login_url"] == "/shop/login/whop"


def test_an_app_of_the_other_protocol_is_refused_with_the_class_to_use() -> None:
    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        return []

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        return None

    with pytest.raises(ConfigError, match="WSGI app: put WhopWSGIMiddleware around it"):
        WhopMiddleware(wsgi_app, config=make_config())  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(ConfigError, match="ASGI app: put WhopMiddleware around it"):
        WhopWSGIMiddleware(asgi_app, config=make_config())  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(ConfigError, match="pass the app first"):
        WhopMiddleware(make_config())  # type: ignore[call-overload]  # the mistake under test


def test_the_package_knows_its_names_and_no_others() -> None:
    import whop_middleware

    assert set(whop_middleware.__all__) <= set(dir(whop_middleware))
    with pytest.raises(AttributeError, match="no attribute 'WhopMiddlewear'"):
        whop_middleware.WhopMiddlewear  # noqa: B018  # the look-up is what is tested

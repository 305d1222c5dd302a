"""What the WSGI adapter adds: environs, and answers that the validator takes. What it decides is in test_gate."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import httpx
import pytest

from whop_middleware import WhopWSGIMiddleware
from whop_middleware.testing import session_cookie
from whop_middleware.wsgi import read_request

from .support import FETCH, NAVIGATION, ORIGIN, Browser, FakeWhop, WsgiSite, make_config


def cookie(config: Any = None, **fields: Any) -> tuple[str, str]:
    pairs = session_cookie(config or make_config(), **fields).items()
    return ("Cookie", "; ".join(f"{name}={value}" for name, value in pairs))


def never(environ: Any, start_response: Any) -> Any:
    raise AssertionError("the app must not run")


def test_the_user_and_remote_user_are_set() -> None:
    site = WsgiSite(make_config())
    site.request("GET", "/a", (*FETCH, cookie(id="user_3")))
    environ = site.seen.places[-1]
    assert (environ["whop_user"].id, environ["REMOTE_USER"]) == ("user_3", "user_3")


@pytest.mark.parametrize("path", ["/health", "/a"])
@pytest.mark.parametrize("signed_in", [True, False])
def test_what_was_in_the_environ_is_never_believed(path: str, signed_in: bool) -> None:
    middleware_seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        middleware_seen.append((environ["whop_user"] and environ["whop_user"].id, environ.get("REMOTE_USER")))
        start_response("200 OK", [])
        return []

    site = WsgiSite(make_config(mode="optional"))
    for _ in range(2):
        headers = (*FETCH, cookie(id="user_3")) if signed_in else FETCH
        environ = site.environ("GET", path, headers, ORIGIN)
        environ |= {"whop_user": "user_admin", "REMOTE_USER": "user_admin"}
        WhopWSGIMiddleware(app, config=site.middleware.config)(environ, lambda *_: lambda _: None)
    assert middleware_seen == [("user_3", "user_3") if signed_in else (None, None)] * 2


def test_a_path_that_is_not_ascii_is_the_same_as_under_asgi() -> None:
    environ = WsgiSite(make_config()).environ("GET", "/caf%C3%A9/%ff", (), ORIGIN)
    assert read_request(environ).path == "/café/\ufffd"
    site = WsgiSite(make_config(public=("/café/*",)))
    for _ in range(2):
        assert site.request("GET", "/caf%C3%A9/x", FETCH).called
        assert not site.request("GET", "/caf%C3%A9/%ff", FETCH).called
        assert not site.request("GET", "/caf%E9/x", FETCH).called


def test_below_a_prefix_that_is_not_ascii_locations_stay_ascii() -> None:
    site = WsgiSite(make_config(), prefix="/caf\xc3\xa9")
    for _ in range(2):
        assert site.request("GET", "/a", NAVIGATION).location == "/caf%C3%A9/login/whop?next=/a"


def test_without_a_host_header_the_server_s_name_is_the_host() -> None:
    environ = WsgiSite(make_config()).environ("GET", "/", (), ORIGIN)
    del environ["HTTP_HOST"]
    assert read_request(environ).header("host") == "127.0.0.1:80"


def test_an_empty_path_is_the_root() -> None:
    environ = WsgiSite(make_config()).environ("GET", "/", (), ORIGIN)
    for missing in ({"PATH_INFO": ""}, {}):
        given = {key: value for key, value in environ.items() if key != "PATH_INFO"} | missing
        assert read_request(given).path == "/"
        assert WhopWSGIMiddleware(never, config=make_config())(given, lambda *_: lambda _: None) == []


def test_cookie_headers_joined_by_the_server_are_read_together() -> None:
    site = WsgiSite(make_config())
    for _ in range(2):
        assert site.request("GET", "/a", (*FETCH, ("Cookie", "a=1"), cookie(), ("Cookie", "b=2"))).called


def test_a_cookie_with_a_comma_never_wins_over_the_browser_s_own() -> None:
    """A neighbouring host can set such a cookie for the whole domain, though not one of the name `__Host-…`."""
    site, mine, planted = WsgiSite(make_config()), cookie(id="user_1")[1], cookie(id="user_2")[1]
    for _ in range(2):
        answer = site.request("GET", "/a", (*FETCH, ("Cookie", f"a=x,{planted}; {mine}; b=y,{planted}")))
        assert answer.user is not None
        assert answer.user.id == "user_1"


@pytest.mark.parametrize("path", ["/a", "/login/whop", "/logout/whop", "/callback/whop"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize("headers", [NAVIGATION, FETCH])
def test_every_answer_but_204_has_a_type_and_its_length(path: str, method: str, headers: Any) -> None:
    """`wsgiref.validate` stands outside and looks at each."""
    answer = WsgiSite(make_config(), app=never).request(method, path, headers)
    assert answer.header("cache-control") == "no-store"
    if answer.status == 204:
        assert (answer.header("content-type"), answer.header("content-length"), answer.body) == (None, None, b"")
    else:
        assert answer.header("content-type") is not None
        assert int(answer.header("content-length") or -1) >= len(answer.body)
        assert method == "HEAD" or int(answer.header("content-length") or -1) == len(answer.body)


def test_a_refused_request_is_answered_without_reading_its_body() -> None:
    class Unread:
        def read(self, *_: Any) -> bytes:
            raise AssertionError("the body must not be read")

    environ = WsgiSite(make_config()).environ("POST", "/a", FETCH, ORIGIN)
    environ["wsgi.input"] = Unread()
    assert WhopWSGIMiddleware(never, config=make_config())(environ, lambda *_: lambda _: None)


def test_an_answer_is_the_app_s_own_iterable() -> None:
    class Stream:
        def __iter__(self) -> Any:
            yield b"x"

    stream = Stream()

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream

    environ = WsgiSite(make_config()).environ("GET", "/a", (*FETCH, cookie()), ORIGIN)
    assert WhopWSGIMiddleware(app, config=make_config())(environ, lambda *_: lambda _: None) is stream


def test_an_app_may_start_over_after_an_error() -> None:
    started: list[Any] = []

    def start(status: str, headers: Any, *exc_info: Any) -> Any:
        started.append((status, {name.lower(): value for name, value in headers}, bool(exc_info)))
        return lambda data: None

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            raise LookupError("late")
        except LookupError:
            start_response("500 Oh", [("Content-Type", "text/plain")], sys.exc_info())
        return [b""]

    environ = WsgiSite(make_config()).environ("GET", "/a", (*FETCH, cookie()), ORIGIN)
    WhopWSGIMiddleware(app, config=make_config())(environ, start)
    private = {"content-type": "text/plain", "vary": "Cookie", "cache-control": "private"}
    assert started == [("200 OK", private, False), ("500 Oh", private, True)]


def test_an_error_of_the_app_is_the_app_s_own() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        raise LookupError("of the app")

    with pytest.raises(LookupError, match="of the app"):
        WsgiSite(make_config(), app=app).request("GET", "/health")


def test_options_win_over_the_config() -> None:
    middleware = WhopWSGIMiddleware(never, config=make_config(), mode="optional", home="/start")
    assert (middleware.config.mode, middleware.config.home) == ("optional", "/start")


def test_concurrent_threads_with_one_code_and_state_share_one_exchange(whop: FakeWhop) -> None:
    site = WsgiSite(make_config())
    browser = Browser(site)
    back = whop.approve(browser.go("/a").location).removeprefix(ORIGIN)
    arrived, answers = threading.Barrier(4), []

    def slow_token(request: httpx.Request) -> httpx.Response:
        time.sleep(0.2)
        return whop._token(request)

    whop.answers["token"] = slow_token

    def one() -> None:
        arrived.wait()
        answers.append(site.request("GET", back, browser.headers(NAVIGATION)))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [answer.location for answer in answers] == ["/a"] * 4
    assert whop.calls == ["token", "me"]

"""The two runners: questions side by side, deadlines, loops, threads, forks. No network but loopback."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from whop_middleware import drive
from whop_middleware.deadline import client
from whop_middleware.drive import ANSWER_LIMIT, Driver, Step, advance, ssl_context
from whop_middleware.errors import BadWhopAnswer, CodeRefused, WhopUnreachable
from whop_middleware.messages import Flow, Together

from .faults import Connection, FaultServer, answers, fault_server, hangs, http, resets, sends
from .flows import BACKENDS, RUNNERS, Runner, failing, get, in_threads, in_vain, once, runner, slow, value


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as server:
        server.handlers["other"] = answers({"ok": True})
        yield server


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Runner:
    return runner(request.param)


def together(*flows: Flow[Any]) -> Flow[Any]:
    results = yield Together(flows)
    return results


# One flow


def test_a_flow_that_asks_nothing_opens_nothing(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "ssl_context", lambda: pytest.fail("not needed"))
    assert run(value(7)) == 7


def test_a_flow_gets_its_answer(run: Runner, server: FaultServer) -> None:
    assert run(get(server.url)) == {"ok": True}
    assert b"cookie:" not in server.requests[0].lower()


def test_a_flow_may_handle_an_error_and_go_on(run: Runner, server: FaultServer) -> None:
    server.handlers["me"] = resets

    def flow() -> Flow[Any]:
        try:
            yield from get(server.url)
        except WhopUnreachable:
            server.handlers["me"] = answers({"ok": 2})
        return (yield from get(server.url))

    assert run(flow()) == {"ok": 2}


def test_an_unexpected_error_is_passed_on_and_the_flow_closed(run: Runner, server: FaultServer) -> None:
    closed = []

    def flow() -> Flow[Any]:
        try:
            yield from get(server.url)
            raise KeyError("a bug")
        finally:
            closed.append(True)

    with pytest.raises(KeyError):
        run(flow())
    assert closed == [True]


def test_advance_says_where_a_flow_stands() -> None:
    assert advance(value(1)) == Step(result=1, done=True)
    flow = together(value(1))
    assert not advance(flow).done
    assert advance(flow, [1]) == Step(result=[1], done=True)
    flow = together()
    advance(flow)
    with pytest.raises(CodeRefused):
        advance(flow, error=CodeRefused("used"))


# Together


def test_results_come_in_order_and_the_first_error_counts(run: Runner, server: FaultServer) -> None:
    assert run(together(value(1), get(server.url), value(3))) == [1, {"ok": True}, 3]
    assert run(together(get(server.url))) == [{"ok": True}]
    assert run(together()) == []
    with pytest.raises(CodeRefused):
        run(together(get(server.url), failing(CodeRefused("used")), value(3)))
    with pytest.raises(CodeRefused):
        run(together(failing(CodeRefused("used"))))


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_a_loop_questions_are_asked_at_the_same_time(server: FaultServer, backend: str) -> None:
    barrier = threading.Barrier(5, timeout=5)

    def meets(connection: Connection) -> None:
        barrier.wait()
        answers({"ok": True})(connection)

    server.handlers["me"] = meets
    flow = together(*(get(server.url) for _ in range(5)))
    assert anyio.run(Driver(5).arun, flow, 5, backend=backend) == [{"ok": True}] * 5


# Deadlines


def test_a_call_has_its_timeout_and_all_of_them_the_budget(run: Runner, server: FaultServer) -> None:
    server.handlers["me"] = hangs

    def stubborn() -> Flow[int]:
        failures = 0
        while failures < 10:
            try:
                yield from get(server.url)
            except WhopUnreachable:
                failures += 1
        return failures

    began = time.monotonic()
    assert run(stubborn(), driver=Driver(0.2), budget=0.8) == 10
    assert 0.75 < time.monotonic() - began < 2
    assert 1 <= len(server.requests) <= 5


def test_questions_in_turn_share_the_budget(server: FaultServer) -> None:
    server.handlers["me"] = hangs
    began = time.monotonic()
    with pytest.raises(WhopUnreachable):
        Driver(0.3).run(together(*(get(server.url) for _ in range(5))), 0.3)
    assert time.monotonic() - began < 1.2


def test_a_slow_body_is_cut_off(run: Runner, server: FaultServer) -> None:
    def drips(connection: Connection) -> None:
        connection.send(http(200, {"Content-Length": "100"}, b"", length=False))
        connection.trickle(b"x" * 100, 0.02)

    server.handlers["me"] = drips
    with pytest.raises(WhopUnreachable):
        run(get(server.url), driver=Driver(0.3))


def test_a_client_whose_time_is_over_connects_to_nobody(server: FaultServer) -> None:
    with client(ssl_context()) as late:
        late.ends = time.monotonic() - 1
        with pytest.raises(httpx.ConnectTimeout):
            late.get(server.url)
    assert server.requests == []


def test_an_answer_that_comes_too_late_is_none() -> None:
    call = drive._Call(httpx.Request("GET", "http://localhost"), ends=time.monotonic() - 1)
    with pytest.raises(WhopUnreachable):
        call.check(bytearray(b"x"))


@pytest.mark.parametrize(
    ("length", "fits"), [(ANSWER_LIMIT, True), (ANSWER_LIMIT + 1, False), (9 * ANSWER_LIMIT, False)]
)
def test_an_answer_of_up_to_a_mebibyte_is_read(run: Runner, server: FaultServer, length: int, fits: bool) -> None:
    body = b'{"ok":"' + b"x" * (length - 9) + b'"}'
    server.handlers["me"] = sends(http(200, {}, body))
    if fits:
        assert len(run(get(server.url))["ok"]) == length - 9
    else:
        with pytest.raises(BadWhopAnswer):
            run(get(server.url))


# Loops, threads, processes


def test_one_driver_serves_loops_in_turn_and_threads_at_once(server: FaultServer) -> None:
    slow(server, 0.02)
    driver = Driver(5)
    for backend in ("asyncio", "trio", "asyncio"):
        assert "ok" in anyio.run(driver.arun, once("k", get(server.url)), 5, backend=backend)
    loops = in_threads(4, lambda number: asyncio.run(driver.arun(once("k", get(server.url)), 5)))
    assert all("ok" in outcome for outcome in loops)
    assert "ok" in driver.run(once("k", get(server.url)), 5)
    assert driver._work == {}


def test_the_ssl_context_is_built_once_and_by_the_first_question_only(
    run: Runner, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    genuine = httpx.create_ssl_context
    monkeypatch.setattr(httpx, "create_ssl_context", lambda: built.append(1) or genuine())  # type: ignore[func-returns-value]
    ssl_context.cache_clear()
    driver = Driver(5)
    run(value(1), driver=driver)
    assert built == []
    for _ in range(3):
        run(get(server.url), driver=driver)
    assert built == [1]
    ssl_context.cache_clear()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_does_not_wait_for_what_its_parent_had_in_flight(server: FaultServer) -> None:
    server.handlers["me"] = hangs
    driver = Driver(3)
    leader = threading.Thread(target=lambda: in_vain(driver, once("k", get(server.url)), 3))
    leader.start()
    while not driver._work:
        time.sleep(0.01)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover (another process)
        try:
            os.write(writing, json.dumps(driver.run(once("k", value("child")), 1)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b'"child"'
    os.close(reading)
    server.stop()
    leader.join()


@pytest.mark.parametrize("backend", BACKENDS)
def test_cancelling_closes_the_flow_and_the_connection(server: FaultServer, backend: str) -> None:
    server.handlers["me"] = hangs
    closed = []

    def flow() -> Flow[Any]:
        try:
            yield from get(server.url)
        finally:
            closed.append(True)

    async def main() -> int:
        before = open_files()
        with anyio.move_on_after(0.1):
            await Driver(5).arun(once("k", flow()), 5)
        await anyio.sleep(0.1)
        return open_files() - before

    assert anyio.run(main, backend=backend) <= 0
    assert closed == [True]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_handshake_given_up_leaves_nothing_open_in_the_loop(server: FaultServer, backend: str) -> None:
    server.on_connect = hangs
    url = server.url.replace("http:", "https:")

    async def main() -> int:
        driver = Driver(0.2)
        with pytest.raises(WhopUnreachable):
            await driver.arun(get(url), 5)
        await anyio.sleep(0.1)
        before = open_files()
        for _ in range(3):
            with pytest.raises(WhopUnreachable):
                await driver.arun(get(url), 5)
            with anyio.move_on_after(0.1):
                await driver.arun(get(url), 5)
        await anyio.sleep(0.1)
        return open_files() - before

    gc.disable()
    try:
        assert anyio.run(main, backend=backend) <= 0
    finally:
        gc.enable()


def test_an_unread_answer_of_another_user_is_never_mixed_up(run: Runner, server: FaultServer) -> None:
    driver = Driver(5)
    server.handlers["me"] = sends(http(200, {"Set-Cookie": "sid=evil; Path=/"}, b'{"ok":1}'))
    for _ in range(2):
        run(together(get(server.url), get(server.url)), driver=driver)
    assert not any(b"sid=evil" in head for head in server.requests)

"""The two runners share work: who asks the same gets one answer, whoever falls away. No network but loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from whop_middleware.drive import Driver
from whop_middleware.errors import CodeRefused, SignInError, WhopUnreachable
from whop_middleware.messages import Flow

from .faults import FaultServer, answers, fault_server, hangs
from .flows import BACKENDS, RUNNERS, Runner, failing, get, in_threads, in_vain, once, runner, slow, value


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as server:
        server.handlers["other"] = answers({"ok": True})
        yield server


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Runner:
    return runner(request.param)


def test_one_alone_is_served(run: Runner, server: FaultServer) -> None:
    driver = Driver(5)
    assert run(once("k", get(server.url)), driver=driver) == {"ok": True}
    with pytest.raises(CodeRefused):
        run(once("k", failing(CodeRefused("used"))), driver=driver)
    assert driver._work == {}


@pytest.mark.parametrize("backend", BACKENDS)
def test_tasks_that_ask_the_same_share_one_answer(server: FaultServer, backend: str) -> None:
    slow(server)
    driver = Driver(5)

    async def main() -> list[Any]:
        results: list[Any] = []

        async def one(key: str) -> None:
            results.append(await driver.arun(once(key, get(server.url)), 5))

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(one, "ab"[number % 2])
        return results

    results = anyio.run(main, backend=backend)
    assert len(results) == 20
    assert len(server.requests) == 2
    assert driver._work == {}


def test_threads_that_ask_the_same_share_one_answer(server: FaultServer) -> None:
    slow(server)
    driver = Driver(5)
    assert in_threads(20, lambda _: driver.run(once("k", get(server.url)), 5)) == [{"ok": 1}] * 20
    assert len(server.requests) == 1


def test_threads_that_ask_the_same_share_one_error(server: FaultServer) -> None:
    server.handlers["me"] = hangs
    driver = Driver(0.3)
    outcomes = in_threads(5, lambda _: driver.run(once("k", get(server.url)), 5))
    assert [type(outcome) for outcome in outcomes] == [WhopUnreachable] * 5
    assert len(server.requests) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_tasks_that_ask_the_same_share_one_error(server: FaultServer, backend: str) -> None:
    server.handlers["me"] = hangs
    driver = Driver(0.3)
    outcomes: list[type[Exception]] = []

    async def one() -> None:
        try:
            await driver.arun(once("k", get(server.url)), 5)
        except SignInError as error:
            outcomes.append(type(error))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(one)

    anyio.run(main, backend=backend)
    assert outcomes == [WhopUnreachable] * 5
    assert len(server.requests) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_when_the_first_is_cancelled_another_takes_over(server: FaultServer, backend: str) -> None:
    server.handlers["me"] = hangs
    driver = Driver(5)

    async def main() -> Any:
        result: list[Any] = []

        async def follow() -> None:
            result.append(await driver.arun(once("k", get(server.url)), 5))

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as leaders:
                    leaders.start_soon(driver.arun, once("k", get(server.url)), 5)
                    await anyio.sleep(0.1)
                    group.start_soon(follow)
                    await anyio.sleep(0.1)
                    server.handlers["me"] = answers({"ok": True})
                    scope.cancel()
        return result

    assert anyio.run(main, backend=backend) == [{"ok": True}]
    assert driver._work == {}


def test_when_the_first_thread_dies_another_takes_over(server: FaultServer) -> None:
    driver = Driver(5)
    leads, dies = threading.Event(), threading.Event()

    def dying() -> Flow[Any]:
        leads.set()
        dies.wait(5)
        raise SystemExit
        yield

    def work(number: int) -> Any:
        if number == 0:
            return driver.run(once("k", dying()), 5)
        leads.wait(5)
        threading.Timer(0.1, dies.set).start()
        return driver.run(once("k", get(server.url)), 5)

    outcomes = in_threads(2, work)
    assert isinstance(outcomes[0], SystemExit)
    assert outcomes[1] == {"ok": True}


def test_who_waits_for_another_waits_no_longer_than_its_own_budget(server: FaultServer) -> None:
    server.handlers["me"] = hangs
    driver = Driver(2)
    leader = threading.Thread(target=lambda: in_vain(driver, once("k", get(server.url)), 1))
    leader.start()
    time.sleep(0.1)
    began = time.monotonic()
    with pytest.raises(WhopUnreachable):
        driver.run(once("k", value(1)), 0.2)
    assert time.monotonic() - began < 0.8
    leader.join()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_task_that_waits_for_another_waits_no_longer_than_its_own_budget(server: FaultServer, backend: str) -> None:
    server.handlers["me"] = hangs
    driver = Driver(2)

    async def main() -> float:
        async with anyio.create_task_group() as group:
            group.start_soon(driver.arun, once("k", get(server.url)), 2)
            await anyio.sleep(0.1)
            began = time.monotonic()
            with pytest.raises(WhopUnreachable):
                await driver.arun(once("k", value(1)), 0.2)
            group.cancel_scope.cancel()
        return time.monotonic() - began

    assert anyio.run(main, backend=backend) < 1.5

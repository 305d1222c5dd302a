"""Flows to run, and threads to run them in. Opens no socket by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from whop_middleware.drive import Driver
from whop_middleware.errors import WhopUnreachable
from whop_middleware.messages import Flow, Once

from .faults import Connection, FaultServer, answers

BACKENDS = ("asyncio", "trio")
RUNNERS = ("thread", *BACKENDS)
Runner = Callable[..., Any]


def runner(kind: str) -> Runner:
    """Run flows in a thread or in a loop."""

    def run(flow: Flow[Any], *, driver: Driver | None = None, budget: float = 5) -> Any:
        driver = driver or Driver(5)
        if kind == "thread":
            return driver.run(flow, budget)
        return anyio.run(driver.arun, flow, budget, backend=kind)

    return run


def get(url: str) -> Flow[Any]:
    response = yield httpx.Request("GET", f"{url}/me")
    return response.json()


def value(result: object) -> Flow[Any]:
    return result
    yield


def failing(error: Exception) -> Flow[Any]:
    raise error
    yield


def once(key: str, flow: Flow[Any]) -> Flow[Any]:
    result = yield Once(key, flow)
    return result


def slow(server: FaultServer, seconds: float = 0.1) -> None:
    def late(connection: Connection) -> None:
        time.sleep(seconds)
        answers({"ok": len(server.requests)})(connection)

    server.handlers["me"] = late


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in threads that start together; return results and errors in order."""
    outcomes: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def one(number: int) -> None:
        barrier.wait()
        try:
            outcomes[number] = work(number)
        except BaseException as error:
            outcomes[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return outcomes


def in_vain(driver: Driver, flow: Flow[Any], budget: float) -> None:
    with pytest.raises(WhopUnreachable):
        driver.run(flow, budget)

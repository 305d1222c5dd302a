"""Every way an answer can be wrong or slow, over real loopback sockets, on both adapters."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults import (
    Connection,
    FaultServer,
    Handler,
    answers,
    answers_well,
    closes,
    endless,
    expand,
    http,
    planned,
    resets,
    sends,
)
from tests.support import Site

from .conftest import CORPUS, FAULTS, TIMEOUT, arrive, assert_failed, assert_in, check, no_descriptor_left

ANSWERS = [entry for entry in CORPUS if "fault" not in entry["response"]]
RETRY_AFTERS = ("30", "99999999999", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "garbage", "1e3", "٣")


@pytest.mark.parametrize("entry", ANSWERS, ids=[f"{entry['id']}-{entry['title'][:30]}" for entry in ANSWERS])
def test_an_answer_of_the_corpus(
    entry: dict[str, Any], make_site: Callable[..., Site], server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    response = entry["response"]
    if entry["endpoint"] == "me":
        server.handlers["me"] = planned(response)
    else:
        server.handlers["token"] = planned(response)
        me = response.get("me")
        server.handlers["me"] = answers_well("me") if me is None else sends(http(200, {}, expand(me)))
    with no_descriptor_left():
        check(make_site(server.url, timeout=2), entry["expect"], caplog)
    assert not any(b"sid=evil" in head or b"evil.example" in head for head in server.requests)
    assert {head.split(b" ")[1] for head in server.requests} <= {b"/v5/oauth/token", b"/v5/me"}
    assert server.sent < 20_000_000


def test_every_entry_of_the_corpus_is_tested() -> None:
    assert len(ANSWERS) + len(FAULTS) == len(CORPUS) == 99


@pytest.mark.parametrize("value", RETRY_AFTERS)
def test_a_wait_is_passed_on_only_when_it_is_digits(
    value: str, make_site: Callable[..., Site], server: FaultServer
) -> None:
    server.handlers["token"] = sends(
        http(429, {}, b"").replace(b"Connection", f"Retry-After: {value}\r\nConnection".encode())
    )
    site = make_site(server.url)
    answer, browser = arrive(site)
    assert_failed(answer, browser, 503)
    assert answer.header("retry-after") == {"30": "30", "99999999999": "3600"}.get(value, "60")
    arrive(site)
    assert len(server.requests) == 1


def test_no_answer_makes_the_process_grow(make_site: Callable[..., Site], server: FaultServer) -> None:
    head = http(200, {"Content-Type": "application/json"}, b"", length=False)
    site = make_site(server.url, timeout=2)
    for handler in (endless(head), endless(http(200, {"Content-Encoding": "gzip"}, b"", length=False))):
        server.handlers["token"] = handler
        arrive(site)
        tracemalloc.start()
        assert_failed(*arrive(site), 502)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * 1024 * 1024
    assert server.sent < 40_000_000


def test_answers_that_take_their_time(make_site: Callable[..., Site], server: FaultServer) -> None:
    dice = random.Random(7)

    def late(name: str) -> Handler:
        def handler(connection: Connection) -> None:
            time.sleep(dice.random() * TIMEOUT * 1.5)
            answers_well(name)(connection)

        return handler

    server.handlers = {"token": late("token"), "me": late("me")}
    site = make_site(server.url)
    for _ in range(4):
        answer, browser = arrive(site)
        if answer.status == 303:
            assert_in(answer, browser)
        else:
            assert_failed(answer, browser, 503)


def test_me_is_asked_once_more_after_an_error_of_transport_or_server(
    make_site: Callable[..., Site], server: FaultServer
) -> None:
    for fault in (resets, closes, answers({}, 503), answers({}, 500)):
        faults = iter([fault, answers_well("me")])
        server.requests.clear()
        server.handlers["me"] = lambda connection, faults=faults: next(faults)(connection)  # type: ignore[misc]
        assert_in(*arrive(make_site(server.url, timeout=2)))
        assert [head.split(b" ")[1] for head in server.requests] == [b"/v5/oauth/token", b"/v5/me", b"/v5/me"]

"""Run a flow: all the I/O there is, for threads (`run`) and for event loops (`arun`). Follows no redirect."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import BadWhopAnswer, SignInError, WhopUnreachable
from .messages import Flow, Once, Together
from .whop.answers import is_encoded

if TYPE_CHECKING:
    import ssl

    import httpx

T = TypeVar("T")

HEADERS_LIMIT = 1000
"""Header lines of an answer; Whop sends some twenty."""
ANSWER_LIMIT = 1024 * 1024
"""Bytes of an answer that are read at most; Whop's largest is a page of memberships, some 50 kB."""
HEAD_LIMIT = 256 * 1024
"""Bytes of its head and of the framing of its body, which h11 holds to 100 kB at a time."""


@dataclass(slots=True)
class Step:
    """Where a flow stands: at a question (`ask`), or done (`result`)."""

    ask: Any = None
    result: Any = None
    done: bool = False


def advance(flow: Flow[Any], answer: Any = None, error: BaseException | None = None) -> Step:
    """Give a flow its answer and return where it stands then. `StopIteration` never leaves this function."""
    try:
        return Step(ask=flow.send(answer) if error is None else flow.throw(error))
    except StopIteration as stop:
        return Step(result=stop.value, done=True)


@dataclass(slots=True)
class _Work:
    """A flow in flight that others wait for; without an outcome it was given up."""

    done: Any
    outcome: Step | SignInError | None = None

    def finish(self) -> Any:
        if isinstance(self.outcome, SignInError):
            raise self.outcome
        return self.outcome.result if self.outcome is not None else None


@functools.cache
def ssl_context() -> ssl.SSLContext:
    """Return the process's one SSL context: building it costs ~25 ms of CPU, so the first sign-in does."""
    import httpx

    return httpx.create_ssl_context()


@dataclass(slots=True)
class _Call:
    """One HTTP call: what it may still take, and how an answer is put together within its limits."""

    request: httpx.Request
    ends: float

    def prepare(self) -> httpx.Request:
        import httpx

        seconds = max(self.ends - time.monotonic(), 0.001)
        self.request.extensions["timeout"] = httpx.Timeout(seconds).as_dict()
        return self.request

    def check(self, body: bytearray) -> None:
        if len(body) > ANSWER_LIMIT:
            raise BadWhopAnswer("Whop's answer is over 1 MiB")
        if time.monotonic() > self.ends:
            raise WhopUnreachable("Whop took too long")

    def answer(self, response: httpx.Response, body: bytearray) -> httpx.Response:
        import httpx

        if len(response.headers.raw) > HEADERS_LIMIT:
            raise BadWhopAnswer("Whop's answer has too many headers")
        # The parsers refuse an encoded answer by its header, after they have looked at its status.
        content = b"" if is_encoded(response) else bytes(body)
        return httpx.Response(response.status_code, headers=response.headers, content=content, request=self.request)


@contextmanager
def _faults(reading: bool = False) -> Iterator[None]:
    """Turn the client's errors into ours; the messages name the kind of fault and nothing that was sent."""
    import httpx

    try:
        yield
    except httpx.RemoteProtocolError as error:
        kind = BadWhopAnswer if reading else WhopUnreachable
        raise kind("Whop's answer broke off" if reading else "Whop did not answer in HTTP") from error
    except httpx.DecodingError as error:
        raise BadWhopAnswer("Whop encoded its answer though it was asked not to") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise WhopUnreachable(f"Whop could not be reached ({type(error).__name__})") from error
    except (ValueError, ImportError) as error:
        raise WhopUnreachable("The proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used") from error


@dataclass(slots=True)
class _Run:
    """What one run shares: its end, its client once there is one."""

    ends: float
    client: Any = None


class Driver:
    """Runs flows for one middleware; keeps only the work in flight."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._work: dict[Hashable, _Work] = {}

    # Threads

    def run(self, flow: Flow[T], budget: float) -> T:
        """Run a flow to its end in this thread, within `budget` seconds of waiting for Whop."""
        step = advance(flow)
        if step.done:
            return step.result  # type: ignore[no-any-return]
        run = _Run(time.monotonic() + budget)
        try:
            return self._finish(flow, step, run)  # type: ignore[no-any-return]
        finally:
            if run.client is not None:
                run.client.close()

    def _finish(self, flow: Flow[Any], step: Step, run: _Run) -> Any:
        try:
            while not step.done:
                try:
                    answer = self._answer(step.ask, run)
                except SignInError as error:
                    step = advance(flow, error=error)
                else:
                    step = advance(flow, answer)
            return step.result
        finally:
            flow.close()

    def _answer(self, ask: Any, run: _Run) -> Any:
        if isinstance(ask, Once):
            return self._once(ask, run)
        if isinstance(ask, Together):
            return [self._finish(flow, advance(flow), run) for flow in ask.flows]
        return self._send(ask, run)

    def _once(self, ask: Once, run: _Run) -> Any:
        key = (os.getpid(), ask.key)  # what was in flight at a fork is the parent's, and never ends here
        while True:
            work = _Work(threading.Event())
            known = self._work.setdefault(key, work)
            if known is work:
                return self._lead(ask, key, work, run)
            if not known.done.wait(max(run.ends - time.monotonic(), 0)):
                raise WhopUnreachable("Whop took too long")
            if known.outcome is not None:
                ask.flow.close()
                return known.finish()

    def _lead(self, ask: Once, key: Hashable, work: _Work, run: _Run) -> Any:
        try:
            work.outcome = Step(result=self._finish(ask.flow, advance(ask.flow), run), done=True)
        except SignInError as error:
            work.outcome = error
            raise
        finally:
            self._work.pop(key, None)
            work.done.set()
        return work.finish()

    def _send(self, request: httpx.Request, run: _Run) -> httpx.Response:
        call, attempts = _Call(request, min(time.monotonic() + self.timeout, run.ends)), 2
        while time.monotonic() < call.ends:
            try:
                return self._exchange(call, run)
            except WhopUnreachable as error:
                attempts -= 1
                error.tried_again = not attempts
                if error.tried_again or not _never_connected(error):
                    raise
        raise WhopUnreachable("Whop took too long")

    def _exchange(self, call: _Call, run: _Run) -> httpx.Response:
        from .deadline import client

        if run.client is None:
            run.client = client(ssl_context())
        run.client.ends = call.ends
        with _faults():
            response = run.client.send(call.prepare(), stream=True)
        body = bytearray()
        try:
            with _faults(reading=True):
                for chunk in response.iter_raw():
                    body += chunk
                    call.check(body)
        finally:
            response.close()
        return call.answer(response, body)

    # Event loops

    async def arun(self, flow: Flow[T], budget: float) -> T:
        """Run a flow to its end in this task (asyncio or trio), within `budget` seconds of waiting for Whop."""
        step = advance(flow)
        if step.done:
            return step.result  # type: ignore[no-any-return]
        run = _Run(time.monotonic() + budget)
        try:
            return await self._afinish(flow, step, run)  # type: ignore[no-any-return]
        finally:
            if run.client is not None:
                await _close_shielded(run.client)

    async def _afinish(self, flow: Flow[Any], step: Step, run: _Run) -> Any:
        try:
            while not step.done:
                try:
                    answer = await self._aanswer(step.ask, run)
                except SignInError as error:
                    step = advance(flow, error=error)
                else:
                    step = advance(flow, answer)
            return step.result
        finally:
            flow.close()

    async def _aanswer(self, ask: Any, run: _Run) -> Any:
        if isinstance(ask, Once):
            return await self._aonce(ask, run)
        if isinstance(ask, Together):
            return await self._atogether(ask, run)
        return await self._asend(ask, run)

    async def _atogether(self, ask: Together, run: _Run) -> list[Any]:
        import anyio

        outcomes: list[Step | SignInError] = [Step() for _ in ask.flows]

        async def one(index: int, flow: Flow[Any]) -> None:
            try:
                outcomes[index] = Step(result=await self._afinish(flow, advance(flow), run), done=True)
            except SignInError as error:
                outcomes[index] = error

        if len(ask.flows) == 1:
            await one(0, ask.flows[0])
        else:
            async with anyio.create_task_group() as group:
                for index, flow in enumerate(ask.flows):
                    group.start_soon(one, index, flow)
        return [_result(outcome) for outcome in outcomes]

    async def _aonce(self, ask: Once, run: _Run) -> Any:
        import anyio

        # An event belongs to its loop, and a thread runs one loop at a time.
        key = (os.getpid(), threading.get_ident(), ask.key)
        while True:
            work = _Work(anyio.Event())
            known = self._work.setdefault(key, work)
            if known is work:
                return await self._alead(ask, key, work, run)
            with anyio.move_on_after(max(run.ends - time.monotonic(), 0)) as scope:
                await known.done.wait()
            if scope.cancelled_caught:
                raise WhopUnreachable("Whop took too long")
            if known.outcome is not None:
                ask.flow.close()
                return known.finish()

    async def _alead(self, ask: Once, key: Hashable, work: _Work, run: _Run) -> Any:
        try:
            work.outcome = Step(result=await self._afinish(ask.flow, advance(ask.flow), run), done=True)
        except SignInError as error:
            work.outcome = error
            raise
        finally:
            self._work.pop(key, None)
            work.done.set()
        return work.finish()

    async def _asend(self, request: httpx.Request, run: _Run) -> httpx.Response:
        import anyio

        call, attempts = _Call(request, min(time.monotonic() + self.timeout, run.ends)), 2
        with anyio.move_on_after(max(call.ends - time.monotonic(), 0)):
            while True:
                try:
                    return await self._aexchange(call, run)
                except WhopUnreachable as error:
                    attempts -= 1
                    error.tried_again = not attempts
                    if error.tried_again or not _never_connected(error):
                        raise
        raise WhopUnreachable("Whop took too long")

    async def _aexchange(self, call: _Call, run: _Run) -> httpx.Response:
        from .deadline import async_client

        if run.client is None:
            run.client = async_client(ssl_context(), ANSWER_LIMIT + HEAD_LIMIT)
        with _faults():
            response = await run.client.send(call.prepare(), stream=True)
        body = bytearray()
        async with _closing(response):
            with _faults(reading=True):
                async for chunk in response.aiter_raw():
                    body += chunk
        call.check(body)
        return call.answer(response, body)


def _never_connected(error: WhopUnreachable) -> bool:
    import httpx

    return isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)


def _result(outcome: Step | SignInError) -> Any:
    if isinstance(outcome, SignInError):
        raise outcome
    return outcome.result


@asynccontextmanager
async def _closing(response: httpx.Response) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await response.aclose()


async def _close_shielded(client: httpx.AsyncClient) -> None:
    import anyio

    with anyio.CancelScope(shield=True):
        await client.aclose()

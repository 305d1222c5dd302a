"""How many sign-ins a second: 64 callbacks in flight, Whop takes 50 ms; beside bare httpx in the same run."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from whop_middleware import WhopConfig, WhopMiddleware
from whop_middleware.drive import ssl_context
from whop_middleware.states import LoginCookie, States

IN_FLIGHT, SIGN_INS, ROUNDS = 64, 640, 3
DELAY = 0.05
_BODIES = {
    b"POST": json.dumps({"access_token": "AT", "token_type": "bearer"}).encode(),
    b"GET ": json.dumps({"id": "user_1", "username": "alice", "name": "Alice"}).encode(),
}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            await reader.readexactly(length)
            await asyncio.sleep(DELAY)
            body = _BODIES[head[:4]]
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _serve(pipe: multiprocessing.connection.Connection) -> None:
    async def main() -> None:
        server = await asyncio.start_server(_answer, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def _rate(one: Callable[[int], Awaitable[None]]) -> float:
    numbers = iter(range(SIGN_INS))

    async def worker() -> None:
        for number in numbers:
            await one(number)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return SIGN_INS / (time.perf_counter() - began)


def _bare(url: str) -> Callable[[int], Awaitable[None]]:
    """Make the same two calls with a client of its own each time, on a shared SSL context: httpx's fastest way here."""

    async def one(number: int) -> None:
        async with httpx.AsyncClient(verify=ssl_context()) as client:
            answer = await client.post(f"{url}/v5/oauth/token", json={"code": str(number)})
            headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            (await client.get(f"{url}/v5/me", headers=headers)).json()

    return one


def _middleware(url: str) -> Callable[[int], Awaitable[None]]:
    config = WhopConfig(
        client_id="client_1",
        client_secret="client-secret-0123456789",
        redirect_uri="https://app.example/callback/whop",
        whop_url=url,
        api_url=url,
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("the callback never reaches the app")

    whop, states, login = WhopMiddleware(app, config=config), States(config), LoginCookie.new()
    cookie = states.set_login(login, True, time.time()).partition(";")[0].encode()

    async def one(number: int) -> None:
        state, _ = states.seal_state(login, "/", restarted=False, now=time.time())
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request"}

        scope = {
            "type": "http", "method": "GET", "scheme": "https", "path": "/callback/whop", "root_path": "",
            "query_string": f"code=c{number}&state={state}".encode(),
            "headers": [(b"host", b"app.example"), (b"cookie", cookie)],
        }  # fmt: skip
        await whop(scope, receive, send)
        if sent[0]["status"] != 303 or (b"location", b"/") not in sent[0]["headers"]:
            raise RuntimeError("the sign-in failed")

    return one


async def _compare(url: str) -> None:
    bare, ours = _bare(url), _middleware(url)
    rates = [(await _rate(bare), await _rate(ours)) for _ in range(ROUNDS)]
    theirs, mine = sorted(bare for bare, _ in rates)[ROUNDS // 2], sorted(our for _, our in rates)[ROUNDS // 2]
    print(f"bare httpx, the same two calls                {theirs:10.0f} /s")
    print(
        f"callbacks with state                          {mine:10.0f} /s  {mine / theirs:.2f}x  (target: at least 0.7x)"
    )


def main() -> None:
    """Print the figures."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        asyncio.run(_compare(f"http://127.0.0.1:{ours.recv()}"))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()

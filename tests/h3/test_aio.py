"""Waiting and being cancelled, under asyncio and uvloop."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from h3.client import H3Client
from h3.server import Reply, Request

Serving = Callable[..., Any]


async def echo(request: Request) -> Reply:
    return Reply(200, body=await request.read(), trailers=[("x-sum", "1")])


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(5):
        await asyncio.sleep(0)
        yield bytes(100_000)


async def whole_exchange(client: H3Client) -> None:
    """Every await that the client offers."""
    await client.session.wait_settings()
    size = 0
    async with await client.post("/", pieces()) as response:
        async for chunk in response:
            size += len(chunk)
    assert size == 500_000


LOOPS = ["asyncio", "uvloop"]


def run_on(loop: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run on one of the loops; what is left behind, a task or a resource, is an error."""
    factory = asyncio.new_event_loop if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    problems: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        await main()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(watched())
        gc.collect()
    assert not problems, problems


@pytest.mark.parametrize("loop", LOOPS)
def test_an_exchange_cancelled_anywhere_leaves_the_connection_usable(serving: Serving, loop: str) -> None:
    """After 0, 1, 2, ... turns of the loop, until the exchange is through before it can be cancelled."""

    async def main() -> None:
        finished = False
        async with serving(echo) as (client, server):
            for turns in [*range(40), *range(40, 4000, 25)]:
                task = asyncio.ensure_future(whole_exchange(client))
                for _ in range(turns):
                    await asyncio.sleep(0)
                finished = task.done()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                if finished:
                    break
                response = await client.post("/", b"still here")
                assert await response.read() == b"still here"
            assert finished
            (session,) = server._sessions
            async with asyncio.timeout(10):
                while client.session.h3.exchanges or session.h3.h3.exchanges or client._senders or session._tasks:
                    await asyncio.sleep(0)

    run_on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_connecting_cancelled_anywhere_leaves_nothing(serving: Serving, loop: str) -> None:
    async def connect(port: int, configuration: Any) -> None:
        async with H3Client.connect("127.0.0.1", port, configuration=configuration) as client:
            await client.get("/")

    async def main() -> None:
        async with serving(echo) as (client, server):
            port = server.server.addresses[0][1]
            for turns in range(0, 60, 2):
                task = asyncio.ensure_future(connect(port, client.session.h3.quic.configuration))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert (await client.get("/")).status == 200

    run_on(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_closed_in_the_middle_wakes_everybody(serving: Serving, loop: str) -> None:
    async def main() -> None:
        async with serving(echo) as (client, server):
            tasks = [asyncio.ensure_future(whole_exchange(client)) for _ in range(5)]
            for _ in range(30):
                await asyncio.sleep(0)
            await asyncio.wait_for(server.close(), 10)
            results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
            assert all(isinstance(result, Exception) for result in results)

    run_on(loop, main)

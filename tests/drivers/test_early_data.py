"""Connections that begin with 0-RTT, on asyncio and without an event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from quicstack.drivers import blocking
from quicstack.drivers.aio import AsyncConnection, connect, serve
from quicstack.session_store import MemorySessionStore

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_connect_returns_at_once(pair: Any, run: Run) -> None:
    client_side = replace(pair.client, early_data=True, session_store=MemorySessionStore(), server_name="localhost")
    seen: list[tuple[bool, bytes]] = []

    async def answer(connection: AsyncConnection) -> None:
        stream = await connection.accept_stream()
        was_early = connection.engine.may_be_a_replay
        seen.append((was_early, await stream.read_all()))
        await connection.wait_connected()
        await stream.write_all(b"done")
        await connection.wait_closed()

    async def scenario() -> None:
        async with await serve(
            "127.0.0.1", 0, configuration=replace(pair.server, early_data=True), on_connection=answer
        ) as server:
            port = server.addresses[0][1]
            for is_early in (False, True):
                async with await connect("127.0.0.1", port, configuration=client_side) as connection:
                    assert connection.engine.handshake_complete != is_early
                    assert connection.engine.sends_early_data == is_early
                    stream = await connection.open_stream()
                    await stream.write_all(b"request")
                    assert await stream.read_all() == b"done"
                    await connection.wait_connected()
                    assert connection.engine.early_data_accepted == (True if is_early else None)
                connection.release()
                await connection.wait_released()

    run(scenario())
    assert seen == [(False, b"request"), (True, b"request")]


def test_blocking(pair: Any) -> None:
    client_side = replace(pair.client, early_data=True, session_store=MemorySessionStore(), server_name="localhost")
    with blocking.listen("127.0.0.1", 0, configuration=replace(pair.server, early_data=True)) as server:

        def serve_two() -> None:
            for _ in range(2):
                connection = server.accept(timeout=10)
                stream = connection.accept_stream(timeout=10)
                stream.write_all(stream.read_all(timeout=10).upper(), timeout=10)
                connection.wait_closed(timeout=10)

        thread = threading.Thread(target=serve_two)
        thread.start()
        try:
            for is_early in (False, True):
                with blocking.connect(
                    "127.0.0.1", server.address[1], configuration=client_side, timeout=10
                ) as connection:
                    assert connection.engine.sends_early_data == is_early
                    stream = connection.open_stream()
                    stream.write_all(b"request", timeout=10)
                    assert stream.read_all(timeout=10) == b"REQUEST"
                    connection.wait_connected(timeout=10)
                    assert connection.engine.early_data_accepted == (True if is_early else None)
        finally:
            thread.join(10)

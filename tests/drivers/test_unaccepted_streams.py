"""A peer opens streams faster than the application asks for them: it gets no others until then (RFC 9000 §4.6)."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from quicstack.drivers import blocking
from quicstack.drivers.aio import AsyncConnection, connect, serve
from quicstack.drivers.blocking import BlockingServer, listen
from quicstack.errors import StreamLimitReached

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.mark.attack("c: MAX_STREAMS / stream churn")
def test_streams_that_nobody_accepts_are_not_replaced(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        accepted: asyncio.Future[AsyncConnection] = asyncio.get_running_loop().create_future()
        configuration = dataclasses.replace(pair.server, initial_max_streams_uni=4)
        server = await serve("127.0.0.1", 0, configuration=configuration, on_connection=accepted.set_result)
        async with server:
            client = await connect("127.0.0.1", server.addresses[0][1], configuration=pair.client)
            async with client:
                theirs = await accepted
                for _ in range(4):
                    (await client.open_stream(unidirectional=True)).reset(7)
                while len(theirs._accepted) < 4 or client.engine._state.recovery.bytes_in_flight:
                    client.ping()
                    await asyncio.sleep(0.01)
                with pytest.raises(StreamLimitReached):
                    client.engine.open_stream(unidirectional=True)
                for _ in range(4):
                    await theirs.accept_stream()
                assert (await client.open_stream(unidirectional=True)).id == 2 + 4 * 4
            await client.wait_released()

    run(scenario())


def test_the_same_without_a_loop(pair: Any) -> None:
    configuration = dataclasses.replace(pair.server, initial_max_streams_uni=4)
    refused, accepted = threading.Event(), []

    def serving(server: BlockingServer) -> None:
        connection = server.accept(timeout=20)
        connection.until(lambda: refused.is_set() or None, 20)
        accepted.extend(connection.accept_stream(timeout=20).id for _ in range(4))
        connection.wait_closed(timeout=20)

    with listen("127.0.0.1", 0, configuration=configuration) as server:
        thread = threading.Thread(target=serving, args=(server,))
        thread.start()
        try:
            with blocking.connect("127.0.0.1", server.address[1], configuration=pair.client, timeout=20) as client:
                for _ in range(4):
                    client.open_stream(unidirectional=True).reset(7)
                for _ in range(5):
                    client.engine.ping()
                    client.until(lambda: not client.engine._state.recovery.bytes_in_flight or None, 20)
                with pytest.raises(StreamLimitReached):
                    client.engine.open_stream(unidirectional=True)
                refused.set()
                client.engine.ping()
                assert client.open_stream(unidirectional=True, timeout=20).id == 2 + 4 * 4
        finally:
            refused.set()
            thread.join(20)
    assert accepted == [2, 6, 10, 14]


@pytest.mark.attack("CVE-2026-44433")
def test_connections_that_nobody_accepts_are_forgotten_when_they_are_over(pair: Any) -> None:
    with listen("127.0.0.1", 0, configuration=pair.server) as server:
        driver = server._driver
        accepted = driver.endpoint.counters

        def all_over() -> bool | None:
            return (accepted.connections_accepted == 3 and not driver.connections) or None

        thread = threading.Thread(target=driver.until, args=(all_over, 20))
        thread.start()
        for _ in range(3):
            with blocking.connect("127.0.0.1", server.address[1], configuration=pair.client, timeout=20) as client:
                client.until(lambda client=client: client.engine.handshake_confirmed or None, 20)
        thread.join(20)
        assert not driver.connections and not driver.accepted

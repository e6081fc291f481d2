"""Streams, credit, datagrams, upper layers and the end of a connection, over real sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from quicstack.connection.connection import Ready
from quicstack.drivers.aio import AsyncConnection, AsyncStream, connect, serve
from quicstack.errors import ConfigurationError, ConnectionClosed, ConnectionTimeout, TransportErrorCode

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@asynccontextmanager
async def connected(pair: Any, **settings: Any) -> AsyncIterator[tuple[AsyncConnection, AsyncConnection]]:
    accepted: asyncio.Future[AsyncConnection] = asyncio.get_running_loop().create_future()
    configuration = dataclasses.replace(pair.server, **settings)
    server = await serve("127.0.0.1", 0, configuration=configuration, on_connection=accepted.set_result)
    async with server:
        client = await connect("127.0.0.1", server.addresses[0][1], configuration=pair.client)
        async with client:
            yield client, await accepted
        await client.wait_released()


def test_opening_waits_for_credit(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair, initial_max_streams_bidi=1) as (client, server):
            first = await client.open_stream()
            second = asyncio.ensure_future(client.open_stream())
            cancelled = asyncio.ensure_future(client.open_stream())
            await asyncio.sleep(0)
            assert not second.done()
            cancelled.cancel()
            await first.write_all(b"one")
            theirs = await server.accept_stream()
            assert await theirs.read_all() == b"one"
            await theirs.write_all(b"two")
            assert await first.read_all() == b"two"
            assert (await second).id == 4  # the cancelled one took nothing

    run(scenario())


def test_accepting_in_order_and_a_cancelled_accept_loses_nothing(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            accept = asyncio.ensure_future(server.accept_stream())
            await asyncio.sleep(0)
            accept.cancel()
            for name in (b"a", b"b"):
                stream = await client.open_stream(unidirectional=True)
                await stream.write_all(name)
            assert [await (await server.accept_stream()).read_all() for _ in range(2)] == [b"a", b"b"]
            await asyncio.wait([accept])
            assert accept.cancelled()

    run(scenario())


def test_the_face_of_a_stream_is_the_same_each_time(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, _):
            ours = await client.open_stream()
            assert client.stream(ours.engine) is ours

    run(scenario())


def test_finished_streams_are_forgotten(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            async with await connect("127.0.0.1", server.addresses[0][1], configuration=pair.client) as client:
                for _ in range(300):
                    stream = await client.open_stream()
                    await stream.write_all(b"?")
                    assert await stream.read_all() == b"echo ?"
                assert sum(isinstance(thing, AsyncStream) for thing in gc.get_objects()) < 200
            await client.wait_released()

    run(scenario())


def test_datagrams(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            cancelled = asyncio.ensure_future(server.receive_datagram())
            await asyncio.sleep(0)
            cancelled.cancel()
            assert client.send_datagram(b"1") and client.send_datagram(b"2")
            assert [await server.receive_datagram() for _ in range(2)] == [b"1", b"2"]
            with pytest.raises(ConfigurationError):
                client.send_datagram(bytes(client.engine.max_datagram_payload + 1))
            waiting = asyncio.ensure_future(server.receive_datagrams())
            await asyncio.sleep(0)
            assert not waiting.done()
            assert client.send_datagram(b"3") and client.send_datagram(b"4")
            assert await waiting == [b"3", b"4"]
            waiting = asyncio.ensure_future(server.receive_datagrams())
            await asyncio.sleep(0)
            client.close()
            with pytest.raises(ConnectionClosed):
                await waiting

    run(scenario())


def test_close_tells_the_peer_and_does_not_wait(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            client.close(7, "done")
            client.close(8, "again")
            assert client.closed is not None
            error = await server.wait_closed()
            assert isinstance(error, ConnectionClosed)
            assert (error.code, error.reason, error.by_peer, error.transport) == (7, "done", True, False)
            ours = await client.wait_closed()
            assert isinstance(ours, ConnectionClosed)
            assert (ours.code, ours.by_peer) == (7, False)

    run(scenario())


def test_silence_ends_a_connection_on_both_sides(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair, max_idle_timeout=0.2) as (client, server):
            assert isinstance(await client.wait_closed(), ConnectionTimeout)
            assert isinstance(await server.wait_closed(), ConnectionTimeout)
            with pytest.raises(ConnectionTimeout):
                await client.open_stream()

    run(scenario())


def test_a_ping_is_answered(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            stream = await client.open_stream()
            await stream.write(b"settle")
            await (await server.accept_stream()).read()
            before = server.engine.stats().counters.packets_received
            client.ping()
            while server.engine.stats().counters.packets_received == before:
                await asyncio.sleep(0)

    run(scenario())


class Recorder:
    """An upper layer that writes down what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Ready] = []

    def process(self, ready: Ready) -> None:
        self.seen.append(ready)

    @property
    def streams(self) -> list[int]:
        return [stream.id for ready in self.seen for stream in ready.streams]


def test_an_upper_layer_sees_what_came_before_it_and_after(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            early = await client.open_stream()
            await early.write(b"early")
            while server.engine.stream(early.id) is None:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            recorder = Recorder()
            server.set_protocol(recorder)
            assert recorder.streams == [early.id]
            late = await client.open_stream()
            await late.write(b"late")
            while late.id not in recorder.streams:
                await asyncio.sleep(0)
            client.close()
            await server.wait_closed()
            assert any(ready.state_changed for ready in recorder.seen[1:])

    run(scenario())


def test_waiters_of_a_stream_are_woken_beside_an_upper_layer(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            client.set_protocol(Recorder())
            ours = await client.open_stream()
            await ours.write(b"?")
            theirs = await server.accept_stream()
            await theirs.write_all(b"!")
            assert await ours.read_all() == b"!"

    run(scenario())


def test_an_upper_layer_that_raises_costs_its_connection_only(
    run: Run, pair: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def process(self, ready: Ready) -> None:
            if ready.streams:
                raise RuntimeError("broken upper layer")

    async def scenario() -> None:
        async with connected(pair) as (client, server):
            server.set_protocol(Broken())
            stream = await client.open_stream()
            await stream.write(b"?")
            error = await client.wait_closed()
            assert isinstance(error, ConnectionClosed)
            assert (error.code, error.transport) == (TransportErrorCode.INTERNAL_ERROR, True)
            assert "broken" not in error.reason

    run(scenario())
    assert "broken upper layer" in caplog.text


def test_one_line_in_the_log_when_it_opens_and_one_when_it_closes(
    run: Run, pair: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            client.close(3, "bye\nbye")
            await server.wait_closed()

    with caplog.at_level(logging.INFO, "quicstack"):
        run(scenario())
    lines = [record.getMessage() for record in caplog.records if record.name == "quicstack"]
    assert sum(" opened: " in line for line in lines) == 2
    assert all("TLS_" in line and "'echo'" in line and "127.0.0.1" in line for line in lines if " opened: " in line)
    closed = [line for line in lines if " closed by " in line]
    assert len(closed) == 2
    assert all("code 0x3" in line and "'bye\\nbye'" in line for line in closed)
    assert sorted(line.split(" closed by ")[1].split(":")[0] for line in closed) == ["the peer", "this side"]

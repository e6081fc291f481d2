"""Reading, writing and cancellation of one stream, over real sockets."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from quicstack.drivers.aio import AsyncConnection, AsyncStream, connect, serve
from quicstack.errors import ConnectionClosed, StreamError, StreamReset, StreamStopped

Run = Callable[[Coroutine[Any, Any, Any]], Any]

BUFFER = 1 << 16


@asynccontextmanager
async def connected(pair: Any) -> AsyncIterator[tuple[AsyncConnection, AsyncConnection]]:
    """A client and its server's side. Send buffers and windows are small, so that writers soon have to wait."""
    small = {
        "send_buffer": BUFFER,
        "initial_max_data": BUFFER,
        "initial_max_stream_data_bidi_remote": BUFFER,
        "max_stream_window": BUFFER,
        "max_connection_window": BUFFER,
    }
    accepted: asyncio.Future[AsyncConnection] = asyncio.get_running_loop().create_future()
    server = await serve(
        "127.0.0.1", 0, configuration=dataclasses.replace(pair.server, **small), on_connection=accepted.set_result
    )
    async with server:
        client = await connect(
            "127.0.0.1", server.addresses[0][1], configuration=dataclasses.replace(pair.client, **small)
        )
        async with client:
            yield client, await accepted
        await client.wait_released()


async def streams(client: AsyncConnection, server: AsyncConnection) -> tuple[AsyncStream, AsyncStream]:
    """Both ends of a stream, one byte already read."""
    ours = await client.open_stream()
    await ours.write(b"!")
    theirs = await server.accept_stream()
    assert await theirs.read() == b"!"
    return ours, theirs


async def suspended(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has run until it has to wait."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_read_gives_at_most_what_was_asked_for_and_then_the_end(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, theirs = await streams(client, server)
            assert (ours.id, ours.is_local, theirs.is_local, ours.is_unidirectional) == (0, True, False, False)
            await ours.write_all(b"abcdef")
            assert await theirs.read(2) == b"ab"
            assert await theirs.read(0) == b""
            assert await theirs.read_all() == b"cdef"
            assert await theirs.read() == b""
            assert [chunk async for chunk in theirs] == []

    run(scenario())


def test_iteration(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, theirs = await streams(client, server)
            writer = asyncio.ensure_future(ours.write_all(b"z" * 300_000))
            assert b"".join([chunk async for chunk in theirs]) == b"z" * 300_000
            await writer

    run(scenario())


def test_a_unidirectional_stream_goes_one_way(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours = await client.open_stream(unidirectional=True)
            await ours.write_all(b"one way")
            theirs = await server.accept_stream()
            assert theirs.is_unidirectional
            assert await theirs.read_all() == b"one way"
            with pytest.raises(StreamError):
                await theirs.write(b"back")
            with pytest.raises(StreamError):
                await ours.read()

    run(scenario())


def test_read_all_stops_at_its_limit(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, theirs = await streams(client, server)
            await ours.write_all(b"x" * 1001)
            with pytest.raises(StreamError, match="more than 1000 bytes"):
                await theirs.read_all(1000)

    run(scenario())


def test_a_cancelled_read_loses_nothing(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, theirs = await streams(client, server)
            await cancelled(await suspended(theirs.read()))
            # Cancelled in the moment in which the bytes came and woke it.
            reader = await suspended(theirs.read())
            await ours.write_all(b"kept")
            while not theirs.engine.readable and not reader.done():
                await asyncio.sleep(0)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            assert (b"" if reader.cancelled() else reader.result()) + await theirs.read_all() == b"kept"

    run(scenario())


def test_a_cancelled_write_says_how_much_it_accepted(run: Run, pair: Any) -> None:
    data = bytes(range(256)) * 1024

    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, theirs = await streams(client, server)
            writer = await suspended(ours.write(data))
            await cancelled(writer)
            accepted = ours.accepted
            assert BUFFER - 1 <= accepted < len(data)
            rest = asyncio.ensure_future(ours.write_all(data[accepted:]))
            assert await theirs.read_all() == data
            await rest

    run(scenario())


def test_a_cancelled_write_all_resets_the_stream(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, theirs = await streams(client, server)
            await cancelled(await suspended(ours.write_all(bytes(1 << 20), reset_code=7)))
            with pytest.raises(StreamReset) as caught:
                await theirs.read_all()
            assert caught.value.code == 7

    run(scenario())


def test_a_timeout_while_writing(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, _ = await streams(client, server)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await ours.write(bytes(1 << 20))
            assert 0 < ours.accepted < 1 << 20

    run(scenario())


def test_one_reader_and_one_writer(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, theirs = await streams(client, server)
            reader = await suspended(theirs.read())
            for second in (theirs.read, theirs.read_all):
                with pytest.raises(StreamError, match="reading"):
                    await second()
            writer = await suspended(ours.write(bytes(1 << 20)))
            with pytest.raises(StreamError, match="writing"):
                await ours.write(b"me too")
            await cancelled(writer)
            await reader
            ours.reset(1)

    run(scenario())


def test_the_peer_resets_while_we_wait(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, theirs = await streams(client, server)
            reader = await suspended(theirs.read())
            ours.reset(42)
            with pytest.raises(StreamReset) as caught:
                await reader
            assert (caught.value.code, caught.value.stream_id) == (42, ours.id)

    run(scenario())


def test_the_peer_stops_while_we_write(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, theirs = await streams(client, server)
            writer = await suspended(ours.write(bytes(1 << 20)))
            theirs.stop_sending(43)
            with pytest.raises(StreamStopped) as caught:
                await writer
            assert caught.value.code == 43
            with pytest.raises(StreamError, match="told to stop"):
                await theirs.read()

    run(scenario())


def test_our_own_stop_and_reset_wake_who_waits(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            _, theirs = await streams(client, server)
            reader = await suspended(theirs.read())
            theirs.stop_sending(1)
            with pytest.raises(StreamError):
                await reader
            other, _ = await streams(client, server)
            writer = await suspended(other.write(bytes(1 << 20)))
            other.reset(1)
            with pytest.raises(StreamError):
                await writer

    run(scenario())


@pytest.mark.parametrize("closer", ["client", "server"])
def test_the_end_of_the_connection_ends_every_wait(run: Run, pair: Any, closer: str) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, _ = await streams(client, server)
            waits = [
                await suspended(ours.read()),
                await suspended(ours.write(bytes(1 << 20))),
                await suspended(client.accept_stream()),
                await suspended(client.receive_datagram()),
                await suspended(client.wait_closed()),
            ]
            {"client": client, "server": server}[closer].close(9, "enough")
            results = await asyncio.gather(*waits, return_exceptions=True)
            for result in results:
                assert isinstance(result, ConnectionClosed)
                assert (result.code, result.reason, result.by_peer) == (9, "enough", closer == "server")
            with pytest.raises(ConnectionClosed):
                await client.open_stream()
            with pytest.raises(ConnectionClosed):
                await ours.write(b"late")

    run(scenario())


def test_what_had_arrived_before_the_end_can_be_read(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            ours, theirs = await streams(client, server)
            await ours.write(b"last words")
            while theirs.engine.readable < 10:
                await asyncio.sleep(0)
            client.close()
            await server.wait_closed()
            assert await theirs.read() == b"last words"
            with pytest.raises(ConnectionClosed):
                await theirs.read()

    run(scenario())

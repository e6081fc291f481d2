from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from quicstack.drivers.aio import AsyncConnection, UdpOptions, connect, serve
from quicstack.errors import ConfigurationError, ConnectionClosed, TransportErrorCode

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_many_clients_at_once(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:

            async def client(number: int) -> None:
                address = server.addresses[0]
                async with await connect(address[0], address[1], configuration=pair.client) as connection:
                    stream = await connection.open_stream()
                    await stream.write_all(b"%d" % number)
                    assert await stream.read_all() == b"echo %d" % number
                await connection.wait_released()

            await asyncio.gather(*(client(number) for number in range(10)))
            assert server.endpoint.counters.connections_accepted == 10

    run(scenario())


def test_closing_tells_every_client(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        server = await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo)
        port = server.addresses[0][1]
        clients = [await connect("127.0.0.1", port, configuration=pair.client) for _ in range(2)]
        for client in clients:
            stream = await client.open_stream()
            await stream.write_all(b"?")
            await stream.read_all()  # now the server, too, knows that the handshake is complete
        server.close(5, "maintenance")
        for client in clients:
            error = await client.wait_closed()
            assert isinstance(error, ConnectionClosed)
            assert (error.code, error.reason, error.by_peer) == (5, "maintenance", True)
        await server.wait_closed()
        for client in clients:
            await client.wait_released()

    run(scenario())


def test_a_closing_server_ends_its_handlers(run: Run, pair: Any) -> None:
    ended: list[BaseException] = []

    async def scenario() -> None:
        started = asyncio.Event()

        async def handler(connection: AsyncConnection) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                ended.append(error)
                raise

        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=handler) as server:
            client = await connect("127.0.0.1", server.addresses[0][1], configuration=pair.client)
            await started.wait()
        await client.wait_released()

    run(scenario())
    assert len(ended) == 1


@pytest.mark.parametrize("awaits", [False, True])
def test_a_handler_that_raises_costs_its_connection_only(
    run: Run, pair: Any, caplog: pytest.LogCaptureFixture, awaits: bool
) -> None:
    async def fails_later(connection: AsyncConnection) -> None:
        await connection.accept_stream()
        raise RuntimeError("broken handler")

    def fails_now(connection: AsyncConnection) -> None:
        raise RuntimeError("broken handler")

    async def scenario() -> None:
        handler = fails_later if awaits else fails_now
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=handler) as server:
            for _ in range(2):
                client = await connect("127.0.0.1", server.addresses[0][1], configuration=pair.client)
                if awaits:
                    await (await client.open_stream()).write(b"?")
                error = await client.wait_closed()
                assert isinstance(error, ConnectionClosed)
                assert error.code == TransportErrorCode.INTERNAL_ERROR
                await client.wait_released()

    run(scenario())
    assert caplog.text.count("broken handler") >= 2


def test_a_handler_that_meets_the_end_of_its_connection_is_no_error(
    run: Run, pair: Any, echo: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            async with await connect("127.0.0.1", server.addresses[0][1], configuration=pair.client) as client:
                pass
            await client.wait_released()

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert caplog.records == []


def test_a_plain_function_may_take_connections(run: Run, pair: Any) -> None:
    taken: list[AsyncConnection] = []

    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=taken.append) as server:
            async with await connect("127.0.0.1", server.addresses[0][1], configuration=pair.client) as client:
                while not taken:
                    await asyncio.sleep(0)
            await client.wait_released()

    run(scenario())
    assert len(taken) == 1


def test_a_server_without_certificates_says_what_is_missing(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigurationError, match="certificates"):
            await serve("127.0.0.1", 0, configuration=pair.client, on_connection=echo)

    run(scenario())


def test_a_port_that_is_taken(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            port = server.addresses[0][1]
            with pytest.raises(OSError, match="in use"):
                await serve(["127.0.0.2", "127.0.0.1"], port, configuration=pair.server, on_connection=echo)

    run(scenario())


def test_sockets_show_what_they_got(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        options = UdpOptions(receive_buffer=1 << 17)
        server = await serve(["127.0.0.1", "::1"], 0, configuration=pair.server, on_connection=echo, options=options)
        async with server:
            stats = server.socket_stats()
            assert len(stats) == 2
            assert all(one["receive_buffer"] >= 1 << 17 for one in stats)

    run(scenario())


def test_waiting_for_the_end_may_be_cancelled_and_still_closes(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        server = await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo)
        client = await connect("127.0.0.1", server.addresses[0][1], configuration=pair.client)
        server.close()
        wait = asyncio.ensure_future(server.wait_closed())
        await asyncio.sleep(0)
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)
        await client.wait_closed()
        await client.wait_released()

    run(scenario())


def test_a_closed_connection_is_freed_at_once(run: Run, pair: Any, no_cycles: Callable[[], Any]) -> None:
    """Its handler was told of the end by an exception, and neither may hold the other by it."""

    async def handler(connection: AsyncConnection) -> None:
        while True:
            stream = await connection.accept_stream()
            await stream.write_all(await stream.read_all())

    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=handler) as server:
            host, port = server.addresses[0][:2]

            async def client() -> None:
                async with await connect(host, port, configuration=pair.client) as connection:
                    stream = await connection.open_stream()
                    await stream.write_all(b"?")
                    assert await stream.read_all() == b"?"
                with contextlib.suppress(ConnectionClosed):
                    await connection.open_stream()
                await connection.wait_released()

            await client()
            with no_cycles():
                for _ in range(3):
                    await client()
                while server.endpoint.connections:
                    await asyncio.sleep(0.02)

    run(scenario())

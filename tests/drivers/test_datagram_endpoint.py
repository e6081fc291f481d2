"""The engine over ``asyncio.DatagramProtocol``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from quicstack.drivers.aio import connect, serve
from quicstack.errors import ConnectionClosed

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("server", [False, True])
def test_it_talks_to_itself_and_to_the_other_driver(run: Run, pair: Any, echo: Any, client: bool, server: bool) -> None:
    data = bytes(range(256)) * 1000

    async def scenario() -> None:
        listening = await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo, datagram_endpoint=server)
        async with listening:
            connection = await connect(
                "127.0.0.1", listening.addresses[0][1], configuration=pair.client, datagram_endpoint=client
            )
            async with connection:
                stream = await connection.open_stream()
                await stream.write_all(data)
                assert await stream.read_all() == b"echo " + data
                connection.send_datagram(b"quick")
                assert await connection.receive_datagram() == b"echo quick"
                assert connection.local_address[1] > 0
            await connection.wait_released()
            [stats] = listening.socket_stats()
            assert stats["gro"] == (not server and stats["gro"])

    run(scenario())


def test_several_addresses(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        server = await serve(
            ["127.0.0.1", "::1"], 0, configuration=pair.server, on_connection=echo, datagram_endpoint=True
        )
        async with server:
            for host, port, *_ in server.addresses:
                connection = await connect(host, port, configuration=pair.client, datagram_endpoint=True)
                async with connection:
                    assert connection.remote_address[0] == host
                await connection.wait_released()

    run(scenario())


def test_nobody_listens_is_no_exception_in_the_loop(run: Run, pair: Any) -> None:
    """Without the error queue the kernel tells an unconnected socket nothing: it looks like silence."""

    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            port = gone.getsockname()[1]
        with pytest.raises((TimeoutError, ConnectionClosed)):
            async with asyncio.timeout(0.1):
                await connect("127.0.0.1", port, configuration=pair.client, datagram_endpoint=True)

    run(scenario())


def test_no_route_is_told(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        # From loopback there is no way to an address of the documentation (RFC 5737).
        with pytest.raises(ConnectionClosed, match="unreachable"):
            await connect(
                "192.0.2.77",
                9,
                configuration=pair.client,
                local_address=("127.0.0.1", 0),
                datagram_endpoint=True,
            )

    run(scenario())

"""Moving to another socket, going where the server prefers, and the size of datagrams, over real sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from quicstack.drivers.aio import AsyncConnection, connect, serve
from quicstack.errors import MigrationRefused
from quicstack.tls.certificate import CertificateKey

Run = Callable[[Coroutine[Any, Any, Any]], Any]

DATA = bytes(range(256)) * 4096


async def echoed(client: AsyncConnection, data: bytes) -> bytes:
    stream = await client.open_stream()
    await stream.write_all(data)
    return await stream.read_all()


def test_moving_to_another_socket(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            port = server.addresses[0][1]
            async with await connect("127.0.0.1", port, configuration=pair.client) as client:
                assert await echoed(client, b"one") == b"echo one"
                transfer = asyncio.ensure_future(echoed(client, DATA))
                before = client.local_address
                await client.migrate(local_address=("127.0.0.2", 0))
                assert client.local_address != before and client.local_address[0] == "127.0.0.2"
                assert await transfer == b"echo " + DATA
                (seen,) = server.endpoint.connections
                assert seen.path.remote == client.local_address
                stats = client.engine.stats()
                assert stats.max_datagram_size == 1472
            await client.wait_released()

    run(scenario())


def test_a_refused_move_leaves_no_socket(run: Run, pair: Any, echo: Any) -> None:
    configuration = dataclasses.replace(pair.server, disable_active_migration=True)

    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=configuration, on_connection=echo) as server:
            port = server.addresses[0][1]
            async with await connect("127.0.0.1", port, configuration=pair.client) as client:
                assert await echoed(client, b"one") == b"echo one"
                with pytest.raises(MigrationRefused):
                    await client.migrate()
                assert await echoed(client, b"two") == b"echo two"
            await client.wait_released()

    run(scenario())


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_going_where_the_server_prefers(run: Run, pair: Any, echo: Any) -> None:
    preferred = ("127.0.0.2", free_port())
    configuration = dataclasses.replace(pair.server, preferred_ipv4=preferred)

    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=configuration, on_connection=echo) as server:
            port = server.addresses[0][1]
            async with await connect("127.0.0.1", port, configuration=pair.client) as client:
                for _ in range(20):
                    assert await echoed(client, DATA[:5000]) == b"echo " + DATA[:5000]
                assert client.remote_address == preferred
                (seen,) = server.endpoint.connections
                assert seen.path.local == preferred
            await client.wait_released()

    run(scenario())


@pytest.mark.peer
def test_moving_with_aioquic(pair: Any, certificate: CertificateKey) -> None:
    aioquic = pytest.importorskip("aioquic.asyncio", reason="install aioquic")
    from aioquic.quic.configuration import QuicConfiguration

    theirs = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    theirs.certificate, theirs.private_key = certificate.certificates[0], certificate.private_key
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"echo " + await reader.read())
        writer.write_eof()

    def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(answer(reader, writer)))

    async def scenario() -> None:
        server = await aioquic.serve("127.0.0.1", 0, configuration=theirs, stream_handler=on_stream)
        try:
            port = server._transport.get_extra_info("sockname")[1]
            async with await connect("127.0.0.1", port, configuration=pair.client) as client:
                assert await echoed(client, b"one") == b"echo one"
                transfer = asyncio.ensure_future(echoed(client, DATA))
                await client.migrate(local_address=("127.0.0.2", 0))
                assert await transfer == b"echo " + DATA
                assert client.local_address[0] == "127.0.0.2"
                await client.migrate(local_address=("127.0.0.1", 0))
                assert await echoed(client, b"two") == b"echo two"
            await client.wait_released()
        finally:
            server.close()

    with asyncio.Runner() as runner:  # aioquic leaves a timer behind
        runner.run(asyncio.wait_for(scenario(), 60))

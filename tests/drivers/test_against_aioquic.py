"""Both roles against aioquic over real sockets: a handshake and a megabyte each way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from quicstack.drivers.aio import UdpOptions, connect, serve
from quicstack.drivers.blocking import connect as connect_blocking
from quicstack.tls.certificate import CertificateKey

pytestmark = pytest.mark.peer

aioquic = pytest.importorskip("aioquic.asyncio", reason="install aioquic")

Run = Callable[[Coroutine[Any, Any, Any]], Any]

DATA = bytes(range(256)) * 4096


def server_configuration(certificate: CertificateKey) -> Any:
    from aioquic.quic.configuration import QuicConfiguration

    configuration = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    configuration.certificate = certificate.certificates[0]
    configuration.private_key = certificate.private_key
    return configuration


def client_configuration(certificate: CertificateKey) -> Any:
    from aioquic.quic.configuration import QuicConfiguration

    configuration = QuicConfiguration(is_client=True, alpn_protocols=["echo"], server_name="localhost")
    pem = certificate.certificates[0].public_bytes(serialization.Encoding.PEM)
    configuration.load_verify_locations(cadata=pem)
    return configuration


async def aioquic_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"echo " + await reader.read())
    writer.write_eof()


def handle(tasks: set[asyncio.Task[None]]) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
    def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(aioquic_echo(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return on_stream


@pytest.fixture(params=["trains", "packets", "datagram endpoint"])
def driver(request: pytest.FixtureRequest) -> dict[str, Any]:
    options = UdpOptions() if request.param == "trains" else UdpOptions(gso=False, gro=False, ecn=False)
    return {"options": options, "datagram_endpoint": request.param == "datagram endpoint"}


def test_our_client(pair: Any, certificate: CertificateKey, driver: dict[str, Any]) -> None:
    async def scenario() -> None:
        tasks: set[asyncio.Task[None]] = set()
        server = await aioquic.serve(
            "127.0.0.1", 0, configuration=server_configuration(certificate), stream_handler=handle(tasks)
        )
        try:
            port = server._transport.get_extra_info("sockname")[1]
            async with await connect("127.0.0.1", port, configuration=pair.client, **driver) as connection:
                for data in (b"hello", DATA):
                    stream = await connection.open_stream()
                    await stream.write_all(data)
                    assert await stream.read_all() == b"echo " + data
            await connection.wait_released()
        finally:
            server.close()

    with asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(scenario(), 60))


def test_our_server(pair: Any, echo: Any, certificate: CertificateKey, driver: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo, **driver) as server:
            port = server.addresses[0][1]
            configuration = client_configuration(certificate)
            async with aioquic.connect("127.0.0.1", port, configuration=configuration) as connection:
                for data in (b"hello", DATA):
                    reader, writer = await connection.create_stream()
                    writer.write(data)
                    writer.write_eof()
                    assert await reader.read() == b"echo " + data

    with asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(scenario(), 60))


def test_our_blocking_client(pair: Any, certificate: CertificateKey) -> None:
    async def scenario() -> None:
        tasks: set[asyncio.Task[None]] = set()
        server = await aioquic.serve(
            "127.0.0.1", 0, configuration=server_configuration(certificate), stream_handler=handle(tasks)
        )

        def script() -> bytes:
            port = server._transport.get_extra_info("sockname")[1]
            with connect_blocking("127.0.0.1", port, configuration=pair.client, timeout=20) as connection:
                stream = connection.open_stream(timeout=5)
                stream.write_all(DATA, timeout=20)
                return stream.read_all(timeout=20)

        try:
            assert await asyncio.to_thread(script) == b"echo " + DATA
        finally:
            server.close()

    with asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(scenario(), 60))

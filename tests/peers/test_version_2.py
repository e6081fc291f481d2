"""QUIC version 2 (RFC 9369) with aioquic, both roles: other Initial keys, other packet types, other labels."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from quicstack import CertificateKey, CertificateStore, Configuration, Trust
from quicstack.drivers.aio import AsyncConnection, connect, serve
from quicstack.wire.version import QUIC_V1, QUIC_V2

try:
    import aioquic.asyncio
    from aioquic.quic.configuration import QuicConfiguration
except ImportError:
    pytest.skip("aioquic is not installed: pip install aioquic", allow_module_level=True)

pytestmark = pytest.mark.peer

PAYLOAD = bytes(range(256)) * 400


async def test_their_client_with_our_server(certificate_files: Any) -> None:
    versions = []

    async def echo(connection: AsyncConnection) -> None:
        versions.append(connection.engine.version)
        stream = await connection.accept_stream()
        await stream.write_all(await stream.read_all())
        await connection.wait_closed()

    store = CertificateStore(CertificateKey.load(*map(str, certificate_files)))
    configuration = Configuration(alpn_protocols=("echo",), certificates=store, versions=(QUIC_V2, QUIC_V1))
    async with await serve("127.0.0.1", 0, configuration=configuration, on_connection=echo) as server:
        theirs = QuicConfiguration(is_client=True, alpn_protocols=["echo"], verify_mode=ssl.CERT_NONE)
        theirs.original_version = QUIC_V2
        theirs.supported_versions = [QUIC_V2]
        port = server.addresses[0][1]
        async with aioquic.asyncio.connect("127.0.0.1", port, configuration=theirs) as client:
            reader, writer = await client.create_stream()
            writer.write(PAYLOAD)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 30) == PAYLOAD
    assert versions == [QUIC_V2]


async def test_our_client_with_their_server(certificate_files: Any) -> None:
    tasks = set()

    def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def echo() -> None:
            writer.write(await reader.read())
            writer.write_eof()

        tasks.add(asyncio.get_running_loop().create_task(echo()))

    theirs = QuicConfiguration(is_client=False, alpn_protocols=["echo"], supported_versions=[QUIC_V2])
    theirs.load_cert_chain(*certificate_files)
    server = await aioquic.asyncio.serve("127.0.0.1", 0, configuration=theirs, stream_handler=on_stream)
    try:
        port = server._transport.get_extra_info("sockname")[1]
        trust = Trust.roots([str(certificate_files.certificate)])
        configuration = Configuration(
            alpn_protocols=("echo",), server_name="localhost", trust=trust, versions=(QUIC_V2,)
        )
        async with await connect("127.0.0.1", port, configuration=configuration) as connection:
            stream = await connection.open_stream()
            await stream.write_all(PAYLOAD)
            assert await stream.read_all() == PAYLOAD
            assert connection.engine.version == QUIC_V2
    finally:
        server.close()

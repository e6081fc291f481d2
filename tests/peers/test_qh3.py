"""QUIC streams with qh3, whose packets and TLS are Rust. Both roles; it agrees on X25519MLKEM768 when we can."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from quicstack import CertificateKey, CertificateStore, Configuration, Trust
from quicstack.drivers.aio import AsyncConnection, connect, serve
from quicstack.tls.groups import available_groups

try:
    import qh3.asyncio
    from qh3.quic.configuration import QuicConfiguration
except ImportError:
    pytest.skip("qh3 is not installed: pip install qh3", allow_module_level=True)

pytestmark = pytest.mark.peer

PAYLOAD = bytes(range(256)) * 4000
X25519MLKEM768 = 0x11EC


async def test_their_client_with_our_server(certificate_files: Any) -> None:
    seen: list[AsyncConnection] = []

    async def echo(connection: AsyncConnection) -> None:
        seen.append(connection)
        stream = await connection.accept_stream()
        await stream.write_all(await stream.read_all())
        await connection.wait_closed()

    store = CertificateStore(CertificateKey.load(*map(str, certificate_files)))
    configuration = Configuration(alpn_protocols=("echo",), certificates=store)
    async with await serve("127.0.0.1", 0, configuration=configuration, on_connection=echo) as server:
        theirs = QuicConfiguration(is_client=True, alpn_protocols=["echo"], verify_mode=ssl.CERT_NONE)
        port = server.addresses[0][1]
        async with qh3.asyncio.connect("127.0.0.1", port, configuration=theirs) as client:
            reader, writer = await client.create_stream()
            writer.write(PAYLOAD)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 30) == PAYLOAD
    if X25519MLKEM768 in available_groups():
        assert seen[0].engine.group_name == "X25519MLKEM768"


async def test_our_client_with_their_server(certificate_files: Any) -> None:
    tasks = set()

    def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def echo() -> None:
            writer.write(await reader.read())
            writer.write_eof()

        tasks.add(asyncio.get_running_loop().create_task(echo()))

    theirs = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    theirs.load_cert_chain(*map(str, certificate_files))
    server = await qh3.asyncio.serve("127.0.0.1", 0, configuration=theirs, stream_handler=on_stream)
    try:
        port = server._transport.get_extra_info("sockname")[1]
        trust = Trust.roots([str(certificate_files.certificate)])
        configuration = Configuration(alpn_protocols=("echo",), server_name="localhost", trust=trust)
        async with await connect("127.0.0.1", port, configuration=configuration) as connection:
            stream = await connection.open_stream()
            await stream.write_all(PAYLOAD)
            assert await stream.read_all() == PAYLOAD
    finally:
        server.close()

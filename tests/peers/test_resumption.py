"""Session resumption and 0-RTT with other stacks, over real sockets: taken and rejected, in both roles."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quicstack import CertificateKey, CertificateStore, Configuration, Trust
from quicstack.drivers.aio import AsyncConnection, connect, serve
from webtransport.certificates import generate_self_signed_cert

pytestmark = pytest.mark.peer

aioquic = pytest.importorskip("aioquic.asyncio", reason="install aioquic")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = generate_self_signed_cert(hostname="localhost", output_dir=str(folder))
    return Path(certificate), Path(key)


class Tickets:
    """What aioquic's server remembers."""

    def __init__(self) -> None:
        self.tickets: dict[bytes, Any] = {}

    def add(self, ticket: Any) -> None:
        self.tickets[ticket.ticket] = ticket

    def pop(self, label: bytes) -> Any:
        return self.tickets.pop(label, None)


@pytest.mark.parametrize("is_taken", [True, False])
def test_our_client(files: tuple[Path, Path], is_taken: bool) -> None:
    from aioquic.quic.configuration import QuicConfiguration

    theirs = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    theirs.load_cert_chain(*files)
    ours = Configuration(alpn_protocols=("echo",), trust=Trust.roots([files[0]]), early_data=True)
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.read())
        writer.write(b"done")
        writer.write_eof()

    async def scenario() -> None:
        tasks = []
        tickets = Tickets()
        server = await aioquic.serve(
            "127.0.0.1",
            0,
            configuration=theirs,
            stream_handler=lambda *pair: tasks.append(asyncio.ensure_future(answer(*pair))),
            session_ticket_fetcher=tickets.pop,
            session_ticket_handler=tickets.add,
        )
        port = server._transport.get_extra_info("sockname")[1]
        configuration = replace(ours, server_name="localhost")
        try:
            for number in range(2):
                if number and not is_taken:
                    tickets.tickets.clear()
                async with await connect("127.0.0.1", port, configuration=configuration) as connection:
                    assert connection.engine.sends_early_data == bool(number)
                    stream = await connection.open_stream()
                    await stream.write_all(b"request %d" % number)
                    assert await stream.read_all() == b"done"
                    await connection.wait_connected()
                    engine = connection.engine
                    assert engine.early_data_accepted == (is_taken if number else None)
                    assert engine.session_resumed == bool(number and is_taken)
        finally:
            server.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert requests == [b"request 0", b"request 1"]


@pytest.mark.parametrize("is_taken", [True, False])
def test_our_server(files: tuple[Path, Path], is_taken: bool) -> None:
    from aioquic.quic.configuration import QuicConfiguration

    key = CertificateKey.load(*files)
    ours = Configuration(
        alpn_protocols=("echo",), certificates=CertificateStore(key), early_data=True, ticket_key=bytes(32)
    )
    seen: list[tuple[bool, bool, bytes]] = []

    async def shout(connection: AsyncConnection) -> None:
        stream = await connection.accept_stream()
        is_early = connection.engine.may_be_a_replay
        data = await stream.read_all()
        seen.append((is_early, connection.engine.session_resumed, data))
        await stream.write_all(data.upper())
        await connection.wait_closed()

    async def scenario() -> None:
        saved: list[Any] = []
        async with (
            await serve("127.0.0.1", 0, configuration=ours, on_connection=shout) as first,
            await serve("127.0.0.1", 0, configuration=replace(ours, early_data=False), on_connection=shout) as other,
        ):
            for number in range(2):
                configuration = QuicConfiguration(is_client=True, alpn_protocols=["echo"], server_name="localhost")
                configuration.load_verify_locations(str(files[0]))
                configuration.session_ticket = saved[-1] if number else None
                async with aioquic.connect(
                    "127.0.0.1",
                    (first if is_taken or not number else other).addresses[0][1],
                    configuration=configuration,
                    session_ticket_handler=saved.append,
                    wait_connected=not number,
                ) as client:
                    reader, writer = await client.create_stream()
                    writer.write(b"request %d" % number)
                    writer.write_eof()
                    assert await reader.read() == b"REQUEST %d" % number
                    assert client._quic.tls.session_resumed == bool(number)
                    assert client._quic.tls.early_data_accepted == bool(number and is_taken)

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert [(resumed, data) for _, resumed, data in seen] == [(False, b"request 0"), (True, b"request 1")]
    assert seen[1][0] or not is_taken

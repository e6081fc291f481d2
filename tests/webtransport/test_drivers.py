"""The same session over every way that packets can take."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from quicstack.drivers.udp import UdpOptions
from webtransport import ClientConfig, ServerApp, WebTransportClient, WebTransportSession

pytestmark = pytest.mark.slow

Config = Callable[..., ClientConfig]
SIZE = 2_000_000


async def echo(session: WebTransportSession) -> None:
    await session.datagrams.send(await session.datagrams.receive())
    stream = await session.accept_stream()
    async for piece in stream:
        await stream.write(piece)
    stream.finish()
    await session.wait_closed()


async def talk(session: WebTransportSession) -> None:
    await session.datagrams.send(b"datagram")
    assert await session.datagrams.receive() == b"datagram"
    stream = await session.create_bidirectional_stream()
    data = bytes(range(256)) * (SIZE // 256)

    async def send() -> None:
        await stream.write_all(data)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        received = await stream.read_all()
    assert received == data


@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    "way",
    [
        {},
        {"datagram_endpoint": True},
        {"options": UdpOptions(gso=False)},
        {"options": UdpOptions(gro=False)},
        {"options": UdpOptions(ecn=False)},
        {"options": UdpOptions(gso=False, gro=False, ecn=False)},
    ],
    ids=["all", "datagram endpoint", "no GSO", "no GRO", "no ECN", "nothing"],
)
def test_ways(app: ServerApp, client_config: Config, way: dict[str, Any], uvloop: bool) -> None:
    app.add_route("/", echo)

    async def main() -> None:
        async with app.serve(**way) as server, WebTransportClient(client_config(), **way) as client:
            await talk(await client.connect(f"https://127.0.0.1:{server.port}/"))

    if uvloop:
        pytest.importorskip("uvloop").run(main())
    else:
        asyncio.run(main())


@pytest.mark.parametrize(
    ("bound", "asked"),
    [("0.0.0.0", "127.0.0.2"), ("::", "[::1]"), ("::", "127.0.0.2"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")],
)
@pytest.mark.parametrize("datagram_endpoint", [False, True], ids=["sockets", "datagram endpoint"])
async def test_addresses(
    app: ServerApp, client_config: Config, bound: str, asked: str, datagram_endpoint: bool
) -> None:
    """A server is answered from the address that it was asked at."""
    if datagram_endpoint and asked == "127.0.0.2":
        pytest.skip("not here: asyncio's datagram endpoints cannot choose the address they answer from")
    app.add_route("/", echo)
    config = ClientConfig.create(verify_mode=ssl.CERT_NONE)
    async with (
        app.serve(bound, datagram_endpoint=datagram_endpoint) as server,
        WebTransportClient(config, datagram_endpoint=datagram_endpoint) as client,
    ):
        await talk(await client.connect(f"https://{asked}:{server.port}/"))


async def test_several_addresses(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", echo)
    async with app.serve(["127.0.0.1", "::1"]) as server:
        assert len(server.addresses) == 2
        assert len({address[1] for address in server.addresses}) == 1
        for host in ("127.0.0.1", "[::1]"):
            async with WebTransportClient(client_config()) as client:
                await talk(await client.connect(f"https://{host}:{server.port}/"))

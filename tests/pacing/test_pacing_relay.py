"""Pacing as a network sees it: real sockets, and a relay in a process of its own that keeps time.

The link carries 10 Mbit/s with a queue of 25 packets. A burst is a run of packets that arrive at the relay each sooner
than twice the rate of the link would allow, so a queue can only grow while one passes. RFC 9002 §7.7 wants bursts of no
more than the initial window, ten packets.
"""

from __future__ import annotations

import asyncio

import pytest
from relay import Relay

from quicstack.config import Configuration
from quicstack.drivers.aio import AsyncConnection, connect, serve
from quicstack.simulator import identity
from quicstack.tls.certificate import CertificateStore
from quicstack.tls.trust import Trust

RATE = 10e6
QUEUE = 25
DELAY = 0.015
FASTER = 2.0


async def transfer(size: int) -> Relay:
    """The server sends ``size`` bytes through the relay; returns the relay with what it saw."""
    payload = bytes(size)
    for_server = Configuration(alpn_protocols=("bulk",), certificates=CertificateStore(identity("localhost")))
    for_client = Configuration(alpn_protocols=("bulk",), trust=Trust.insecure(), server_name="localhost")

    async def send(connection: AsyncConnection) -> None:
        stream = await connection.accept_stream()
        await stream.read_all()
        await stream.write_all(payload)

    async with await serve("127.0.0.1", 0, configuration=for_server, on_connection=send) as server:
        with Relay(server.addresses[0][1], rate=RATE, queue=QUEUE, delay=DELAY) as relay:
            async with await connect("127.0.0.1", relay.port, configuration=for_client) as connection:
                stream = await connection.open_stream()
                stream.finish()
                received = 0
                async for data in stream:
                    received += len(data)
                assert received == size
    return relay


@pytest.mark.slow
@pytest.mark.parametrize("size", [1_000_000, 20_000_000])
def test_bursts_and_loss(size: int) -> None:
    relay = asyncio.run(transfer(size))
    sent = relay.from_server
    seconds = sent.times[-1] - sent.times[0]
    print(
        f"{len(sent.times)} packets in {seconds:.2f} s, {sent.loss:.2%} lost, "
        f"longest burst {sent.longest_burst(RATE, FASTER)}, goodput {size * 8 / seconds / 1e6:.2f} Mbit/s"
    )
    assert sent.longest_burst(RATE, FASTER) <= 10
    if size >= 20_000_000:
        assert sent.loss < 0.02

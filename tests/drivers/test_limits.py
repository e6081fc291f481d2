"""What strangers can make grow in a driver."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from quicstack.drivers.control import ControlReader, ControlWriter
from quicstack.drivers.datagram_endpoint import MAX_RECEIVED, DatagramCarrier
from quicstack.drivers.loop import LoopDriver
from quicstack.drivers.system import real_environment
from quicstack.drivers.udp import UdpSocket
from quicstack.endpoint import Endpoint


def test_datagrams_that_wait_for_their_turn(pair: Any) -> None:
    """As many as the kernel would hold; more are dropped, as it would drop them."""

    async def scenario() -> None:
        endpoint = Endpoint(pair.server, environment=real_environment(), server=True)
        udp = UdpSocket.bind(("127.0.0.1", 0))
        try:
            carrier = DatagramCarrier(LoopDriver(endpoint, asyncio.get_running_loop()), udp)
            for n in range(MAX_RECEIVED + 1000):
                carrier.datagram_received(b"\x40" + bytes(40), ("127.0.0.1", 1 + n))
            assert len(carrier._received) == MAX_RECEIVED
            carrier.close()
        finally:
            udp.close()

    asyncio.run(scenario())


def test_addresses_of_a_socket() -> None:
    reader, writer = ControlReader(443), ControlWriter(socket.AF_INET)
    for n in range(5000):
        address = struct.pack(">I", 0x0A000000 + n)
        reader.local(struct.pack("=i4s4s", 1, address, address))
        writer.local((socket.inet_ntoa(address), 443))
    assert 0 < len(reader._known) <= 1024 and len(writer._locals) <= 1024

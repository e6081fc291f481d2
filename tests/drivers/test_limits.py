"""What strangers can make grow in a driver."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Any

import pytest

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


@pytest.mark.attack("CVE-2024-53259")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux, whose options these are")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernels_opinion_of_the_path_is_not_asked_for(host: str) -> None:
    """RFC 9000 §14.2.1: IP_PMTUDISC_PROBE, so that no forged Packet Too Big makes a send fail."""
    udp = UdpSocket.bind((host, 0))
    try:
        level, option = (socket.IPPROTO_IPV6, 23) if ":" in host else (socket.IPPROTO_IP, 10)
        assert udp.socket.getsockopt(level, option) == 3
    finally:
        udp.close()

"""Forged ICMP messages change nothing (RFC 9000 §14.2.1)."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from quicstack.drivers.udp import UdpOptions, UdpSocket
from quicstack.train import Train

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="not here: socket options of Linux")

HOST = "127.77.0.1"
"""An address that nobody else uses: the kernel believes such messages for ten minutes, and tells other programs."""


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        sock.settimeout(5)
        yield sock


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def packet_too_big(mtu: int, source: int, destination: int) -> bytes:
    """ICMP type 3, code 4, about a datagram of 1200 bytes from one port of the host to another."""
    address = socket.inet_aton(HOST)
    quoted = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1228, 1, 0x4000, 64, 17, 0, address, address)
    quoted = quoted[:10] + struct.pack("!H", checksum(quoted)) + quoted[12:]
    quoted += struct.pack("!HHHH", source, destination, 1208, 0)
    rest = struct.pack("!HH", 0, mtu) + quoted
    return struct.pack("!BBH", 3, 4, checksum(struct.pack("!BBH", 3, 4, 0) + rest)) + rest


@pytest.mark.conformance("T107")
@pytest.mark.attack("CVE-2024-53259")
@pytest.mark.parametrize("mtu", [68, 576, 1300])
def test_a_forged_packet_too_big(server: socket.socket, mtu: int) -> None:
    """§14.2.1: whatever size it names, and although it quotes our ports, the next datagrams leave, and whole."""
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        pytest.skip("forging ICMP needs CAP_NET_RAW: run as root")
    udp = UdpSocket.towards(server.getsockname(), local_address=(HOST, 0))
    try:
        path = udp.path_to(server.getsockname())
        assert udp.send(Train(b"x" * 1200, 1200, path)) is None
        with raw:
            for quoted in (udp.socket.getsockname()[1], 9):  # ours, and a port that never sent anything
                message = packet_too_big(mtu, quoted, server.getsockname()[1])
                for _ in range(3):
                    raw.sendto(message, (HOST, 0))
        for _ in range(3):
            assert udp.send(Train(b"y" * 1400, 1400, path)) is None
        assert [len(server.recv(2000)) for _ in range(4)] == [1200, 1400, 1400, 1400]
        assert udp.receive() is None and udp.stats.send_errors == 0
    finally:
        udp.close()


class Told(socket.socket):
    """A socket that fails as often as it is told to, the way a message about an older datagram makes it fail."""

    failures = 0

    def sendto(self, data: Any, address: Any) -> int:  # type: ignore[override]
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMSGSIZE, "told by the test")
        return super().sendto(data, address)


@pytest.mark.conformance("T107")
def test_an_error_about_an_older_datagram(server: socket.socket) -> None:
    """§14.2.1: the same where nobody may forge ICMP; and a datagram that really is too big is told."""
    sock = Told(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    udp = UdpSocket(sock, UdpOptions(), client=True)
    try:
        assert sock.getsockopt(socket.IPPROTO_IP, 10) == 3  # IP_MTU_DISCOVER: PROBE
        sock.failures = 1
        path = udp.path_to(server.getsockname())
        assert udp.send(Train(b"x" * 1200, 1200, path)) is None
        assert len(server.recv(2000)) == 1200 and udp.stats.send_errors == 0
        assert udp.send(Train(bytes(65508), 65508, path)) is not None
    finally:
        udp.close()

"""A capture file (pcap, link type RAW) of UDP datagrams, with IP headers as they were on the wire."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Final

__all__ = ["Address", "PcapWriter", "header_size"]

Address = tuple[str, int]

_MAGIC_NANOSECONDS: Final = 0xA1B23C4D
_LINKTYPE_RAW: Final = 101
_TTL: Final = 64


def header_size(host: str) -> int:
    """Bytes that IP and UDP add to a datagram."""
    return (40 if ":" in host else 20) + 8


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_packet(source: Address, destination: Address, ecn: int, data: bytes) -> bytes:
    """A UDP datagram as an IP packet; the checksum of UDP is left out over IPv4 and is zero over IPv6."""
    udp = struct.pack("!HHHH", source[1], destination[1], 8 + len(data), 0) + data
    if ":" in source[0]:
        addresses = socket.inet_pton(socket.AF_INET6, source[0]) + socket.inet_pton(socket.AF_INET6, destination[0])
        return struct.pack("!IHBB", 6 << 28 | ecn << 20, len(udp), socket.IPPROTO_UDP, _TTL) + addresses + udp
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    first = struct.pack("!BBHHHBB", 0x45, ecn, 20 + len(udp), 0, 0x4000, _TTL, socket.IPPROTO_UDP)
    return first + struct.pack("!H", _checksum(first + b"\0\0" + addresses)) + addresses + udp


class PcapWriter:
    """Appends packets; complete after the ``with`` block."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(struct.pack("<IHHiIII", _MAGIC_NANOSECONDS, 2, 4, 0, 0, 65535, _LINKTYPE_RAW))

    def __enter__(self) -> PcapWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, when: float, source: Address, destination: Address, ecn: int, data: bytes) -> None:
        packet = ip_packet(source, destination, ecn, data)
        seconds = int(when)
        header = struct.pack("<IIII", seconds, int((when - seconds) * 1e9), len(packet), len(packet))
        self._file.write(header + packet)

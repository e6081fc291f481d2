"""Control messages: what travels beside a datagram between the kernel and us (RFC 3542, udp(7), ip(7), ipv6(7)).

Reads segment size, ECN mark and local address from what ``recvmsg`` returns, and writes them for ``sendmsg``. Python's
``socket`` module names only some of the numbers, so those of Linux stand here; on other systems a name that is missing
means that the feature is missing.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

from quicstack.train import Address

__all__ = [
    "CONTROL_SPACE",
    "IPV6_RECVPKTINFO",
    "IPV6_RECVTCLASS",
    "IP_PKTINFO",
    "IP_RECVTOS",
    "SOL_UDP",
    "UDP_GRO",
    "UDP_SEGMENT",
    "ControlReader",
    "ControlWriter",
    "Item",
    "constant",
    "is_mapped",
]

Item = tuple[int, int, bytes]
"""One control message: level, type, value."""

_LINUX: Final = sys.platform.startswith("linux")
_DARWIN: Final = sys.platform == "darwin"

CONTROL_SPACE: Final = 192
"""Room for every control message asked for: segment size, traffic class, IPv6 packet info, and some to spare."""


def constant(name: str, linux: int | None = None, darwin: int | None = None) -> int | None:
    """A number of the socket API by name, else the one of this operating system, else None."""
    value: int | None = getattr(socket, name, None)
    if value is not None:
        return value
    return linux if _LINUX else darwin if _DARWIN else None


SOL_UDP: Final = constant("SOL_UDP", 17)
UDP_SEGMENT: Final = constant("UDP_SEGMENT", 103)
UDP_GRO: Final = constant("UDP_GRO", 104)
IP_TOS: Final = constant("IP_TOS", 1, 3)
IP_RECVTOS: Final = constant("IP_RECVTOS", 13, 27)
IP_PKTINFO: Final = constant("IP_PKTINFO", 8, 26)
IPV6_TCLASS: Final = constant("IPV6_TCLASS", 67, 36)
IPV6_RECVTCLASS: Final = constant("IPV6_RECVTCLASS", 66, 35)
IPV6_PKTINFO: Final = constant("IPV6_PKTINFO", 50, 46)
IPV6_RECVPKTINFO: Final = constant("IPV6_RECVPKTINFO", 49, 61)

_INT: Final = struct.Struct("=i")
_SEGMENT: Final = struct.Struct("=H")
_INFO4: Final = struct.Struct("=i4s4s")  # struct in_pktinfo: interface, address to answer from, destination
_INFO6: Final = struct.Struct("=16si")  # struct in6_pktinfo: address, interface
_LINK_LOCAL: Final = b"\xfe\x80"
_REMEMBERED: Final = 1024


def is_mapped(address: Address) -> bool:
    """An IPv4 address as an IPv6 socket shows it (RFC 4291 §2.5.5.2)."""
    host: str = address[0]
    return host.startswith("::ffff:") and "." in host


class ControlReader:
    """Turns control messages of a received datagram into segment size, ECN codepoint and local address."""

    __slots__ = ("_known", "_port")

    def __init__(self, port: int) -> None:
        self._port = port
        self._known: dict[bytes, tuple[Address, int]] = {}

    def read(self, items: list[Item]) -> tuple[int, int, bytes]:  # hot path
        """Segment size (0: a single datagram), ECN codepoint, and the packet info as it came (b"": none)."""
        segment_size = ecn = 0
        info = b""
        for level, kind, value in items:
            if level == SOL_UDP:
                if kind == UDP_GRO:
                    segment_size = int.from_bytes(value, sys.byteorder)
            elif level == socket.IPPROTO_IP:
                if kind == IP_PKTINFO:
                    info = value
                elif value:  # IP_TOS here, IP_RECVTOS on BSD: one byte on Linux
                    ecn = value[0] & 3
            elif level == socket.IPPROTO_IPV6:
                if kind == IPV6_PKTINFO:
                    info = value
                elif kind == IPV6_TCLASS:
                    ecn = int.from_bytes(value, sys.byteorder) & 3
        return segment_size, ecn, info

    def local(self, info: bytes) -> tuple[Address, int]:
        """Local address and interface of a packet info. The interface counts for link-local addresses only: the
        same connection may come in over several, and that is no change of path."""
        known = self._known.get(info)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[info] = self._decode(info)
        return known

    def _decode(self, info: bytes) -> tuple[Address, int]:
        if len(info) == _INFO4.size:
            _, address, _ = _INFO4.unpack(info)
            return (socket.inet_ntop(socket.AF_INET, address), self._port), 0
        address, interface = _INFO6.unpack(info[: _INFO6.size])
        scope = interface if address.startswith(_LINK_LOCAL) else 0
        return (socket.inet_ntop(socket.AF_INET6, address), self._port, 0, scope), scope


class ControlWriter:
    """Makes the control messages of a train that leaves. Each value is made once and remembered."""

    __slots__ = ("_locals", "_segments", "family")

    def __init__(self, family: int) -> None:
        self.family = family
        self._segments: dict[int, Item] = {}
        self._locals: dict[Address, Item] = {}

    def segment(self, size: int) -> Item:
        """UDP_SEGMENT: cut what is sent into datagrams of ``size`` bytes."""
        item = self._segments.get(size)
        if item is None:
            assert SOL_UDP is not None and UDP_SEGMENT is not None
            item = self._segments[size] = (SOL_UDP, UDP_SEGMENT, _SEGMENT.pack(size))  # 65,536 sizes at most
        return item

    def ecn(self, codepoint: int, remote: Address) -> Item | None:
        """The ECN codepoint of the IP header. An IPv4 peer behind an IPv6 socket needs the IPv4 message."""
        if self.family == socket.AF_INET or is_mapped(remote):
            return None if IP_TOS is None else (socket.IPPROTO_IP, IP_TOS, _INT.pack(codepoint))
        return None if IPV6_TCLASS is None else (socket.IPPROTO_IPV6, IPV6_TCLASS, _INT.pack(codepoint))

    def local(self, address: Address) -> Item | None:
        """The source address to send from, so that a peer is answered from the address it asked."""
        item = self._locals.get(address)
        if item is None:
            if len(self._locals) >= _REMEMBERED:
                self._locals.clear()
            item = self._encode(address)
            if item is not None:
                self._locals[address] = item
        return item

    def _encode(self, address: Address) -> Item | None:
        if self.family == socket.AF_INET:
            if IP_PKTINFO is None:
                return None
            value = _INFO4.pack(0, socket.inet_pton(socket.AF_INET, address[0]), bytes(4))
            return socket.IPPROTO_IP, IP_PKTINFO, value
        if IPV6_PKTINFO is None:
            return None
        scope = address[3] if len(address) > 3 else 0
        value = _INFO6.pack(socket.inet_pton(socket.AF_INET6, address[0]), scope)
        return socket.IPPROTO_IPV6, IPV6_PKTINFO, value

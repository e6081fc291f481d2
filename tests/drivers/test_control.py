from __future__ import annotations

import socket
import struct

import pytest

from quicstack.drivers.control import ControlReader, ControlWriter, is_mapped


def test_reads_segment_size_ecn_and_local_address_of_ipv4() -> None:
    reader = ControlReader(4433)
    info = struct.pack("=i4s4s", 7, bytes([127, 0, 0, 2]), bytes([127, 0, 0, 2]))
    items = [(17, 104, struct.pack("=i", 1200)), (0, 8, info), (0, 1, b"\x02")]
    assert reader.read(items) == (1200, 2, info)
    assert reader.local(info) == (("127.0.0.2", 4433), 0)


def test_reads_traffic_class_of_ipv6_without_the_differentiated_services_bits() -> None:
    reader = ControlReader(4433)
    info = struct.pack("=16si", socket.inet_pton(socket.AF_INET6, "::1"), 3)
    assert reader.read([(41, 67, struct.pack("=i", 0xFB)), (41, 50, info)]) == (0, 3, info)


def test_the_interface_matters_for_link_local_addresses_only() -> None:
    reader = ControlReader(1)
    loopback = struct.pack("=16si", socket.inet_pton(socket.AF_INET6, "::1"), 3)
    link_local = struct.pack("=16si", socket.inet_pton(socket.AF_INET6, "fe80::1"), 3)
    assert reader.local(loopback) == (("::1", 1, 0, 0), 0)
    assert reader.local(link_local) == (("fe80::1", 1, 0, 3), 3)


def test_unknown_control_messages_are_passed_over() -> None:
    assert ControlReader(1).read([(1, 29, b"timestamp"), (0, 1, b"")]) == (0, 0, b"")


@pytest.mark.parametrize(
    ("family", "remote", "level"),
    [
        (socket.AF_INET, ("192.0.2.1", 1), socket.IPPROTO_IP),
        (socket.AF_INET6, ("2001:db8::1", 1, 0, 0), socket.IPPROTO_IPV6),
        (socket.AF_INET6, ("::ffff:192.0.2.1", 1, 0, 0), socket.IPPROTO_IP),
    ],
)
def test_ecn_goes_to_the_header_that_is_on_the_wire(family: int, remote: tuple[object, ...], level: int) -> None:
    item = ControlWriter(family).ecn(2, remote)
    assert item is not None
    assert item[0] == level
    assert item[2] == struct.pack("=i", 2)


def test_what_was_read_can_be_written_back() -> None:
    for family, host in ((socket.AF_INET, "127.0.0.2"), (socket.AF_INET6, "fd00::2")):
        address = (host, 5) if family == socket.AF_INET else (host, 5, 0, 0)
        item = ControlWriter(family).local(address)
        assert item is not None
        assert ControlReader(5).local(item[2]) == (address, 0)


def test_mapped_addresses() -> None:
    assert is_mapped(("::ffff:127.0.0.1", 1, 0, 0))
    assert not is_mapped(("::1", 1, 0, 0))
    assert not is_mapped(("127.0.0.1", 1))

"""The relay between real sockets: it forwards both ways with ECN marks, forgets its mappings, captures both ends."""

from __future__ import annotations

import json
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interop.link import Faults
from interop.pcap import ip_packet
from interop.relay import CLIENT_CAPTURE, SERVER_CAPTURE, Nat, Plan

PCAP_HEADER, RECORD_HEADER, IP_UDP = 24, 16, 28
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="not here: the relay uses Linux's socket options")


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setsockopt(socket.IPPROTO_IP, 13, 1)  # IP_RECVTOS
    sock.settimeout(10)
    return sock


def received(sock: socket.socket) -> tuple[bytes, int, tuple[str, int]]:
    data, ancillary, _, source = sock.recvmsg(2000, 100)
    return data, ancillary[0][2][0], source


def records(capture: Path) -> list[bytes]:
    """The IP packets in a capture."""
    data, found = capture.read_bytes()[PCAP_HEADER:], []
    while data:
        (length,) = struct.unpack_from("<I", data, 8)
        found.append(data[RECORD_HEADER : RECORD_HEADER + length])
        data = data[RECORD_HEADER + length :]
    return found


@contextmanager
def relay(server: socket.socket, folder: Path, faults: Faults) -> Iterator[tuple[str, int]]:
    plan = Plan([(("127.0.0.1", 0), server.getsockname())], str(folder), seed=1, delay=0.001, faults=faults)
    command = [sys.executable, "-m", "interop.relay", plan.to_json()]
    pipe = subprocess.PIPE
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root) as process:
        assert process.stdin is not None and process.stdout is not None
        yield "127.0.0.1", json.loads(process.stdout.readline())[0]
        process.stdin.close()
        assert process.wait(10) == 0


def test_both_ways_with_marks_and_captures(tmp_path: Path) -> None:
    with udp() as client, udp() as server:
        with relay(server, tmp_path, Faults()) as front:
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 2)
            client.sendto(b"question", front)
            data, ecn, seen_as = received(server)
            assert (data, ecn) == (b"question", 2)
            server.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 1)
            server.sendto(b"answer", seen_as)
            assert received(client) == (b"answer", 1, front)
        for name, near in ((CLIENT_CAPTURE, client.getsockname()), (SERVER_CAPTURE, seen_as)):
            far = front if name == CLIENT_CAPTURE else server.getsockname()
            expected = [ip_packet(near, far, 2, b"question"), ip_packet(far, near, 1, b"answer")]
            assert records(tmp_path / name) == expected


def test_after_a_rebinding_the_client_is_somebody_else(tmp_path: Path) -> None:
    faults = Faults(first_rebind=0.05, rebind_every=60.0, rebinds_address=True)
    with udp() as client, udp() as server, relay(server, tmp_path, faults) as front:
        seen: list[tuple[str, int]] = []
        while len(set(seen)) < 2:
            client.sendto(b"here", front)
            seen.append(received(server)[2])
        assert seen[0][0] == "127.0.0.1" and seen[-1][0] == "127.0.0.2"
        server.sendto(b"too late", seen[0])
        server.sendto(b"answer", seen[-1])
        assert received(client)[0] == b"answer"
        assert not select.select([client], [], [], 0)[0]


def test_a_mapping_is_kept_until_it_is_forgotten() -> None:
    nat = Nat("127.0.0.1", changes_address=False)
    first, other = nat.port_of(("10.0.0.1", 1)), nat.port_of(("10.0.0.1", 2))
    assert nat.port_of(("10.0.0.1", 1)) is first is not other
    nat.rebind()
    again = nat.port_of(("10.0.0.1", 1))
    assert again.address != first.address and again.address[0] == first.address[0]
    assert nat.client_of(first) is None and nat.client_of(again) == ("10.0.0.1", 1)
    for port in (first, other, again):
        port.socket.close()


def test_a_plan_survives_the_command_line() -> None:
    faults = Faults(drop=0.3, burst=3, drops_to_server=frozenset({2, 7}))
    plan = Plan([(("::1", 0), ("::1", 4433))], "/tmp", seed=7, delay=0.75, faults=faults)
    assert Plan.from_json(plan.to_json()) == plan


def test_the_header_is_one_that_adds_up() -> None:
    """RFC 1071: the sum over an IPv4 header with its checksum is all ones."""
    packet = ip_packet(("127.0.0.1", 5), ("127.0.0.2", 6), 3, b"abc")
    total = sum(struct.unpack("!10H", packet[:20]))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert packet[1] == 3 and packet[IP_UDP:] == b"abc"
    assert struct.unpack("!I", ip_packet(("::1", 5), ("::1", 6), 2, b"")[:4])[0] == 0x60200000

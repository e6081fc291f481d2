"""Trains sealed and opened, ACKs sent and processed, streams put together."""

from __future__ import annotations

from typing import Any

import pytest

from quicstack.recovery import Cubic, Recovery, SentPacket, Space
from quicstack.tls.key_schedule import CIPHER_SUITES
from quicstack.transport.ack_tracker import AckTracker
from quicstack.transport.packet_protection import PacketKeys
from quicstack.transport.reassembly import Reassembly
from quicstack.wire.version import VERSIONS

PACKETS = 53
PREFIX = b"\x41" + bytes(8)
PAYLOAD = bytes(1200 - len(PREFIX) - 2 - 16)


def keys(suite: int = 0x1301) -> PacketKeys:
    return PacketKeys(CIPHER_SUITES[suite], bytes(32), VERSIONS[1])


@pytest.mark.parametrize("suite", [0x1301, 0x1303], ids=["aes-128-gcm", "chacha20"])
def test_seal_train(benchmark: Any, suite: int) -> None:
    benchmark(keys(suite).seal_train, PREFIX, 2, 1000, [PAYLOAD] * PACKETS)


@pytest.mark.parametrize("suite", [0x1301, 0x1303], ids=["aes-128-gcm", "chacha20"])
def test_open_train(benchmark: Any, suite: int) -> None:
    train = keys(suite).seal_train(PREFIX, 2, 1000, [PAYLOAD] * PACKETS)
    opener = keys(suite)

    def unseal() -> list[bytes]:
        packets = opener.unmask_train(train, 1200, 8)
        return [opener.open(header, 1000 + at, train[begin:end])
                for at, (header, _, begin, end) in enumerate(packets)]  # fmt: skip

    assert benchmark(unseal) == [PAYLOAD] * PACKETS


def test_seal_one_packet(benchmark: Any) -> None:
    benchmark(keys().seal, PREFIX + b"\0\1", 2, 1, bytes(100))


@pytest.mark.parametrize("in_flight", [100, 40_000])
def test_acknowledge_a_train(benchmark: Any, in_flight: int) -> None:
    """40 packets sent, and the 40 acknowledged that were sent first."""
    recovery = Recovery(congestion_controller_factory=Cubic, max_datagram_size=1200, is_client=False)
    recovery.handshake_confirmed = True
    recovery.discard_space(Space.INITIAL)
    recovery.discard_space(Space.HANDSHAKE)
    for number in range(in_flight):
        recovery.on_packet_sent(2, SentPacket(number, 0.0, 1200, True, True), 0.0)
    state = [in_flight, 0]

    def turn() -> None:
        first, acked = state
        now = acked * 1e-4
        for number in range(first, first + 40):
            recovery.on_packet_sent(2, SentPacket(number, now, 1200, True, True), now)
        recovery.on_ack_received(2, [(0, acked + 39)], 0.0, now)
        state[:] = first + 40, acked + 40

    benchmark(turn)


def test_packets_to_acknowledge(benchmark: Any) -> None:
    """53 packets arrive one by one, and one ACK frame is written for them."""

    def arrive() -> bytes | None:
        tracker = AckTracker(immediate=False)
        for number in range(PACKETS):
            tracker.on_packet(number, True, 1.0, 0)
        tracker.end_of_read(1.0)
        return tracker.write(1.0, 3, 1000)

    assert benchmark(arrive)


@pytest.mark.parametrize("order", ["in order", "one gap", "backwards"])
def test_reassembly(benchmark: Any, order: str) -> None:
    """53 pieces of a stream, and all of it read."""
    numbers = list(range(PACKETS))
    if order == "one gap":
        numbers = [*numbers[:10], *numbers[11:], 10]
    elif order == "backwards":
        numbers.reverse()
    size = len(PAYLOAD)

    def collect() -> bytes:
        data = Reassembly()
        for number in numbers:
            data.add(number * size, PAYLOAD)
        return data.read(-1)

    assert len(benchmark(collect)) == PACKETS * size

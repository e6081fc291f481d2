"""Duplication, corruption, ECN, and rewriting by a function."""

from __future__ import annotations

import pytest

from quicstack.simulator import Corrupt, Datagram, Direction, Duplicate, EcnBleach, EcnMark, Rewrite


def test_duplicates_arrive_later(bench) -> None:
    network = bench(Duplicate(1.0, after=0.5)).send(b"a").send(b"b", at=0.1)
    assert network.run() == [b"a", b"b", b"a", b"b"]
    assert network.times == pytest.approx([0.0, 0.1, 0.5, 0.6])


def test_duplication_rate(bench) -> None:
    assert len(bench(Duplicate(0.2)).send_numbered(5000).run()) == pytest.approx(6000, rel=0.02)


def test_corruption_flips_bits_and_keeps_the_length(bench) -> None:
    clean = bytes(range(100))
    arrived = bench(Corrupt(0.3, bits=1)).send(*[clean] * 1000).run()
    flipped = [(int.from_bytes(data) ^ int.from_bytes(clean)).bit_count() for data in arrived]
    assert {len(data) for data in arrived} == {100}
    assert set(flipped) == {0, 1}
    assert sum(flipped) == pytest.approx(300, rel=0.15)


def test_an_empty_datagram_cannot_be_corrupted(bench) -> None:
    assert bench(Corrupt(1.0)).send(b"").run() == [b""]


def test_marking_touches_only_what_is_ecn_capable(bench) -> None:
    network = bench(EcnMark(1.0)).send(b"a", ecn=0).send(b"b", ecn=1).send(b"c", ecn=2)
    network.run()
    assert [datagram.ecn for _, datagram in network.out] == [0, 3, 3]


def test_bleaching(bench) -> None:
    network = bench(EcnBleach()).send(b"a", ecn=0).send(b"b", ecn=2).send(b"c", ecn=3)
    network.run()
    assert [datagram.ecn for _, datagram in network.out] == [0, 0, 0]
    network = bench(EcnBleach(1)).send(b"a", ecn=0).send(b"b", ecn=2)
    network.run()
    assert [datagram.ecn for _, datagram in network.out] == [0, 1]


def test_rewriting(bench) -> None:
    def twice_in_capitals(datagram: Datagram, direction: Direction, now: float) -> list[Datagram]:
        assert direction is Direction.FORWARD
        changed = datagram._replace(data=datagram.data.upper() + b"%d" % now)
        return [changed, changed] if datagram.data != b"gone" else []

    assert bench(Rewrite(twice_in_capitals)).send(b"here", b"gone", at=7.0).run() == [b"HERE7", b"HERE7"]

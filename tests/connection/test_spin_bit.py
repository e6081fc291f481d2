"""The latency spin bit (RFC 9000 §17.4)."""

from __future__ import annotations

import random

import pytest
from peer import Pair, Peer

from quicstack.train import Train
from quicstack.transport.spin_bit import SPIN_BIT, SpinBit

PING = b"\x01"


def spinning(plays: str = "client", **settings: object) -> Peer:
    """A peer whose engine spins on this connection."""
    peer = Peer(plays, **settings)
    peer.hears(ack=True)
    peer.engine._state.path.spin._spins = True
    peer.engine._state.path.spin.value = 0
    return peer


def heard(peer: Peer) -> int:
    """The spin bit of what the engine sends next."""
    peer.engine.ping()
    peer.pair.now += 0.03
    peer.endpoint.handle_timeout(peer.now)
    train = peer.endpoint.next_train(peer.now)
    assert train is not None
    return _spin(peer, train)


def _spin(peer: Peer, train: Train) -> int:
    keys = peer.state.spaces[2].open_keys
    assert keys is not None
    return keys.unmask(train.data, 0, 1 + peer.state.local_cids.length)[0][0] & SPIN_BIT


def says(peer: Peer, bit: int, number: int | None = None) -> None:
    datagram, _ = peer.packet(PING, first_byte=0x40 | bit, number=number)
    peer.delivers(datagram)


@pytest.mark.conformance("T118")
@pytest.mark.parametrize("plays", ["client", "server"])
def test_who_reflects_and_who_turns_over(plays: str) -> None:
    peer = spinning(plays)
    assert heard(peer) == 0
    for bit in (SPIN_BIT, SPIN_BIT, 0, SPIN_BIT, 0, 0):
        says(peer, bit)
        assert heard(peer) == (bit if plays == "client" else bit ^ SPIN_BIT)


def test_only_the_newest_packet_counts() -> None:
    peer = spinning()
    late = peer.state.spaces[2].next_packet_number
    says(peer, SPIN_BIT, late + 1)
    says(peer, 0, late)
    assert heard(peer) == SPIN_BIT
    datagram, _ = peer.packet(PING)
    peer.delivers(datagram[:-1] + bytes([datagram[-1] ^ 1]))  # and none that does not open
    assert heard(peer) == SPIN_BIT
    peer.delivers(datagram)
    assert heard(peer) == 0
    peer.delivers(bytes([datagram[0] ^ SPIN_BIT]) + datagram[1:])  # nor what somebody made of a packet that came
    assert heard(peer) == 0


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_newest_packet_of_a_train(order: tuple[int, int]) -> None:
    peer = spinning()
    first = peer.state.spaces[2].next_packet_number
    packets = [peer.packet(PING, number=first + n, first_byte=0x40 | (SPIN_BIT if n else 0))[0] for n in (0, 1)]
    data = b"".join(packets[n] for n in order)
    peer.endpoint.receive(Train(data, len(packets[0]), peer.path), peer.now)
    assert heard(peer) == SPIN_BIT


@pytest.mark.conformance("T118")
@pytest.mark.parametrize("spin_bit", [True, False])
def test_one_connection_id_in_sixteen_does_not_take_part(spin_bit: bool) -> None:
    draw = random.Random(3)
    spin = SpinBit()
    ignored = ones = 0
    for n in range(1600):
        cid = n.to_bytes(8, "big")
        spin.begin(cid, spin_bit, draw.randbytes)
        first = spin.value
        spin.on_packet(n, first ^ SPIN_BIT, False)
        if spin.value == first:  # whatever comes is ignored
            ignored += 1
            ones += first == SPIN_BIT
        else:
            assert first == 0
    assert 70 < ignored < 140 if spin_bit else ignored == 1600
    assert 0.3 * ignored < ones < 0.7 * ignored


@pytest.mark.conformance("T118")
def test_switched_off() -> None:
    """By whoever configures the endpoint; then no value follows the peer's."""
    peer = Peer(spin_bit=False)
    peer.hears(ack=True)
    first = heard(peer)
    for bit in (SPIN_BIT, 0, SPIN_BIT, 0):
        says(peer, bit)
        assert heard(peer) == first


@pytest.mark.conformance("T118")
@pytest.mark.parametrize("how", ["another connection ID", "another path"])
def test_it_begins_at_zero(how: str) -> None:
    for seed in range(20):
        pair = Pair(seed=seed)
        pair.exchange()
        state = pair.client._state
        state.path.spin._spins, state.path.spin.value = True, SPIN_BIT
        assert state.path.spin.cid == state.peer_cids.current.cid
        if how == "another path":
            path = state.path.address._replace(local=("198.51.100.9", 4000))
            pair.client.migrate(path, pair.now)
            (spin,) = [other.spin for other in state.other_paths]
        else:
            assert state.peer_cids.rotate()
            spin = state.path.spin
        pair.client.ping()
        pair.from_client()
        if spin._spins:
            assert spin.value == 0
            return
    raise AssertionError("it never spins")


def test_a_path_in_use_again_goes_on() -> None:
    """Each path has a value of its own."""
    one, other = SpinBit(), SpinBit()
    for spin in (one, other):
        spin.begin(b"cid", True, lambda size: b"\x01" * size)
    one.on_packet(5, SPIN_BIT, False)
    assert other.value == 0
    assert one.value == SPIN_BIT

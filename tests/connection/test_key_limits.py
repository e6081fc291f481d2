"""How long keys last (RFC 9001 §6.5, §6.6): counts of packets sealed and of packets that do not open."""

from __future__ import annotations

import pytest
from peer import ONE_RTT, Pair, Peer

from quicstack.connection import key_update
from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.observe.trace import Trace
from quicstack.tls.key_schedule import TLS_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256

E = TransportErrorCode


class Keys(Trace):
    """Remembers the key updates that it is told of."""

    def __init__(self) -> None:
        self.updates: list[tuple[float, str, int]] = []

    def key_updated(self, now: float, key_type: str, generation: int) -> None:
        self.updates.append((now, key_type, generation))


def spoiled(datagram: bytes) -> bytes:
    return datagram[:-1] + bytes([datagram[-1] ^ 1])


def sealing(peer: Peer) -> int:
    """Packets that the engine has sealed with its present keys."""
    keys = peer.engine._state.spaces[ONE_RTT].seal_keys
    assert keys is not None
    return keys.packets


@pytest.mark.conformance("C28")
def test_the_numbers_of_the_rfc() -> None:
    """§6.6: 2^23 packets sealed with AES-GCM, 2^52 forgeries with it, 2^36 with ChaCha20-Poly1305."""
    assert key_update.CONFIDENTIALITY_LIMIT == 1 << 23
    assert key_update.UPDATE_AFTER < key_update.CONFIDENTIALITY_LIMIT
    for suite, limit in ((TLS_AES_128_GCM_SHA256, 1 << 52), (TLS_CHACHA20_POLY1305_SHA256, 1 << 36)):
        peer = Peer(cipher_suites=(suite,))
        peer.engine._state.key_phase.failures = limit - 2
        datagram, _ = peer.packet(b"\x01")
        peer.delivers(spoiled(datagram))
        assert peer.engine.closed is None
        peer.delivers(spoiled(datagram))
        error = peer.engine.closed
        assert isinstance(error, ConnectionClosed) and error.code == E.AEAD_LIMIT_REACHED
        assert f"{limit} packets could not be opened" in str(error)


@pytest.mark.parametrize("count", [1, 3])
def test_every_packet_counts_once(count: int) -> None:
    peer = Peer()
    peer.hears(ack=True)
    before, sent = sealing(peer), peer.engine.stats().counters.packets_sent
    for _ in range(count):
        peer.engine.ping()
        peer.hears(ack=True)
    peer.engine.open_stream().write(bytes(5000))
    peer.hears(ack=True)
    assert sealing(peer) - before == peer.engine.stats().counters.packets_sent - sent > count


@pytest.mark.conformance("C28")
@pytest.mark.parametrize(("suite", "closes"), [(TLS_AES_128_GCM_SHA256, True), (TLS_CHACHA20_POLY1305_SHA256, False)])
def test_worn_out_keys_are_not_used(suite: int, closes: bool) -> None:
    """The peer acknowledges nothing of the present keys, so there can be none after them."""
    peer = Peer(cipher_suites=(suite,))
    peer.hears(ack=True)
    assert peer.engine.update_keys(peer.now)
    keys = peer.engine._state.spaces[ONE_RTT].seal_keys
    assert keys is not None
    keys.packets = key_update.CONFIDENTIALITY_LIMIT - 65  # a train is not longer
    sent = []
    for expected in (key_update.CONFIDENTIALITY_LIMIT - 64, key_update.CONFIDENTIALITY_LIMIT - 63):
        peer.engine.ping()
        peer.pair.now += 0.005
        peer.endpoint.handle_timeout(peer.now)
        train = peer.endpoint.next_train(peer.now) or peer.endpoint.next_train(peer.now)  # the close comes second
        assert train is not None
        _, sent = peer.opens(train.data)
        assert keys.packets == expected
        assert (peer.engine.closed is not None) == (closes and expected > key_update.CONFIDENTIALITY_LIMIT - 64)
    if closes:
        (close,) = [frame.fields for frame in sent if frame.name == "CONNECTION_CLOSE"]
        assert close["error_code"] == E.AEAD_LIMIT_REACHED and close["frame_type_at_fault"] == 0
        assert close["reason"] == b"the peer lets us have no new keys"
    else:
        assert peer.engine.closed is None and any(frame.name == "PING" for frame in sent)


def test_updates_are_traced_and_counted() -> None:
    trace = Keys()
    peer = Peer(trace_factory=lambda odcid, is_client: trace)
    peer.hears(ack=True)
    trace.updates.clear()
    assert peer.engine.update_keys(peer.now)
    assert trace.updates == [(peer.now, "1RTT", 1)]
    answered = Keys()
    peer = Peer(trace_factory=lambda odcid, is_client: answered)
    answered.updates.clear()
    key_update.update_send_keys(peer.state, peer.now)
    peer.sends(b"\x01")
    assert answered.updates == [(peer.now, "1RTT", 1)]


@pytest.mark.conformance("C27")
@pytest.mark.parametrize(("late", "opens"), [(0.99, True), (1.01, False)])
def test_old_keys_open_for_three_timeouts(late: float, opens: bool) -> None:
    peer = Peer()
    old, number = peer.packet(b"\x01")
    key_update.update_send_keys(peer.state, peer.now)
    peer.sends(b"\x01")
    peer.pair.now += late * 3 * peer.engine._state.recovery.pto_duration(ONE_RTT)
    peer.delivers(old)
    assert peer.engine._state.spaces[ONE_RTT].acks.is_duplicate(number) == opens
    assert peer.engine.closed is None


@pytest.mark.conformance("C25")
@pytest.mark.parametrize(("late", "found_out"), [(0.99, True), (1.01, False)])
def test_a_step_back_is_an_error_while_the_old_keys_are_there(late: float, found_out: bool) -> None:
    """§6.4: afterwards it is a packet that does not open."""
    peer = Peer()
    space = peer.state.spaces[ONE_RTT]
    old = space.seal_keys
    key_update.update_send_keys(peer.state, peer.now)
    peer.sends(b"\x01")
    space.seal_keys = old
    peer.state.key_phase.send_bit ^= 1
    peer.pair.now += late * 3 * peer.engine._state.recovery.pto_duration(ONE_RTT)
    peer.sends(b"\x01")
    error = peer.engine.closed
    assert (error is not None) == found_out
    if found_out:
        assert isinstance(error, ConnectionClosed) and error.code == E.KEY_UPDATE_ERROR
        assert "the peer went back to old keys" in str(error)


def test_two_updates_are_named() -> None:
    peer = Peer()
    for _ in range(2):
        key_update.update_send_keys(peer.state, peer.now)
        peer.sends(b"\x01")
    error = peer.engine.closed
    assert isinstance(error, ConnectionClosed) and "updated its keys twice" in str(error)


def test_a_forced_update_waits_for_the_handshake() -> None:
    pair = Pair()
    assert not pair.client.update_keys(pair.now)
    pair.exchange()
    assert pair.client.update_keys(pair.now)

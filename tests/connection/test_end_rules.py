"""Keys that wear out, paths that fail and how a connection ends, rule by rule (RFC 9000 §8 to §10; RFC 9001 §6)."""

from __future__ import annotations

import pytest
from peer import ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer

from quicstack.connection import key_update
from quicstack.connection.state import Phase
from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.observe.trace import Trace
from quicstack.train import Path, Train
from quicstack.wire import frame as f

E = TransportErrorCode
ELSEWHERE = Path(("203.0.113.9", 50000))


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def train(datagram: bytes, path: Path = TO_CLIENT, ecn: int = 0) -> Train:
    return Train(datagram, len(datagram), path, ecn)


def data(peer: Peer) -> dict[object, int]:
    """Bytes heard of each stream."""
    found: dict[object, int] = {}
    for frame in peer.hears():
        if frame.name == "STREAM":
            payload = frame.fields["data"]
            assert isinstance(payload, bytes | bytearray)
            found[frame.fields["stream_id"]] = found.get(frame.fields["stream_id"], 0) + len(payload)
    return found


# -- key update (RFC 9001 §6) --------------------------------------------------------------------------------------


@pytest.mark.conformance("C27")
def test_old_keys_are_not_kept_for_long() -> None:
    """RFC 9001 §6.5: three PTOs, then what is late is dropped without an error."""
    peer = Peer()
    late, _ = peer.packet(stream(0, b"late"))
    key_update.update_send_keys(peer.state, peer.now)
    peer.sends(b"\x01")
    peer.pair.now += 10
    peer.delivers(late)
    assert peer.engine.stream(0) is None and peer.engine.closed is None


def test_header_protection_stays() -> None:
    """RFC 9001 §5.4, §6.1."""
    pair = Pair()
    pair.exchange()
    masks = pair.client._state.spaces[ONE_RTT].seal_keys.masks  # type: ignore[union-attr]
    pair.client.update_keys(pair.now)
    pair.exchange()
    assert pair.client._state.spaces[ONE_RTT].seal_keys.masks is masks  # type: ignore[union-attr]


# -- limits of keys (RFC 9001 §6.6) --------------------------------------------------------------------------------


@pytest.mark.conformance("C28")
def test_keys_are_updated_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_update, "UPDATE_AFTER", 50)
    pair = Pair()
    pair.exchange()
    for _ in range(60):
        pair.client.ping()
        pair.exchange(rounds=4)
    assert pair.client.stats().counters.key_updates >= 1
    assert pair.client.closed is None and pair.server.closed is None


@pytest.mark.conformance("C28")
def test_keys_that_cannot_be_updated_are_not_worn_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer acknowledges nothing of the new keys, and so allows no newer ones (§6.1)."""
    monkeypatch.setattr(key_update, "UPDATE_AFTER", 10)
    monkeypatch.setattr(key_update, "CONFIDENTIALITY_LIMIT", 64 + 20)
    peer = Peer()
    peer.hears(ack=True)
    assert peer.engine.update_keys(peer.now)
    for _ in range(40):
        if peer.engine.closed is None:
            peer.engine.ping()
        peer.pair.now += 0.01
        while peer.endpoint.next_train(peer.now) is not None:
            pass
    assert getattr(peer.engine.closed, "code", None) == E.AEAD_LIMIT_REACHED


@pytest.mark.attack("c: AEAD forgery count")
@pytest.mark.conformance("C28")
def test_forgeries_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_update, "INTEGRITY_LIMIT", 5)
    peer = Peer()
    for _ in range(4):
        datagram, _ = peer.packet(b"\x01")
        peer.delivers(datagram[:-1] + bytes([datagram[-1] ^ 1]))
    assert peer.engine.closed is None
    peer.delivers(datagram[:-1] + bytes([datagram[-1] ^ 1]))
    assert peer.closed_with() == E.AEAD_LIMIT_REACHED


@pytest.mark.conformance("C25")
def test_back_to_old_keys() -> None:
    """RFC 9001 §6.4: a higher packet number under older keys."""
    peer = Peer()
    space = peer.state.spaces[ONE_RTT]
    old = space.seal_keys
    key_update.update_send_keys(peer.state, peer.now)
    peer.sends(b"\x01")
    assert peer.engine._state.key_phase.generation == 1
    space.seal_keys = old
    peer.state.key_phase.send_bit ^= 1
    peer.sends(b"\x01")
    error = peer.engine.closed
    assert isinstance(error, ConnectionClosed) and error.code == E.KEY_UPDATE_ERROR


# -- the end (§10) -------------------------------------------------------------------------------------------------


def test_only_sending_that_asks_for_an_answer_keeps_alive_once() -> None:
    """§10.1: the timer restarts with the first ack-eliciting packet after one was received, and no later one."""
    peer = Peer(max_idle_timeout=10.0)
    peer.hears(ack=True)
    start = peer.now
    for _ in range(8):
        if peer.engine.closed is None:
            peer.engine.ping()
            peer.hears()
            peer.advance(2)
    assert peer.engine.closed is not None
    deadline = peer.engine._state.idle_deadline
    assert deadline is not None and start + 10 <= deadline <= start + 10.2


def test_idle_is_never_less_than_three_ptos() -> None:
    """§10.1."""
    peer = Peer(max_idle_timeout=0.001)
    state = peer.engine._state
    assert state.idle_deadline is not None
    assert state.idle_deadline - peer.now > 2 * state.recovery.pto_duration(ONE_RTT)


def test_close_once_confirmed_goes_in_one_packet() -> None:
    """§10.2.3."""
    peer = Peer()
    peer.engine.close(5, "bye", now=peer.now)
    sent = peer.endpoint.next_train(peer.now)
    assert sent is not None and not sent.data[0] & 0x80
    (close,) = [frame for frame in peer.opens(sent.data)[1] if frame.name.startswith("CONNECTION_CLOSE")]
    assert close.fields["error_code"] == 5 and close.fields["reason"] == b"bye"


def test_closing_ends_draining() -> None:
    """§10.2.2: when the peer's close crosses ours, nothing more is said."""
    peer = Peer()
    peer.engine.close(5, now=peer.now)
    peer.hears()
    peer.sends(f.write_connection_close(9, b"", None))
    peer.sends(b"\x01")
    assert peer.hears() == []
    error = peer.engine.closed
    assert isinstance(error, ConnectionClosed) and not error.by_peer


def test_a_long_reason_is_cut() -> None:
    """§19.19: the frame fits a packet, and the text stays UTF-8."""
    peer = Peer()
    peer.engine.close(5, "ä" * 5000, now=peer.now)
    sent = peer.endpoint.next_train(peer.now)
    assert sent is not None and len(sent.data) <= 1200
    (close,) = [frame for frame in peer.opens(sent.data)[1] if frame.name.startswith("CONNECTION_CLOSE")]
    reason = close.fields["reason"]
    assert isinstance(reason, bytes) and reason.decode()


@pytest.mark.conformance("T57")
def test_a_wrong_path_response_is_ignored() -> None:
    """§19.18."""
    peer = Peer()
    peer.sends(b"\x1b12345678")
    assert peer.engine.closed is None


@pytest.mark.conformance("T60")
def test_a_server_keeps_its_address_in_the_handshake() -> None:
    """§9: packets from elsewhere before the handshake is complete go nowhere."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client(), Path(("203.0.113.9", 50000)))
    assert not pair.server.handshake_complete
    assert pair.server.path == TO_CLIENT
    assert TO_SERVER not in (sent.path for sent in pair.from_server())


# -- the end -------------------------------------------------------------------------------------------------------


def test_a_close_without_a_clock_is_still_sent() -> None:
    """§10.2: the closing period begins when CONNECTION_CLOSE goes out, however long nothing happened before."""
    peer = Peer()
    peer.hears(ack=True)
    peer.pair.now += 25
    peer.engine.close(7, "late")
    peer.endpoint.handle_timeout(peer.now)
    assert [frame.fields["error_code"] for frame in peer.hears() if frame.name == "CONNECTION_CLOSE_APP"
            or frame.name == "CONNECTION_CLOSE"] == [7]  # fmt: skip
    assert not peer.engine.terminated
    peer.advance(5)
    assert peer.engine.terminated


def test_a_close_that_was_never_pulled_ends_too() -> None:
    peer = Peer()
    peer.engine.close(7, now=peer.now)
    for _ in range(2):
        peer.pair.now += 40
        peer.endpoint.handle_timeout(peer.now)
    assert peer.engine.terminated
    assert peer.endpoint.next_train(peer.now) is None


@pytest.mark.attack("c: amplification")
def test_closing_respects_the_amplification_limit() -> None:
    """§10.2.1: also while closing, three times what came."""
    pair = Pair()
    sent = pair.from_client()
    pair.to_server(sent)
    total = sum(len(train.data) for train in pair.from_server())
    pair.server.close(1, now=pair.now)
    for _ in range(100):
        total += sum(len(train.data) for train in pair.from_server())
        pair.server._state.close_due = True
        pair.server.ring()
    assert total <= 3 * sum(len(train.data) for train in sent)


class Broken(Trace):
    """A trace of the application's that fails at everything after the handshake."""

    armed = False

    def packet_sent(self, *args: object) -> None:
        assert not self.armed

    packet_received = state_changed = connection_closed = packet_sent  # type: ignore[assignment]


@pytest.mark.parametrize("how", ["send", "receive", "timeout"])
def test_a_defect_closes_one_connection_and_raises_nothing(how: str) -> None:
    trace = Broken()
    peer = Peer(trace_factory=lambda odcid, is_client: trace)
    trace.armed = True
    if how == "receive":
        peer.sends(b"\x01")
    elif how == "send":
        peer.engine.ping()
        assert peer.endpoint.next_train(peer.now) is not None  # the CONNECTION_CLOSE
    else:
        peer.engine._state.recovery.on_loss_detection_timeout = None  # type: ignore[assignment, method-assign]
        peer.engine.ping()
        trace.armed = False
        peer.hears()
        peer.advance(2)
    peer.pair.now += 1
    while peer.endpoint.next_train(peer.now) is not None:
        pass
    assert peer.engine.internal_error is not None
    assert peer.engine._state.phase in (Phase.CLOSING, Phase.CLOSED)
    peer.advance(20)
    assert not peer.endpoint.connections


# -- paths ---------------------------------------------------------------------------------------------------------


@pytest.mark.conformance("T56", "T56a")
def test_a_small_challenge_gets_a_small_response() -> None:
    """§8.2.2: not expanded beyond three times what came from there."""
    peer = Peer()
    datagram, _ = peer.packet(b"\x1a12345678")
    peer.delivers(datagram, ELSEWHERE)
    train = peer.endpoint.next_train(peer.now)
    assert train is not None and train.path == ELSEWHERE
    assert len(train.data) <= 3 * len(datagram)
    assert [frame.name for frame in peer.opens(train.data)[1]] == ["PATH_RESPONSE"]


@pytest.mark.conformance("T56b")
def test_a_path_proven_by_small_datagrams_is_proven_again() -> None:
    """§8.2.1: with a full datagram, once the limit allows it."""
    peer = Peer()
    peer.sends(b"\x01", path=ELSEWHERE)
    answers = []
    for _ in range(6):
        peer.pair.now += 0.01
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            for frame in peer.opens(train.data)[1]:
                if frame.name == "PATH_CHALLENGE" and train.path == ELSEWHERE:
                    answers.append(len(train.data))
                    response = frame.fields["data"]
                    assert isinstance(response, bytes)
                    peer.sends(b"\x1b" + response, path=ELSEWHERE)
    assert len(answers) == 2 and answers[0] < 1200 <= answers[1]


def test_no_address_left() -> None:
    """§9.3.2: neither the new nor the old address answers: the end, in silence."""
    peer = Peer(max_idle_timeout=0.0)
    peer.sends(b"\x01", path=ELSEWHERE)
    for _ in range(40):
        peer.pair.now += 1
        peer.endpoint.handle_timeout(peer.now)
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            assert train.path in (ELSEWHERE, TO_CLIENT)
    assert peer.engine.terminated

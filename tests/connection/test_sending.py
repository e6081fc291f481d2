"""What goes out, when, and that it always gets going again (RFC 9000 §4.1, §13, §14, §21.4; RFC 9002 §6.2)."""

from __future__ import annotations

import pytest
from peer import ONE_RTT, TO_CLIENT, Pair, Peer, opens_long

from quicstack.connection import key_update
from quicstack.connection.state import Phase
from quicstack.errors import ConfigurationError, ConnectionClosed, TransportErrorCode
from quicstack.observe.trace import Trace
from quicstack.train import Path, Train
from quicstack.wire import frame as f

E = TransportErrorCode
ELSEWHERE = Path(("203.0.113.9", 50000))


def names(peer: Peer) -> list[str]:
    return [frame.name for frame in peer.hears()]


def data(peer: Peer) -> dict[object, int]:
    """Bytes heard of each stream."""
    found: dict[object, int] = {}
    for frame in peer.hears():
        if frame.name == "STREAM":
            payload = frame.fields["data"]
            assert isinstance(payload, bytes | bytearray)
            found[frame.fields["stream_id"]] = found.get(frame.fields["stream_id"], 0) + len(payload)
    return found


# -- streams that wait ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["stream first", "connection first"])
def test_blocked_twice_and_freed_once_each(order: str) -> None:
    """§4.1: a stream that waits for both limits goes on when the second one comes."""
    peer = Peer()
    window = peer.engine._state.streams.send_window
    window.limit = 1000
    stream = peer.engine.open_stream()
    assert stream.send is not None
    stream.send.limit = 1000
    stream.write(bytes(1500))
    assert data(peer) == {stream.id: 1000}
    frees = [f.write_limit(f.MAX_STREAM_DATA, stream.id, 5000), f.write_limit(f.MAX_DATA, 5000)]
    first, second = frees if order == "stream first" else frees[::-1]
    peer.sends(first)
    assert data(peer) == {}
    peer.sends(second)
    assert data(peer) == {stream.id: 500}


def test_fin_behind_blocked_data() -> None:
    """§3.1: the FIN waits for the data, not for credit of its own."""
    peer = Peer()
    peer.engine._state.streams.send_window.limit = 4
    stream = peer.engine.open_stream()
    stream.write(b"12345", fin=True)
    assert [frame.fields.get("fin") for frame in peer.hears(ack=True) if frame.name == "STREAM"] == [False]
    peer.sends(f.write_limit(f.MAX_DATA, 5))
    assert [frame.fields.get("fin") for frame in peer.hears(ack=True) if frame.name == "STREAM"] == [True]
    assert stream.send_done


def test_fin_alone_needs_no_credit() -> None:
    peer = Peer()
    peer.engine._state.streams.send_window.limit = 4
    stream = peer.engine.open_stream()
    stream.write(b"1234")
    peer.hears(ack=True)
    stream.finish()
    assert [frame.fields.get("fin") for frame in peer.hears(ack=True) if frame.name == "STREAM"] == [True]
    assert stream.send_done


def test_many_streams_share_the_connection() -> None:
    """All of them end, whatever waits for what."""
    peer = Peer()
    window = peer.engine._state.streams.send_window
    window.limit = window.used
    streams = [peer.engine.open_stream(unidirectional=True) for _ in range(20)]
    for n, stream in enumerate(streams):
        stream.write(bytes(100 * n), fin=True)
    for _ in range(60):
        peer.sends(f.write_limit(f.MAX_DATA, window.limit + 700))
        peer.hears(ack=True)
    assert all(stream.send_done for stream in streams)


def test_a_full_buffer_becomes_writable_again() -> None:
    """A wake-up comes for a write that was cut short, and for one that fitted exactly."""
    for extra in (0, 1):
        peer = Peer(send_buffer=5000)
        stream = peer.engine.open_stream()
        assert stream.write(bytes(5000 + extra)) == 5000
        assert stream.writable == 0
        peer.engine.take_ready()
        for _ in range(5):
            peer.hears(ack=True)
        assert stream in peer.engine.take_ready().streams
        assert stream.writable >= 2500


def test_reset_after_fin_was_sent() -> None:
    """§3.1: Data Sent to Reset Sent; the final size is what was sent."""
    peer = Peer()
    stream = peer.engine.open_stream()
    stream.write(b"all of it", fin=True)
    peer.hears()
    stream.reset(9)
    sizes = [frame.fields["final_size"] for frame in peer.hears(ack=True) if frame.name == "RESET_STREAM"]
    assert sizes == [9]
    assert stream.send_done


def test_reset_and_stop_after_everything_was_acknowledged() -> None:
    """§3.1, §3.5: Data Recvd is the end."""
    peer = Peer()
    stream = peer.engine.open_stream()
    stream.write(b"x", fin=True)
    peer.hears(ack=True)
    stream.reset(9)
    peer.sends(f.write_stop_sending(stream.id, 5))
    assert "RESET_STREAM" not in names(peer)
    assert stream.send_done and stream.stop_code is None


def test_stop_sending_after_our_reset() -> None:
    """§3.5: it was answered before it came."""
    peer = Peer()
    stream = peer.engine.open_stream()
    stream.write(b"x")
    stream.reset(9)
    peer.sends(f.write_stop_sending(stream.id, 5))
    codes = [frame.fields["error_code"] for frame in peer.hears() if frame.name == "RESET_STREAM"]
    assert codes == [9]


def test_late_acknowledgements_of_a_finished_stream_wake_nobody() -> None:
    peer = Peer()
    stream = peer.engine.open_stream()
    stream.write(b"x", fin=True)
    peer.hears()
    frames = peer.advance(1.0)
    assert any(frame.name == "STREAM" for frame in frames)
    peer.acknowledges(*peer.received)
    assert stream in peer.engine.take_ready().streams
    assert stream not in peer.engine.take_ready().streams


@pytest.mark.parametrize("code", [-1, 1 << 62])
def test_codes_that_no_frame_can_carry(code: int) -> None:
    """§20.2: refused where they are given, not where they would be sent."""
    peer = Peer()
    stream = peer.engine.open_stream()
    with pytest.raises(ValueError, match="error code"):
        stream.reset(code)
    with pytest.raises(ValueError, match="error code"):
        stream.stop_sending(code)
    with pytest.raises(ValueError, match="error code"):
        peer.engine.close(code)
    peer.hears()
    assert peer.engine.closed is None


def test_writing_after_the_end() -> None:
    """A stream of a connection that is over says so."""
    peer = Peer()
    stream = peer.engine.open_stream()
    peer.engine.close(3, "over", now=peer.now)
    with pytest.raises(ConnectionClosed, match="over"):
        stream.write(b"x")


# -- datagrams -----------------------------------------------------------------------------------------------------


def test_the_largest_datagram_does_not_wait_for_an_acknowledgement() -> None:
    """RFC 9221 §5: an ACK that may wait must not take its room."""
    peer = Peer()
    peer.hears(ack=True)
    peer.sends(b"\x01")
    peer.engine.send_datagram(bytes(peer.engine.max_datagram_payload))
    train = peer.endpoint.next_train(peer.now)
    assert train is not None
    assert [frame.name for frame in peer.opens(train.data)[1]] == ["DATAGRAM"]


def test_datagrams_do_not_hold_up_control_frames() -> None:
    peer = Peer()
    peer.hears(ack=True)
    for _ in range(5):
        peer.engine.send_datagram(bytes(1000))
    peer.sends(f.write_limit(f.RETIRE_CONNECTION_ID, 1))
    train = peer.endpoint.next_train(peer.now)
    assert train is not None
    first = train.datagrams()[0]
    assert "NEW_CONNECTION_ID" in [frame.name for frame in peer.opens(first)[1]]


@pytest.mark.parametrize("limit", [0, 1])
def test_not_even_an_empty_datagram(limit: int) -> None:
    """RFC 9221 §3: none is sent to a peer that takes none."""
    pair = Pair(server={"max_datagram_frame_size": limit})
    pair.exchange()
    with pytest.raises(ConfigurationError, match="no datagrams"):
        pair.client.send_datagram(b"")


def test_datagrams_within_a_small_limit() -> None:
    """RFC 9221 §3: type and length count."""
    pair = Pair(server={"max_datagram_frame_size": 100})
    pair.exchange()
    size = pair.client.max_datagram_payload
    assert len(f.write_datagram(bytes(size))) <= 100
    with pytest.raises(ConfigurationError):
        pair.client.send_datagram(bytes(size + 1))
    pair.client.send_datagram(bytes(size))
    pair.client.send_datagram(b"")
    pair.exchange()
    assert [len(pair.server.receive_datagram() or b"") for _ in range(2)] == [size, 0]


# -- packets -------------------------------------------------------------------------------------------------------


def test_packets_are_no_larger_than_the_peer_takes() -> None:
    """§14.2, §18.2: max_udp_payload_size limits us once we know it."""
    pair = Pair(client={"max_datagram_size": 1400}, server={"max_udp_payload_size": 1250, "max_datagram_size": 1400})
    pair.exchange()
    pair.client.open_stream().write(bytes(20_000))
    sizes = [len(datagram) for train in pair.from_client() for datagram in train.datagrams()]
    assert max(sizes) == 1250
    assert pair.client.stats().max_datagram_size == 1250
    pair.server.open_stream().write(bytes(20_000))
    assert max(len(datagram) for train in pair.from_server() for datagram in train.datagrams()) == 1400


def test_packet_numbers_are_left_out() -> None:
    """§21.4: an optimistic receiver acknowledges one that was never sent."""
    peer = Peer()
    space = peer.engine._state.spaces[ONE_RTT]
    for _ in range(600):
        peer.engine.ping()
        peer.hears(ack=True)
    assert space.skipped > 0
    assert space.skipped not in peer.received
    assert peer.engine.closed is None
    peer.sends(f.write_ack([(space.skipped - 3, space.next_packet_number - 1)], 0))
    assert peer.closed_with() == E.PROTOCOL_VIOLATION


def test_handshake_done_until_it_is_acknowledged() -> None:
    """RFC 9000 §13.3: lost with everything else, and sent again."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client())
    pair.from_server()
    assert pair.server.handshake_confirmed and not pair.client.handshake_confirmed
    pair.now += 1.0
    pair.server_endpoint.handle_timeout(pair.now)
    pair.to_client(pair.from_server())
    assert pair.client.handshake_confirmed


def test_data_of_the_server_before_the_handshake_is_complete() -> None:
    """RFC 9001 §5.7: 0.5-RTT data goes in 1-RTT packets, behind the handshake; lost, it comes again."""
    pair = Pair()
    pair.to_server(pair.from_client())
    stream = pair.server.open_stream(unidirectional=True)
    stream.write(b"early", fin=True)
    lost = pair.from_server()
    assert any(not train.data[0] & 0x80 or len(train.data) > 1000 for train in lost)
    pair.advance(1.0)
    for _ in range(100):
        pair.exchange(rounds=1, delay=0.05)
    received = pair.client.stream(3)
    assert received is not None and received.read() == b"early" and received.at_end


def test_a_small_initial_is_dropped_within_a_connection_too() -> None:
    """§14.1: 1199 bytes."""
    pair = Pair()
    trains = pair.from_client()
    pair.to_server(trains[:1])
    before = pair.server.stats().counters.packets_dropped
    pair.now += 2
    pair.client_endpoint.handle_timeout(pair.now)
    (again, *_) = pair.from_client()
    assert opens_long(pair.server._state, again.data)
    header = again.data[:-20]
    pair.to_server([Train(header, len(header), TO_CLIENT)])
    assert pair.server.stats().counters.packets_dropped > before


def test_a_peer_without_room_is_not_asked_in_a_loop() -> None:
    """§13.2.1, §8.1: an ACK is due, the path has no room for it, and no deadline stays in the past."""
    peer = Peer()
    peer.hears(ack=True)
    path = peer.engine._state.path
    peer.sends(b"\x01")
    path.validated, path.bytes_received, path.bytes_sent = False, 0, 10_000
    peer.pair.now += 0.1
    for _ in range(3):
        peer.endpoint.handle_timeout(peer.now)
        assert peer.endpoint.next_train(peer.now) is None
    deadline = peer.endpoint.next_timeout()
    assert deadline is not None and deadline > peer.now


# -- limits of keys (RFC 9001 §6.6) --------------------------------------------------------------------------------


def test_keys_are_updated_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_update, "UPDATE_AFTER", 50)
    pair = Pair()
    pair.exchange()
    for _ in range(60):
        pair.client.ping()
        pair.exchange(rounds=4)
    assert pair.client.stats().counters.key_updates >= 1
    assert pair.client.closed is None and pair.server.closed is None


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


def test_forgeries_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_update, "INTEGRITY_LIMIT", 5)
    peer = Peer()
    for _ in range(4):
        datagram, _ = peer.packet(b"\x01")
        peer.delivers(datagram[:-1] + bytes([datagram[-1] ^ 1]))
    assert peer.engine.closed is None
    peer.delivers(datagram[:-1] + bytes([datagram[-1] ^ 1]))
    assert peer.closed_with() == E.AEAD_LIMIT_REACHED


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


def test_a_small_challenge_gets_a_small_response() -> None:
    """§8.2.2: not expanded beyond three times what came from there."""
    peer = Peer()
    datagram, _ = peer.packet(b"\x1a12345678")
    peer.delivers(datagram, ELSEWHERE)
    train = peer.endpoint.next_train(peer.now)
    assert train is not None and train.path == ELSEWHERE
    assert len(train.data) <= 3 * len(datagram)
    assert [frame.name for frame in peer.opens(train.data)[1]] == ["PATH_RESPONSE"]


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

"""What a connection that is over must not keep (RFC 9000 §10.2), in the corners where something was kept once."""

from __future__ import annotations

from peer import TO_CLIENT, Pair, Peer, long_packet

from quicstack.train import Train
from quicstack.wire.frame import stream_header


def test_an_endpoint_forgets_whom_it_sent_for_last() -> None:
    """The sender of the last train is remembered for errors that come with it, but not beyond its end."""
    peer = Peer()
    peer.engine.close(now=peer.now)
    assert peer.closed_with() is not None
    assert peer.endpoint._last_sent is not None
    peer.advance(10.0)
    assert peer.engine.terminated
    assert peer.endpoint._last_sent is None


def test_a_closed_connection_keeps_no_packets_for_keys_that_will_not_come() -> None:
    """RFC 9001 §5.7 lets packets wait that overtook the handshake; after a close there is nothing to wait for."""
    pair = Pair()
    pair.to_server(pair.from_client())
    packet = long_packet(pair.server._state, 1, b"\x01")
    pair.client.close(now=pair.now)
    pair.to_client([Train(packet, len(packet), TO_CLIENT)])
    assert pair.client.closed is not None
    assert not any(space.waiting for space in pair.client._state.spaces)


def test_reading_on_after_the_end_queues_no_credit() -> None:
    """What had arrived may be read from a stream of a closed connection; the peer is told nothing of it any more."""
    peer = Peer(initial_max_stream_data_bidi_remote=1000, initial_max_data=1000)
    peer.sends(stream_header(0, 0, 900, False) + bytes(900))
    peer.hears(ack=True)
    stream = peer.engine.stream(0)
    assert stream is not None
    peer.engine.close(now=peer.now)
    assert len(stream.read()) == 900
    stream.stop_sending(1)
    stream.reset(1)
    assert not peer.engine._state.outbox.control

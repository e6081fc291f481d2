"""When the keys of the next key phase are made (RFC 9001 §6.3, §9.5)."""

from peer import Pair

ONE_RTT = 2


def complete() -> Pair:
    """Both sides are done, and nothing has said so to the client yet."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client())
    assert pair.server.handshake_confirmed and pair.client.handshake_complete and not pair.client.handshake_confirmed
    return pair


def test_they_are_there_before_a_packet_asks_for_them() -> None:
    pair = complete()
    assert pair.server._state.key_phase.next_open is not None
    assert pair.client._state.key_phase.next_open is None  # §6.1: no peer updates before it has confirmed the handshake
    pair.exchange()
    assert pair.client.handshake_confirmed
    current = pair.client._state.spaces[ONE_RTT].open_keys
    prepared = pair.client._state.key_phase.next_open
    assert current is not None and prepared is not None
    assert prepared.secret == current.next_phase().secret


def test_a_server_may_update_before_its_client_has_heard_that_it_may() -> None:
    pair = complete()
    pair.from_server()  # HANDSHAKE_DONE is lost
    assert pair.server.update_keys(pair.now)
    pair.now += 0.05
    pair.server.open_stream().write(b"new keys")
    pair.to_client(pair.from_server())
    stream = pair.client.stream(1)
    assert stream is not None and stream.read() == b"new keys"
    assert pair.client.stats().counters.key_updates == 1

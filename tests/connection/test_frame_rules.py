"""Frames that no honest peer sends, and what each of them is answered with (RFC 9000 §19): what h3spec does not try."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, INITIAL, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet, opens_long

from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.train import Train
from quicstack.wire import frame as f
from quicstack.wire.varint import MAX_VARINT, encode_varint

E = TransportErrorCode


def numbers(*values: int) -> bytes:
    return b"".join(map(encode_varint, values))


def stream(stream_id: int, data: bytes = b"", offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def cid_frame(sequence: int, cid: bytes, token: bytes = bytes(16)) -> bytes:
    return f.write_new_connection_id(sequence, 0, cid, token)


FROM_A_CLIENT = [
    pytest.param(
        b"\x02" + numbers(0, 0, 0, 1),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T131"),
        id="a first ACK range below 0",
    ),
    pytest.param(
        b"\x02" + numbers(1, 0, 1, 0, 0, 0),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T131"),
        id="a gap that ends below 0",
    ),
    pytest.param(
        b"\x02" + numbers(3, 0, 1, 0, 0, 2),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T131"),
        id="an ACK range below 0",
    ),
    pytest.param(
        b"\x02" + numbers(4, 0, 3, 0, 0, 0),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T132"),
        id="more ACK ranges than the packet holds",
    ),
    pytest.param(
        b"\x02" + numbers(4, 0, MAX_VARINT, 0),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T132"),
        id="2^62-1 ACK ranges",
    ),
    pytest.param(
        f.write_stop_sending(2, 0),
        E.STREAM_STATE_ERROR,
        marks=pytest.mark.conformance("T134"),
        id="STOP_SENDING for a receive-only stream",
    ),
    pytest.param(
        b"\x06" + numbers(MAX_VARINT, 1) + b"x",
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T136"),
        id="CRYPTO data beyond 2^62-1",
    ),
    pytest.param(
        b"\x0e" + numbers(0, MAX_VARINT, 1) + b"x",
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T141"),
        id="STREAM data beyond 2^62-1",
    ),
    pytest.param(
        f.write_limit(f.STREAM_DATA_BLOCKED, 3, 5),
        E.STREAM_STATE_ERROR,
        marks=pytest.mark.conformance("T145"),
        id="STREAM_DATA_BLOCKED for a send-only stream",
    ),
    pytest.param(
        cid_frame(4, bytes(21)),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T149"),
        id="a connection ID of 21 bytes",
    ),
    pytest.param(
        cid_frame(4, b"one" * 4) + cid_frame(4, b"two" * 4),
        E.PROTOCOL_VIOLATION,
        marks=pytest.mark.conformance("T150"),
        id="one sequence number, two connection IDs",
    ),
    pytest.param(
        cid_frame(4, b"one" * 4) + cid_frame(4, b"one" * 4, b"another token 16"),
        E.PROTOCOL_VIOLATION,
        marks=pytest.mark.conformance("T150"),
        id="one connection ID, two tokens",
    ),
    pytest.param(
        cid_frame(4, b"one" * 4) + cid_frame(5, b"one" * 4),
        E.PROTOCOL_VIOLATION,
        marks=pytest.mark.conformance("T150"),
        id="one connection ID, two sequence numbers",
    ),
    pytest.param(
        f.write_limit(f.RETIRE_CONNECTION_ID, 99),
        E.PROTOCOL_VIOLATION,
        marks=pytest.mark.conformance("T151"),
        id="retiring what was never sent",
    ),
    pytest.param(
        f.write_limit(f.RETIRE_CONNECTION_ID, 4),
        E.PROTOCOL_VIOLATION,
        marks=pytest.mark.conformance("T151"),
        id="retiring the next to be sent",
    ),
    pytest.param(
        f.write_limit(f.RETIRE_CONNECTION_ID, 0),
        E.PROTOCOL_VIOLATION,
        marks=pytest.mark.conformance("T152"),
        id="retiring the one it came under",
    ),
    pytest.param(
        b"\x1a1234567",
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T154"),
        id="PATH_CHALLENGE of 7 bytes",
    ),
    pytest.param(
        b"\x1c" + numbers(0, 0, 6) + b"short",
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T155"),
        id="a reason longer than its packet",
    ),
    pytest.param(
        b"\x1d" + numbers(0, MAX_VARINT) + b"short",
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T155"),
        id="a reason of 2^62-1 bytes",
    ),
]


@pytest.mark.parametrize(("frames", "code"), FROM_A_CLIENT)
def test_from_a_client(frames: bytes, code: int) -> None:
    peer = Peer(active_connection_id_limit=8)
    peer.hears(ack=True)
    peer.engine.open_stream(unidirectional=True)
    peer.sends(frames)
    assert peer.closed_with() == code
    assert peer.engine.internal_error is None


FROM_A_SERVER = [
    pytest.param(
        b"\x07\x00",
        {},
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("T138"),
        id="an empty token",
    ),
    pytest.param(
        f.write_limit(f.RETIRE_CONNECTION_ID, 0),
        {"connection_id_length": 0},
        E.PROTOCOL_VIOLATION,
        marks=pytest.mark.conformance("T153"),
        id="retiring an ID of no bytes",
    ),
    pytest.param(
        f.write_limit(f.RETIRE_CONNECTION_ID, 1),
        {"connection_id_length": 0},
        E.PROTOCOL_VIOLATION,
        marks=pytest.mark.conformance("T153"),
        id="retiring the next where there is none",
    ),
]


@pytest.mark.parametrize(("frames", "settings", "code"), FROM_A_SERVER)
def test_from_a_server(frames: bytes, settings: dict[str, object], code: int) -> None:
    peer = Peer("server", **settings)
    peer.sends(frames)
    assert peer.closed_with() == code
    assert peer.engine.internal_error is None


@pytest.mark.conformance("T157")
@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE], ids=["Initial", "Handshake"])
def test_handshake_done_before_its_time(space: int) -> None:
    """§19.20: a close, with a code, and no crash (CVE-2025-59530)."""
    pair = Pair()
    pair.to_server(pair.from_client())
    if space == HANDSHAKE:
        pair.to_client(pair.from_server())
    datagram = long_packet(pair.server._state, space, bytes((f.HANDSHAKE_DONE,)), number=9)
    pair.to_client([Train(datagram, len(datagram), TO_SERVER)])
    frames = [frame for train in pair.from_client() for _, found in opens_long(pair.server._state, train.data)
              for frame in found]  # fmt: skip
    codes = {frame.fields["error_code"] for frame in frames if frame.name == "CONNECTION_CLOSE"}
    assert codes == {E.PROTOCOL_VIOLATION}
    assert pair.client.internal_error is None and not pair.client.handshake_confirmed


@pytest.mark.conformance("T157")
def test_handshake_done_that_overtakes_the_handshake() -> None:
    """RFC 9001 §5.7: it waits for the keys, and the handshake goes on."""
    pair = Pair()
    pair.to_server(pair.from_client())
    flight = pair.from_server()
    space = pair.server._state.spaces[2]
    assert space.seal_keys is not None
    header = b"\x43" + pair.server._state.peer_cids.current.cid + (9).to_bytes(4, "big")
    early = space.seal_keys.seal(header, 4, 9, bytes((f.HANDSHAKE_DONE, 0, 0, 0)))
    pair.to_client([Train(early, len(early), TO_SERVER)])
    assert pair.client.closed is None and not pair.client.handshake_confirmed
    pair.to_client(flight)
    assert pair.client.internal_error is None
    assert pair.client.handshake_complete and pair.client.handshake_confirmed


@pytest.mark.conformance("T159")
@pytest.mark.parametrize("code", [E.INTERNAL_ERROR, E.PROTOCOL_VIOLATION])
@pytest.mark.parametrize("plays", ["client", "server"])
def test_a_generic_code(plays: str, code: TransportErrorCode) -> None:
    """§11: a peer may say no more than that; the application hears just that, whatever the peer had against it."""
    peer = Peer(plays)
    peer.sends(f.write_connection_close(code, b"", f.STREAM))
    error = peer.engine.closed
    assert isinstance(error, ConnectionClosed)
    assert (error.code, error.by_peer, error.transport, error.frame_type) == (code, True, True, f.STREAM)
    assert peer.hears() == []


@pytest.mark.conformance("T160")
@pytest.mark.parametrize("to", ["client", "server"])
@pytest.mark.parametrize(
    "frames", [f.write_connection_close(2, b"", 0), b"\x3f", f.write_crypto(9000, b"x")], ids=["close", "bad", "CRYPTO"]
)
def test_an_initial_after_handshake_packets(to: str, frames: bytes) -> None:
    """§10.2.3, RFC 9001 §4.9.1: anybody can make one, so it has no effect from the first Handshake packet on."""
    pair = Pair()
    pair.to_server(pair.from_client())
    source = pair.client._state if to == "server" else pair.server._state
    forged = long_packet(source, INITIAL, frames, number=90, pad_to=1200)
    pair.to_client(pair.from_server())
    if to == "server":
        ping = long_packet(pair.client._state, HANDSHAKE, b"\x01")
        pair.client._state.spaces[HANDSHAKE].next_packet_number = 1
        pair.to_server([Train(ping, len(ping), TO_CLIENT)])
        pair.to_server([Train(forged, len(forged), TO_CLIENT)])
        assert not pair.server.handshake_complete
    else:
        pair.to_server(pair.from_client())
        pair.to_client([Train(forged, len(forged), TO_SERVER)])
        assert not pair.client.handshake_confirmed
    assert pair.client.closed is None and pair.server.closed is None
    pair.exchange()
    assert pair.client.handshake_confirmed and pair.server.handshake_confirmed

"""A client that breaks a rule, and the error code with which the server says so on the wire: the cases of h3spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from peer import HANDSHAKE, INITIAL, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet, opens_long

from quicstack.connection import handshake
from quicstack.errors import TransportErrorCode
from quicstack.tls.messages import ClientHello
from quicstack.train import Train
from quicstack.transport.crypto_stream import CryptoStream
from quicstack.wire import frame as f
from quicstack.wire.packet import read_long_header, write_long_header
from quicstack.wire.transport_parameters import PreferredAddress
from quicstack.wire.version import VERSIONS, PacketType

E = TransportErrorCode
TOO_MANY = (1 << 60) + 1
UNEXPECTED_MESSAGE, MISSING_EXTENSION, NO_APPLICATION_PROTOCOL = 0x10A, 0x16D, 0x178
PARAMETERS = 0x39


def stream(stream_id: int, data: bytes = b"", offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def cid_frame(sequence: int, retire_prior_to: int, cid: bytes) -> bytes:
    return f.write_new_connection_id(sequence, retire_prior_to, cid, bytes(16))


# -- frames in 1-RTT packets -------------------------------------------------------------------------------------------

FRAMES = [
    pytest.param(
        stream(0, b"", 100_000_000, fin=True),
        E.FLOW_CONTROL_ERROR,
        marks=pytest.mark.conformance("h3spec-01"),
        id="a STREAM frame with a large offset",
    ),
    pytest.param(
        stream(1_000_000_000, b"x"),
        E.STREAM_LIMIT_ERROR,
        marks=pytest.mark.conformance("h3spec-02"),
        id="a stream beyond the limit",
    ),
    pytest.param(
        b"\x20",
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("h3spec-11", "T88"),
        id="an unknown frame",
    ),
    pytest.param(
        b"",
        E.PROTOCOL_VIOLATION,
        marks=pytest.mark.conformance("h3spec-12", "T87"),
        id="no frames",
    ),
    pytest.param(
        f.write_reset_stream(3, 0, 0),
        E.STREAM_STATE_ERROR,
        marks=pytest.mark.conformance("h3spec-16", "T133"),
        id="RESET_STREAM for a send-only stream",
    ),
    pytest.param(
        f.write_stop_sending(101, 0),
        E.STREAM_STATE_ERROR,
        marks=pytest.mark.conformance("h3spec-17", "T135"),
        id="STOP_SENDING for a stream that does not exist",
    ),
    pytest.param(
        f.write_new_token(b"token"),
        E.PROTOCOL_VIOLATION,
        marks=pytest.mark.conformance("h3spec-18", "T137"),
        id="NEW_TOKEN",
    ),
    pytest.param(
        stream(5, b"x"),
        E.STREAM_STATE_ERROR,
        marks=pytest.mark.conformance("h3spec-19", "T139"),
        id="STREAM on a stream that the server has not opened",
    ),
    pytest.param(
        stream(3, b"x"),
        E.STREAM_STATE_ERROR,
        marks=pytest.mark.conformance("h3spec-20", "T140"),
        id="STREAM on a send-only stream",
    ),
    pytest.param(
        f.write_limit(f.MAX_STREAM_DATA, 101, 5),
        E.STREAM_STATE_ERROR,
        marks=pytest.mark.conformance("h3spec-21", "T142"),
        id="MAX_STREAM_DATA for a stream that does not exist",
    ),
    pytest.param(
        f.write_limit(f.MAX_STREAM_DATA, 2, 5),
        E.STREAM_STATE_ERROR,
        marks=pytest.mark.conformance("h3spec-22", "T143"),
        id="MAX_STREAM_DATA for a receive-only stream",
    ),
    pytest.param(
        f.write_limit(f.MAX_STREAMS_BIDI, TOO_MANY),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("h3spec-23", "T144", "T20"),
        id="MAX_STREAMS above 2^60",
    ),
    pytest.param(
        f.write_limit(f.MAX_STREAMS_UNI, TOO_MANY),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("h3spec-23", "T144", "T20"),
        id="MAX_STREAMS above 2^60, unidirectional",
    ),
    pytest.param(
        f.write_limit(f.STREAMS_BLOCKED_BIDI, TOO_MANY),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("h3spec-24", "T146"),
        id="STREAMS_BLOCKED above 2^60",
    ),
    pytest.param(
        f.write_limit(f.STREAMS_BLOCKED_UNI, TOO_MANY),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("h3spec-24", "T146"),
        id="STREAMS_BLOCKED above 2^60, unidirectional",
    ),
    pytest.param(
        cid_frame(4, 10, b"new" * 4),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("h3spec-25", "T147"),
        id="a Retire Prior To above the sequence number",
    ),
    pytest.param(
        cid_frame(4, 0, b""),
        E.FRAME_ENCODING_ERROR,
        marks=pytest.mark.conformance("h3spec-26", "T148"),
        id="NEW_CONNECTION_ID of no bytes",
    ),
    pytest.param(
        bytes((f.HANDSHAKE_DONE,)),
        E.PROTOCOL_VIOLATION,
        marks=pytest.mark.conformance("h3spec-27", "T156"),
        id="HANDSHAKE_DONE",
    ),
    pytest.param(
        f.write_crypto(0, bytes.fromhex("1800000101")),
        UNEXPECTED_MESSAGE,
        marks=pytest.mark.conformance("h3spec-29"),
        id="KeyUpdate in 1-RTT",
    ),
]


@pytest.mark.parametrize(("frames", "code"), FRAMES)
def test_frames(frames: bytes, code: int) -> None:
    peer = Peer()
    # 1 and 3 exist, so that it is their direction that is wrong, and 5 does not
    peer.engine.open_stream()
    peer.engine.open_stream(unidirectional=True)
    peer.sends(frames)
    assert peer.closed_with() == code
    assert peer.engine.internal_error is None


@pytest.mark.conformance("h3spec-15", "T117")
@pytest.mark.parametrize("bits", [0x08, 0x10, 0x18])
def test_reserved_bits_of_a_short_header(bits: int) -> None:
    peer = Peer()
    datagram, _ = peer.packet(b"\x01", first_byte=0x40 | bits)
    peer.delivers(datagram)
    assert peer.closed_with() == E.PROTOCOL_VIOLATION


# -- the handshake -----------------------------------------------------------------------------------------------------


def codes(pair: Pair, trains: list[Train]) -> list[object]:
    """Those of the CONNECTION_CLOSE frames that the client can read, at every level of the handshake."""
    state = pair.client._state
    frames = [frame for train in trains for _, found in opens_long(state, train.data) for frame in found]
    return [frame.fields["error_code"] for frame in frames if frame.name == "CONNECTION_CLOSE"]


PREFERRED = PreferredAddress(bytes((192, 0, 2, 9)), 443, bytes(16), 0, b"preferred", bytes(16))


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(
            {"initial_source_connection_id": None},
            marks=pytest.mark.conformance("h3spec-03"),
            id="initial_source_connection_id is missing",
        ),
        pytest.param(
            {"original_destination_connection_id": b"original"},
            marks=pytest.mark.conformance("h3spec-04", "T119"),
            id="original_destination_connection_id",
        ),
        pytest.param(
            {"preferred_address": PREFERRED},
            marks=pytest.mark.conformance("h3spec-05", "T120"),
            id="preferred_address",
        ),
        pytest.param(
            {"retry_source_connection_id": b"retry"},
            marks=pytest.mark.conformance("h3spec-06", "T121"),
            id="retry_source_connection_id",
        ),
        pytest.param(
            {"stateless_reset_token": bytes(16)},
            marks=pytest.mark.conformance("h3spec-07", "T122"),
            id="stateless_reset_token",
        ),
        pytest.param(
            {"max_udp_payload_size": 1090},
            marks=pytest.mark.conformance("h3spec-08", "T123"),
            id="max_udp_payload_size below 1200",
        ),
        pytest.param(
            {"ack_delay_exponent": 30},
            marks=pytest.mark.conformance("h3spec-09", "T124"),
            id="ack_delay_exponent above 20",
        ),
        pytest.param(
            {"max_ack_delay": 32.768},
            marks=pytest.mark.conformance("h3spec-10", "T125"),
            id="max_ack_delay of 2^15",
        ),
    ],
)
def test_transport_parameters(said: dict[str, object]) -> None:
    pair = Pair(client={"min_ack_delay": None})
    state = pair.client._state
    state.local_parameters = replace(state.local_parameters, **said)  # type: ignore[arg-type]
    state.spaces[INITIAL].crypto = CryptoStream()
    handshake.start(state, pair.now)
    pair.to_server(pair.from_client())
    assert codes(pair, pair.from_server()) == [E.TRANSPORT_PARAMETER_ERROR]


def rewrite(pair: Pair, space: int, change: Callable[[bytes], bytes]) -> None:
    """The handshake messages that the client is about to send at this level are others."""
    crypto = pair.client._state.spaces[space].crypto
    written = bytes(crypto.outgoing.get(0, crypto.outgoing.end))
    crypto.outgoing = CryptoStream().outgoing
    crypto.outgoing.write(change(written))


def without_parameters(hello: bytes) -> bytes:
    parsed = ClientHello.read(hello[4:])
    del parsed.extensions[PARAMETERS]
    return parsed.write()


def under_the_draft_number(hello: bytes) -> bytes:
    parsed = ClientHello.read(hello[4:])
    parsed.extensions[0xFFA5] = parsed.extensions.pop(PARAMETERS)
    return parsed.write()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(without_parameters, marks=pytest.mark.conformance("h3spec-31"), id="none"),
        pytest.param(under_the_draft_number, marks=pytest.mark.conformance("h3spec-32"), id="0xffa5"),
    ],
)
def test_no_transport_parameters(change: Callable[[bytes], bytes]) -> None:
    """RFC 9001 §8.2."""
    pair = Pair()
    rewrite(pair, INITIAL, change)
    pair.to_server(pair.from_client())
    assert codes(pair, pair.from_server()) == [MISSING_EXTENSION]


@pytest.mark.conformance("h3spec-30")
def test_no_application_protocol() -> None:
    """RFC 9001 §8.1."""
    pair = Pair()
    pair.client.abandon(pair.now)
    configuration = replace(pair.client_endpoint.configuration, alpn_protocols=("another",))
    pair.client = pair.client_endpoint.connect(TO_SERVER, pair.now, configuration=configuration)
    pair.to_server(pair.from_client())
    assert codes(pair, pair.from_server()) == [NO_APPLICATION_PROTOCOL]


def finishing() -> Pair:
    """The client has read the server's part of the handshake and is about to send its own."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    assert pair.client.handshake_complete and not pair.server.handshake_complete
    return pair


def closes(pair: Pair) -> list[object]:
    """At whatever level the server closes: the client has the keys of all."""
    pair.now += 0.03
    found: list[object] = []
    for train in pair.from_server():
        if train.data[0] & 0x80:
            found += codes(pair, [train])
            header = read_long_header(train.data, 0, VERSIONS[1])
            rest = train.data[header.end :]
        else:
            rest = train.data
        if rest and not rest[0] & 0x80:
            found += _short_codes(pair, rest)
    return found


def _short_codes(pair: Pair, datagram: bytes) -> list[object]:
    peer = Peer.__new__(Peer)
    peer.state, peer.received = pair.client._state, set()
    _, frames = peer.opens(datagram)
    return [frame.fields["error_code"] for frame in frames if frame.name == "CONNECTION_CLOSE"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda finished: finished + bytes.fromhex("1800000101"),
            marks=pytest.mark.conformance("h3spec-28"),
            id="KeyUpdate after Finished",
        ),
        pytest.param(
            lambda finished: bytes.fromhex("05000000") + finished,
            marks=pytest.mark.conformance("h3spec-33", "C33"),
            id="EndOfEarlyData before Finished",
        ),
    ],
)
def test_messages_that_have_no_place(change: Callable[[bytes], bytes]) -> None:
    """RFC 9001 §6, §8.3."""
    pair = finishing()
    rewrite(pair, HANDSHAKE, change)
    pair.to_server(pair.from_client())
    assert set(closes(pair)) == {UNEXPECTED_MESSAGE}


@pytest.mark.conformance("h3spec-13", "T111")
@pytest.mark.parametrize("bits", [0x04, 0x08, 0x0C])
def test_reserved_bits_of_a_handshake_packet(bits: int) -> None:
    """RFC 9000 §17.2, in a packet whose number is not 0."""
    pair = finishing()
    state = pair.client._state
    cids = state.peer_cids.current.cid, state.local_cids.first
    payload = b"\x01" + bytes(20)
    header = write_long_header(state.version, PacketType.HANDSHAKE, *cids, b"", len(payload) + 16, 7, 4)
    keys = state.spaces[HANDSHAKE].seal_keys
    assert keys is not None
    datagram = keys.seal(bytes([header[0] | bits]) + header[1:], 4, 7, payload)
    pair.to_server([Train(datagram, len(datagram), TO_CLIENT)])
    assert set(closes(pair)) == {E.PROTOCOL_VIOLATION}


@pytest.mark.conformance("h3spec-14", "T115")
@pytest.mark.parametrize("frame", [b"\x1a12345678", b"\x1b12345678", stream(0, b"x"), f.write_datagram(b"x")])
def test_frames_of_1rtt_in_a_handshake_packet(frame: bytes) -> None:
    """RFC 9000 §17.2.4."""
    pair = finishing()
    datagram = long_packet(pair.client._state, HANDSHAKE, frame, number=7)
    pair.to_server([Train(datagram, len(datagram), TO_CLIENT)])
    assert set(closes(pair)) == {E.PROTOCOL_VIOLATION}

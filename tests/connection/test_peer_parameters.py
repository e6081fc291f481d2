"""Transport parameters that a peer must not send, and what those that it leaves out mean (RFC 9000 §7.4, §18.2)."""

from __future__ import annotations

import pytest
from peer import Pair
from wire import Listener

from quicstack.connection import handshake
from quicstack.connection.connection import Connection
from quicstack.errors import TransportErrorCode
from quicstack.wire import frame as f
from quicstack.wire.transport_parameters import TransportParameters, write_transport_parameters
from quicstack.wire.varint import encode_varint, read_varint

Changes = dict[int, bytes | None]


def rewritten(body: bytes, changes: Changes, only: bool = False) -> bytes:
    """The extension body with parameters put in, replaced or (None) left out; ``only`` those of connection IDs stay."""
    found: Changes = {}
    pos = 0
    while pos < len(body):
        identifier, pos = read_varint(body, pos)
        length, pos = read_varint(body, pos)
        if not only or identifier in (0x00, 0x0F, 0x10):
            found[identifier] = body[pos : pos + length]
        pos += length
    found |= changes
    return b"".join(
        encode_varint(identifier) + encode_varint(len(value)) + value
        for identifier, value in found.items()
        if value is not None
    )


def shake_hands(monkeypatch: pytest.MonkeyPatch, by: str, changes: Changes, only: bool = False) -> Pair:
    """A handshake in which one side's parameters are not what it meant to send."""

    def write(parameters: TransportParameters) -> bytes:
        is_server = parameters.original_destination_connection_id is not None
        body = write_transport_parameters(parameters)
        return rewritten(body, changes, only) if is_server == (by == "server") else body

    monkeypatch.setattr(handshake, "write_transport_parameters", write)
    return Pair()


def refusal(monkeypatch: pytest.MonkeyPatch, by: str, changes: Changes) -> set[tuple[int, object]]:
    """What the other side says to it: type and code of its CONNECTION_CLOSE frames."""
    pair = shake_hands(monkeypatch, by, changes)
    pair.to_server(pair.from_client())
    target: Connection
    if by == "server":
        flight = pair.from_server()
        listener, target = Listener(pair.client), pair.client
        pair.to_client(flight)
        sent = pair.from_client()
    else:
        listener, target = Listener(pair.server), pair.server
        sent = pair.from_server()
    assert not target.handshake_complete or target.closed is None
    return {close[:2] for packet in listener.reads(sent) for close in packet.closes}


SAID = {(f.CONNECTION_CLOSE, TransportErrorCode.TRANSPORT_PARAMETER_ERROR)}
CID = b"\x08" + bytes(8)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({0x00: bytes(8)}, marks=pytest.mark.conformance("T119"), id="original_destination_connection_id"),
        pytest.param(
            {0x0D: bytes(24) + CID + bytes(16)}, marks=pytest.mark.conformance("T120"), id="preferred_address"
        ),
        pytest.param({0x10: bytes(8)}, marks=pytest.mark.conformance("T121"), id="retry_source_connection_id"),
        pytest.param({0x02: bytes(16)}, marks=pytest.mark.conformance("T122"), id="stateless_reset_token"),
    ],
)
def test_parameters_of_servers_from_a_client(monkeypatch: pytest.MonkeyPatch, changes: Changes) -> None:
    """§18.2."""
    assert refusal(monkeypatch, "client", changes) == SAID


@pytest.mark.parametrize("by", ["client", "server"])
@pytest.mark.parametrize(
    ("changes", "good"),
    [
        pytest.param(
            {0x03: encode_varint(1199)},
            {0x03: encode_varint(1200)},
            marks=pytest.mark.conformance("T123"),
            id="max_udp_payload_size",
        ),
        pytest.param({0x0A: b"\x15"}, {0x0A: b"\x14"}, marks=pytest.mark.conformance("T124"), id="ack_delay_exponent"),
        pytest.param(
            {0x0B: encode_varint(1 << 14)},
            {0x0B: encode_varint((1 << 14) - 1)},
            marks=pytest.mark.conformance("T125"),
            id="max_ack_delay",
        ),
        pytest.param(
            {0x0E: b"\x01"}, {0x0E: b"\x02"}, marks=pytest.mark.conformance("T126"), id="active_connection_id_limit"
        ),
        pytest.param(
            {0x0C: b"\x01"}, {0x0C: b""}, marks=pytest.mark.conformance("T128"), id="disable_active_migration"
        ),
        pytest.param(
            {0x08: encode_varint((1 << 60) + 1)},
            {0x08: encode_varint(1 << 60)},
            marks=pytest.mark.conformance("T130"),
            id="initial_max_streams_bidi",
        ),
        pytest.param(
            {0x09: encode_varint((1 << 60) + 1)},
            {0x09: encode_varint(1 << 60)},
            marks=pytest.mark.conformance("T130"),
            id="initial_max_streams_uni",
        ),
    ],
)
def test_values_out_of_range(monkeypatch: pytest.MonkeyPatch, by: str, changes: Changes, good: Changes) -> None:
    """§18.2: the last good value, and the first bad one."""
    assert refusal(monkeypatch, by, good) == set()
    assert refusal(monkeypatch, by, changes) == SAID


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({0x02: bytes(15)}, marks=pytest.mark.conformance("T127"), id="stateless_reset_token of 15"),
        pytest.param({0x02: bytes(17)}, marks=pytest.mark.conformance("T127"), id="stateless_reset_token of 17"),
        pytest.param({0x02: b""}, marks=pytest.mark.conformance("T127"), id="stateless_reset_token of 0"),
        pytest.param({0x0D: bytes(24) + b"\x00" + bytes(16)}, marks=pytest.mark.conformance("T129"), id="empty ID"),
        pytest.param(
            {0x0D: bytes(24) + b"\x15" + bytes(21) + bytes(16)}, marks=pytest.mark.conformance("T129"), id="ID of 21"
        ),
        pytest.param({0x0D: bytes(24) + CID + bytes(15)}, marks=pytest.mark.conformance("T129"), id="truncated token"),
        pytest.param({0x0D: bytes(24)}, marks=pytest.mark.conformance("T129"), id="truncated before the ID"),
        pytest.param({0x0D: bytes(24) + CID + bytes(17)}, marks=pytest.mark.conformance("T129"), id="too long"),
    ],
)
def test_malformed_parameters_of_a_server(monkeypatch: pytest.MonkeyPatch, changes: Changes) -> None:
    """§18.2."""
    assert refusal(monkeypatch, "server", changes) == SAID


def test_well_formed_parameters_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """§18.2: the same parameters, as they should be."""
    for length in (1, 20):
        preferred = bytes(24) + bytes((length,)) + b"\x01" * length + bytes(16)
        assert refusal(monkeypatch, "server", {0x02: bytes(16), 0x0D: preferred}) == set()


# -- what is left out (§18.2) --------------------------------------------------------------------------------------


@pytest.mark.conformance("T130a")
@pytest.mark.parametrize("by", ["client", "server"])
def test_parameters_that_are_left_out(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """§18.2: no streams, no data, two connection IDs, ACK delays in units of 8 µs, 25 ms of delay, no datagrams."""
    pair = shake_hands(monkeypatch, by, {}, only=True)
    pair.exchange()
    side = pair.server if by == "client" else pair.client
    assert side.handshake_confirmed
    assert not side.can_open_stream() and not side.can_open_stream(unidirectional=True)
    assert side.max_datagram_payload == 0
    assert len(side._state.local_cids.active) == 2
    assert side._state.recovery.max_ack_delay == 0.025
    parameters = side.peer_transport_parameters
    assert parameters is not None
    assert (parameters.max_udp_payload_size, parameters.ack_delay_exponent) == (65527, 3)
    assert (parameters.max_ack_delay, parameters.active_connection_id_limit) == (0.025, 2)


@pytest.mark.conformance("T130a")
@pytest.mark.parametrize("by", ["client", "server"])
def test_limits_of_streams_are_seen_from_their_sender(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """§18.2: "local" limits what comes back on streams that the sender of the parameter opens, "remote" the others."""
    limits: Changes = {0x05: encode_varint(3000), 0x06: encode_varint(5000), 0x07: encode_varint(7000)}
    pair = shake_hands(monkeypatch, by, {**limits, 0x04: encode_varint(1 << 20)})
    pair.exchange()
    side, other = (pair.server, pair.client) if by == "client" else (pair.client, pair.server)
    theirs = other.open_stream()
    theirs.write(b"hello")
    pair.exchange()
    answering = side.stream(theirs.id)
    assert answering is not None
    streams = {answering.id: 3000, (own := side.open_stream()).id: 5000}
    streams[(uni := side.open_stream(unidirectional=True)).id] = 7000
    for stream in (answering, own, uni):
        stream.write(bytes(10_000))
    sent = dict.fromkeys(streams, 0)
    listener = Listener(side)
    for _ in range(40):
        trains = pair.from_server() if by == "client" else pair.from_client()
        for packet in listener.reads(trains):
            for frame in packet.named("STREAM"):
                data, offset, stream_id = frame.fields["data"], frame.fields["offset"], frame.fields["stream_id"]
                assert isinstance(data, bytes | bytearray) and isinstance(offset, int) and isinstance(stream_id, int)
                sent[stream_id] = max(sent[stream_id], offset + len(data))
        if by == "client":
            pair.to_client(trains)
            pair.to_server(pair.from_client())
        else:
            pair.to_server(trains)
            pair.to_client(pair.from_server())
        pair.now += 0.01
        pair.client_endpoint.handle_timeout(pair.now)
        pair.server_endpoint.handle_timeout(pair.now)
    assert sent == streams

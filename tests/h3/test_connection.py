"""The connection as a whole: settings, GOAWAY, requests both ways, WebTransport hand-over, datagrams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from h3.errors import ExtendedConnectUnavailable, GoingAway, H3ErrorCode, InvalidMessage
from h3.frames import FrameType, StreamType, encode_frame, is_grease
from h3.qpack import Fields
from h3.settings import H3Settings, Setting, read_settings
from quicstack.errors import StreamLimitReached
from quicstack.train import Path, Train
from quicstack.wire.varint import encode_varint, read_varint

Scripted = Callable[..., tuple[Any, Any]]

GET: Fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
EXTENDED: Fields = [(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"test")]
OK: Fields = [(b":status", b"200")]


def test_request_and_response_with_content_and_trailers(both: Scripted) -> None:
    client, server = both()
    exchange = client.h3.request(POST)
    content = bytes(range(256)) * 4000
    sent = exchange.send_body(content)
    assert sent == len(content)
    exchange.send_headers([(b"x-sum", b"1")])
    echoed = b""

    def echo(incoming: Any) -> None:
        nonlocal echoed
        echoed += incoming.read_body()
        if incoming.at_end and incoming.can_send:
            incoming.send_headers([(b":status", b"103"), (b"link", b"</>")])
            incoming.send_headers([*OK, (b"content-length", str(len(echoed)).encode())])
            incoming.send_body(echoed)
            incoming.send_headers([(b"x-sum", b"2")])

    server.on_exchange = echo
    received = b""
    for _ in range(200):
        client.pair.run()
        received += exchange.read_body()
        if exchange.at_end:
            break
    assert echoed == received == content
    assert server.exchanges[0].trailers == [(b"x-sum", b"1")]
    assert exchange.trailers == [(b"x-sum", b"2")]
    assert exchange.informational == [(103, [(b":status", b"103"), (b"link", b"</>")])]
    client.pair.run()
    assert client.h3.exchanges == server.h3.exchanges == []  # nothing is remembered


def test_an_unread_body_holds_its_sender_back_and_nobody_else(both: Scripted) -> None:
    client, server = both()
    first = client.h3.request(POST)
    big = bytes(1 << 20)
    first.send_body(big)
    client.pair.run()
    sent_before = first.writable
    client.pair.run()
    assert first.writable == sent_before  # no credit comes
    assert server.exchanges[0].body_readable <= 1 << 18
    second = client.h3.request(GET, end_stream=True)
    client.pair.run()
    server.exchanges[1].send_headers(OK, end_stream=True)
    client.pair.run()
    assert second.status == 200


def test_settings_and_grease_go_out_first(scripted: Scripted) -> None:
    _, peer = scripted("server", extra_settings={0x2B603742: 1}, random=lambda n: bytes([5, 6, 7, 8, 9, 10, 11][:n]))
    streams = {read_varint(bytes(data), 0)[0]: bytes(data) for i, data in peer.received.items() if i & 3 == 3}
    assert {StreamType.CONTROL, StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER} < streams.keys()
    assert sum(map(is_grease, streams)) == 1
    control = streams[StreamType.CONTROL]
    frame_type, position = read_varint(control, 1)
    length, position = read_varint(control, position)
    settings = read_settings(control[position : position + length])
    assert frame_type == FrameType.SETTINGS
    assert (
        settings[Setting.ENABLE_CONNECT_PROTOCOL] == settings[0x33] == settings[0xFFD277] == settings[0x2B603742] == 1
    )
    assert any(map(is_grease, settings))
    assert is_grease(read_varint(control, position + length)[0])


def test_grease_can_be_left_out(scripted: Scripted) -> None:
    _, peer = scripted("client", grease=False)
    assert len([i for i in peer.received if i & 3 == 2]) == 3


@pytest.mark.parametrize("limit", [0, 1, 2, 3])
def test_critical_streams_open_as_far_as_the_peer_allows(both: Scripted, limit: int) -> None:
    client, server = both({"initial_max_streams_uni": limit})
    if limit:
        assert client.settings_received == server.settings_received == 1
        exchange = client.h3.request(GET, end_stream=True)
        client.pair.run()
        assert server.exchanges[0].headers == GET
        server.exchanges[0].send_headers(OK, end_stream=True)
        client.pair.run()
        assert exchange.status == 200


CLOSING = [
    ("second control stream", "both", H3ErrorCode.H3_STREAM_CREATION_ERROR, [b"\x00\x04\x00", b"\x00\x04\x00"]),
    ("second encoder stream", "both", H3ErrorCode.H3_STREAM_CREATION_ERROR, [b"\x02", b"\x02"]),
    ("second decoder stream", "both", H3ErrorCode.H3_STREAM_CREATION_ERROR, [b"\x03", b"\x03"]),
    ("push stream at the server", "server", H3ErrorCode.H3_STREAM_CREATION_ERROR, [b"\x01\x00"]),
    ("push stream at the client", "client", H3ErrorCode.H3_ID_ERROR, [b"\x01\x00"]),
    ("no SETTINGS", "both", H3ErrorCode.H3_MISSING_SETTINGS, [b"\x00\x07\x01\x00"]),
    ("encoder stream error", "both", H3ErrorCode.QPACK_ENCODER_STREAM_ERROR, [b"\x02\x00"]),
    ("decoder stream error", "both", H3ErrorCode.QPACK_DECODER_STREAM_ERROR, [b"\x03\x00"]),
]
CLOSING = [(name, r, c, s) for name, role, c, s in CLOSING for r in ("client", "server") if role in (r, "both")]


@pytest.mark.parametrize(("name", "role", "code", "streams"), CLOSING)
def test_streams_that_cost_the_connection(
    scripted: Scripted, name: str, role: str, code: H3ErrorCode, streams: list[bytes]
) -> None:
    _, peer = scripted(role)
    for data in streams:
        assert peer.quic.closed is None
        peer.opens(data, unidirectional=True)
    peer.sees_close(code)


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("header", [b"\x00\x04\x00", b"\x02", b"\x03"], ids=["control", "encoder", "decoder"])
@pytest.mark.parametrize("how", ["end", "end with the type", "reset"])
def test_critical_streams_must_stay(scripted: Scripted, role: str, header: bytes, how: str) -> None:
    _, peer = scripted(role)
    stream = peer.opens(header, unidirectional=True, fin=how == "end with the type")
    if how == "end":
        peer.writes(stream, b"", fin=True)
    elif how == "reset":
        stream.reset(0)
    peer.sees_close(H3ErrorCode.H3_CLOSED_CRITICAL_STREAM)


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("stream_type", [0, 2, 3])
def test_nobody_may_stop_our_critical_streams(scripted: Scripted, role: str, stream_type: int) -> None:
    _, peer = scripted(role)
    (stream_id,) = (i for i, data in peer.received.items() if i & 2 and data[0] == stream_type)
    peer.quic.stream(stream_id).stop_sending(0)
    peer.sees_close(H3ErrorCode.H3_CLOSED_CRITICAL_STREAM)


@pytest.mark.parametrize("role", ["client", "server"])
def test_streams_that_are_tolerated(scripted: Scripted, role: str) -> None:
    side, peer = scripted(role)
    unknown = peer.opens(encode_varint(0x21) + b"some bytes", unidirectional=True)
    assert unknown.stop_code == H3ErrorCode.H3_STREAM_CREATION_ERROR
    webtransport = peer.opens(encode_varint(StreamType.WT_STREAM) + b"\x00", unidirectional=True)
    assert webtransport.stop_code == H3ErrorCode.H3_STREAM_CREATION_ERROR  # not enabled here
    peer.opens(b"", unidirectional=True, fin=True)
    peer.opens(b"\x40", unidirectional=True, fin=True)
    peer.opens(b"\x40", unidirectional=True).reset(0)
    side.pair.run()
    assert peer.quic.closed is None


def test_a_server_opens_no_request_streams(scripted: Scripted) -> None:
    _, peer = scripted("client")
    peer.opens(peer.headers(GET))
    peer.sees_close(H3ErrorCode.H3_STREAM_CREATION_ERROR)


# Extended CONNECT (RFC 9220).


def test_extended_connect_waits_for_the_servers_settings(scripted: Scripted) -> None:
    side, peer = scripted("client")
    with pytest.raises(ExtendedConnectUnavailable, match="not come"):
        side.h3.request(EXTENDED)
    peer.opens_control({Setting.ENABLE_CONNECT_PROTOCOL: 1})
    assert side.settings_received == 1
    assert side.h3.request(EXTENDED).protocol == b"test"


def test_extended_connect_needs_a_setting(scripted: Scripted) -> None:
    side, peer = scripted("client", connect_protocol_implied_by=(0x2B603742,))
    peer.opens_control({Setting.H3_DATAGRAM: 1})
    with pytest.raises(ExtendedConnectUnavailable, match="do not allow"):
        side.h3.request(EXTENDED)
    side, peer = scripted("client", connect_protocol_implied_by=(0x2B603742,))
    peer.opens_control({0x2B603742: 1})
    assert side.h3.request(EXTENDED).is_connect


def test_a_server_that_does_not_announce_it_takes_none(scripted: Scripted) -> None:
    side, peer = scripted("server", settings=H3Settings(enable_connect_protocol=False))
    stream = peer.opens(peer.headers(EXTENDED))
    peer.sees_stream_error(stream, H3ErrorCode.H3_MESSAGE_ERROR)
    assert side.exchanges[0].headers is None


# GOAWAY (RFC 9114 §5.2).


def test_goaway_of_the_server(both: Scripted) -> None:
    client, server = both()
    first = client.h3.request(GET, end_stream=True)
    client.pair.run()
    assert server.h3.goaway() == 4
    raced = client.h3.request(GET, end_stream=True)
    client.pair.run()
    assert client.goaways == [4]
    assert raced.error.is_retriable and raced.error.code == H3ErrorCode.H3_REQUEST_REJECTED
    assert len(server.exchanges) == 1
    server.exchanges[0].send_headers(OK, end_stream=True)
    client.pair.run()
    assert first.status == 200 and first.error is None
    with pytest.raises(GoingAway):
        client.h3.request(GET)
    with pytest.raises(InvalidMessage):
        server.h3.goaway(8)


def test_requests_after_our_goaway_are_rejected(scripted: Scripted) -> None:
    side, peer = scripted("server")
    assert side.h3.goaway(2**62 - 4) == 2**62 - 4  # the first, without effect yet
    peer.opens(peer.headers(GET), fin=True)
    assert side.h3.goaway() == 4
    late = peer.opens(peer.headers(GET), fin=True)
    peer.sees_stream_error(late, H3ErrorCode.H3_REQUEST_REJECTED)
    assert [exchange.stream_id for exchange in side.exchanges] == [0]


def test_goaway_of_the_client(both: Scripted) -> None:
    client, server = both()
    client.h3.goaway()
    client.pair.run()
    assert server.goaways == [0]
    with pytest.raises(GoingAway):
        client.h3.request(GET)


# Priorities (RFC 9218).


def test_priority_by_field_and_by_frame(scripted: Scripted) -> None:
    side, peer = scripted("server")
    control = peer.opens_control()
    peer.writes(control, encode_frame(FrameType.PRIORITY_UPDATE_REQUEST, b"\x04u=1"))
    for _ in range(2):
        peer.opens(peer.headers([*GET, (b"priority", b"u=6, i")]), fin=True)
    assert [exchange.priority for exchange in side.exchanges] == [(6, True), (1, False)]
    peer.writes(control, encode_frame(FrameType.PRIORITY_UPDATE_REQUEST, b"\x00u=0"))
    assert side.exchanges[0].priority == (0, False)


# QPACK over real streams (RFC 9204).

SET_CAPACITY = b"\x3f\xe1\x1f"
INSERT = b"\xc1\x05/late"  # the name of static entry 1, :path
SECTION = b"\x02\x00\xd1\xd7\x50\x01a\x80"  # GET, https, :authority a, and the first dynamic entry


@pytest.mark.parametrize("fin", [False, True])
def test_a_request_waits_for_the_table_and_goes_on(scripted: Scripted, fin: bool) -> None:
    side, peer = scripted("server")
    encoder = peer.opens(b"\x02" + SET_CAPACITY, unidirectional=True)
    stream = peer.opens(encode_frame(FrameType.HEADERS, SECTION) + encode_frame(FrameType.DATA, b"x"), fin=fin)
    assert side.exchanges == []
    peer.writes(encoder, INSERT)
    assert dict(side.exchanges[0].headers)[b":path"] == b"/late"
    assert side.exchanges[0].read_body() == b"x"
    assert side.exchanges[0].at_end == fin
    (output,) = (data for i, data in peer.received.items() if i & 3 == 3 and data[0] == StreamType.QPACK_DECODER)
    assert bytes(output) == b"\x03\x80"
    assert stream.reset_code is None


def test_a_request_reset_while_blocked_is_cancelled(scripted: Scripted) -> None:
    side, peer = scripted("server")
    encoder = peer.opens(b"\x02" + SET_CAPACITY, unidirectional=True)
    stream = peer.opens(encode_frame(FrameType.HEADERS, SECTION))
    stream.reset(H3ErrorCode.H3_REQUEST_CANCELLED)
    side.pair.run()
    peer.writes(encoder, INSERT)
    (output,) = (data for i, data in peer.received.items() if i & 3 == 3 and data[0] == StreamType.QPACK_DECODER)
    assert bytes(output) == b"\x03\x40\x01"  # Stream Cancellation, then Insert Count Increment
    assert side.exchanges == side.h3.exchanges == [] and peer.quic.closed is None
    assert stream.finished and stream.reset_code == H3ErrorCode.H3_REQUEST_REJECTED


def test_unread_content_does_not_stop_the_streams_that_matter(both: Scripted) -> None:
    """Three unread bodies (256 KiB of credit each) leave room in the connection's window for control and QPACK."""
    client, server = both()
    for _ in range(3):
        client.h3.request(POST).send_body(bytes(1 << 20))
    client.pair.run()
    fields = [*GET, (b"x-new", b"value")]
    for _ in range(3):
        client.h3.request(fields, end_stream=True)
        client.pair.run()
    assert [exchange.headers for exchange in server.exchanges[3:]] == [fields] * 3
    client.h3.goaway()
    client.pair.run()
    assert server.goaways == [0]


def test_a_field_section_above_the_peers_limit_is_not_sent(scripted: Scripted) -> None:
    side, peer = scripted("client")
    peer.opens_control({Setting.MAX_FIELD_SECTION_SIZE: 300})
    with pytest.raises(InvalidMessage, match="300"):
        side.h3.request([*GET, (b"x", b"y" * 200)])
    assert side.h3.exchanges == []  # no stream was opened for it
    side.h3.request(GET)


# WebTransport streams.


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("unidirectional", [True, False])
def test_webtransport_streams_are_handed_over(scripted: Scripted, role: str, unidirectional: bool, size: int) -> None:
    side, peer = scripted(role, enable_webtransport=True)
    header = encode_varint(0x54 if unidirectional else 0x41) + encode_varint(1 << 20)
    script = header + b"first bytes of the session"
    stream = peer.opens(b"", unidirectional=unidirectional)
    for start in range(0, len(script), size):
        peer.writes(stream, script[start : start + size])
    ((session_id, handed),) = side.webtransport
    assert session_id == 1 << 20
    assert handed.read() == b"first bytes of the session"
    assert side.exchanges == [] and side.h3.exchanges == []
    peer.writes(stream, b"more", fin=True)
    assert handed.read() == b"more" and handed.at_end


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_streams_that_are_reset_inside_their_header_leave_nothing(scripted: Scripted, role: str, cut: int) -> None:
    side, peer = scripted(role, enable_webtransport=True)
    header = (encode_varint(0x41) + encode_varint(1 << 20))[:cut]
    for _ in range(300):  # more than the limit of streams: each must be over for the next one to be allowed
        stream = peer.opens(header)
        stream.reset(0)
        side.pair.run()
    assert stream.finished and side.webtransport == [] and side.h3.exchanges == []


def test_a_servers_stream_that_ends_inside_its_header_is_dropped(scripted: Scripted) -> None:
    side, peer = scripted("client", enable_webtransport=True)
    stream = peer.opens(b"\x40\x41\x80", fin=True)
    side.pair.run()
    assert stream.finished and peer.quic.closed is None


def test_our_webtransport_streams_carry_the_header(both: Scripted) -> None:
    client, server = both(enable_webtransport=True)
    for unidirectional in (True, False):
        for near, far in ((client, server), (server, client)):
            stream = near.h3.open_webtransport_stream(4, unidirectional=unidirectional)
            stream.owner = near
            stream.write(b"hello", True)
            near.pair.run()
            session_id, arrived = far.webtransport.pop()
            assert (session_id, arrived.read()) == (4, b"hello")


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("unidirectional", [True, False])
@pytest.mark.parametrize("session_id", [1, 2, 3, 2**62 - 1])
def test_session_ids_name_request_streams(scripted: Scripted, role: str, unidirectional: bool, session_id: int) -> None:
    _, peer = scripted(role, enable_webtransport=True)
    peer.opens(
        encode_varint(0x54 if unidirectional else 0x41) + encode_varint(session_id), unidirectional=unidirectional
    )
    peer.sees_close(H3ErrorCode.H3_ID_ERROR)


def test_the_largest_session_id(scripted: Scripted) -> None:
    side, peer = scripted("server", enable_webtransport=True)
    peer.opens(encode_varint(0x41) + encode_varint(2**62 - 4))
    assert side.webtransport[0][0] == 2**62 - 4


@pytest.mark.parametrize("before", [b"\x21\x00", None], ids=["reserved frame", "HEADERS"])
def test_the_signal_counts_only_at_the_start(scripted: Scripted, before: bytes | None) -> None:
    _, peer = scripted("server", enable_webtransport=True)
    peer.opens((before or peer.headers(POST)) + encode_varint(0x41) + b"\x00")
    peer.sees_close(H3ErrorCode.H3_FRAME_ERROR)


def test_the_signal_on_a_response_is_an_error(scripted: Scripted) -> None:
    side, peer = scripted("client", enable_webtransport=True)
    exchange = side.h3.request(GET, end_stream=True)
    side.pair.run()
    peer.writes(peer.quic.stream(exchange.stream_id), encode_varint(0x41) + b"\x00")
    peer.sees_close(H3ErrorCode.H3_FRAME_ERROR)


def test_without_webtransport_the_signal_is_an_unknown_frame(scripted: Scripted) -> None:
    side, peer = scripted("server")
    peer.opens(encode_frame(0x41, b"abc") + peer.headers(GET), fin=True)
    assert side.exchanges[0].headers == GET


def test_streams_of_sessions_pass_our_goaway(scripted: Scripted) -> None:
    side, peer = scripted("server", enable_webtransport=True)
    peer.opens(peer.headers(EXTENDED))
    side.h3.goaway()
    peer.opens(encode_varint(0x41) + b"\x00rest")
    assert side.webtransport[0][1].read() == b"rest"


# Datagrams (RFC 9297 §2.1).


def test_datagrams_both_ways(both: Scripted) -> None:
    client, server = both()
    exchange = client.h3.request(EXTENDED)
    client.pair.run()
    server.exchanges[0].send_headers(OK)
    client.pair.run()
    assert exchange.max_datagram_payload > 1000
    for near, far in ((exchange, server.exchanges[0]), (server.exchanges[0], exchange)):
        assert near.send_datagram(b"") and near.send_datagram(b"x" * near.max_datagram_payload)
        client.pair.run()
        assert far.take_datagrams() == [b"", b"x" * near.max_datagram_payload]
    exchange.finish()
    assert not exchange.send_datagram(b"after the end")


def test_datagrams_wait_for_both_settings(scripted: Scripted) -> None:
    side, peer = scripted("client", connect_protocol_implied_by=(0x99,))
    peer.opens_control({0x99: 1})
    exchange = side.h3.request(EXTENDED)
    assert exchange.max_datagram_payload == -1 and not exchange.send_datagram(b"x")
    side, peer = scripted("client")
    peer.opens_control({Setting.ENABLE_CONNECT_PROTOCOL: 1, Setting.H3_DATAGRAM_DRAFT04: 1})
    assert side.h3.request(EXTENDED).send_datagram(b"x")


@pytest.mark.parametrize("data", [b"", b"\x40", encode_varint(2**60)])
def test_broken_datagrams(scripted: Scripted, data: bytes) -> None:
    _, peer = scripted("server")
    peer.quic.send_datagram(data)
    peer.sees_close(H3ErrorCode.H3_DATAGRAM_ERROR)


def test_early_datagrams_wait_for_their_request_within_bounds(scripted: Scripted) -> None:
    side, peer = scripted("server")
    for n in range(100):
        peer.quic.send_datagram(b"\x00" + bytes([n]))
        peer.quic.send_datagram(b"\x07other")
    side.pair.run()
    peer.opens(peer.headers(EXTENDED))
    assert side.exchanges[0].take_datagrams() == [bytes([n]) for n in range(84, 100)]
    peer.quic.send_datagram(b"\x00now")
    side.pair.run()
    assert side.exchanges[0].take_datagrams() == [b"now"]


def test_early_datagrams_that_came_together_are_kept(scripted: Scripted) -> None:
    side, peer = scripted("server")
    for n in range(50):
        peer.quic.send_datagram(b"\x00" + bytes([n]))
    side.pair.run()
    peer.opens(peer.headers(EXTENDED))
    assert side.exchanges[0].take_datagrams() == [bytes([n]) for n in range(18, 50)]


def test_a_request_without_a_use_for_datagrams_is_ended(scripted: Scripted) -> None:
    _side, peer = scripted("server")
    stream = peer.opens(peer.headers(POST))
    peer.quic.send_datagram(b"\x00x")
    peer.sees_stream_error(stream, H3ErrorCode.H3_DATAGRAM_ERROR)


def test_datagrams_of_a_request_that_is_over_are_dropped(scripted: Scripted) -> None:
    side, peer = scripted("server")
    peer.opens(peer.headers(GET), fin=True)
    side.exchanges[0].send_headers(OK, end_stream=True)
    side.pair.run()
    peer.quic.send_datagram(b"\x00x")
    side.pair.run()
    assert peer.quic.closed is None and side.h3.exchanges == []


# Floods and limits.


def abandon(exchange: Any) -> None:
    if exchange.error is not None:
        exchange.cancel()


def test_requests_reset_at_once_are_bounded(scripted: Scripted) -> None:
    side, peer = scripted("server")
    side.on_exchange = abandon
    for _ in range(1100):
        if peer.quic.closed is not None:
            break
        peer.opens(peer.headers(POST)).reset(H3ErrorCode.H3_REQUEST_CANCELLED)
        side.pair.run()
    peer.sees_close(H3ErrorCode.H3_EXCESSIVE_LOAD)


def test_a_client_may_change_its_mind_now_and_then(scripted: Scripted) -> None:
    side, peer = scripted("server")

    def answer(exchange: Any) -> None:
        abandon(exchange)
        if exchange.at_end and exchange.can_send:
            exchange.send_headers(OK, end_stream=True)

    side.on_exchange = answer
    for _ in range(600):
        for _ in range(3):
            peer.opens(peer.headers(POST)).reset(H3ErrorCode.H3_REQUEST_CANCELLED)
        peer.opens(peer.headers(GET), fin=True)
    side.pair.run()
    assert peer.quic.closed is None and side.h3.exchanges == []


def test_streams_run_out(both: Scripted) -> None:
    client, _ = both({"initial_max_streams_bidi": 2})
    client.h3.request(GET, end_stream=True)
    client.h3.request(GET, end_stream=True)
    with pytest.raises(StreamLimitReached):
        client.h3.request(GET, end_stream=True)


def test_after_a_close_nothing_happens(scripted: Scripted) -> None:
    side, peer = scripted("server")
    peer.opens(peer.headers(POST))
    side.h3.close(H3ErrorCode.H3_NO_ERROR, "done")
    peer.sees_close(H3ErrorCode.H3_NO_ERROR)
    exchange = side.exchanges[0]
    assert exchange.read_body() == b""
    assert side.h3.process(side.quic.take_ready()).exchanges == []


def test_a_request_that_arrives_with_the_end_of_its_connection(both: Scripted) -> None:
    """What came before CONNECTION_CLOSE counts; acknowledging and answering it goes nowhere and raises nothing."""
    client, server = both()
    fields = [*GET, (b"x-same", b"so that it goes into the dynamic table")]
    for _ in range(3):
        client.h3.request(fields, end_stream=True)
        client.pair.run()
    pair = client.pair
    here, there = pair.endpoints

    def deliver() -> None:
        while (train := pair.endpoints[here].next_train(pair.now)) is not None:
            arriving = Train(train.data, train.segment_size, Path(here, train.path.remote), 0)
            pair.endpoints[there].receive(arriving, pair.now)

    client.h3.request(fields, end_stream=True)
    deliver()
    client.quic.close(H3ErrorCode.H3_NO_ERROR, "")
    deliver()
    assert server.quic.closed is not None
    server.process(server.quic.take_ready())
    assert len(server.exchanges) == 4
    server.exchanges[3].send_headers(OK, end_stream=True)

"""Exchanges as the layer above uses them: order of what is sent, capsules, datagrams, cancellation."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from h3.capsule import encode_capsule
from h3.errors import H3ErrorCode, InvalidMessage
from h3.frames import FrameType, encode_frame
from h3.qpack import Fields
from h3.settings import H3Settings, Setting
from quicstack.wire.varint import encode_varint

Scripted = Callable[..., tuple[Any, Any]]

GET: Fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
EXTENDED: Fields = [(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"test")]
OK: Fields = [(b":status", b"200")]
CLOSE, DRAIN = 0x2843, 0x78AE


def data(content: bytes) -> bytes:
    return encode_frame(FrameType.DATA, content)


def upgraded(scripted: Scripted, accept: dict[int, int] | None = None) -> tuple[Any, Any, Any]:
    """Our server's side of an accepted extended CONNECT, the scripted client, and its stream."""
    side, peer = scripted("server")
    stream = peer.opens(peer.headers(EXTENDED))
    (exchange,) = side.exchanges
    exchange.send_headers(OK)
    exchange.upgrade({CLOSE: 1028, DRAIN: 0} if accept is None else accept)
    side.pair.run()
    return exchange, peer, stream


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_capsules_in_any_frames_and_pieces(scripted: Scripted, size: int) -> None:
    exchange, peer, stream = upgraded(scripted)
    capsules = encode_capsule(0x17, b"x" * 3000) + encode_capsule(DRAIN) + encode_capsule(CLOSE, b"\0\0\0\7bye")
    script = b"".join(data(capsules[n : n + 7]) for n in range(0, len(capsules), 7))
    for start in range(0, len(script), size):
        peer.writes(stream, script[start : start + size])
    assert exchange.take_capsules() == [(DRAIN, b""), (CLOSE, b"\0\0\0\7bye")]
    assert exchange.take_capsules() == []
    peer.writes(stream, b"", fin=True)
    assert exchange.at_end and exchange.error is None


def test_capsules_that_came_before_the_upgrade_wait(scripted: Scripted) -> None:
    side, peer = scripted("server")
    peer.opens(peer.headers(EXTENDED) + data(encode_capsule(DRAIN)))
    (exchange,) = side.exchanges
    assert exchange.take_capsules() == []
    exchange.send_headers(OK)
    exchange.upgrade({DRAIN: 0})
    assert exchange.take_capsules() == [(DRAIN, b"")]


def test_capsules_of_ours(scripted: Scripted) -> None:
    exchange, peer, stream = upgraded(scripted)
    assert exchange.send_capsule(CLOSE, b"abc")
    peer.pair.run()
    assert bytes(peer.received[stream.id]).endswith(data(encode_capsule(CLOSE, b"abc")))
    with pytest.raises(InvalidMessage):
        exchange.send_body(b"not a capsule")
    exchange.finish()
    assert not exchange.send_capsule(CLOSE, b"too late")


@pytest.mark.parametrize(
    "content",
    [encode_capsule(CLOSE, bytes(1029)), encode_capsule(DRAIN, b"x"), encode_varint(0) + encode_varint(1 << 20)],
    ids=["long", "not empty", "datagram of a mebibyte"],
)
def test_known_capsules_have_limits(scripted: Scripted, content: bytes) -> None:
    exchange, peer, stream = upgraded(scripted)
    peer.writes(stream, data(content))
    peer.sees_stream_error(stream, H3ErrorCode.H3_MESSAGE_ERROR)
    assert exchange.error.code == H3ErrorCode.H3_MESSAGE_ERROR


def test_a_stream_that_ends_inside_a_capsule_is_malformed(scripted: Scripted) -> None:
    _, peer, stream = upgraded(scripted)
    peer.writes(stream, data(encode_capsule(CLOSE, b"abcd")[:-1]), fin=True)
    peer.sees_stream_error(stream, H3ErrorCode.H3_MESSAGE_ERROR)


def test_an_unknown_capsule_of_many_mebibytes_takes_no_memory(scripted: Scripted) -> None:
    exchange, peer, stream = upgraded(scripted)
    length = 8 << 20
    peer.writes(stream, encode_varint(FrameType.DATA) + encode_varint(1 << 40) + b"\x17" + encode_varint(length))
    peer.writes(stream, bytes(1 << 18))
    tracemalloc.start()
    try:
        for _ in range(length // (1 << 18) - 1):
            peer.writes(stream, bytes(1 << 18))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20  # both sides of the connection, packets on the wire included
    peer.writes(stream, encode_capsule(DRAIN))
    assert exchange.take_capsules() == [(DRAIN, b"")]


def test_a_flood_of_capsules_waits_in_the_stream(scripted: Scripted) -> None:
    exchange, peer, stream = upgraded(scripted)
    count = 100_000
    flood = encode_capsule(DRAIN) * count
    assert stream.write(data(flood)) > len(flood)
    peer.pair.run()
    assert len(exchange._capsules) < 5000
    taken = 0
    while capsules := exchange.take_capsules():
        taken += len(capsules)
        peer.pair.run()
    assert taken == count


@pytest.mark.parametrize("field", [(b"content-length", b"0"), (b"content-type", b"text/plain")])
def test_fields_that_capsules_forbid(scripted: Scripted, field: tuple[bytes, bytes]) -> None:
    side, peer = scripted("server")
    stream = peer.opens(peer.headers([*EXTENDED, field]))
    side.exchanges[0].send_headers(OK)
    side.exchanges[0].upgrade()
    peer.sees_stream_error(stream, H3ErrorCode.H3_MESSAGE_ERROR)


def test_statuses_that_capsules_forbid(scripted: Scripted) -> None:
    side, peer = scripted("client")
    peer.opens_control({Setting.ENABLE_CONNECT_PROTOCOL: 1})
    exchange = side.h3.request(EXTENDED)
    side.pair.run()
    peer.writes(peer.quic.stream(0), peer.headers([(b":status", b"204")]))
    exchange.upgrade()
    assert exchange.error.code == H3ErrorCode.H3_MESSAGE_ERROR


def test_upgrade_needs_an_accepted_extended_connect(scripted: Scripted) -> None:
    side, peer = scripted("server")
    peer.opens(peer.headers(GET))
    peer.opens(peer.headers(EXTENDED))
    plain, extended = side.exchanges
    plain.send_headers(OK)
    for exchange in (plain, extended):
        with pytest.raises(InvalidMessage):
            exchange.upgrade()
    extended.send_headers([(b":status", b"403")])
    with pytest.raises(InvalidMessage):
        extended.upgrade()
    with pytest.raises(InvalidMessage):
        plain.send_capsule(DRAIN)


def test_datagrams_in_capsules_when_the_transport_has_none(both: Scripted) -> None:
    client, server = both({"max_datagram_frame_size": 0})
    exchange = client.h3.request(EXTENDED)
    client.pair.run()
    server.exchanges[0].send_headers(OK)
    server.exchanges[0].upgrade()
    client.pair.run()
    assert not exchange.send_datagram(b"x")  # no capsules yet either
    exchange.upgrade()
    assert exchange.max_datagram_payload == -1
    for near, far in ((exchange, server.exchanges[0]), (server.exchanges[0], exchange)):
        assert near.send_datagram(b"hello") and near.send_datagram(bytes(20_000))
        client.pair.run()
        assert far.take_datagrams() == [b"hello", bytes(20_000)]


def test_datagrams_that_do_not_fit_travel_as_capsules(both: Scripted) -> None:
    client, server = both()
    exchange = client.h3.request(EXTENDED)
    client.pair.run()
    server.exchanges[0].send_headers(OK)
    server.exchanges[0].upgrade()
    client.pair.run()
    exchange.upgrade()
    assert exchange.send_datagram(bytes(5000))
    client.pair.run()
    assert server.exchanges[0].take_datagrams() == [bytes(5000)]


def test_waiting_datagrams_are_bounded(scripted: Scripted) -> None:
    exchange, peer, _ = upgraded(scripted)
    for n in range(1500):
        peer.quic.send_datagram(b"\x00" + n.to_bytes(2, "big") + bytes(1000))
        if n % 100 == 0:
            peer.pair.run()
    peer.pair.run()
    waiting = exchange.take_datagrams()
    assert len(waiting) == (1 << 20) // (1002 + 64)
    assert waiting[-1][:2] == (1499).to_bytes(2, "big")


def test_what_is_queued_without_credit_is_bounded(scripted: Scripted) -> None:
    side, peer = scripted("server", {"initial_max_stream_data_bidi_local": 0, "send_buffer": 4096})
    peer.opens(peer.headers(EXTENDED))
    (exchange,) = side.exchanges
    exchange.send_headers(OK)
    exchange.upgrade()
    sent = 0
    while exchange.send_capsule(0x17, bytes(1000)):
        sent += 1
        assert sent < 1000
    assert sent > 60


# The order of what is sent.


def test_messages_of_ours_are_in_order(both: Scripted) -> None:
    client, server = both()
    exchange = client.h3.request(GET)
    exchange.send_body(b"abc", end_stream=True)
    with pytest.raises(InvalidMessage):
        exchange.send_body(b"after the end")
    with pytest.raises(InvalidMessage):
        exchange.send_headers([(b"x-late", b"1")])
    client.pair.run()
    answer = server.exchanges[0]
    with pytest.raises(InvalidMessage):
        answer.send_body(b"before the headers")
    with pytest.raises(InvalidMessage):
        answer.send_headers([(b":status", b"100")], end_stream=True)
    answer.send_headers([(b":status", b"100")])
    answer.send_headers(OK)
    with pytest.raises(InvalidMessage):
        answer.send_headers([(b":status", b"100")])
    answer.send_headers([(b"x-trailer", b"1")])
    with pytest.raises(InvalidMessage):
        answer.send_headers([(b"x-trailer", b"2")])


BAD_OUTGOING: list[Fields] = [
    [(b":status", b"200"), (b"Upper", b"x")],
    [(b":status", b"200"), (b"connection", b"close")],
    [(b":status", b"200"), (b"x", b"a\r\nb")],
    [(b":status", b"101")],
    [(b"x", b"no status")],
]


@pytest.mark.parametrize("fields", BAD_OUTGOING)
def test_malformed_messages_of_ours_never_leave(both: Scripted, fields: Fields) -> None:
    client, server = both()
    exchange = client.h3.request(GET, end_stream=True)
    client.pair.run()
    with pytest.raises(InvalidMessage):
        server.exchanges[0].send_headers(fields)
    server.exchanges[0].send_headers(OK, end_stream=True)
    client.pair.run()
    assert exchange.status == 200
    with pytest.raises(InvalidMessage):
        client.h3.request(GET[:2])
    with pytest.raises(InvalidMessage):
        server.h3.request(GET)


def test_a_tunnel_of_ours_has_no_trailers(both: Scripted) -> None:
    client, server = both()
    exchange = client.h3.request([(b":method", b"CONNECT"), (b":authority", b"a:1")])
    client.pair.run()
    server.exchanges[0].send_headers(OK)
    client.pair.run()
    for side in (exchange, server.exchanges[0]):
        with pytest.raises(InvalidMessage):
            side.send_headers([(b"x-trailer", b"1")])
        side.send_body(b"data")


# Ending early.


def test_cancel_ends_both_directions_with_one_code(both: Scripted) -> None:
    client, server = both()
    exchange = client.h3.request(GET)
    client.pair.run()
    exchange.cancel()
    client.pair.run()
    answer = server.exchanges[0]
    assert answer.error.by_peer
    assert (answer.reset_code, answer.stop_code) == (H3ErrorCode.H3_REQUEST_CANCELLED,) * 2
    answer.cancel(H3ErrorCode.H3_REQUEST_CANCELLED)
    client.pair.run()
    assert client.h3.exchanges == server.h3.exchanges == []


def test_rejected_requests_may_be_tried_again(scripted: Scripted) -> None:
    side, peer = scripted("client")
    first, second = (side.h3.request(GET, end_stream=True) for _ in range(2))
    side.pair.run()
    peer.quic.stream(0).reset(H3ErrorCode.H3_REQUEST_REJECTED)
    peer.quic.stream(4).reset(H3ErrorCode.H3_REQUEST_CANCELLED)
    side.pair.run()
    assert first.error.is_retriable and not second.error.is_retriable


def test_a_complete_response_counts_although_the_request_was_stopped(scripted: Scripted) -> None:
    side, peer = scripted("client")
    exchange = side.h3.request([(b":method", b"POST"), *GET[1:]])
    exchange.send_body(b"part of it")
    side.pair.run()
    stream = peer.quic.stream(0)
    stream.stop_sending(H3ErrorCode.H3_NO_ERROR)
    peer.writes(stream, peer.headers(OK) + data(b"enough"), fin=True)
    assert not exchange.can_send and exchange.stop_code == H3ErrorCode.H3_NO_ERROR
    assert exchange.send_body(b"more") == 0
    assert exchange.status == 200 and exchange.read_body() == b"enough"
    assert exchange.at_end and exchange.error is None


def test_stopping_discards_what_waits_and_returns_its_credit(both: Scripted) -> None:
    client, server = both()
    for _ in range(20):
        exchange = client.h3.request([(b":method", b"POST"), *GET[1:]])
        exchange.send_body(bytes(200_000))
        client.pair.run()
        server.exchanges[-1].stop(H3ErrorCode.H3_NO_ERROR)
        server.exchanges[-1].send_headers(OK, end_stream=True)
        client.pair.run()
        assert exchange.status == 200


def test_a_smaller_limit_of_field_lines(scripted: Scripted) -> None:
    _, peer = scripted("server", settings=H3Settings(max_field_lines=10))
    stream = peer.opens(peer.headers([*GET, *[(b"x", b"y")] * 7]))
    peer.sees_stream_error(stream, H3ErrorCode.H3_EXCESSIVE_LOAD)

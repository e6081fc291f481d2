"""Request streams, scripted: which frames may follow which, seen from both sides of a real connection."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from h3.errors import H3ErrorCode
from h3.frames import FrameType, encode_frame, grease_identifier
from h3.qpack import Fields
from quicstack.errors import ConnectionClosed
from quicstack.wire.varint import encode_varint

Scripted = Callable[..., tuple[Any, Any]]

GET: Fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
HEAD: Fields = [(b":method", b"HEAD"), *GET[1:]]
CONNECT: Fields = [(b":method", b"CONNECT"), (b":authority", b"a:443")]
OK: Fields = [(b":status", b"200")]
TRAILERS: Fields = [(b"x-end", b"1")]
GREASE = encode_frame(grease_identifier(9), b"ignored")


def data(content: bytes) -> bytes:
    return encode_frame(FrameType.DATA, content)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_request_in_any_pieces(scripted: Scripted, size: int) -> None:
    side, peer = scripted("server")
    script = (
        GREASE + peer.headers(POST) + GREASE + data(b"abc") + data(b"") + GREASE + data(b"def")
        + GREASE + peer.headers(TRAILERS) + GREASE
    )  # fmt: skip
    stream = peer.opens(b"")
    content = b""
    for start in range(0, len(script), size):
        peer.writes(stream, script[start : start + size])
        for exchange in side.exchanges:
            content += exchange.read_body()
    peer.writes(stream, b"", fin=True)
    (exchange,) = side.exchanges
    assert content == b"abcdef"
    assert (exchange.headers, exchange.trailers) == (POST, TRAILERS)
    assert exchange.request.method == b"POST"
    assert exchange.at_end and exchange.error is None


def test_content_stays_in_the_stream_until_it_is_read(scripted: Scripted) -> None:
    side, peer = scripted("server")
    stream = peer.opens(peer.headers(POST) + data(b"abcdef") + peer.headers(TRAILERS), fin=True)
    (exchange,) = side.exchanges
    assert exchange.body_readable == 6
    assert exchange.trailers is None and not exchange.at_end
    assert exchange.read_body(4) == b"abcd"
    assert exchange.read_body(4) == b"ef"
    assert exchange.trailers == TRAILERS and exchange.at_end
    assert stream.reset_code is None


def test_interim_responses_then_the_final_one(scripted: Scripted) -> None:
    side, peer = scripted("client")
    exchange = side.h3.request(GET, end_stream=True)
    side.pair.run()
    (stream,) = (peer.quic.stream(n) for n in peer.received if n % 4 == 0)
    early = [(b":status", b"103"), (b"link", b"</style.css>")]
    peer.writes(stream, peer.headers([(b":status", b"100")]) + peer.headers(early))
    assert exchange.headers is None
    assert [status for status, _ in exchange.informational] == [100, 103]
    peer.writes(stream, peer.headers(OK) + data(b"hello") + peer.headers(TRAILERS), fin=True)
    assert exchange.status == 200 and exchange.read_body() == b"hello"
    assert exchange.trailers == TRAILERS and exchange.at_end


BAD_REQUESTS_FOR_THE_CONNECTION = {
    "DATA before HEADERS": (lambda p: data(b"x"), H3ErrorCode.H3_FRAME_UNEXPECTED),
    "HEADERS after trailers": (
        lambda p: p.headers(GET) + p.headers(TRAILERS) * 2,
        H3ErrorCode.H3_FRAME_UNEXPECTED,
    ),
    "DATA after trailers": (
        lambda p: p.headers(GET) + p.headers(TRAILERS) + data(b"x"),
        H3ErrorCode.H3_FRAME_UNEXPECTED,
    ),
    **{
        f"frame {frame_type:#x}": (
            lambda p, t=frame_type: p.headers(GET) + encode_frame(t, b"\0"),
            H3ErrorCode.H3_FRAME_UNEXPECTED,
        )
        for frame_type in (0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0D, 0xF0700, 0xF0701)
    },
    "SETTINGS first": (lambda p: encode_frame(FrameType.SETTINGS), H3ErrorCode.H3_FRAME_UNEXPECTED),
    "HEADERS in a tunnel": (
        lambda p: p.headers(CONNECT) + data(b"x") + p.headers(TRAILERS),
        H3ErrorCode.H3_FRAME_UNEXPECTED,
    ),
    "end inside a type": (lambda p: p.headers(GET) + b"\x40", H3ErrorCode.H3_FRAME_ERROR),
    "end inside a length": (lambda p: p.headers(GET) + b"\x00\x40", H3ErrorCode.H3_FRAME_ERROR),
    "end before a length": (lambda p: p.headers(GET) + b"\x00", H3ErrorCode.H3_FRAME_ERROR),
    "end inside DATA": (lambda p: p.headers(GET) + data(b"abc")[:-1], H3ErrorCode.H3_FRAME_ERROR),
    "end inside HEADERS": (lambda p: p.headers(GET)[:-1], H3ErrorCode.H3_FRAME_ERROR),
    "end inside an unknown frame": (lambda p: p.headers(GET) + GREASE[:-1], H3ErrorCode.H3_FRAME_ERROR),
    "broken field section": (
        lambda p: encode_frame(FrameType.HEADERS, b"\0\0\xff\x24"),
        H3ErrorCode.QPACK_DECOMPRESSION_FAILED,
    ),
}


@pytest.mark.parametrize("case", BAD_REQUESTS_FOR_THE_CONNECTION)
def test_requests_that_cost_the_connection(scripted: Scripted, case: str) -> None:
    script, code = BAD_REQUESTS_FOR_THE_CONNECTION[case]
    side, peer = scripted("server")
    side.on_exchange = lambda exchange: exchange.read_body()
    peer.opens(script(peer), fin=True)
    peer.sees_close(code)


BAD_REQUESTS_FOR_THE_STREAM = {
    "nothing": (lambda p: b"", H3ErrorCode.H3_REQUEST_INCOMPLETE),
    "only reserved frames": (lambda p: GREASE, H3ErrorCode.H3_REQUEST_INCOMPLETE),
    "uppercase": (lambda p: p.headers([*GET, (b"Accept", b"*/*")]), H3ErrorCode.H3_MESSAGE_ERROR),
    "no path": (lambda p: p.headers(GET[:3]), H3ErrorCode.H3_MESSAGE_ERROR),
    "pseudo-header in trailers": (lambda p: p.headers(GET) + p.headers(OK), H3ErrorCode.H3_MESSAGE_ERROR),
    "more content than announced": (
        lambda p: p.headers([*POST, (b"content-length", b"3")]) + data(b"abcd"),
        H3ErrorCode.H3_MESSAGE_ERROR,
    ),
    "less content than announced": (
        lambda p: p.headers([*POST, (b"content-length", b"3")]) + data(b"ab"),
        H3ErrorCode.H3_MESSAGE_ERROR,
    ),
    "no content but announced": (
        lambda p: p.headers([*POST, (b"content-length", b"3")]),
        H3ErrorCode.H3_MESSAGE_ERROR,
    ),
    "field section larger than announced": (
        lambda p: encode_varint(FrameType.HEADERS) + encode_varint(16385) + b"\0",
        H3ErrorCode.H3_EXCESSIVE_LOAD,
    ),
    "more field lines than allowed": (
        lambda p: encode_frame(FrameType.HEADERS, b"\0\0" + b"\xd1" * 257),
        H3ErrorCode.H3_EXCESSIVE_LOAD,
    ),
}


@pytest.mark.parametrize("case", BAD_REQUESTS_FOR_THE_STREAM)
def test_requests_that_cost_the_stream(scripted: Scripted, case: str) -> None:
    script, code = BAD_REQUESTS_FOR_THE_STREAM[case]
    side, peer = scripted("server")
    side.on_exchange = lambda exchange: exchange.read_body()
    stream = peer.opens(script(peer), fin=True)
    peer.sees_stream_error(stream, code)
    assert side.exchanges[0].error.code == code
    again = peer.opens(peer.headers(GET), fin=True)  # the connection goes on
    assert again.reset_code is None and side.exchanges[1].at_end


def respond(side: Any, peer: Any, request: Fields, script: bytes, *, fin: bool = True) -> Any:
    """Our client's request, answered by a script."""
    exchange = side.h3.request(request, end_stream=request[0][1] != b"CONNECT")
    side.pair.run()
    stream = peer.quic.stream(exchange.stream_id)
    peer.writes(stream, script, fin=fin)
    side.pair.run()
    return exchange


def test_responses_without_content_may_announce_some(scripted: Scripted) -> None:
    side, peer = scripted("client")
    announced = [(b"content-length", b"1000")]
    for request, status in ((HEAD, b"200"), (GET, b"304")):
        exchange = respond(side, peer, request, peer.headers([(b":status", status), *announced]))
        assert exchange.at_end and exchange.error is None


BAD_RESPONSES = {
    "nothing": (lambda p: b"", H3ErrorCode.H3_MESSAGE_ERROR),
    "only an interim one": (lambda p: p.headers([(b":status", b"100")]), H3ErrorCode.H3_MESSAGE_ERROR),
    "two final ones": (lambda p: p.headers(OK) + p.headers(OK), H3ErrorCode.H3_MESSAGE_ERROR),
    "a request": (lambda p: p.headers(GET), H3ErrorCode.H3_MESSAGE_ERROR),
    "101": (lambda p: p.headers([(b":status", b"101")]), H3ErrorCode.H3_MESSAGE_ERROR),
    "content-length": (
        lambda p: p.headers([*OK, (b"content-length", b"1")]) + data(b"ab"),
        H3ErrorCode.H3_MESSAGE_ERROR,
    ),
    "endless interim responses": (lambda p: p.headers([(b":status", b"103")]) * 100, H3ErrorCode.H3_EXCESSIVE_LOAD),
}


@pytest.mark.parametrize("case", BAD_RESPONSES)
def test_responses_that_cost_the_stream(scripted: Scripted, case: str) -> None:
    script, code = BAD_RESPONSES[case]
    side, peer = scripted("client")
    exchange = respond(side, peer, GET, script(peer))
    assert exchange.error is not None and exchange.error.code == code
    assert side.quic.closed is None and peer.quic.closed is None


BAD_RESPONSES_FOR_THE_CONNECTION = {
    "PUSH_PROMISE": (lambda p: encode_frame(FrameType.PUSH_PROMISE, b"\0\0\0"), H3ErrorCode.H3_ID_ERROR),
    "DATA first": (lambda p: data(b"x"), H3ErrorCode.H3_FRAME_UNEXPECTED),
    "DATA after an interim one": (
        lambda p: p.headers([(b":status", b"103")]) + data(b"x"),
        H3ErrorCode.H3_FRAME_UNEXPECTED,
    ),
    "GOAWAY": (lambda p: encode_frame(FrameType.GOAWAY, b"\0"), H3ErrorCode.H3_FRAME_UNEXPECTED),
    "MAX_PUSH_ID": (lambda p: encode_frame(FrameType.MAX_PUSH_ID, b"\0"), H3ErrorCode.H3_FRAME_UNEXPECTED),
}


@pytest.mark.parametrize("case", BAD_RESPONSES_FOR_THE_CONNECTION)
def test_responses_that_cost_the_connection(scripted: Scripted, case: str) -> None:
    script, code = BAD_RESPONSES_FOR_THE_CONNECTION[case]
    side, peer = scripted("client")
    respond(side, peer, GET, script(peer))
    peer.sees_close(code)


def test_a_tunnel_carries_data_both_ways_and_nothing_else(scripted: Scripted) -> None:
    side, peer = scripted("client")
    exchange = respond(side, peer, CONNECT, peer.headers(OK) + data(b"hello") + GREASE, fin=False)
    assert exchange.read_body() == b"hello"
    assert exchange.send_body(b"answer") == 6
    side.pair.run()
    assert bytes(peer.received[exchange.stream_id]).endswith(data(b"answer"))
    peer.writes(peer.quic.stream(exchange.stream_id), peer.headers(TRAILERS))
    peer.sees_close(H3ErrorCode.H3_FRAME_UNEXPECTED)


def test_reset_inside_a_frame_is_no_connection_error(scripted: Scripted) -> None:
    side, peer = scripted("server")
    stream = peer.opens(peer.headers(POST) + data(b"abc")[:-1])
    stream.reset(H3ErrorCode.H3_REQUEST_CANCELLED)
    side.pair.run()
    (exchange,) = side.exchanges
    assert exchange.reset_code == H3ErrorCode.H3_REQUEST_CANCELLED
    assert exchange.error.by_peer and exchange.error.code == H3ErrorCode.H3_REQUEST_CANCELLED
    assert exchange.read_body() == b""
    assert peer.quic.closed is None


@pytest.mark.parametrize("frame", [encode_frame(FrameType.DATA), encode_frame(0x21)], ids=["DATA", "reserved"])
def test_frames_without_content_are_bounded(scripted: Scripted, frame: bytes) -> None:
    side, peer = scripted("server")
    peer.opens(peer.headers(POST) + frame * 2000)
    peer.sees_close(H3ErrorCode.H3_EXCESSIVE_LOAD)
    assert side.h3.error is not None


def test_an_unknown_frame_is_skipped_as_it_comes(scripted: Scripted) -> None:
    side, peer = scripted("server")
    stream = peer.opens(peer.headers(POST) + encode_varint(0x21) + encode_varint(1 << 19))
    for _ in range(8):
        peer.writes(stream, bytes(1 << 16))
    peer.writes(stream, data(b"x"), fin=True)
    assert side.exchanges[0].read_body() == b"x"


@pytest.mark.parametrize("seed", range(30))
def test_any_bytes_end_in_a_message_or_an_error(scripted: Scripted, seed: int) -> None:
    """Frames in random order, cut and flipped: whatever the peer sends, only H3 errors come of it."""
    chance = random.Random(seed)
    side, peer = scripted("server", enable_webtransport=True)
    side.on_exchange = lambda exchange: exchange.read_body(chance.randrange(1, 20))
    pieces = [
        lambda: peer.headers(GET), lambda: peer.headers(TRAILERS), lambda: data(chance.randbytes(9)), lambda: GREASE,
        lambda: encode_frame(chance.randrange(0x50), chance.randbytes(3)), lambda: chance.randbytes(4),
        lambda: encode_varint(0x41) + encode_varint(chance.randrange(9)),
    ]  # fmt: skip
    for _ in range(12):
        if peer.quic.closed is not None:
            break
        script = bytearray(b"".join(chance.choice(pieces)() for _ in range(chance.randrange(1, 6))))
        if chance.random() < 0.5:
            script[chance.randrange(len(script))] ^= 1 << chance.randrange(8)
        peer.opens(bytes(script), fin=chance.random() < 0.7)
    assert side.quic.internal_error is None
    closed = peer.quic.closed
    if closed is not None:
        assert isinstance(closed, ConnectionClosed) and not closed.transport
        assert H3ErrorCode(closed.code) != H3ErrorCode.H3_INTERNAL_ERROR

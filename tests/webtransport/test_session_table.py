from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from h3.frames import FrameType, encode_frame
from h3.qpack import FieldEncoder
from h3.settings import encode_settings
from quicstack.observe.trace import Trace
from quicstack.train import Train
from quicstack.transport.stream import Stream
from quicstack.wire.frame_study import parse_frames
from quicstack.wire.varint import encode_varint
from webtransport.codes import CapsuleType, ErrorCode
from webtransport.dialects import DIALECTS, DRAFT02, DRAFT07, DRAFT14, DRAFT16, Dialect, FlowLimits, Setting
from webtransport.errors import CloseInfo, SessionRejected, StreamReset, WebTransportUnsupported
from webtransport.session_limits import SessionState

Make = Callable[..., Any]

ALL = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)


@ALL
def test_a_session_in_each_dialect(net: Make, dialect: Dialect) -> None:
    n = net(client_dialects=(dialect,))
    client, server = n.connect("/path?q=1", origin="https://example.test")
    assert client.state is server.state is SessionState.CONNECTED
    assert client.dialect is server.dialect is dialect
    request = server.exchange.request
    assert request.path == b"/path?q=1"
    assert request.protocol == dialect.protocol.encode()
    headers = dict(server.exchange.headers)
    assert headers[b"origin"] == b"https://example.test"
    assert (b"sec-webtransport-http3-draft02" in headers) == (dialect is DRAFT02)
    answer = dict(client.exchange.headers)
    assert (answer.get(b"sec-webtransport-http3-draft") == b"draft02") == (dialect is DRAFT02)


@ALL
def test_a_server_that_speaks_one_dialect(net: Make, dialect: Dialect) -> None:
    n = net(server_dialects=(dialect,))
    client, server = n.connect()
    assert client.dialect is server.dialect is dialect


def test_the_newest_dialect_of_both(net: Make) -> None:
    client, _ = net().connect()
    assert client.dialect is DRAFT16
    client, _ = net(client_dialects=(DRAFT07, DRAFT02), server_dialects=(DRAFT14, DRAFT07, DRAFT02)).connect()
    assert client.dialect is DRAFT07


def test_quic_without_reset_stream_at(net: Make) -> None:
    """draft-13 §3.1, draft-16 §3.1: these drafts need the extension, older ones do without."""
    quic = {"reset_stream_at": False}
    client, server = net(quic=quic).connect()
    assert client.dialect is server.dialect is DRAFT07
    for dialect in (DRAFT14, DRAFT16):
        with pytest.raises(WebTransportUnsupported):
            net(quic=quic, client_dialects=(dialect,)).client.table.connect("test", "/")
        client, server = net(quic=quic, client_dialects=(dialect,), require_reset_stream_at=False).connect()
        assert client.dialect is server.dialect is dialect


def test_a_server_refuses_clients_without_reset_stream_at(net: Make) -> None:
    """draft-16 §3.1: their requests are malformed."""
    n = net(quic={"reset_stream_at": False}, client_dialects=(DRAFT16,))
    n.client.table._require_reset_stream_at = False
    session = n.client.table.connect("test", "/")
    n.run()
    assert session.state is SessionState.CLOSED and not n.server.requested


@pytest.mark.conformance("W23")
def test_a_reset_tells_whose_stream_it_was(net: Make) -> None:
    """draft-16 §4.4: RESET_STREAM_AT that keeps the header, on the wire; the other side sees stream and code."""
    n = net()
    client, server = n.connect()
    heard: list[bytes] = []
    n.server.quic._state.trace = type("Heard", (Trace,), {"packet_received": lambda self, *a: heard.append(a[-1])})()
    stream = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id))
    stream.write(b"eager")
    stream.reset(5)
    n.run()
    resets = [frame for payload in heard for frame in parse_frames(payload) if frame.name == "RESET_STREAM_AT"]
    assert len(resets) == 1 and resets[0].reliable_size == stream._header_sent > 0
    arrived = server.accept_stream(unidirectional=False)
    assert arrived is not None
    with pytest.raises(StreamReset) as caught:
        arrived.read()
    assert caught.value.code == 5


def test_no_common_dialect(net: Make) -> None:
    n = net(client_dialects=(DRAFT02,), server_dialects=(DRAFT16,))
    with pytest.raises(WebTransportUnsupported):
        n.client.table.connect("test", "/")


@pytest.mark.parametrize("setting", [Setting.ENABLE_WEBTRANSPORT, Setting.WT_ENABLED])
def test_a_switch_that_is_no_switch(net: Make, setting: int) -> None:
    n = net(server_settings={setting: 2})
    assert n.client.quic.closed.code == ErrorCode.H3_SETTINGS_ERROR


def test_a_request_before_the_settings_waits(net: Make) -> None:
    n = net(raw_client=True)
    request = n.client_quic.open_stream()
    _, section = FieldEncoder().encode(
        request.id,
        [
            (b":method", b"CONNECT"),
            (b":protocol", b"webtransport"),
            (b":scheme", b"https"),
            (b":authority", b"test"),
            (b":path", b"/"),
        ],
    )
    request.write(encode_frame(FrameType.HEADERS, section))
    n.run()
    assert n.server.requested == []
    control = n.client_quic.open_stream(unidirectional=True)
    settings = encode_settings({Setting.H3_DATAGRAM: 1, Setting.WEBTRANSPORT_MAX_SESSIONS: 1})
    control.write(b"\x00" + encode_frame(FrameType.SETTINGS, settings))
    n.run()
    assert [session.dialect for session in n.server.requested] == [DRAFT07]


def test_a_malformed_request(net: Make) -> None:
    n = net()
    exchange = n.client.h3.request(
        [
            (b":method", b"CONNECT"),
            (b":protocol", b"webtransport-h3"),
            (b":scheme", b"http"),
            (b":authority", b"test"),
            (b":path", b"/"),
        ]
    )
    n.run()
    assert exchange.reset_code == ErrorCode.H3_MESSAGE_ERROR
    assert n.server.requested == []


def test_other_requests_are_not_ours(net: Make) -> None:
    n = net()
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"test"), (b":path", b"/")]
    n.client.h3.request(fields, end_stream=True)
    n.run()
    assert [exchange.request.method for exchange in n.server.http] == [b"GET"]


@pytest.mark.parametrize("status", [302, 403, 404, 429])
def test_refusal(net: Make, status: int) -> None:
    n = net()
    n.server.on_request = lambda session: n.server.table.reject(session, status, headers=[(b"location", b"/x")])
    client, server = n.connect()
    assert client.state is server.state is SessionState.CLOSED
    assert isinstance(client.close_info.cause, SessionRejected)
    assert client.close_info.cause.status == status
    assert ("location", "/x") in client.close_info.cause.headers
    assert n.client.table.sessions == n.server.table.sessions == {}


def test_subprotocols(net: Make) -> None:
    n = net()
    n.server.on_request = lambda session: n.server.table.accept(session, subprotocol="b")
    client, server = n.connect(subprotocols=["a", "b"])
    assert client.subprotocol == server.subprotocol == "b"


def test_a_server_cannot_choose_what_was_not_offered(net: Make) -> None:
    n = net()
    n.server.on_request = None
    _, server = n.connect(subprotocols=["a"])
    with pytest.raises(ValueError, match="does not offer"):
        n.server.table.accept(server, subprotocol="b")


# Limits


def test_too_many_sessions_are_rejected_and_the_connection_stays(net: Make) -> None:
    n = net(max_sessions=2)
    first, _ = n.connect()
    second, _ = n.connect()
    third = n.client.table.connect("test", "/")
    n.run()
    assert third.close_info.cause.code == ErrorCode.H3_REQUEST_REJECTED
    assert first.is_open and second.is_open
    first.close(0, "", n.now)
    n.run()
    fourth, _ = n.connect()
    assert fourth.is_open


@pytest.mark.parametrize(("dialect", "shares"), [(DRAFT02, True), (DRAFT07, True), (DRAFT14, False), (DRAFT16, False)])
def test_without_flow_control_new_drafts_have_one_session(net: Make, dialect: Dialect, shares: bool) -> None:
    n = net(client_dialects=(dialect,), client_limits=FlowLimits(), server_limits=FlowLimits())
    first, _ = n.connect()
    assert n.client.table.has_room == shares
    second = n.client.table.connect("test", "/")
    n.run()
    assert first.is_open
    assert second.is_open == shares
    if not shares:
        assert second.close_info.cause.code == ErrorCode.H3_REQUEST_REJECTED


def test_has_room_counts_what_the_server_said(net: Make) -> None:
    n = net(client_dialects=(DRAFT07,), max_sessions=2)
    assert n.client.table.has_room
    n.connect()
    assert n.client.table.has_room
    n.connect()
    assert not n.client.table.has_room


def test_goaway_drains_and_bars(net: Make) -> None:
    n = net()
    client, server = n.connect()
    n.server.h3.goaway()
    n.run()
    assert client.state is SessionState.DRAINING
    assert not n.client.table.has_room
    stream = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id))
    stream.write(b"still here", True)
    n.run()
    assert server.accept_stream(unidirectional=False).read() == b"still here"


# What overtakes the request


def open_early(n: Any, session_id: int, data: bytes = b"early") -> Stream:
    stream = n.client.h3.open_webtransport_stream(session_id, unidirectional=True)
    stream.write(data, True)
    return stream


def test_streams_before_their_session(net: Make) -> None:
    n = net()
    open_early(n, 0)
    n.run()
    assert n.server.requested == []
    _, server = n.connect()
    early = server.accept_stream(unidirectional=True)
    assert early.read() == b"early"


def test_streams_and_datagrams_before_the_answer(net: Make) -> None:
    n = net()
    n.server.on_request = None
    client = n.client.table.connect("test", "/")
    client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id)).write(b"eager", True)
    assert client.exchange.send_datagram(b"eager datagram")
    n.run()
    server = n.server.requested[0]
    assert server.accept_stream(unidirectional=False) is None
    n.server.table.accept(server)
    n.run()
    assert server.accept_stream(unidirectional=False).read() == b"eager"
    assert list(server.datagrams) == [b"eager datagram"]


def test_too_many_early_streams(net: Make) -> None:
    n = net()
    streams = [n.client.h3.open_webtransport_stream(400, unidirectional=True) for _ in range(18)]
    n.run()
    assert [stream.stop_code for stream in streams[:16]] == [None] * 16
    assert [stream.stop_code for stream in streams[16:]] == [ErrorCode.WT_BUFFERED_STREAM_REJECTED] * 2


def test_early_streams_wait_two_seconds(net: Make) -> None:
    n = net()
    stream = n.client.h3.open_webtransport_stream(400)
    n.run()
    assert n.server.table.next_timeout() is not None
    n.wait(1.9)
    assert stream.stop_code is None
    n.wait(0.2)
    assert stream.stop_code == stream.reset_code == ErrorCode.WT_BUFFERED_STREAM_REJECTED
    assert n.server.table.next_timeout() is None


def test_streams_of_a_refused_session(net: Make) -> None:
    n = net()
    n.server.on_request = lambda session: n.server.table.reject(session, 404)
    client = n.client.table.connect("test", "/")
    stream = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id))
    n.run()
    assert stream.stream.stop_code in (ErrorCode.WT_BUFFERED_STREAM_REJECTED, ErrorCode.WT_SESSION_GONE)


def test_streams_of_a_session_that_is_over(net: Make) -> None:
    n = net()
    client, server = n.connect()
    server.close(0, "", n.now)
    late = n.client.h3.open_webtransport_stream(client.session_id)
    n.run()
    assert late.stop_code == late.reset_code == ErrorCode.WT_SESSION_GONE
    assert n.client.quic.closed is None
    assert server.session_id not in n.server.table.sessions
    again = n.client.h3.open_webtransport_stream(client.session_id)
    n.run()
    assert again.reset_code == ErrorCode.WT_SESSION_GONE


@pytest.mark.parametrize("session_id", [1, 2, 7])
def test_a_session_id_that_is_no_request_stream(net: Make, session_id: int) -> None:
    n = net()
    open_early(n, session_id)
    n.run()
    assert n.server.quic.closed.code == ErrorCode.H3_ID_ERROR


# The end


@ALL
@pytest.mark.parametrize("by_client", [True, False])
def test_close_with_code_and_reason(net: Make, dialect: Dialect, by_client: bool) -> None:
    n = net(client_dialects=(dialect,))
    client, server = n.connect()
    closer, other = (client, server) if by_client else (server, client)
    closer.close(0xFFFFFFFF, "schönen Tag 👋", n.now)
    assert closer.close_info == CloseInfo(0xFFFFFFFF, "schönen Tag 👋")
    n.run()
    assert other.close_info == CloseInfo(0xFFFFFFFF, "schönen Tag 👋", by_peer=True)
    assert n.client.table.sessions == n.server.table.sessions == {}
    assert n.client.quic.closed is None
    closer.close(3, "again", n.now)
    assert closer.close_info.code == 0xFFFFFFFF


def test_a_long_reason_is_cut(net: Make) -> None:
    n = net()
    client, server = n.connect()
    client.close(1, "ü" * 600, n.now)
    n.run()
    assert server.close_info.reason == client.close_info.reason == "ü" * 512


def test_fin_without_capsule_is_code_0(net: Make) -> None:
    n = net()
    client, server = n.connect()
    client.exchange.finish()
    n.run()
    assert server.close_info == CloseInfo(by_peer=True)


def test_reset_of_the_connect_stream(net: Make) -> None:
    n = net()
    client, server = n.connect()
    client.exchange.cancel(0x10C)
    n.run()
    assert server.state is SessionState.CLOSED
    assert server.close_info.by_peer and not server.close_info.clean


def test_streams_go_with_their_session(net: Make) -> None:
    n = net()
    client, server = n.connect()
    opened = [client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id)) for _ in range(3)]
    for stream in opened:
        stream.write(b"half a message")
    n.run()
    taken = server.accept_stream(unidirectional=False)
    server.close(0, "", n.now)
    assert taken.stream.stop_code is None
    n.run()
    assert all(stream.stream.reset_code == ErrorCode.WT_SESSION_GONE for stream in opened)
    assert all(stream.stream.stop_code == ErrorCode.WT_SESSION_GONE for stream in opened)
    assert client.streams == server.streams == {}


def test_what_arrived_in_full_can_still_be_read(net: Make) -> None:
    n = net()
    client, server = n.connect()
    client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id)).write(b"whole", True)
    n.run()
    stream = server.accept_stream(unidirectional=False)
    client.close(0, "", n.now)
    n.run()
    assert stream.read() == b"whole"
    assert stream.read() == b"" and stream.at_end


def test_close_does_not_wait_for_a_peer_that_says_nothing(net: Make) -> None:
    n = net()
    client, _ = n.connect()
    n.drop = lambda train: train.path.remote[1] == 443
    client.close(0, "", n.now)
    assert client.state is SessionState.CLOSED
    assert n.client.table.next_timeout() == pytest.approx(n.now + 3.0)
    n.client.table.handle_timeout(n.now + 3.1)
    assert n.client.table.next_timeout() is None


@pytest.mark.parametrize("at_once", [True, False])
def test_data_after_close_is_an_error(net: Make, at_once: bool) -> None:
    n = net()
    client, server = n.connect()
    client.exchange.owner = n  # the client's table looks away, so its side of the stream stays open
    client.exchange.send_capsule(CapsuleType.WT_CLOSE_SESSION, bytes(4) + b"bye")
    if not at_once:
        n.run()
    client.exchange.send_capsule(CapsuleType.WT_DRAIN_SESSION)
    n.run()
    assert server.close_info == CloseInfo(0, "bye", by_peer=True)
    assert client.exchange.stop_code == ErrorCode.H3_MESSAGE_ERROR


@pytest.mark.parametrize(
    ("capsule_type", "value", "code"),
    [
        (CapsuleType.WT_CLOSE_SESSION, b"abc", ErrorCode.H3_MESSAGE_ERROR),
        (CapsuleType.WT_CLOSE_SESSION, bytes(4) + b"\xff\xfe", ErrorCode.H3_MESSAGE_ERROR),
        (CapsuleType.WT_CLOSE_SESSION, bytes(4) + b"x" * 1025, ErrorCode.H3_MESSAGE_ERROR),
        (CapsuleType.WT_DRAIN_SESSION, b"x", ErrorCode.H3_MESSAGE_ERROR),
        (CapsuleType.WT_MAX_STREAM_DATA, b"\x00\x00", ErrorCode.H3_MESSAGE_ERROR),
        (CapsuleType.WT_STREAM_DATA_BLOCKED, b"\x00\x00", ErrorCode.H3_MESSAGE_ERROR),
        (CapsuleType.WT_MAX_DATA, b"\x05", ErrorCode.WT_FLOW_CONTROL_ERROR),
        (CapsuleType.WT_MAX_STREAMS_BIDI, encode_varint((1 << 60) + 1), ErrorCode.WT_FLOW_CONTROL_ERROR),
        (CapsuleType.WT_STREAMS_BLOCKED_UNI, encode_varint((1 << 60) + 1), ErrorCode.WT_FLOW_CONTROL_ERROR),
    ],
)
def test_capsules_that_end_the_session(net: Make, capsule_type: int, value: bytes, code: int) -> None:
    n = net()
    client, server = n.connect()
    client.exchange.send_capsule(capsule_type, value)
    n.run()
    assert server.state is SessionState.CLOSED and not server.close_info.clean
    assert client.exchange.reset_code == code
    assert client.state is SessionState.CLOSED
    assert n.server.quic.closed is None


def test_unknown_capsules_are_skipped(net: Make) -> None:
    n = net()
    client, server = n.connect()
    client.exchange.send_capsule(0x29 * 1000 + 0x17, b"grease" * 100)
    client.exchange.send_capsule(CapsuleType.WT_DRAIN_SESSION)
    n.run()
    assert server.state is SessionState.DRAINING


@ALL
def test_drain(net: Make, dialect: Dialect) -> None:
    n = net(client_dialects=(dialect,))
    client, server = n.connect()
    server.drain()
    n.run()
    assert server.state is SessionState.DRAINING
    assert client.state is (SessionState.DRAINING if dialect.has_drain else SessionState.CONNECTED)


def test_a_lost_connection_takes_its_sessions(net: Make) -> None:
    n = net()
    client, server = n.connect()
    n.server.quic.close(0x100, "gone")
    n.run()
    assert client.state is server.state is SessionState.CLOSED
    assert client.close_info.by_peer and not client.close_info.clean
    assert client.close_info.cause is n.client.quic.closed


@ALL
def test_a_session_closed_right_before_its_connection(net: Make, dialect: Dialect) -> None:
    """Firefox sends CONNECTION_CLOSE right behind the capsule: both are there before anybody looks."""
    n = net(client_dialects=(dialect,))
    client, server = n.connect()

    def close_behind(train: Train) -> bool:
        n.drop = lambda train: False
        n.client.quic.close(0x100)
        return False

    n.drop = close_behind
    client.close(77, "Grüße", n.now)
    n.run()
    assert n.server.quic.closed is not None
    assert server.close_info == CloseInfo(77, "Grüße", by_peer=True)

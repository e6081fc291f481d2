"""What each frame does (RFC 9000 §19), and in which packets it may come (Table 3).

A handler takes the state, the payload, the position after the frame type and the type; it returns the position after
the frame. ``HANDLERS`` holds one list for each packet number space, indexed by frame type: a frame that the space does
not permit finds a handler that refuses it, so permission costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from quicstack.connection import handshake, lifecycle, paths, retransmission
from quicstack.connection.setup import keep_token
from quicstack.connection.state import APPLICATION, EARLY, SPACE_NAMES, ConnectionState
from quicstack.errors import ConnectionClosed, TransportError, TransportErrorCode
from quicstack.wire import frame

__all__ = ["FLAGS", "HANDLERS", "IS_ELICITING", "IS_NO_PROBE", "ack_frequency", "unknown_frame"]

MAX_ACK_DELAY = 16.384
"""RFC 9000 §18.2: 2^14 milliseconds."""

Handler = Callable[[ConnectionState, bytes, int, int], int]


def _padding(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    return frame.skip_padding(data, pos)


def _ping(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    return pos


def _ack(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    ranges, delay, ecn, pos = frame.read_ack(data, pos, frame_type)
    space = state.rx_space
    assert space is not None
    largest = ranges[0][1]
    if largest >= space.next_packet_number:
        reason = f"packet {largest} is acknowledged, {space.next_packet_number - 1} was the last one sent"
        raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, reason, frame_type)
    if space.skipped >= ranges[-1][0] and any(smallest <= space.skipped <= end for smallest, end in ranges):
        reason = f"packet {space.skipped} is acknowledged, which was never sent"
        raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, reason, frame_type)  # §21.4
    if ranges[-1][0] < space.rejected_below:
        reason = f"packet {ranges[-1][0]} is acknowledged, a 0-RTT packet that was rejected"
        raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, reason, frame_type)  # RFC 9001 §4.6.2
    if largest > space.largest_acked:
        space.largest_acked = largest
    parameters = state.peer_parameters
    exponent = parameters.ack_delay_exponent if parameters is not None and space.index == 2 else 3
    now = state.rx_now
    result = state.recovery.on_ack_received(space.index, ranges, (delay << exponent) * 1e-6, now, ecn)
    if result.lost:
        state.trace.packets_lost(now, SPACE_NAMES[space.index], result.lost, "reordering_threshold")
        retransmission.on_lost(state, space, result.lost)
        paths.note_losses(state, result.lost, result.acked)
    if result.acked:
        retransmission.on_acked(state, space, result.acked)
        state.trace.metrics_updated(now, state.recovery)
    return pos


def _reset_stream(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    stream_id, code, final_size, pos = frame.read_reset_stream(data, pos)
    stream = state.streams.find(stream_id, frame_type, sending=False)
    if stream is not None and stream.receive is not None:
        if stream.receive.receive_reset(code, final_size):
            state.outbox.push_ready(stream)
        state.outbox.touched.append(stream)
    return pos


def _reset_stream_at(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    if not state.local_parameters.reset_stream_at:
        unknown_frame(frame_type)  # RFC 9000 §12.4: an extension that was not negotiated
    stream_id, code, final_size, reliable_size, pos = frame.read_reset_stream_at(data, pos)
    stream = state.streams.find(stream_id, frame_type, sending=False)
    if stream is not None and stream.receive is not None:
        if stream.receive.receive_reset(code, final_size, reliable_size, frame_type):
            state.outbox.push_ready(stream)
        state.outbox.touched.append(stream)
    return pos


def ack_frequency(state: ConnectionState, data: bytes, pos: int) -> int:
    """draft-ietf-quic-ack-frequency §4. Its type takes two bytes, so it stands outside the tables below."""
    least = state.local_parameters.min_ack_delay
    if least is None:
        unknown_frame(frame.ACK_FREQUENCY)
    if state.rx_space is None or state.rx_space.index != APPLICATION or state.rx_level == EARLY:
        _not_permitted(state, data, pos, frame.ACK_FREQUENCY)
    sequence, threshold, delay, reordering, pos = frame.read_ack_frequency(data, pos)
    seconds = delay * 1e-6
    if seconds >= MAX_ACK_DELAY or round(least * 1e6) > delay:
        reason = f"a max ack delay of {delay} µs is requested, expected {least * 1e6:g} to 2^14 ms"
        raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, reason, frame.ACK_FREQUENCY)
    state.spaces[APPLICATION].acks.set_frequency(sequence, threshold, seconds, reordering)
    return pos


def _immediate_ack(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    if state.local_parameters.min_ack_delay is None:
        unknown_frame(frame_type)
    state.spaces[APPLICATION].acks.ack_due = True  # one ACK for a whole read, however many of these it holds
    return pos


def _stop_sending(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    stream_id, code, pos = frame.read_stop_sending(data, pos)
    stream = state.streams.find(stream_id, frame_type, sending=True)
    if stream is not None and stream.send is not None and stream.send.receive_stop_sending(code):
        state.outbox.push_ready(stream)
    return pos


def _crypto(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    offset, chunk, pos = frame.read_crypto(data, pos)
    space = state.rx_space
    assert space is not None
    handshake.receive_crypto(state, space, offset, chunk, state.rx_now)
    return pos


def _new_token(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    token, pos = frame.read_new_token(data, pos)
    _server_only(state, frame_type)
    keep_token(state, token)
    return pos


def _server_only(state: ConnectionState, frame_type: int) -> None:
    if not state.is_client:
        name = frame.FRAMES[frame_type].name
        raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, f"a client sent {name}", frame_type)


def _stream(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:  # hot path: benchmarks/engine.py
    stream_id, offset, chunk, fin, pos = frame.read_stream(data, pos, frame_type)
    stream = state.streams.streams.get(stream_id)
    receive = stream.receive if stream is not None else None
    if stream is None or receive is None:
        stream = state.streams.find(stream_id, frame_type, sending=False)
        receive = stream.receive if stream is not None else None
        if stream is None or receive is None:
            return pos
    if receive.receive(offset, chunk, fin, frame_type) and not stream.is_ready:
        state.outbox.push_ready(stream)
    if receive.final_size is not None:
        state.outbox.touched.append(stream)
    return pos


def _max_data(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    limit, pos = frame.read_limit(data, pos)
    state.streams.raise_connection_limit(limit)
    return pos


def _max_stream_data(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    stream_id, limit, pos = frame.read_stream_limit(data, pos)
    stream = state.streams.find(stream_id, frame_type, sending=True)
    if stream is not None and stream.send is not None and limit > stream.send.limit:
        stream.send.limit = limit
        if stream.send.buffer.has_data:
            state.outbox.push_stream(stream)
    return pos


def _max_streams(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    limit, pos = frame.read_streams_limit(data, pos, frame_type)
    state.streams.raise_stream_count(2 if frame_type == frame.MAX_STREAMS_UNI else 0, limit)
    return pos


def _data_blocked(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    # §4.1: credit follows the reader; a blocked sender changes nothing about that.
    return frame.read_limit(data, pos)[1]


def _stream_data_blocked(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    stream_id, _, pos = frame.read_stream_limit(data, pos)
    state.streams.find(stream_id, frame_type, sending=False)
    return pos


def _streams_blocked(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    return frame.read_streams_limit(data, pos, frame_type)[1]


def _new_connection_id(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    sequence, retire_prior_to, cid, token, pos = frame.read_new_connection_id(data, pos)
    state.peer_cids.add(sequence, retire_prior_to, cid, token)
    return pos


def _retire_connection_id(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    sequence, pos = frame.read_limit(data, pos)
    limit = state.peer_parameters.active_connection_id_limit if state.peer_parameters else 2
    state.local_cids.retire(sequence, state.rx_dcid, limit)
    return pos


def _path_challenge(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    challenge, pos = frame.read_path_data(data, pos)
    paths.on_challenge(state, challenge)
    return pos


def _path_response(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    response, pos = frame.read_path_data(data, pos)
    paths.on_response(state, response)
    return pos


def _connection_close(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    code, fault, reason, pos = frame.read_connection_close(data, pos, frame_type)
    error = ConnectionClosed(
        code,
        reason.decode("utf-8", "replace"),
        by_peer=True,
        transport=frame_type == frame.CONNECTION_CLOSE,
        frame_type=fault,
    )
    lifecycle.drain(state, state.rx_now, error)
    return len(data)


def _handshake_done(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    _server_only(state, frame_type)
    handshake.confirm(state, state.rx_now)
    return pos


def _datagram(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    start = pos - 1
    payload, pos = frame.read_datagram(data, pos, frame_type)
    limit = state.local_parameters.max_datagram_frame_size
    if pos - start > limit:
        # RFC 9221 §3: more than was announced, or anything when nothing was
        reason = f"DATAGRAM frame of {pos - start} bytes, {limit} are allowed"
        raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, reason, frame_type)
    found = [payload]
    if pos < len(data) <= limit:  # no other can be too long; one call for those that follow
        more, pos = frame.read_datagrams(data, pos)
        found += more
    state.datagrams_in.push_newest(found)
    state.outbox.datagrams = True
    return pos


def unknown_frame(frame_type: int) -> NoReturn:
    """RFC 9000 §12.4."""
    raise TransportError(TransportErrorCode.FRAME_ENCODING_ERROR, f"unknown frame type {frame_type:#x}", frame_type)


def _unknown(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    unknown_frame(frame_type)


def _not_permitted(state: ConnectionState, data: bytes, pos: int, frame_type: int) -> int:
    space = state.rx_space
    level = "EARLY_DATA" if state.rx_level == EARLY else space.epoch.name if space is not None else "this"
    raise TransportError(
        TransportErrorCode.PROTOCOL_VIOLATION,
        f"{frame.FRAMES[frame_type].name} is not permitted in {level} packets",
        frame_type,
    )


_ALL: dict[int, Handler] = {
    frame.PADDING: _padding,
    frame.PING: _ping,
    frame.ACK: _ack,
    frame.ACK_ECN: _ack,
    frame.RESET_STREAM: _reset_stream,
    frame.IMMEDIATE_ACK: _immediate_ack,
    frame.RESET_STREAM_AT: _reset_stream_at,
    frame.STOP_SENDING: _stop_sending,
    frame.CRYPTO: _crypto,
    frame.NEW_TOKEN: _new_token,
    **{frame.STREAM | bits: _stream for bits in range(8)},
    frame.MAX_DATA: _max_data,
    frame.MAX_STREAM_DATA: _max_stream_data,
    frame.MAX_STREAMS_BIDI: _max_streams,
    frame.MAX_STREAMS_UNI: _max_streams,
    frame.DATA_BLOCKED: _data_blocked,
    frame.STREAM_DATA_BLOCKED: _stream_data_blocked,
    frame.STREAMS_BLOCKED_BIDI: _streams_blocked,
    frame.STREAMS_BLOCKED_UNI: _streams_blocked,
    frame.NEW_CONNECTION_ID: _new_connection_id,
    frame.RETIRE_CONNECTION_ID: _retire_connection_id,
    frame.PATH_CHALLENGE: _path_challenge,
    frame.PATH_RESPONSE: _path_response,
    frame.CONNECTION_CLOSE: _connection_close,
    frame.CONNECTION_CLOSE_APP: _connection_close,
    frame.HANDSHAKE_DONE: _handshake_done,
    frame.DATAGRAM: _datagram,
    frame.DATAGRAM_LEN: _datagram,
}


def _table(letter: str) -> list[Handler]:
    return [
        _unknown if kind not in _ALL else _ALL[kind] if letter in frame.FRAMES[kind].packets else _not_permitted
        for kind in range(0x40)
    ]


HANDLERS = (_table("I"), _table("H"), _table("1"), _table("0"))
"""By packet number space, and one for 0-RTT; then by frame type."""
IS_ELICITING, IS_NO_PROBE = 1, 2
FLAGS = bytes(
    (kind in frame.FRAMES and frame.FRAMES[kind].ack_eliciting) * IS_ELICITING
    | (kind not in frame.FRAMES or not frame.FRAMES[kind].probing) * IS_NO_PROBE
    for kind in range(0x40)
)
"""By frame type: what its presence makes of a packet."""

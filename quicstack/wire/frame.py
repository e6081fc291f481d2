"""Frames (RFC 9000 §12.4 Table 3, §19; DATAGRAM of RFC 9221; RESET_STREAM_AT of draft-ietf-quic-reliable-stream-reset).

``FRAMES`` is the table. Below it stand one reader and one writer for each frame, in the order of §19. A reader takes
the position after the frame type and returns the fields as a tuple that ends with the position after the frame; a
writer returns the whole frame. There are no frame objects here: ``frame_study`` has them, on these same readers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from quicstack.errors import TransportError, TransportErrorCode, Truncated
from quicstack.wire.varint import MAX_VARINT, encode_varint, encode_varints, read_varint, read_varints

PADDING = 0x00
PING = 0x01
ACK = 0x02
ACK_ECN = 0x03
RESET_STREAM = 0x04
STOP_SENDING = 0x05
CRYPTO = 0x06
NEW_TOKEN = 0x07
STREAM = 0x08
STREAM_FIN = 0x01
STREAM_LEN = 0x02
STREAM_OFF = 0x04
MAX_DATA = 0x10
MAX_STREAM_DATA = 0x11
MAX_STREAMS_BIDI = 0x12
MAX_STREAMS_UNI = 0x13
DATA_BLOCKED = 0x14
STREAM_DATA_BLOCKED = 0x15
STREAMS_BLOCKED_BIDI = 0x16
STREAMS_BLOCKED_UNI = 0x17
NEW_CONNECTION_ID = 0x18
RETIRE_CONNECTION_ID = 0x19
PATH_CHALLENGE = 0x1A
PATH_RESPONSE = 0x1B
CONNECTION_CLOSE = 0x1C
CONNECTION_CLOSE_APP = 0x1D
HANDSHAKE_DONE = 0x1E
IMMEDIATE_ACK = 0x1F
RESET_STREAM_AT = 0x24
DATAGRAM = 0x30
DATAGRAM_LEN = 0x31
ACK_FREQUENCY = 0xAF

MAX_STREAMS_LIMIT = 1 << 60
"""RFC 9000 §19.11: a stream count above this cannot be expressed as a stream ID."""


@dataclass(frozen=True, slots=True)
class FrameRow:
    """A row of RFC 9000 Table 3. ``packets``: where the frame may appear, of ``I`` Initial, ``H`` Handshake, ``0``
    0-RTT, ``1`` 1-RTT. ``probing``: a path probing frame (§9.1). ``server_only``: a client must not send it."""

    name: str
    packets: str
    ack_eliciting: bool = True
    probing: bool = False
    server_only: bool = False


FRAMES: dict[int, FrameRow] = {
    PADDING: FrameRow("PADDING", "IH01", ack_eliciting=False, probing=True),
    PING: FrameRow("PING", "IH01"),
    ACK: FrameRow("ACK", "IH1", ack_eliciting=False),
    ACK_ECN: FrameRow("ACK_ECN", "IH1", ack_eliciting=False),
    RESET_STREAM: FrameRow("RESET_STREAM", "01"),
    STOP_SENDING: FrameRow("STOP_SENDING", "01"),
    CRYPTO: FrameRow("CRYPTO", "IH1"),
    NEW_TOKEN: FrameRow("NEW_TOKEN", "1", server_only=True),
    **{STREAM | bits: FrameRow("STREAM", "01") for bits in range(8)},
    MAX_DATA: FrameRow("MAX_DATA", "01"),
    MAX_STREAM_DATA: FrameRow("MAX_STREAM_DATA", "01"),
    MAX_STREAMS_BIDI: FrameRow("MAX_STREAMS", "01"),
    MAX_STREAMS_UNI: FrameRow("MAX_STREAMS", "01"),
    DATA_BLOCKED: FrameRow("DATA_BLOCKED", "01"),
    STREAM_DATA_BLOCKED: FrameRow("STREAM_DATA_BLOCKED", "01"),
    STREAMS_BLOCKED_BIDI: FrameRow("STREAMS_BLOCKED", "01"),
    STREAMS_BLOCKED_UNI: FrameRow("STREAMS_BLOCKED", "01"),
    NEW_CONNECTION_ID: FrameRow("NEW_CONNECTION_ID", "01", probing=True),
    RETIRE_CONNECTION_ID: FrameRow("RETIRE_CONNECTION_ID", "1"),
    PATH_CHALLENGE: FrameRow("PATH_CHALLENGE", "01", probing=True),
    PATH_RESPONSE: FrameRow("PATH_RESPONSE", "1", probing=True),
    CONNECTION_CLOSE: FrameRow("CONNECTION_CLOSE", "IH01", ack_eliciting=False),
    CONNECTION_CLOSE_APP: FrameRow("CONNECTION_CLOSE", "01", ack_eliciting=False),
    HANDSHAKE_DONE: FrameRow("HANDSHAKE_DONE", "1", server_only=True),
    RESET_STREAM_AT: FrameRow("RESET_STREAM_AT", "01"),
    DATAGRAM: FrameRow("DATAGRAM", "01"),
    DATAGRAM_LEN: FrameRow("DATAGRAM", "01"),
    IMMEDIATE_ACK: FrameRow("IMMEDIATE_ACK", "1"),
    ACK_FREQUENCY: FrameRow("ACK_FREQUENCY", "1"),
}


_ZEROS = re.compile(rb"\x00*")


def _take(data: bytes, pos: int, length: int, what: str) -> tuple[bytes, int]:
    end = pos + length
    if end > len(data):
        raise Truncated(what)
    return data[pos:end], end


def read_frame_type(data: bytes, pos: int) -> tuple[int, int]:
    """RFC 9000 §12.4: the type must use its shortest encoding."""
    frame_type, end = read_varint(data, pos)
    if end - pos > 1 and len(encode_varint(frame_type)) != end - pos:
        raise TransportError(
            TransportErrorCode.PROTOCOL_VIOLATION, "frame type is not in its shortest encoding", frame_type
        )
    return frame_type, end


def skip_padding(data: bytes, pos: int) -> int:
    """§19.1. The position after a run of PADDING that starts at or before ``pos``."""
    run = _ZEROS.match(data, pos)
    return run.end() if run is not None else pos


def read_ack(
    data: bytes, pos: int, frame_type: int
) -> tuple[list[tuple[int, int]], int, tuple[int, int, int] | None, int]:
    """§19.3: ranges (smallest, largest) from the largest downwards, ack delay unscaled, ECN counts (ECT0, ECT1, CE)."""
    (largest, delay, count, length), pos = read_varints(data, pos, 4)
    smallest = largest - length
    if smallest < 0:
        raise TransportError(TransportErrorCode.FRAME_ENCODING_ERROR, "ACK range below packet 0", frame_type)
    ranges = [(smallest, largest)]
    for _ in range(count):
        gap, pos = read_varint(data, pos)
        length, pos = read_varint(data, pos)
        largest = smallest - gap - 2
        smallest = largest - length
        if smallest < 0:
            raise TransportError(TransportErrorCode.FRAME_ENCODING_ERROR, "ACK range below packet 0", frame_type)
        ranges.append((smallest, largest))
    ecn = None
    if frame_type == ACK_ECN:
        (ect0, ect1, ce), pos = read_varints(data, pos, 3)
        ecn = (ect0, ect1, ce)
    return ranges, delay, ecn, pos


def write_ack(ranges: Sequence[tuple[int, int]], ack_delay: int, ecn: tuple[int, int, int] | None = None) -> bytes:
    """§19.3. ``ranges`` as :func:`read_ack` gives them; ``ack_delay`` already divided by 2^ack_delay_exponent."""
    smallest, largest = ranges[0]
    values = [largest, ack_delay, len(ranges) - 1, largest - smallest]
    for low, high in ranges[1:]:
        values += (smallest - high - 2, high - low)
        smallest = low
    if ecn:
        values += ecn
    return (b"\x03" if ecn else b"\x02") + encode_varints(values)


def read_reset_stream(data: bytes, pos: int) -> tuple[int, int, int, int]:
    """§19.4: stream ID, application error code, final size."""
    stream_id, pos = read_varint(data, pos)
    code, pos = read_varint(data, pos)
    final_size, pos = read_varint(data, pos)
    return stream_id, code, final_size, pos


def write_reset_stream(stream_id: int, code: int, final_size: int) -> bytes:
    return b"\x04" + encode_varint(stream_id) + encode_varint(code) + encode_varint(final_size)


def read_reset_stream_at(data: bytes, pos: int) -> tuple[int, int, int, int, int]:
    """draft-ietf-quic-reliable-stream-reset §4: stream ID, code, final size, reliable size."""
    stream_id, code, final_size, pos = read_reset_stream(data, pos)
    reliable_size, pos = read_varint(data, pos)
    if reliable_size > final_size:
        raise TransportError(
            TransportErrorCode.FRAME_ENCODING_ERROR, "reliable size beyond final size", RESET_STREAM_AT
        )
    return stream_id, code, final_size, reliable_size, pos


def write_reset_stream_at(stream_id: int, code: int, final_size: int, reliable_size: int) -> bytes:
    head = b"\x24" + encode_varint(stream_id) + encode_varint(code)
    return head + encode_varint(final_size) + encode_varint(reliable_size)


def read_stop_sending(data: bytes, pos: int) -> tuple[int, int, int]:
    """§19.5: stream ID, application error code."""
    stream_id, pos = read_varint(data, pos)
    code, pos = read_varint(data, pos)
    return stream_id, code, pos


def write_stop_sending(stream_id: int, code: int) -> bytes:
    return b"\x05" + encode_varint(stream_id) + encode_varint(code)


def read_crypto(data: bytes, pos: int) -> tuple[int, bytes, int]:
    """§19.6: offset, data."""
    offset, pos = read_varint(data, pos)
    length, pos = read_varint(data, pos)
    if offset + length > MAX_VARINT:
        raise TransportError(TransportErrorCode.FRAME_ENCODING_ERROR, "CRYPTO data beyond 2^62-1", CRYPTO)
    chunk, pos = _take(data, pos, length, "CRYPTO data")
    return offset, chunk, pos


def write_crypto(offset: int, data: bytes) -> bytes:
    return b"\x06" + encode_varint(offset) + encode_varint(len(data)) + data


def read_new_token(data: bytes, pos: int) -> tuple[bytes, int]:
    """§19.7: the token, never empty."""
    length, pos = read_varint(data, pos)
    if not length:
        raise TransportError(TransportErrorCode.FRAME_ENCODING_ERROR, "empty NEW_TOKEN", NEW_TOKEN)
    return _take(data, pos, length, "token")


def write_new_token(token: bytes) -> bytes:
    return b"\x07" + encode_varint(len(token)) + token


def read_stream(data: bytes, pos: int, frame_type: int) -> tuple[int, int, bytes, bool, int]:  # hot path
    """§19.8: stream ID, offset, data, fin."""
    stream_id, pos = read_varint(data, pos)
    offset = 0
    if frame_type & STREAM_OFF:
        offset, pos = read_varint(data, pos)
    if frame_type & STREAM_LEN:
        length, pos = read_varint(data, pos)
        end = pos + length
        if end > len(data):
            raise Truncated("STREAM data")
    else:
        end = len(data)
    if offset + end - pos > MAX_VARINT:
        raise TransportError(TransportErrorCode.FRAME_ENCODING_ERROR, "STREAM data beyond 2^62-1", frame_type)
    return stream_id, offset, data[pos:end], bool(frame_type & STREAM_FIN), end


def stream_header(stream_id: int, offset: int, length: int | None, fin: bool) -> bytes:  # hot path
    """§19.8 up to the data. Without ``length`` the data extends to the end of the packet."""
    frame_type = STREAM | fin
    parts = encode_varint(stream_id)
    if offset:
        frame_type |= STREAM_OFF
        parts += encode_varint(offset)
    if length is not None:
        frame_type |= STREAM_LEN
        parts += encode_varint(length)
    return bytes((frame_type,)) + parts


def read_limit(data: bytes, pos: int) -> tuple[int, int]:
    """§19.9 MAX_DATA and §19.12 DATA_BLOCKED: one limit."""
    return read_varint(data, pos)


def read_stream_limit(data: bytes, pos: int) -> tuple[int, int, int]:
    """§19.10 MAX_STREAM_DATA and §19.13 STREAM_DATA_BLOCKED: stream ID, limit."""
    stream_id, pos = read_varint(data, pos)
    limit, pos = read_varint(data, pos)
    return stream_id, limit, pos


def read_streams_limit(data: bytes, pos: int, frame_type: int) -> tuple[int, int]:
    """§19.11 MAX_STREAMS and §19.14 STREAMS_BLOCKED: one count, at most 2^60."""
    limit, pos = read_varint(data, pos)
    if limit > MAX_STREAMS_LIMIT:
        raise TransportError(TransportErrorCode.FRAME_ENCODING_ERROR, f"stream count {limit} is above 2^60", frame_type)
    return limit, pos


def write_limit(frame_type: int, *values: int) -> bytes:
    """Any of the frames §19.9 to §19.14: the type and its integers."""
    return encode_varint(frame_type) + b"".join(map(encode_varint, values))


def read_new_connection_id(data: bytes, pos: int) -> tuple[int, int, bytes, bytes, int]:
    """§19.15: sequence number, retire prior to, connection ID, stateless reset token."""
    sequence, pos = read_varint(data, pos)
    retire_prior_to, pos = read_varint(data, pos)
    if pos >= len(data):
        raise Truncated("connection ID")
    length = data[pos]
    if not 1 <= length <= 20:
        raise TransportError(
            TransportErrorCode.FRAME_ENCODING_ERROR,
            f"connection ID of {length} bytes, expected 1 to 20",
            NEW_CONNECTION_ID,
        )
    if retire_prior_to > sequence:
        raise TransportError(
            TransportErrorCode.FRAME_ENCODING_ERROR,
            f"retire prior to {retire_prior_to} is above sequence number {sequence}",
            NEW_CONNECTION_ID,
        )
    cid, pos = _take(data, pos + 1, length, "connection ID")
    token, pos = _take(data, pos, 16, "stateless reset token")
    return sequence, retire_prior_to, cid, token, pos


def write_new_connection_id(sequence: int, retire_prior_to: int, cid: bytes, token: bytes) -> bytes:
    return b"\x18" + encode_varint(sequence) + encode_varint(retire_prior_to) + bytes((len(cid),)) + cid + token


def read_path_data(data: bytes, pos: int) -> tuple[bytes, int]:
    """§19.17 PATH_CHALLENGE and §19.18 PATH_RESPONSE: eight bytes."""
    return _take(data, pos, 8, "path data")


def read_connection_close(data: bytes, pos: int, frame_type: int) -> tuple[int, int, bytes, int]:
    """§19.19: error code, type of the frame at fault (0 in the application form), reason phrase."""
    code, pos = read_varint(data, pos)
    fault = 0
    if frame_type == CONNECTION_CLOSE:
        fault, pos = read_varint(data, pos)
    length, pos = read_varint(data, pos)
    reason, pos = _take(data, pos, length, "reason phrase")
    return code, fault, reason, pos


def write_connection_close(code: int, reason: bytes, fault: int | None) -> bytes:
    """§19.19. ``fault`` is the frame type at fault, or None for the application form (0x1d)."""
    if fault is None:
        return b"\x1d" + encode_varint(code) + encode_varint(len(reason)) + reason
    return b"\x1c" + encode_varint(code) + encode_varint(fault) + encode_varint(len(reason)) + reason


def read_datagram(data: bytes, pos: int, frame_type: int) -> tuple[bytes, int]:
    """RFC 9221 §4: the payload."""
    if frame_type == DATAGRAM_LEN:
        length, pos = read_varint(data, pos)
        return _take(data, pos, length, "DATAGRAM data")
    return data[pos:], len(data)


def read_datagrams(data: bytes, pos: int) -> tuple[list[bytes], int]:  # hot path: benchmarks/datagrams.py
    """The payloads of all DATAGRAM frames with a length that follow each other, from the type of the first one on."""
    found = []
    end = len(data)
    while pos < end and data[pos] == DATAGRAM_LEN:
        length, start = read_varint(data, pos + 1)
        pos = start + length
        if pos > end:
            raise Truncated("DATAGRAM data")
        found.append(data[start:pos])
    return found, pos


def datagram_head(length: int) -> bytes:
    """RFC 9221 §4: what stands before so many bytes of payload."""
    return b"\x31" + encode_varint(length)


def write_datagram(data: bytes) -> bytes:
    """RFC 9221 §4, with a length."""
    return datagram_head(len(data)) + data


def read_ack_frequency(data: bytes, pos: int) -> tuple[int, int, int, int, int]:
    """draft-ietf-quic-ack-frequency §4: sequence number, threshold, max ack delay in µs, reordering threshold."""
    sequence, pos = read_varint(data, pos)
    threshold, pos = read_varint(data, pos)
    delay, pos = read_varint(data, pos)
    reordering, pos = read_varint(data, pos)
    return sequence, threshold, delay, reordering, pos


def write_ack_frequency(sequence: int, threshold: int, delay: int, reordering: int) -> bytes:
    return encode_varint(ACK_FREQUENCY) + b"".join(map(encode_varint, (sequence, threshold, delay, reordering)))

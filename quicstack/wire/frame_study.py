"""Frames as values, for people and tools: qlog, tests, the dissector. Built on the readers of ``frame``.

The engine never comes here; a dataclass for each frame costs more than the frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quicstack.errors import TransportError, TransportErrorCode
from quicstack.wire import frame as f

__all__ = ["Frame", "parse_frames"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: ``name`` as in RFC 9000 Table 3, ``frame_type``, the fields by the RFC's names, its size in bytes."""

    name: str
    frame_type: int
    fields: dict[str, object] = field(default_factory=dict)
    size: int = 0

    def __getattr__(self, name: str) -> object:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None


def parse_frames(payload: bytes) -> list[Frame]:
    """Every frame of a packet's plaintext, a run of PADDING as one. Raises TransportError where the engine would."""
    frames = []
    pos = 0
    while pos < len(payload):
        start = pos
        frame_type, pos = f.read_frame_type(payload, pos)
        row = f.FRAMES.get(frame_type)
        if row is None:
            raise TransportError(TransportErrorCode.FRAME_ENCODING_ERROR, f"unknown frame {frame_type:#x}", frame_type)
        fields, pos = _read_fields(payload, pos, frame_type)
        frames.append(Frame(row.name, frame_type, fields, pos - start))
    return frames


def _named(names: str, values: tuple[object, ...]) -> tuple[dict[str, object], int]:
    pos = values[-1]
    assert isinstance(pos, int)
    return dict(zip(names.split(), values, strict=False)), pos


def _read_fields(data: bytes, pos: int, frame_type: int) -> tuple[dict[str, object], int]:
    if f.STREAM <= frame_type < f.STREAM + 8:
        return _named("stream_id offset data fin", f.read_stream(data, pos, frame_type))
    match frame_type:
        case f.PADDING:
            end = f.skip_padding(data, pos)
            return {"length": end - pos + 1}, end
        case f.PING | f.HANDSHAKE_DONE | f.IMMEDIATE_ACK:
            return {}, pos
        case f.ACK | f.ACK_ECN:
            return _named("ranges ack_delay ecn", f.read_ack(data, pos, frame_type))
        case f.RESET_STREAM:
            return _named("stream_id error_code final_size", f.read_reset_stream(data, pos))
        case f.RESET_STREAM_AT:
            names = "stream_id error_code final_size reliable_size"
            return _named(names, f.read_reset_stream_at(data, pos))
        case f.ACK_FREQUENCY:
            names = "sequence_number ack_eliciting_threshold request_max_ack_delay reordering_threshold"
            return _named(names, f.read_ack_frequency(data, pos))
        case f.STOP_SENDING:
            return _named("stream_id error_code", f.read_stop_sending(data, pos))
        case f.CRYPTO:
            return _named("offset data", f.read_crypto(data, pos))
        case f.NEW_TOKEN:
            return _named("token", f.read_new_token(data, pos))
        case f.MAX_DATA | f.DATA_BLOCKED:
            return _named("maximum", f.read_limit(data, pos))
        case f.MAX_STREAM_DATA | f.STREAM_DATA_BLOCKED:
            return _named("stream_id maximum", f.read_stream_limit(data, pos))
        case f.MAX_STREAMS_BIDI | f.MAX_STREAMS_UNI | f.STREAMS_BLOCKED_BIDI | f.STREAMS_BLOCKED_UNI:
            return _named("maximum", f.read_streams_limit(data, pos, frame_type))
        case f.NEW_CONNECTION_ID:
            names = "sequence_number retire_prior_to connection_id stateless_reset_token"
            return _named(names, f.read_new_connection_id(data, pos))
        case f.RETIRE_CONNECTION_ID:
            return _named("sequence_number", f.read_limit(data, pos))
        case f.PATH_CHALLENGE | f.PATH_RESPONSE:
            return _named("data", f.read_path_data(data, pos))
        case f.CONNECTION_CLOSE | f.CONNECTION_CLOSE_APP:
            return _named("error_code frame_type_at_fault reason", f.read_connection_close(data, pos, frame_type))
        case _:
            return _named("data", f.read_datagram(data, pos, frame_type))

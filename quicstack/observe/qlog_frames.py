"""Frames as qlog writes them (draft-ietf-quic-qlog-quic-events-13, "QUIC Frames").

Contents are never written, only lengths: a log is for looking at the protocol, not at what it carries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quicstack.errors import CRYPTO_ERROR, TransportError, TransportErrorCode
from quicstack.wire import frame as f
from quicstack.wire.frame_study import Frame, parse_frames

__all__ = ["application_error", "qlog_frames", "transport_error"]

Json = dict[str, Any]

PAYLOADS = {"PADDING": "length", "CRYPTO": "data", "NEW_TOKEN": "token", "STREAM": "data", "DATAGRAM": "data"}
"""The field that is a frame's payload, for the frames that have one."""


def qlog_frames(payload: bytes, ack_delay_exponent: int) -> list[Json]:
    """Every frame of a packet. What cannot be parsed is one frame of type ``unknown``, as the peer sees it."""
    try:
        frames = parse_frames(payload)
    except TransportError as error:
        return [{"frame_type": "unknown", "frame_type_bytes": error.frame_type, "raw": {"length": len(payload)}}]
    return [_one(frame, ack_delay_exponent) for frame in frames]


def transport_error(code: int) -> Json:
    """``error`` and ``error_code`` of a transport error code."""
    if CRYPTO_ERROR <= code < CRYPTO_ERROR + 0x100:
        return {"error": f"crypto_error_{code:#x}"}
    if code <= TransportErrorCode.NO_VIABLE_PATH:
        return {"error": TransportErrorCode(code).name.lower()}
    return {"error": "unknown", "error_code": code}


def application_error(code: int) -> Json:
    """The same for a code that only the application understands."""
    return {"error": "unknown", "error_code": code}


def _one(frame: Frame, ack_delay_exponent: int) -> Json:
    data: Json = {"frame_type": frame.name.lower()}
    if frame.name in ("ACK", "ACK_ECN"):
        data["frame_type"] = "ack"
        data |= _ack(frame.fields, ack_delay_exponent)
    else:
        describe = _FIELDS.get(frame.frame_type)
        if describe is not None:
            data |= describe(frame.fields)
    data["raw"] = {"length": frame.size}
    payload = frame.fields.get(PAYLOADS.get(frame.name, ""))
    if payload is not None:
        data["raw"]["payload_length"] = payload if isinstance(payload, int) else len(payload)  # type: ignore[arg-type]
    return data


def _ack(fields: Json, ack_delay_exponent: int) -> Json:
    data: Json = {
        "ack_delay": (fields["ack_delay"] << ack_delay_exponent) / 1000,
        "acked_ranges": [[low] if low == high else [low, high] for low, high in fields["ranges"]],
    }
    if fields["ecn"] is not None:
        data["ect0"], data["ect1"], data["ce"] = fields["ecn"]
    return data


def _stream(fields: Json) -> Json:
    data = _pick(fields, "stream_id", "offset")
    if fields["fin"]:
        data["fin"] = True
    return data


def _new_connection_id(fields: Json) -> Json:
    return _pick(fields, "sequence_number", "retire_prior_to") | {
        "connection_id": bytes(fields["connection_id"]).hex(),
        "connection_id_length": len(fields["connection_id"]),
    }


def _transport_close(fields: Json) -> Json:
    data: Json = {"error_space": "transport", "trigger_frame_type": fields["frame_type_at_fault"]}
    return data | transport_error(fields["error_code"]) | _reason(fields["reason"])


def _application_close(fields: Json) -> Json:
    data: Json = {"error_space": "application"}
    return data | application_error(fields["error_code"]) | _reason(fields["reason"])


def _reason(reason: bytes) -> Json:
    """RFC 9000 §19.19 asks for UTF-8, which a peer may have forgotten."""
    try:
        return {"reason": bytes(reason).decode()}
    except UnicodeDecodeError:
        return {"reason_bytes": bytes(reason).hex()}


def _pick(fields: Json, *names: str) -> Json:
    return {name: fields[name] for name in names}


def _reset(*names: str) -> Callable[[Json], Json]:
    return lambda fields: _pick(fields, "stream_id", *names) | application_error(fields["error_code"])


def _limit(name: str, **more: str) -> Callable[[Json], Json]:
    """MAX_... frames call it maximum, ..._BLOCKED frames limit."""
    return lambda fields: {name: fields["maximum"], **_stream_id(fields), **more}


def _stream_id(fields: Json) -> Json:
    return {"stream_id": fields["stream_id"]} if "stream_id" in fields else {}


_FIELDS: dict[int, Callable[[Json], Json]] = {
    f.RESET_STREAM: _reset("final_size"),
    f.RESET_STREAM_AT: _reset("final_size", "reliable_size"),
    f.STOP_SENDING: _reset(),
    f.ACK_FREQUENCY: lambda fields: {
        **_pick(fields, "sequence_number", "ack_eliciting_threshold", "reordering_threshold"),
        "request_max_ack_delay": fields["request_max_ack_delay"] / 1000,
    },
    f.CRYPTO: lambda fields: _pick(fields, "offset"),
    f.NEW_TOKEN: lambda fields: {"token": {"raw": {"length": len(fields["token"])}}},
    **{f.STREAM | bits: _stream for bits in range(8)},
    f.MAX_DATA: _limit("maximum"),
    f.MAX_STREAM_DATA: _limit("maximum"),
    f.MAX_STREAMS_BIDI: _limit("maximum", stream_type="bidirectional"),
    f.MAX_STREAMS_UNI: _limit("maximum", stream_type="unidirectional"),
    f.DATA_BLOCKED: _limit("limit"),
    f.STREAM_DATA_BLOCKED: _limit("limit"),
    f.STREAMS_BLOCKED_BIDI: _limit("limit", stream_type="bidirectional"),
    f.STREAMS_BLOCKED_UNI: _limit("limit", stream_type="unidirectional"),
    f.NEW_CONNECTION_ID: _new_connection_id,
    f.RETIRE_CONNECTION_ID: lambda fields: _pick(fields, "sequence_number"),
    f.PATH_CHALLENGE: lambda fields: {"data": bytes(fields["data"]).hex()},
    f.PATH_RESPONSE: lambda fields: {"data": bytes(fields["data"]).hex()},
    f.CONNECTION_CLOSE: _transport_close,
    f.CONNECTION_CLOSE_APP: _application_close,
}

"""Each frame of RFC 9000 Table 3 as qlog shows it, from its bytes, and the schema's opinion of it."""

from __future__ import annotations

from typing import Any

import pytest
from qlog_schema import frame

from quicstack.observe.qlog_frames import application_error, qlog_frames, transport_error

CASES: list[tuple[str, dict[str, Any]]] = [
    ("000000", {"frame_type": "padding", "raw": {"length": 3, "payload_length": 3}}),
    ("01", {"frame_type": "ping"}),
    ("02 09 08 01 01 02 00", {"frame_type": "ack", "ack_delay": 0.064, "acked_ranges": [[8, 9], [4]]}),
    ("03 09 00 00 00 05 06 07", {"frame_type": "ack", "acked_ranges": [[9]], "ect0": 5, "ect1": 6, "ce": 7}),
    ("04 04 09 0a", {"frame_type": "reset_stream", "error": "unknown", "error_code": 9, "final_size": 10}),
    ("05 04 09", {"frame_type": "stop_sending", "stream_id": 4, "error": "unknown", "error_code": 9}),
    ("06 03 02 aabb", {"frame_type": "crypto", "offset": 3, "raw": {"length": 5, "payload_length": 2}}),
    ("07 02 aabb", {"frame_type": "new_token", "token": {"raw": {"length": 2}}}),
    ("08 04 aabb", {"frame_type": "stream", "stream_id": 4, "offset": 0, "raw": {"length": 4, "payload_length": 2}}),
    ("0f 04 05 02 aabb", {"frame_type": "stream", "stream_id": 4, "offset": 5, "fin": True}),
    ("10 05", {"frame_type": "max_data", "maximum": 5}),
    ("11 04 05", {"frame_type": "max_stream_data", "stream_id": 4, "maximum": 5}),
    ("12 05", {"frame_type": "max_streams", "stream_type": "bidirectional", "maximum": 5}),
    ("13 05", {"frame_type": "max_streams", "stream_type": "unidirectional", "maximum": 5}),
    ("14 05", {"frame_type": "data_blocked", "limit": 5}),
    ("15 04 05", {"frame_type": "stream_data_blocked", "stream_id": 4, "limit": 5}),
    ("16 05", {"frame_type": "streams_blocked", "stream_type": "bidirectional", "limit": 5}),
    ("17 05", {"frame_type": "streams_blocked", "stream_type": "unidirectional", "limit": 5}),
    (
        "18 02 01 04 01020304 000102030405060708090a0b0c0d0e0f",
        {"frame_type": "new_connection_id", "sequence_number": 2, "retire_prior_to": 1, "connection_id": "01020304"},
    ),
    ("19 02", {"frame_type": "retire_connection_id", "sequence_number": 2}),
    ("1a 0102030405060708", {"frame_type": "path_challenge", "data": "0102030405060708"}),
    ("1b 0102030405060708", {"frame_type": "path_response", "data": "0102030405060708"}),
    (
        "1c 0a 06 02 6869",
        {
            "frame_type": "connection_close",
            "error_space": "transport",
            "error": "protocol_violation",
            "trigger_frame_type": 6,
            "reason": "hi",
        },
    ),
    (
        "1d 0a 02 ffff",
        {
            "frame_type": "connection_close",
            "error_space": "application",
            "error": "unknown",
            "error_code": 10,
            "reason_bytes": "ffff",
        },
    ),
    ("1e", {"frame_type": "handshake_done"}),
    ("30 aabb", {"frame_type": "datagram", "raw": {"length": 3, "payload_length": 2}}),
    ("31 02 aabb", {"frame_type": "datagram", "raw": {"length": 4, "payload_length": 2}}),
]


@pytest.mark.parametrize(("data", "expected"), CASES, ids=[expected["frame_type"] for _, expected in CASES])
def test_frame(data: str, expected: dict[str, Any]) -> None:
    payload = bytes.fromhex(data)
    (shown,) = qlog_frames(payload, 3)
    assert frame(shown) is None, frame(shown)
    assert shown.items() >= expected.items()
    assert shown["raw"]["length"] == len(payload)


def test_contents_are_not_written() -> None:
    secret = b"what the application said"
    for head in ("0a 04 19", "31 19", "06 00 19", "07 19"):
        assert secret.hex() not in str(qlog_frames(bytes.fromhex(head) + secret, 3))
        assert "what the" not in str(qlog_frames(bytes.fromhex(head) + secret, 3))


def test_several_frames() -> None:
    kinds = [shown["frame_type"] for shown in qlog_frames(bytes.fromhex("01 10 05 0000"), 3)]
    assert kinds == ["ping", "max_data", "padding"]


@pytest.mark.parametrize("payload", [b"\x3f", b"\x40\x40", b"\x06\x00\x05ab", b"\xff" * 30])
def test_what_cannot_be_parsed(payload: bytes) -> None:
    (shown,) = qlog_frames(payload, 3)
    assert shown["frame_type"] == "unknown"
    assert frame(shown) is None


def test_every_code_has_a_name_or_a_number() -> None:
    for code in (*range(0x120), 0x1FF, 0x200, 2**62 - 1):
        shown = transport_error(code)
        assert (shown["error"] == "unknown") == ("error_code" in shown)
    assert application_error(5) == {"error": "unknown", "error_code": 5}

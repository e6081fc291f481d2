"""The CDDL of the qlog drafts as Python: what each event may contain, and of which type.

A checker is a function that returns None, or says what is wrong. ``record({"a": uint64, "?b": text})`` has a required
and an optional field and allows no others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Checker = Callable[[Any], str | None]


def uint(bits: int) -> Checker:
    def check(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << bits
        return None if good else f"{value!r} is no uint{bits}"

    return check


def text(value: Any) -> str | None:
    return None if isinstance(value, str) else f"{value!r} is no text"


def number(value: Any) -> str | None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return None if good else f"{value!r} is no number"


def boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"{value!r} is no bool"


def matching(pattern: str) -> Checker:
    return lambda value: (
        None if isinstance(value, str) and re.fullmatch(pattern, value) else f"{value!r} is not {pattern}"
    )


def one_of(*values: str) -> Checker:
    return lambda value: None if value in values else f"{value!r} is none of {values}"


def either(*checkers: Checker) -> Checker:
    def check(value: Any) -> str | None:
        complaints = [checker(value) for checker in checkers]
        return None if None in complaints else " and ".join(str(c) for c in complaints)

    return check


def listing(checker: Checker, least: int = 0, most: int | None = None) -> Checker:
    def check(value: Any) -> str | None:
        if not isinstance(value, list) or len(value) < least or (most is not None and len(value) > most):
            return f"{value!r} is no list of {least} to {most}"
        return next((complaint for item in value if (complaint := checker(item))), None)

    return check


def record(fields: dict[str, Checker]) -> Checker:
    required = {name for name in fields if not name.startswith("?")}
    known = {name.removeprefix("?"): checker for name, checker in fields.items()}

    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return f"{value!r} is no record"
        if missing := required - set(value):
            return f"{sorted(missing)} missing in {value}"
        for name, item in value.items():
            if name not in known:
                return f"no field {name!r} in {value}"
            if complaint := known[name](item):
                return f"{name}: {complaint}"
        return None

    return check


def anything(value: Any) -> str | None:
    return None if isinstance(value, dict) else f"{value!r} is no record"


uint8, uint16, uint32, uint64 = (uint(bits) for bits in (8, 16, 32, 64))
hexstring = matching("([0-9a-f]{2})*")
raw = record({"?length": uint64, "?payload_length": uint64, "?data": hexstring})
initiator = one_of("local", "remote")
stateless_reset_token = matching("[0-9a-f]{32}")

TRANSPORT_ERRORS = (
    "no_error", "internal_error", "connection_refused", "flow_control_error", "stream_limit_error",
    "stream_state_error", "final_size_error", "frame_encoding_error", "transport_parameter_error",
    "connection_id_limit_error", "protocol_violation", "invalid_token", "application_error",
    "crypto_buffer_exceeded", "key_update_error", "aead_limit_reached", "no_viable_path", "unknown",
)  # fmt: skip
transport_error = either(one_of(*TRANSPORT_ERRORS), matching("crypto_error_0x1[0-9a-f][0-9a-f]"))
application_error = one_of("unknown")

packet_type = one_of(
    "initial", "handshake", "0RTT", "1RTT", "retry", "version_negotiation", "stateless_reset", "unknown"
)
token = record({"?type": one_of("retry", "resumption"), "?details": anything, "?raw": raw})
packet_header = record(
    {
        "packet_type": packet_type, "?packet_type_bytes": uint64, "?spin_bit": boolean, "?key_phase": uint64,
        "?key_phase_bit": boolean, "?packet_number_length": uint8, "?packet_number": uint64, "?token": token,
        "?length": uint16, "?version": hexstring, "?scil": uint8, "?dcil": uint8, "?scid": hexstring,
        "?dcid": hexstring,
    }
)  # fmt: skip
endpoint_info = record(
    {
        "?ip_v4": text, "?port_v4": uint16, "?ip_v6": text, "?port_v6": uint16,
        "?connection_ids": listing(hexstring, 1),
    }
)  # fmt: skip
stream_type = one_of("unidirectional", "bidirectional")

FRAMES: dict[str, dict[str, Checker]] = {
    "padding": {},
    "ping": {},
    "ack": {
        "?ack_delay": number,
        "?acked_ranges": listing(listing(uint64, 1, 2), 1),
        "?ect1": uint64,
        "?ect0": uint64,
        "?ce": uint64,
    },
    "reset_stream": {
        "stream_id": uint64,
        "error": application_error,
        "?error_code": uint64,
        "final_size": uint64,
    },
    "reset_stream_at": {
        "stream_id": uint64,
        "error": application_error,
        "?error_code": uint64,
        "final_size": uint64,
        "reliable_size": uint64,
    },
    "stop_sending": {"stream_id": uint64, "error": application_error, "?error_code": uint64},
    "crypto": {"offset": uint64, "raw": raw},
    "new_token": {"token": token},
    "stream": {"stream_id": uint64, "?offset": uint64, "?fin": boolean},
    "max_data": {"maximum": uint64},
    "max_stream_data": {"stream_id": uint64, "maximum": uint64},
    "max_streams": {"stream_type": stream_type, "maximum": uint64},
    "data_blocked": {"limit": uint64},
    "stream_data_blocked": {"stream_id": uint64, "limit": uint64},
    "streams_blocked": {"stream_type": stream_type, "limit": uint64},
    "new_connection_id": {
        "sequence_number": uint64,
        "retire_prior_to": uint64,
        "?connection_id_length": uint8,
        "connection_id": hexstring,
        "?stateless_reset_token": stateless_reset_token,
    },
    "retire_connection_id": {"sequence_number": uint64},
    "path_challenge": {"?data": matching("[0-9a-f]{16}")},
    "path_response": {"?data": matching("[0-9a-f]{16}")},
    "connection_close": {
        "?error_space": one_of("transport", "application"),
        "?error": transport_error,
        "?error_code": uint64,
        "?reason": text,
        "?reason_bytes": hexstring,
        "?trigger_frame_type": either(uint64, text),
    },
    "handshake_done": {},
    "unknown": {"frame_type_bytes": uint64},
    "datagram": {},
}


def frame(value: Any) -> str | None:
    fields = FRAMES.get(value.get("frame_type")) if isinstance(value, dict) else None
    if fields is None:
        return f"{value!r} is no frame"
    return record({"?raw": raw, **fields, "frame_type": text})(value)


packet = {
    "header": packet_header,
    "?frames": listing(frame),
    "?stateless_reset_token": stateless_reset_token,
    "?supported_versions": listing(hexstring, 1),
    "?raw": raw,
    "?datagram_id": uint32,
}
key_type = matching("(server|client)_(initial|handshake|0rtt|1rtt)_secret")
key_trigger = one_of("tls", "remote_update", "local_update")
connection_state = one_of(
    "attempted", "handshake_started", "handshake_complete", "closed", "peer_validated", "early_write",
    "handshake_confirmed", "closing", "draining",
)  # fmt: skip
ecn_state = one_of("testing", "unknown", "failed", "capable")
alpn = record({"?byte_value": hexstring, "?string_value": text})

PARAMETERS: dict[str, Checker] = {
    "?initiator": initiator,
    "?resumption_allowed": boolean,
    "?early_data_enabled": boolean,
    "?tls_cipher": text,
    **dict.fromkeys(
        ("?original_destination_connection_id", "?initial_source_connection_id", "?retry_source_connection_id"),
        hexstring,
    ),
    "?stateless_reset_token": stateless_reset_token,
    "?disable_active_migration": boolean,
    **dict.fromkeys(
        (
            "?max_idle_timeout", "?max_udp_payload_size", "?ack_delay_exponent", "?max_ack_delay",
            "?active_connection_id_limit", "?initial_max_data", "?initial_max_stream_data_bidi_local",
            "?initial_max_stream_data_bidi_remote", "?initial_max_stream_data_uni", "?initial_max_streams_bidi",
            "?initial_max_streams_uni", "?max_datagram_frame_size",
        ),
        uint64,
    ),
    "?preferred_address": record(
        {
            "?ip_v4": text, "?port_v4": uint16, "?ip_v6": text, "?port_v6": uint16, "connection_id": hexstring,
            "stateless_reset_token": stateless_reset_token,
        }
    ),
    "?unknown_parameters": listing(record({"id": uint64, "?value": hexstring})),
    "?grease_quic_bit": boolean,
    "?reset_stream_at": boolean,
}  # fmt: skip

EVENTS: dict[str, Checker] = {
    "quic:connection_started": record({"local": endpoint_info, "remote": endpoint_info}),
    "quic:connection_closed": record(
        {
            "?initiator": initiator,
            "?connection_error": transport_error,
            "?application_error": application_error,
            "?error_code": uint64,
            "?internal_code": uint64,
            "?reason": text,
            "?trigger": one_of(
                "idle_timeout", "application", "error", "version_mismatch", "stateless_reset", "aborted", "unspecified"
            ),
        }
    ),
    "quic:connection_state_updated": record({"?old": connection_state, "new": connection_state}),
    "quic:version_information": record(
        {
            "?server_versions": listing(hexstring, 1),
            "?client_versions": listing(hexstring, 1),
            "?chosen_version": hexstring,
        }
    ),
    "quic:alpn_information": record(
        {"?server_alpns": listing(alpn), "?client_alpns": listing(alpn), "?chosen_alpn": alpn}
    ),
    "quic:parameters_set": record(PARAMETERS),
    "quic:packet_sent": record(
        packet
        | {
            "?is_mtu_probe_packet": boolean,
            "?trigger": one_of(
                "retransmit_reordered", "retransmit_timeout", "pto_probe", "retransmit_crypto", "cc_bandwidth_probe"
            ),
        }
    ),
    "quic:packet_received": record(packet | {"?trigger": one_of("keys_available")}),
    "quic:packet_dropped": record(
        {
            "?header": packet_header,
            "?raw": raw,
            "?datagram_id": uint32,
            "?details": anything,
            "?trigger": one_of(
                "internal_error",
                "rejected",
                "unsupported",
                "invalid",
                "duplicate",
                "connection_unknown",
                "decryption_failure",
                "key_unavailable",
                "general",
            ),
        }
    ),
    "quic:key_updated": record(
        {"key_type": key_type, "?old": hexstring, "?new": hexstring, "?key_phase": uint64, "?trigger": key_trigger}
    ),
    "quic:key_discarded": record(
        {"key_type": key_type, "?key": hexstring, "?key_phase": uint64, "?trigger": key_trigger}
    ),
    "quic:recovery_parameters_set": record(
        {
            "?reordering_threshold": uint16,
            "?time_threshold": number,
            "timer_granularity": uint16,
            "?initial_rtt": number,
            "?max_datagram_size": uint32,
            "?initial_congestion_window": uint64,
            "?minimum_congestion_window": uint64,
            "?loss_reduction_factor": number,
            "?persistent_congestion_threshold": uint16,
        }
    ),
    "quic:recovery_metrics_updated": record(
        {
            "?min_rtt": number,
            "?smoothed_rtt": number,
            "?latest_rtt": number,
            "?rtt_variance": number,
            "?pto_count": uint16,
            "?congestion_window": uint64,
            "?bytes_in_flight": uint64,
            "?ssthresh": uint64,
            "?packets_in_flight": uint64,
            "?pacing_rate": uint64,
        }
    ),
    "quic:packet_lost": record(
        {
            "?header": packet_header,
            "?frames": listing(frame),
            "?is_mtu_probe_packet": boolean,
            "?trigger": one_of("reordering_threshold", "time_threshold", "pto_expired"),
        }
    ),
    "quic:ecn_state_updated": record({"?old": ecn_state, "new": ecn_state}),
}

HEADER = record(
    {
        "file_schema": one_of("urn:ietf:params:qlog:file:sequential"),
        "serialization_format": one_of("application/qlog+json-seq"),
        "?title": text,
        "?description": text,
        "trace": record(
            {
                "?title": text,
                "?description": text,
                "?common_fields": record(
                    {
                        "?tuple": text,
                        "?time_format": one_of("relative_to_epoch", "relative_to_previous_event"),
                        "?reference_time": record(
                            {
                                "clock_type": one_of("system", "monotonic"),
                                "epoch": text,
                                "?wall_clock_time": matching(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
                            }
                        ),
                        "?group_id": text,
                    }
                ),
                "?vantage_point": record({"?name": text, "type": one_of("client", "server", "network", "unknown")}),
                "event_schemas": listing(text, 1),
            }
        ),
    }
)

EVENT = record({"time": number, "name": text, "data": anything})


def check_event(event: Any) -> str | None:
    """Complaint about one event record, or None."""
    if complaint := EVENT(event):
        return complaint
    if event["name"] not in EVENTS:
        return f"unknown event {event['name']}"
    complaint = EVENTS[event["name"]](event["data"])
    return complaint and f"{event['name']}: {complaint}"

"""qlog: a connection's events as JSON text sequences, for qvis and other tools.

draft-ietf-quic-qlog-main-schema-14 (the file: a header record, then one record per event, each between an RS character
and a line feed) and draft-ietf-quic-qlog-quic-events-13 (the events). Times are milliseconds since the trace began.

Watching must never hurt the connection: the first error, a full disk say, ends the log and is not reported further.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from math import isfinite
from typing import Any, Concatenate, ParamSpec, Protocol

from quicstack.errors import ConnectionClosed, ConnectionTimeout
from quicstack.observe.qlog_frames import application_error, qlog_frames, transport_error
from quicstack.observe.trace import Trace
from quicstack.recovery.loss import kTimeThreshold
from quicstack.recovery.persistent_congestion import kPersistentCongestionThreshold
from quicstack.recovery.rtt import kGranularity
from quicstack.recovery.space import kPacketThreshold

__all__ = ["Output", "QlogTrace"]

RECORD_SEPARATOR = "\x1e"
FILE_SCHEMA = "urn:ietf:params:qlog:file:sequential"
SERIALIZATION_FORMAT = "application/qlog+json-seq"
EVENT_SCHEMA = "urn:ietf:params:qlog:events:quic-13"

Json = dict[str, Any]
P = ParamSpec("P")

STATES = {"handshake": "handshake_started", "established": "handshake_complete"}
"""Our phases under qlog's names; the others are the same."""

DROP_TRIGGERS = {
    "internal_error", "rejected", "unsupported", "invalid", "duplicate", "connection_unknown", "decryption_failure",
    "key_unavailable", "general",
}  # fmt: skip
NAMED_DROPS = {
    "unknown_path": "rejected",
    "header_parse_error": "invalid",
    "invalid_token": "invalid",
    "invalid_retry": "invalid",
}

KEY_TYPES = {"initial": "initial", "handshake": "handshake", "0RTT": "0rtt", "1RTT": "1rtt"}
PROTECTED = ("initial", "handshake", "0RTT", "1RTT")


class Output(Protocol):
    """Where records go; a text file will do."""

    def write(self, text: str, /) -> object: ...

    def close(self) -> object: ...


def _never_raises(
    method: Callable[Concatenate[QlogTrace, P], None],
) -> Callable[Concatenate[QlogTrace, P], None]:
    def guarded(self: QlogTrace, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.failed is not None:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.failed = error

    return guarded


class QlogTrace(Trace):
    """Writes one connection's events to ``output``. ``failed`` is the error that ended the log early, if any."""

    __slots__ = ("_ecn", "_exponents", "_is_client", "_keys", "_metrics", "_output", "_start", "failed")

    def __init__(self, output: Output, *, odcid: bytes, is_client: bool, wall_clock_time: str | None = None) -> None:
        self._output = output
        self._is_client = is_client
        self._start: float | None = None
        self._metrics: Json = {}
        self._ecn: str | None = None
        self._keys: dict[str, int] = {}  # level to generation, the last one only: a connection may have many
        self._exponents = {True: 3, False: 3}
        self.failed: Exception | None = None
        self._header(odcid, wall_clock_time)

    @_never_raises
    def _header(self, odcid: bytes, wall_clock_time: str | None) -> None:
        reference_time = {"clock_type": "monotonic", "epoch": "unknown"}
        if wall_clock_time is not None:
            reference_time["wall_clock_time"] = wall_clock_time
        self._record(
            {
                "file_schema": FILE_SCHEMA,
                "serialization_format": SERIALIZATION_FORMAT,
                "title": "quicstack",
                "trace": {
                    "common_fields": {
                        "group_id": odcid.hex(),
                        "time_format": "relative_to_epoch",
                        "reference_time": reference_time,
                    },
                    "vantage_point": {"type": "client" if self._is_client else "server"},
                    "event_schemas": [EVENT_SCHEMA],
                },
            }
        )

    def _record(self, value: Json) -> None:
        self._output.write(f"{RECORD_SEPARATOR}{json.dumps(value, separators=(',', ':'))}\n")

    def _event(self, now: float, name: str, data: Json) -> None:
        if self._start is None:
            self._start = now
        self._record({"time": round((now - self._start) * 1000, 6), "name": f"quic:{name}", "data": data})

    # -- connectivity

    @_never_raises
    def connection_started(
        self, now: float, is_client: bool, path: Any, odcid: bytes, scid: bytes, dcid: bytes, version: int
    ) -> None:
        self._event(now, "connection_started", {"local": _tuple(path.local, scid), "remote": _tuple(path.remote, dcid)})
        self._event(now, "connection_state_updated", {"new": "attempted"})
        self._event(now, "version_information", {"chosen_version": f"{version:08x}"})

    @_never_raises
    def state_changed(self, now: float, old: str, new: str) -> None:
        self._event(now, "connection_state_updated", {"old": STATES.get(old, old), "new": STATES.get(new, new)})

    @_never_raises
    def connection_closed(self, now: float, error: Any, by_peer: bool) -> None:
        data: Json = {"initiator": "remote" if by_peer else "local"}
        if isinstance(error, ConnectionTimeout):
            data["trigger"] = "idle_timeout"
        elif isinstance(error, ConnectionClosed):
            named = transport_error(error.code) if error.transport else application_error(error.code)
            data["connection_error" if error.transport else "application_error"] = named.pop("error")
            data |= named
            data["trigger"] = "error" if error.transport and error.code else "application"
        else:
            data["trigger"] = "error"
        data["reason"] = getattr(error, "reason", None) or str(error)
        self._event(now, "connection_closed", data)

    # -- transport

    @_never_raises
    def parameters_set(self, now: float, local: bool, params: Any) -> None:
        self._exponents[local] = params.ack_delay_exponent
        self._event(now, "parameters_set", {"initiator": "local" if local else "remote"} | _parameters(params))

    @_never_raises
    def alpn_selected(self, now: float, alpn: str) -> None:
        self._event(now, "alpn_information", {"chosen_alpn": {"string_value": alpn}})

    @_never_raises
    def packet_sent(self, now: float, packet_type: str, packet_number: int, size: int, payload: bytes) -> None:
        self._event(now, "packet_sent", self._packet(packet_type, packet_number, size, payload, local=True))

    @_never_raises
    def packet_received(self, now: float, packet_type: str, packet_number: int, size: int, payload: bytes) -> None:
        self._event(now, "packet_received", self._packet(packet_type, packet_number, size, payload, local=False))

    def _packet(self, packet_type: str, number: int, size: int, payload: bytes, *, local: bool) -> Json:
        data: Json = {"header": _packet_header(packet_type, number), "raw": {"length": size}}
        if packet_type in PROTECTED:
            data["raw"]["payload_length"] = len(payload)
            # RFC 9000 §18.2: the exponent is the sender's, and only 1-RTT packets use it
            data["frames"] = qlog_frames(payload, self._exponents[local] if packet_type == "1RTT" else 3)
        return data

    @_never_raises
    def packet_dropped(self, now: float, packet_type: str, size: int, trigger: str) -> None:
        data: Json = {"header": {"packet_type": packet_type}, "raw": {"length": size}}
        if trigger in DROP_TRIGGERS:
            data["trigger"] = trigger
        else:
            data["trigger"] = NAMED_DROPS.get(trigger, "general")
            data["details"] = {"reason": trigger}
        self._event(now, "packet_dropped", data)

    # -- security

    @_never_raises
    def key_updated(self, now: float, epoch: str, generation: int) -> None:
        # read and write keys of a level are installed one after the other; one entry stands for both
        if self._keys.get(epoch) == generation:
            return
        self._keys[epoch] = generation
        for data in self._key_types(epoch):
            if epoch == "1RTT":
                data["key_phase"] = generation
            if not generation:
                data["trigger"] = "tls"
            self._event(now, "key_updated", data)

    @_never_raises
    def key_discarded(self, now: float, epoch: str) -> None:
        for data in self._key_types(epoch):
            self._event(now, "key_discarded", data)

    def _key_types(self, epoch: str) -> list[Json]:
        return [{"key_type": f"{side}_{KEY_TYPES[epoch]}_secret"} for side in ("client", "server")]

    # -- recovery

    @_never_raises
    def packets_lost(self, now: float, packet_type: str, packets: list[Any], trigger: str) -> None:
        for packet in packets:
            data: Json = {"header": _packet_header(packet_type, packet.packet_number), "trigger": trigger}
            if packet.is_mtu_probe:
                data["is_mtu_probe_packet"] = True
            self._event(now, "packet_lost", data)

    @_never_raises
    def metrics_updated(self, now: float, recovery: Any) -> None:
        if self._ecn is None:
            self._event(now, "recovery_parameters_set", _recovery_parameters(recovery))
        ecn = recovery.ecn.validation.value
        if ecn != self._ecn:
            self._event(now, "ecn_state_updated", {"new": ecn} | ({"old": self._ecn} if self._ecn else {}))
            self._ecn = ecn
        metrics = _metrics(recovery)
        changed = {name: value for name, value in metrics.items() if self._metrics.get(name) != value}
        if changed:
            self._metrics = metrics
            self._event(now, "recovery_metrics_updated", changed)

    def close(self) -> None:
        """Nothing more will come: close the output."""
        try:
            self._output.close()
        except Exception as error:
            self.failed = self.failed or error


def _packet_header(packet_type: str, packet_number: int | None) -> Json:
    header: Json = {"packet_type": packet_type}
    if packet_type in PROTECTED and packet_number is not None:
        header["packet_number"] = packet_number
    return header


def _tuple(address: tuple[Any, ...] | None, connection_id: bytes) -> Json:
    """TupleEndpointInfo; an unknown local address leaves its fields out."""
    data: Json = {}
    if address:
        family = "v6" if ":" in str(address[0]) else "v4"
        data[f"ip_{family}"] = str(address[0])
        if len(address) > 1:
            data[f"port_{family}"] = address[1]
    if connection_id:
        data["connection_ids"] = [connection_id.hex()]
    return data


PARAMETER_IDS = (
    "original_destination_connection_id", "initial_source_connection_id", "retry_source_connection_id",
    "stateless_reset_token",
)  # fmt: skip
PARAMETER_TIMES = ("max_idle_timeout", "max_ack_delay")
PARAMETER_VALUES = (
    "disable_active_migration", "max_udp_payload_size", "ack_delay_exponent", "active_connection_id_limit",
    "initial_max_data", "initial_max_stream_data_bidi_local", "initial_max_stream_data_bidi_remote",
    "initial_max_stream_data_uni", "initial_max_streams_bidi", "initial_max_streams_uni", "max_datagram_frame_size",
    "grease_quic_bit", "reset_stream_at",
)  # fmt: skip


def _parameters(params: Any) -> Json:
    """Transport parameters, of which only those that exist here are written."""
    data: Json = {}
    for name in PARAMETER_IDS:
        if (value := getattr(params, name, None)) is not None:
            data[name] = value.hex()
    for name in PARAMETER_TIMES:
        data[name] = round(getattr(params, name) * 1000)
    for name in PARAMETER_VALUES:
        if (value := getattr(params, name, None)) is not None:
            data[name] = value
    preferred = params.preferred_address
    if preferred is not None:
        data["preferred_address"] = {
            "ip_v4": str(IPv4Address(preferred.ipv4_address)),
            "port_v4": preferred.ipv4_port,
            "ip_v6": str(IPv6Address(preferred.ipv6_address)),
            "port_v6": preferred.ipv6_port,
            "connection_id": preferred.connection_id.hex(),
            "stateless_reset_token": preferred.stateless_reset_token.hex(),
        }
    if reserved := getattr(params, "reserved", None):
        data["unknown_parameters"] = [{"id": key, "value": value.hex()} for key, value in reserved.items()]
    return data


def _recovery_parameters(recovery: Any) -> Json:
    return {
        "reordering_threshold": kPacketThreshold,
        "time_threshold": kTimeThreshold,
        "timer_granularity": round(kGranularity * 1000),
        "max_datagram_size": recovery.max_datagram_size,
        "persistent_congestion_threshold": kPersistentCongestionThreshold,
    }


def _metrics(recovery: Any) -> Json:
    metrics = recovery.metrics()
    data: Json = {
        "smoothed_rtt": round(metrics.smoothed_rtt * 1000, 3),
        "rtt_variance": round(metrics.rttvar * 1000, 3),
        "pto_count": min(metrics.pto_count, 0xFFFF),
        "congestion_window": int(metrics.congestion_window),
        "bytes_in_flight": metrics.bytes_in_flight,
        "pacing_rate": int(metrics.pacing_rate * 8),
    }
    if recovery.rtt.first_rtt_sample is not None:
        data["min_rtt"] = round(metrics.min_rtt * 1000, 3)
        data["latest_rtt"] = round(metrics.latest_rtt * 1000, 3)
    if isfinite(metrics.ssthresh):
        data["ssthresh"] = int(metrics.ssthresh)
    return data

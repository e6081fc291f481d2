"""qlog: every record against the schema of the drafts, from connections that live, lose packets and end."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from qlog_schema import HEADER, check_event

from quicstack.errors import ConnectionClosed, ConnectionTimeout
from quicstack.observe.qlog import QlogTrace
from quicstack.recovery import Cubic, Recovery
from quicstack.recovery.sent_packet import SentPacket
from quicstack.simulator import BlackHole, BulkTransfer, Delay, Host, Loss, Queue, Simulation, configurations
from quicstack.train import Path
from quicstack.wire.transport_parameters import PreferredAddress, TransportParameters

PATH = Path(("2001:db8::2", 443), ("2001:db8::1", 50000))


class Log(io.StringIO):
    """What was written, kept after close."""

    text = ""

    def close(self) -> None:
        self.text = self.getvalue()
        super().close()

    def records(self) -> list[Any]:
        text = self.text if self.closed else self.getvalue()
        assert text.startswith("\x1e") and text.endswith("\n")
        records = [json.loads(part) for part in text[1:].split("\x1e")]
        assert "\x1e".join(part + "\n" for part in text[1:].rstrip("\n").split("\n\x1e")) == text[1:]
        return records


def events(log: Log, name: str | None = None) -> list[Any]:
    """The data of every event of that name, after checking the whole log."""
    header, *rest = log.records()
    assert HEADER(header) is None, HEADER(header)
    complaints = [complaint for event in rest if (complaint := check_event(event))]
    assert not complaints
    times = [event["time"] for event in rest]
    assert times == sorted(times)
    return [event["data"] for event in rest if name is None or event["name"] == f"quic:{name}"]


def trace(**options: Any) -> tuple[QlogTrace, Log]:
    log = Log()
    return QlogTrace(log, odcid=bytes.fromhex("8394c8f03e515708"), is_client=True, **options), log


def run(*nodes: Any, size: int = 60_000, **settings: Any) -> tuple[Log, Log, list[QlogTrace]]:
    """A transfer both ways through ``nodes``; the logs of client and server."""
    logs = {True: Log(), False: Log()}
    traces = []

    def factory(odcid: bytes, is_client: bool) -> QlogTrace:
        traces.append(QlogTrace(logs[is_client], odcid=odcid, is_client=is_client))
        return traces[-1]

    for_client, for_server = configurations(trace_factory=factory, max_idle_timeout=2.0, **settings)
    server = Host(for_server, server=True, application=BulkTransfer(bytes(size)))
    client = Host(for_client, application=(transfer := BulkTransfer(bytes(size), to=server)))
    simulation = Simulation([client, *nodes, server], seed=1)
    simulation.run(until=lambda: transfer.finished)
    connection = transfer.connection
    assert connection is not None
    connection.close(7, "enough", now=simulation.now)
    client.wake()
    simulation.run(until=lambda: connection.terminated and not server.endpoint.connections)
    return logs[True], logs[False], traces


def test_a_whole_connection() -> None:
    client, server, traces = run(Delay(0.02))
    assert [trace.failed for trace in traces] == [None, None]
    for log, role in ((client, "client"), (server, "server")):
        header = log.records()[0]
        assert header["trace"]["vantage_point"]["type"] == role
        assert events(log, "connection_started")
        assert {event["initiator"] for event in events(log, "parameters_set")} == {"local", "remote"}
        assert events(log, "alpn_information") == [{"chosen_alpn": {"string_value": "simulation"}}]
        assert events(log, "version_information") == [{"chosen_version": "00000001"}]
        states = [event["new"] for event in events(log, "connection_state_updated")]
        assert states[0] == "attempted" and states[-1] == "closed" and "handshake_complete" in states
        keys = [event["key_type"] for event in events(log, "key_updated")]
        assert len(keys) == len(set(keys)) >= 4
        gone = {event["key_type"] for event in events(log, "key_discarded")}
        assert {"client_initial_secret", "server_handshake_secret"} <= gone
        kinds = {frame["frame_type"] for event in events(log, "packet_sent") for frame in event["frames"]}
        assert {"crypto", "ack", "stream", "padding"} <= kinds
    assert client.records()[0]["trace"]["common_fields"] == server.records()[0]["trace"]["common_fields"]
    (closed,) = events(client, "connection_closed")
    assert closed == {
        "initiator": "local",
        "application_error": "unknown",
        "error_code": 7,
        "trigger": "application",
        "reason": "enough",
    }
    (closed,) = events(server, "connection_closed")
    assert closed["initiator"] == "remote"


def test_what_one_side_sends_the_other_receives() -> None:
    client, server, _ = run(Delay(0.02))

    def numbered(packets: list[Any]) -> dict[tuple[str, int], Any]:
        return {(p["header"]["packet_type"], p["header"]["packet_number"]): (p["frames"], p["raw"]) for p in packets}

    sent, received = numbered(events(client, "packet_sent")), numbered(events(server, "packet_received"))
    assert received.items() <= sent.items()
    assert len(received) >= len(sent) - 2  # the close and what crosses it


def test_losses_and_metrics() -> None:
    client, server, _ = run(Delay(0.02), Queue(20, rate=5e6), Loss(0.03), size=300_000)
    sent = {p["header"]["packet_number"] for p in events(client, "packet_sent")}
    lost = events(client, "packet_lost")
    assert lost and {p["header"]["packet_number"] for p in lost} <= sent
    assert {p["trigger"] for p in lost} <= {"reordering_threshold", "time_threshold"}
    metrics = events(client, "recovery_metrics_updated")
    assert {name for event in metrics for name in event} >= {"min_rtt", "ssthresh", "congestion_window"}
    assert min(event["min_rtt"] for event in metrics if "min_rtt" in event) == pytest.approx(40, abs=8)
    assert events(client, "recovery_parameters_set")[0]["reordering_threshold"] == 3
    assert events(server, "ecn_state_updated")


def test_idle_timeout() -> None:
    log = Log()
    for_client, for_server = configurations(
        trace_factory=lambda odcid, is_client: QlogTrace(log if is_client else Log(), odcid=odcid, is_client=is_client),
        max_idle_timeout=1.0,
    )
    server = Host(for_server, server=True, application=BulkTransfer(bytes(10)))
    client = Host(for_client, application=(transfer := BulkTransfer(bytes(10), to=server)))
    simulation = Simulation([client, Delay(0.02), BlackHole(1.0, 1e9), server], seed=1)
    simulation.run(until=lambda: transfer.connection is not None and transfer.connection.terminated)
    (closed,) = events(log, "connection_closed")
    assert closed["trigger"] == "idle_timeout"
    assert "connection_error" not in closed


# -- single events


def test_header() -> None:
    _, log = trace(wall_clock_time="2026-01-02T03:04:05.678Z")
    (header,) = log.records()
    assert HEADER(header) is None
    assert header["trace"]["event_schemas"] == ["urn:ietf:params:qlog:events:quic-13"]
    assert header["trace"]["common_fields"]["group_id"] == "8394c8f03e515708"
    assert header["trace"]["common_fields"]["reference_time"]["epoch"] == "unknown"


def test_addresses() -> None:
    qlog, log = trace()
    qlog.connection_started(5.0, True, PATH, b"o" * 8, b"\x01\x02", b"", 1)
    assert events(log, "connection_started") == [
        {
            "local": {"ip_v6": "2001:db8::1", "port_v6": 50000, "connection_ids": ["0102"]},
            "remote": {"ip_v6": "2001:db8::2", "port_v6": 443},
        }
    ]


def test_transport_parameters() -> None:
    qlog, log = trace()
    preferred = PreferredAddress(bytes((192, 0, 2, 1)), 443, bytes(16), 0, b"\x05" * 8, bytes(16))
    params = TransportParameters(
        original_destination_connection_id=b"\x01\x02",
        max_idle_timeout=30.0,
        stateless_reset_token=bytes(range(16)),
        max_ack_delay=0.025,
        disable_active_migration=True,
        preferred_address=preferred,
    )
    qlog.parameters_set(1.0, False, params)
    (event,) = events(log, "parameters_set")
    assert event["initiator"] == "remote"
    assert event["max_idle_timeout"] == 30_000 and event["max_ack_delay"] == 25
    assert event["original_destination_connection_id"] == "0102"
    assert "retry_source_connection_id" not in event
    assert event["preferred_address"]["ip_v4"] == "192.0.2.1"


def test_ack_delay_is_scaled_by_the_sender_of_the_ack() -> None:
    qlog, log = trace()
    qlog.parameters_set(1.0, True, TransportParameters(ack_delay_exponent=3))
    qlog.parameters_set(1.0, False, TransportParameters(ack_delay_exponent=10))
    ack = bytes.fromhex("02 05 4064 00 02")  # largest 5, delay 100, first range 2
    qlog.packet_sent(1.0, "1RTT", 1, 40, ack)
    qlog.packet_received(1.0, "1RTT", 1, 40, ack)
    qlog.packet_received(1.0, "handshake", 1, 40, ack)
    delays = [event["frames"][0]["ack_delay"] for event in events(log) if "frames" in event]
    assert delays == [0.8, 102.4, 0.8]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionClosed(0), {"connection_error": "no_error", "trigger": "application"}),
        (ConnectionClosed(0x0A, "bad"), {"connection_error": "protocol_violation", "trigger": "error"}),
        (ConnectionClosed(0x130), {"connection_error": "crypto_error_0x130", "trigger": "error"}),
        (ConnectionClosed(0x11), {"connection_error": "unknown", "error_code": 0x11}),
        (ConnectionClosed(2**40), {"connection_error": "unknown", "error_code": 2**40}),
        (ConnectionClosed(3, transport=False), {"application_error": "unknown", "error_code": 3}),
        (ConnectionTimeout("silence"), {"trigger": "idle_timeout", "reason": "silence"}),
        (ValueError("a defect"), {"trigger": "error", "reason": "a defect"}),
    ],
)
def test_connection_closed(error: Exception, expected: dict[str, Any]) -> None:
    qlog, log = trace()
    qlog.connection_closed(1.0, error, False)
    (event,) = events(log, "connection_closed")
    assert event.items() >= expected.items()


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        ("decryption_failure", {"trigger": "decryption_failure"}),
        ("header_parse_error", {"trigger": "invalid", "details": {"reason": "header_parse_error"}}),
        ("some new reason", {"trigger": "general", "details": {"reason": "some new reason"}}),
    ],
)
def test_packet_dropped(trigger: str, expected: dict[str, Any]) -> None:
    qlog, log = trace()
    qlog.packet_dropped(1.0, "unknown", 33, trigger)
    (event,) = events(log, "packet_dropped")
    assert event == {"header": {"packet_type": "unknown"}, "raw": {"length": 33}, **expected}


def test_retry_has_neither_number_nor_frames() -> None:
    qlog, log = trace()
    qlog.packet_received(1.0, "retry", 0, 100, b"")
    assert events(log, "packet_received") == [{"header": {"packet_type": "retry"}, "raw": {"length": 100}}]


def test_only_what_changed_is_written() -> None:
    qlog, log = trace()
    recovery = Recovery(congestion_controller_factory=Cubic, max_datagram_size=1200, is_client=True)
    qlog.metrics_updated(1.0, recovery)
    qlog.metrics_updated(2.0, recovery)
    recovery.on_packet_sent(2, SentPacket(0, 2.0, 1200, True, True), 2.0)
    qlog.metrics_updated(3.0, recovery)
    first, second = events(log, "recovery_metrics_updated")
    assert "min_rtt" not in first and "ssthresh" not in first
    assert second == {"bytes_in_flight": 1200}
    assert [event["new"] for event in events(log, "ecn_state_updated")] == ["testing"]


def test_mtu_probe() -> None:
    qlog, log = trace()
    qlog.packets_lost(1.0, "1RTT", [SentPacket(4, 0.5, 1452, True, True, is_mtu_probe=True)], "time_threshold")
    (event,) = events(log, "packet_lost")
    assert event["is_mtu_probe_packet"] is True


def test_key_update() -> None:
    qlog, log = trace()
    for generation in (0, 0, 1):
        qlog.key_updated(1.0, "1RTT", generation)
    phases = [(event["key_phase"], event.get("trigger")) for event in events(log, "key_updated")]
    assert phases == [(0, "tls"), (0, "tls"), (1, None), (1, None)]


# -- a log must not hurt


class FullDisk(Log):
    """Takes some writes, then none."""

    room = 5

    def write(self, text: str) -> int:
        self.room -= 1
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_a_full_disk_ends_the_log_and_not_the_connection() -> None:
    traces = []

    def factory(odcid: bytes, is_client: bool) -> QlogTrace:
        traces.append(QlogTrace(FullDisk(), odcid=odcid, is_client=is_client))
        return traces[-1]

    for_client, for_server = configurations(trace_factory=factory)
    server = Host(for_server, server=True, application=BulkTransfer(bytes(5000)))
    client = Host(for_client, application=(transfer := BulkTransfer(bytes(5000), to=server)))
    Simulation([client, Delay(0.02), server], seed=1).run(until=lambda: transfer.finished)
    assert all(isinstance(trace.failed, OSError) for trace in traces)


def test_an_output_that_cannot_even_be_closed() -> None:
    class Broken:
        def write(self, text: str) -> None:
            raise OSError

        def close(self) -> None:
            raise OSError

    qlog = QlogTrace(Broken(), odcid=b"", is_client=False)
    qlog.packet_dropped(1.0, "unknown", 1, "invalid")
    qlog.close()
    assert isinstance(qlog.failed, OSError)


def test_garbage_arguments_are_survived() -> None:
    qlog, log = trace()
    qlog.parameters_set(1.0, True, object())
    qlog.packet_dropped(1.0, "unknown", 1, "invalid")
    assert isinstance(qlog.failed, AttributeError)
    assert events(log) == []

"""Files for qlog: their names, their place, and what happens when they cannot be opened."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from quicstack.config import Configuration
from quicstack.drivers.system import observed
from quicstack.drivers.tracing import qlog_trace_factory
from quicstack.observe.trace import Trace


def test_one_file_for_each_connection(tmp_path: Path) -> None:
    factory = qlog_trace_factory(tmp_path / "logs")
    assert factory is not None
    for is_client in (True, False):
        trace = factory(b"\x01\xab", is_client)
        trace.packet_dropped(1.0, "unknown", 20, "invalid")
        trace.close()
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["01ab_client.sqlog", "01ab_server.sqlog"]
    text = (tmp_path / "logs" / "01ab_client.sqlog").read_text()
    assert text.count("\x1e") == 2
    assert '"wall_clock_time":"20' in text


def test_qlogdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QLOGDIR", str(tmp_path) + "/")
    factory = qlog_trace_factory()
    assert factory is not None
    factory(b"\x01", True).close()
    assert (tmp_path / "01_client.sqlog").exists()
    monkeypatch.delenv("QLOGDIR")
    assert qlog_trace_factory() is None


def test_drivers_heed_qlogdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Configuration(alpn_protocols=("x",), trace_factory=lambda odcid, is_client: Trace())
    monkeypatch.delenv("QLOGDIR", raising=False)
    assert observed(Configuration(alpn_protocols=("x",))).trace_factory is None
    monkeypatch.setenv("QLOGDIR", str(tmp_path))
    assert observed(Configuration(alpn_protocols=("x",))).trace_factory is not None
    assert observed(ours).trace_factory is ours.trace_factory


def test_a_place_that_cannot_be_written_costs_only_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    factory = qlog_trace_factory(tmp_path / "file")
    assert factory is not None
    with caplog.at_level(logging.WARNING, "quicstack.qlog"):
        trace = factory(b"\x01", True)
    assert type(trace) is Trace
    assert "no qlog" in caplog.text

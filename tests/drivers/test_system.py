from __future__ import annotations

import logging
import os
import stat
import time
from pathlib import Path

import pytest

from quicstack.config import Configuration
from quicstack.drivers.system import key_log, observed, real_environment


@pytest.fixture
def configuration(monkeypatch: pytest.MonkeyPatch) -> Configuration:
    for name in ("SSLKEYLOGFILE", "QLOGDIR"):
        monkeypatch.delenv(name, raising=False)
    return Configuration(alpn_protocols=("test",))


def test_the_environment_is_real() -> None:
    environment = real_environment()
    assert len(environment.random(32)) == 32
    assert environment.random(32) != environment.random(32)
    assert abs(environment.wall_time() - time.time()) < 60
    assert not environment.simulation


def test_a_key_log_is_appended_to_and_private(
    tmp_path: Path, configuration: Configuration, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text("CLIENT_RANDOM of somebody else\n")
    path.chmod(0o600)
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    with caplog.at_level(logging.WARNING, "quicstack"):
        for _ in range(2):
            write = observed(configuration).keylog
            assert write is not None
            write("CLIENT_TRAFFIC_SECRET_0 00 11")
    assert path.read_text().splitlines() == ["CLIENT_RANDOM of somebody else"] + 2 * ["CLIENT_TRAFFIC_SECRET_0 00 11"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "CLIENT" not in caplog.text


def test_a_new_key_log_is_for_this_user_only(tmp_path: Path) -> None:
    path = tmp_path / "new"
    write = key_log(str(path))
    assert write is not None
    write("line")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_key_log_that_cannot_be_opened_is_a_warning(
    tmp_path: Path, configuration: Configuration, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing" / "keys"))
    with caplog.at_level(logging.WARNING, "quicstack"):
        assert observed(configuration).keylog is None
    assert "no key log" in caplog.text


def test_what_the_configuration_says_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configuration: Configuration
) -> None:
    lines: list[str] = []
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    given = Configuration(alpn_protocols=("test",), keylog=lines.append)
    assert observed(given) is given
    assert not (tmp_path / "keys").exists()


def test_qlogdir_asks_for_traces(tmp_path: Path, configuration: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QLOGDIR", str(tmp_path))
    factory = observed(configuration).trace_factory
    assert factory is not None
    factory(b"\x01\x02", True).close()
    assert [path.name for path in tmp_path.iterdir()] == ["0102_client.sqlog"]


def test_nothing_is_observed_by_default(configuration: Configuration) -> None:
    assert observed(configuration) is configuration

"""What the runner counts on: the exit status for an unknown case, and what an endpoint makes of its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop import endpoint
from interop.cases import CASES, ENDPOINT_CASES
from interop.certificates import write_certificates
from interop.surroundings import UNSUPPORTED, Surroundings, Target
from quicstack.tls.key_schedule import TLS_CHACHA20_POLY1305_SHA256
from quicstack.wire.version import QUIC_V1, QUIC_V2


@pytest.mark.parametrize("role", ["client", "server"])
def test_an_unknown_case_is_127(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    monkeypatch.setenv("ROLE", role)
    monkeypatch.setenv("TESTCASE", "telepathy")
    assert endpoint.main() == UNSUPPORTED == 127


def test_a_request_that_fails_is_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody listens there: the port is one that this process holds for something else."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.connect(("127.0.0.1", 9))  # refuses what comes from elsewhere
        monkeypatch.setenv("ROLE", "client")
        monkeypatch.setenv("TESTCASE", "handshake")
        monkeypatch.setenv("DOWNLOADS", str(tmp_path))
        monkeypatch.setenv("REQUESTS", f"https://127.0.0.1:{silent.getsockname()[1]}/x")
        assert endpoint.main() == 1


def test_the_folders_and_the_port_of_the_runner() -> None:
    told = Surroundings.read(
        {"ROLE": "client", "TESTCASE": "transfer", "REQUESTS": "https://server4:443/a https://[::1]/b"}
    )
    assert (told.www, told.downloads, told.key) == (Path("/www"), Path("/downloads"), "/certs/priv.key")
    assert told.targets == (Target("server4", 443, "/a", "server4:443"), Target("::1", 443, "/b", "[::1]"))
    assert told.port == 443 and told.protocol == "hq-interop"
    assert told.download("/deep/er") == Path("/downloads/er")
    assert Surroundings.read({"TESTCASE": "http3"}).protocol == "h3"


def test_files_below_the_folder_alone_are_served(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "in").write_text("in")
    (tmp_path / "out").write_text("out")
    told = Surroundings.read({"WWW": str(tmp_path / "www")})
    assert told.file("/in") == tmp_path / "www" / "in"
    assert told.file("/../out") is None and told.file("/") is None and told.file("/none") is None


def test_cases_become_settings(tmp_path: Path) -> None:
    write_certificates(tmp_path)

    def told(case: str) -> Surroundings:
        return Surroundings.read({"TESTCASE": case, "CERTS": str(tmp_path), "PREFERRED_ADDRESS": "127.0.0.1:7 [::1]:8"})

    assert endpoint.server_configuration(told("retry")).retry == "always"
    assert endpoint.server_configuration(told("handshake")).retry == "never"
    assert endpoint.client_configuration(told("chacha20")).cipher_suites == (TLS_CHACHA20_POLY1305_SHA256,)
    moves_up = endpoint.client_configuration(told("v2"))
    assert moves_up.versions == (QUIC_V2, QUIC_V1) and moves_up.first_version == QUIC_V1
    assert endpoint.server_configuration(told("v2")).versions == (QUIC_V2, QUIC_V1)
    moving = endpoint.server_configuration(told("connectionmigration"))
    assert moving.preferred_ipv4 == ("127.0.0.1", 7) and moving.preferred_ipv6 == ("::1", 8)
    assert endpoint.server_configuration(told("transfer")).preferred_ipv4 is None


def test_every_case_tells_endpoints_names_they_know() -> None:
    assert len(CASES) == 22
    assert {name for case in CASES.values() for name in (case.client, case.server)} <= ENDPOINT_CASES

"""Makes captures to judge: a connection in the simulator, written as the relay would write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interop.capture import missing_tshark
from interop.cases import CASES, Case
from interop.judge import Evidence, read_evidence
from interop.pcap import PcapWriter
from quicstack.simulator import VIRTUAL_EPOCH, BulkTransfer, Capture, Delay, Host, Simulation, configurations


@pytest.fixture
def needs_tshark() -> None:
    if (reason := missing_tshark()) is not None:
        pytest.skip(reason)


Simulated = Callable[..., Evidence]


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A transfer of a kilobyte, read by tshark. ``client`` and ``server`` are settings of one side alone."""
    if (reason := missing_tshark()) is not None:
        pytest.skip(reason)
    made: dict[str, Evidence] = {}

    def run(case: str, *, client: dict[str, Any], server: dict[str, Any], keys: bool = True) -> Evidence:
        name = f"{client} {server} {keys}"
        if name not in made:
            made[name] = capture(CASES[case], tmp_path_factory.mktemp("captures"), client, server, keys)
        return replace(made[name], case=CASES[case])

    return run


def capture(case: Case, folder: Path, client: dict[str, Any], server: dict[str, Any], keys: bool) -> Evidence:
    lines: list[str] = []
    for_client, _ = configurations(keylog=lines.append, **client)
    _, for_server = configurations(**server)
    far = Host(for_server, server=True, application=BulkTransfer(bytes(1024)))
    near = Host(for_client, application=(transfer := BulkTransfer(b"?", to=far)))
    captures = Capture(), Capture()
    simulation = Simulation([near, captures[0], Delay(0.015), captures[1], far], seed=1)
    simulation.run(until=lambda: transfer.finished)
    for one, name in zip(captures, ("client", "server"), strict=True):
        with PcapWriter(folder / f"{name}.pcap") as writer:
            for time, _, datagram in one.passages:
                source, destination = datagram.source[:2], datagram.destination[:2]
                writer.add(VIRTUAL_EPOCH + time, source, destination, datagram.ecn, datagram.data)
    (folder / "keys").write_text("\n".join(lines if keys else []) + "\n")
    return read_evidence(case, folder / "client.pcap", folder / "server.pcap", folder / "keys")

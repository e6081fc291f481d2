"""The two programs that stand for the public API, as they are, in two processes."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PORT = 4433  # the programs say so
ECHOES = "Datagram echo: b'ECHO: Hello, Datagram!'\nStream echo: b'ECHO: Hello, Stream!'\n"
UVLOOP = """
import asyncio, runpy, sys, uvloop
def run(main):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
asyncio.run = run
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.fixture
def port() -> Iterator[int]:
    """The port, for one test on this machine at a time."""
    with open(Path(tempfile.gettempdir()) / f"quicstack-test-{PORT}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield PORT


def is_bound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def run(port: int, folder: Path, *, prefix: tuple[str, ...] = (), env: dict[str, str] | None = None) -> str:
    """What the client prints while the server serves."""
    environ = os.environ | (env or {}) | {"PYTHONWARNINGS": "error"}
    command = [sys.executable, *prefix]
    assert not is_bound(port)
    server = subprocess.Popen(
        [*command, str(HERE / "echo_server.py")],
        cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        for _ in range(200):
            if is_bound(port):
                break
            try:
                server.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"the server ended: {server.communicate()[0]}")
        client = subprocess.run(
            [*command, str(HERE / "echo_client.py")],
            cwd=folder, env=environ, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    finally:
        server.send_signal(2)
        output, _ = server.communicate(timeout=15)
    assert (client.returncode, client.stderr) == (0, "")
    assert output == ""
    assert server.returncode == 0
    return client.stdout


def test_two_terminals(port: int, tmp_path: Path) -> None:
    assert run(port, tmp_path) == ECHOES
    assert sorted(os.listdir(tmp_path)) == ["localhost.crt", "localhost.key"]
    assert stat.S_IMODE(os.stat(tmp_path / "localhost.key").st_mode) == 0o600
    assert run(port, tmp_path) == ECHOES


@pytest.mark.slow
def test_under_uvloop(port: int, tmp_path: Path) -> None:
    pytest.importorskip("uvloop")
    assert run(port, tmp_path, prefix=("-c", UVLOOP)) == ECHOES


@pytest.mark.slow
@pytest.mark.parametrize(
    "knob",
    ["QUICSTACK_DRIVER=datagram", "QUICSTACK_GSO=0", "QUICSTACK_GRO=0", "QUICSTACK_ECN=0"],
)
def test_with_less_of_the_kernel(port: int, tmp_path: Path, knob: str) -> None:
    name, _, value = knob.partition("=")
    assert run(port, tmp_path, env={name: value}) == ECHOES

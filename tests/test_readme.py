"""The examples of README.md, run as they stand there."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from webtransport.certificates import generate_self_signed_cert

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES: dict[str, str] = dict(re.findall(r"<!-- example: (\S+) -->\n```python\n(.*?)```", README, re.DOTALL))

pytestmark = pytest.mark.slow


@pytest.fixture
def port() -> str:
    """A free port instead of the one in the text, which somebody may be using."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def example(name: str, port: str) -> str:
    return re.sub(r"\b443[345]\b", port, EXAMPLES[name])


@pytest.fixture
def run(tmp_path: Path, port: str) -> Callable[[str], str]:
    """Run an example in an empty folder that has a certificate, and give what it printed."""
    generate_self_signed_cert("localhost", tmp_path)

    def run(name: str) -> str:
        (tmp_path / name).write_text(example(name, port))
        finished = subprocess.run([sys.executable, name], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return run


@pytest.fixture
def echo_server(tmp_path: Path, port: str) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "echo_server.py").write_text(example("echo_server.py", port))
    with subprocess.Popen(
        [sys.executable, "echo_server.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as server:
        yield server
        server.kill()


def test_every_python_block_is_an_example() -> None:
    assert README.count("```python") == len(EXAMPLES)


def test_webtransport(echo_server: subprocess.Popen[str], run: Callable[[str], str]) -> None:
    deadline = time.monotonic() + 30  # until the server is up, connecting fails
    while True:
        try:
            printed = run("echo_client.py")
            break
        except AssertionError:
            assert echo_server.poll() is None and time.monotonic() < deadline
    assert printed.splitlines() == ["b'ECHO: Hello, datagram!'", "b'ECHO: Hello, stream!'"]


def test_http3(run: Callable[[str], str]) -> None:
    assert run("h3_both.py") == "200 b'Hello from /somewhere\\n'\n"


def test_quic(run: Callable[[str], str]) -> None:
    assert run("quic_both.py").startswith("b'HELLO' TLS_")


def test_simulator(run: Callable[[str], str]) -> None:
    assert re.fullmatch(r"\d+\.\d+ virtual seconds\n", run("simulated.py"))


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (Path(__file__).parents[1] / target).exists(), target

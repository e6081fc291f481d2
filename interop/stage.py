"""One run on this machine: two endpoints, the relay between them, the files they exchange, and the captures.

Everything is kept in one folder, so that a run that failed can be looked at: what the endpoints said, the captures, the
keys to read them with.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from interop.cases import Case
from interop.certificates import CHAIN_LENGTH, write_certificates
from interop.implementations import Implementation
from interop.relay import CLIENT_CAPTURE, SERVER_CAPTURE, Plan
from interop.surroundings import UNSUPPORTED

__all__ = ["Run", "perform"]

ROOT: Final = Path(__file__).parents[1]
STARTING: Final = 20.0
ENDING: Final = 5.0


@dataclass(slots=True)
class Run:
    """What came of it. ``complaint`` is what was seen without looking into the captures; empty when all files came."""

    case: Case
    folder: Path
    complaint: str = ""
    is_unsupported: bool = False
    seconds: float = 0.0
    server_ports: list[int] = field(default_factory=list)

    @property
    def client_capture(self) -> Path:
        return self.folder / CLIENT_CAPTURE

    @property
    def server_capture(self) -> Path:
        return self.folder / SERVER_CAPTURE

    @property
    def key_log(self) -> Path:
        return self.folder / "keys.log"


@dataclass(slots=True)
class _Stage:
    """Where everything is."""

    host: str
    hosts: list[str]
    server_port: int
    front_ports: list[int]


def perform(case: Case, client: Implementation, server: Implementation, folder: Path, seed: int) -> Run:
    """Run one case. Never raises for what an endpoint does."""
    for name in ("www", "downloads"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_certificates(folder / "certs", CHAIN_LENGTH if case.long_chain else 2)
    names = _write_files(case, folder / "www", seed)
    run = Run(case, folder)
    started = time.monotonic()
    try:
        with _relay(case, server, folder, seed) as stage:
            run.server_ports = [stage.server_port, *stage.front_ports]
            _perform(run, client, server, names, stage)
    except _Failed as failure:
        run.complaint = str(failure)
    run.seconds = time.monotonic() - started
    if not run.complaint and not run.is_unsupported:
        run.complaint = _compare(folder, names)
    _join_key_logs(folder, run.key_log)
    return run


class _Failed(Exception):
    """The run came to nothing, and why."""


def _perform(run: Run, client: Implementation, server: Implementation, names: list[str], stage: _Stage) -> None:
    case = run.case
    protocol = "h3" if client.is_h3_only or server.is_h3_only else "hq-interop"
    common = {
        "WWW": str(run.folder / "www"),
        "DOWNLOADS": str(run.folder / "downloads"),
        "CERTS": str(run.folder / "certs"),
        "PROTOCOL": protocol,
    }
    for_server = common | {"ROLE": "server", "TESTCASE": case.server, "SSLKEYLOGFILE": str(run.folder / "server.keys")}
    for_server |= {"HOST": " ".join(stage.hosts), "PORT": str(stage.server_port)}
    if case.has_preferred_address:
        for_server["PREFERRED_ADDRESS"] = f"{stage.host}:{stage.front_ports[1]}"
    authority = f"[{stage.host}]" if ":" in stage.host else stage.host
    requests = " ".join(f"https://{authority}:{stage.front_ports[0]}/{name}" for name in names)
    for_client = common | {"ROLE": "client", "TESTCASE": case.client, "SSLKEYLOGFILE": str(run.folder / "client.keys")}
    for_client["REQUESTS"] = requests
    with _endpoint(server, for_server, run.folder / "server.log") as serving:
        if not _wait_for_port(stage.server_port, serving):
            run.is_unsupported = serving.poll() == UNSUPPORTED
            raise _Failed(f"the server did not start (exit status {serving.poll()})")
        with _endpoint(client, for_client, run.folder / "client.log") as asking:
            try:
                status = asking.wait(case.timeout)
            except subprocess.TimeoutExpired:
                raise _Failed(f"not done after {case.timeout:.0f} s") from None
        run.is_unsupported = status == UNSUPPORTED
        if status and not run.is_unsupported:
            raise _Failed(f"the client ended with status {status}: {_last_line(run.folder / 'client.log')}")


@contextmanager
def _relay(case: Case, server: Implementation, folder: Path, seed: int) -> Iterator[_Stage]:
    host = "::1" if case.is_ipv6 else "127.0.0.1"
    hosts = [host]
    server_port = _free_port(host)
    fronts = [((host, 0), (host, server_port))]
    if case.has_preferred_address and server.binds_preferred_address:
        fronts.append(((host, 0), (host, 0)))
    elif case.has_preferred_address:
        hosts.append("127.0.0.2")
        fronts.append(((host, 0), (hosts[1], server_port)))
    plan = Plan(fronts=fronts, folder=str(folder), seed=seed, delay=case.delay, faults=case.faults)
    command = [sys.executable, "-m", "interop.relay", plan.to_json()]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin is not None and process.stdout is not None
        ports = process.stdout.readline().strip().strip("[]")
        try:
            yield _Stage(host, hosts, server_port, [int(port) for port in ports.split(",")])
        finally:
            time.sleep(4 * case.delay)  # what is on its way belongs to the captures
            process.stdin.close()
            process.wait(ENDING)


@contextmanager
def _endpoint(who: Implementation, told: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            who.command,
            env={**os.environ, **told},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process and all it started: they are a session of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
        try:
            process.wait(ENDING)
            return
        except subprocess.TimeoutExpired:
            continue


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Until somebody has bound the UDP port: /proc/net/udp lists who has."""
    wanted = f":{port:04X} "
    deadline = time.monotonic() + STARTING
    while process.poll() is None and time.monotonic() < deadline:
        if any(wanted in Path(table).read_text() for table in ("/proc/net/udp", "/proc/net/udp6")):
            return True
        time.sleep(0.02)
    return False


def _write_files(case: Case, folder: Path, seed: int) -> list[str]:
    chance = random.Random(seed)
    names = []
    for size in case.files:
        names.append(secrets.token_hex(case.name_length // 2))
        (folder / names[-1]).write_bytes(chance.randbytes(size))
    return names


def _compare(folder: Path, names: list[str]) -> str:
    wrong = []
    for name in names:
        got = folder / "downloads" / name
        if not got.is_file():
            wrong.append(f"{name[:16]} is missing")
        elif got.read_bytes() != (folder / "www" / name).read_bytes():
            wrong.append(f"{name[:16]} has {got.stat().st_size} bytes, and not the right ones")
    return f"{len(wrong)} of {len(names)} files: {wrong[0]}" if wrong else ""


def _join_key_logs(folder: Path, to: Path) -> None:
    logs = [folder / name for name in ("client.keys", "server.keys")]
    to.write_bytes(b"".join(log.read_bytes() for log in logs if log.is_file()))


def _last_line(log: Path) -> str:
    """The last that names an error, else the last."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1]).strip()[:200]

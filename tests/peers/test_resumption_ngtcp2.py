"""Session resumption and 0-RTT with ngtcp2 on GnuTLS, in both roles."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from h3.server import Reply, Request, serve
from quicstack import CertificateKey, CertificateStore, Configuration, ConnectionClosed, Trace, Trust
from quicstack.drivers.aio import AsyncConnection, connect

pytestmark = pytest.mark.peer


class Watch(Trace):
    """Which kinds of packets came, of every connection."""

    def __init__(self) -> None:
        self.levels: list[set[str]] = []

    def begin(self, dcid: bytes, is_client: bool) -> Trace:
        seen: set[str] = set()
        self.levels.append(seen)

        class One(Trace):
            def packet_received(self, now: float, level: str, number: int, size: int, payload: bytes) -> None:
                seen.add(level)

        return One()


@pytest.mark.parametrize("is_taken", [True, False])
async def test_their_client(
    require: Callable[[str], None], certificate_files: Any, tmp_path: Path, is_taken: bool
) -> None:
    require("gtlsclient")
    watch = Watch()
    resumed: list[tuple[bool, bool | None]] = []

    async def handler(request: Request) -> Reply:
        return Reply(200, [("content-type", "text/plain")], b"hello")

    store = CertificateStore(CertificateKey.load(*map(str, certificate_files)))
    base = {"alpn_protocols": ("h3",), "certificates": store, "ticket_key": bytes(32), "trace_factory": watch.begin}
    files = [f"--session-file={tmp_path}/session", f"--tp-file={tmp_path}/tp"]
    async with (
        await serve("127.0.0.1", 0, handler, Configuration(early_data=True, **base)) as first,  # type: ignore[arg-type]
        await serve("127.0.0.1", 0, handler, Configuration(early_data=False, **base)) as other,  # type: ignore[arg-type]
    ):
        for number in range(2):
            server = first if is_taken or not number else other
            port = str(server.server.addresses[0][1])
            client = await asyncio.create_subprocess_exec(
                "gtlsclient", "--quiet", "--exit-on-all-streams-close", *files, f"--download={tmp_path}",
                "127.0.0.1", port, f"https://localhost:{port}/file{number}",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            talk = asyncio.ensure_future(client.communicate())
            while not talk.done():
                resumed += [(c.session_resumed, c.early_data_accepted) for c in server.server.endpoint.connections]
                await asyncio.wait([talk], timeout=0.005)
            output, _ = await talk
            assert (tmp_path / f"file{number}").read_bytes() == b"hello", output.decode()
    assert (True, is_taken) in resumed
    assert ("0RTT" in watch.levels[1]) == is_taken


@pytest.mark.parametrize("is_taken", [True, False])
async def test_our_client(
    require: Callable[[str], None], certificate_files: Any, tmp_path: Path, is_taken: bool
) -> None:
    """The first bytes of HTTP/3, a control stream with empty SETTINGS and a request, written before the handshake."""
    require("gtlsserver")
    (tmp_path / "file").write_bytes(b"hello")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key, certificate = str(certificate_files.key), str(certificate_files.certificate)
    configuration = Configuration(
        alpn_protocols=("h3",), server_name="localhost", trust=Trust.roots([certificate]), early_data=True
    )

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "gtlsserver", "--quiet", f"--htdocs={tmp_path}", "127.0.0.1", str(port), key, certificate,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    server = await start()
    try:
        async with asyncio.timeout(30):
            connection = await reach(port, configuration)
            assert await get(connection) == b"hello" and not connection.engine.session_resumed
            connection.close()
            await connection.wait_released()
            if not is_taken:  # a server that has just begun knows none of its tickets
                server.kill()
                await server.wait()
                server = await start()
                probe_connection = await reach(port, replace(configuration, session_store=None))
                probe_connection.close()
                await probe_connection.wait_released()
            connection = await connect("127.0.0.1", port, configuration=configuration)
            assert connection.engine.sends_early_data
            assert await get(connection) == b"hello"
            assert connection.engine.early_data_accepted is is_taken
            assert connection.engine.session_resumed is is_taken
            connection.close()
            await connection.wait_released()
    finally:
        server.kill()
        await server.wait()


async def get(connection: AsyncConnection) -> bytes:
    """GET /file with the static table of QPACK alone; the content of the one DATA frame of the answer."""
    control = await connection.open_stream(unidirectional=True)
    await control.write(b"\x00\x04\x00")
    fields = b"\x00\x00" + b"\xd1" + b"\xd7" + b"\x50\x09localhost" + b"\x51\x05/file"
    stream = await connection.open_stream()
    await stream.write_all(b"\x01" + bytes((len(fields),)) + fields)
    answer = await stream.read_all()
    return answer[-5:]


async def reach(port: int, configuration: Configuration) -> AsyncConnection:
    while True:
        try:
            return await connect("127.0.0.1", port, configuration=configuration)
        except ConnectionClosed:
            await asyncio.sleep(0.05)

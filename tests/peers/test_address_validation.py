"""Retry, tokens and tokens with ngtcp2 (RFC 9000 §8.1)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quicstack import CertificateKey, CertificateStore, Configuration, ConnectionClosed, Trust
from quicstack.drivers.aio import AsyncConnection, connect, serve
from quicstack.wire.version import QUIC_V1

pytestmark = pytest.mark.peer


async def run_client(port: int, *options: str) -> str:
    client = await asyncio.create_subprocess_exec(
        "gtlsclient", *options, "--exit-on-all-streams-close", "127.0.0.1", str(port), "https://localhost/",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(client.communicate(), 10)
    except TimeoutError:
        client.kill()
        output, _ = await client.communicate()
    return output.decode(errors="replace")


async def test_their_client_gets_a_retry_and_a_token(
    require: Callable[[str], None], certificate_files: Any, tmp_path: Path
) -> None:
    require("gtlsclient")
    seen = []

    async def note(connection: AsyncConnection) -> None:
        state = connection.engine._state
        seen.append((state.retry_scid is not None, state.path.validated, connection.engine.version))
        await asyncio.sleep(0.2)  # the token is on its way
        connection.close()

    store = CertificateStore(CertificateKey.load(*map(str, certificate_files)))
    configuration = Configuration(alpn_protocols=("h3",), certificates=store, retry="always")
    async with await serve("127.0.0.1", 0, configuration=configuration, on_connection=note) as server:
        port = server.addresses[0][1]
        file = f"--token-file={tmp_path / 'token'}"
        first = await run_client(port, file)
        second = await run_client(port, file)
    assert seen[0] == (True, True, QUIC_V1) and len(seen) == 2 and "NEW_TOKEN" in first, first + "=====SECOND" + second


async def test_their_server_asks_for_a_retry(
    require: Callable[[str], None], certificate_files: Any, tmp_path: Path
) -> None:
    require("gtlsserver")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        "gtlsserver", "--quiet", "--validate-addr", f"--htdocs={tmp_path}", "127.0.0.1", str(port),
        str(certificate_files.key), str(certificate_files.certificate),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    trust = Trust.roots([str(certificate_files.certificate)])
    configuration = Configuration(alpn_protocols=("h3",), server_name="localhost", trust=trust)
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    async with await connect("127.0.0.1", port, configuration=configuration) as connection:
                        assert connection.engine._state.retry_scid is not None
                        break
                except (ConnectionRefusedError, ConnectionClosed):
                    await asyncio.sleep(0.05)
    finally:
        server.kill()
        await server.wait()

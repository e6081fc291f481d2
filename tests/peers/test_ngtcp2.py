"""HTTP/3 with ngtcp2, in C on GnuTLS, by the two programs that come with it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from h3.client import H3Client
from h3.server import Reply, Request, serve
from quicstack import CertificateKey, CertificateStore, Configuration, ConnectionClosed, Trust
from quicstack.drivers.aio import AsyncConnection, connect

pytestmark = pytest.mark.peer

CONTENT = bytes(range(256)) * 2000


async def test_their_client_with_our_server(
    require: Callable[[str], None], certificate_files: Any, tmp_path: Path
) -> None:
    require("gtlsclient")

    async def handler(request: Request) -> Reply:
        return Reply(200, [("content-type", "application/octet-stream")], CONTENT)

    store = CertificateStore(CertificateKey.load(*map(str, certificate_files)))
    async with await serve(
        "127.0.0.1", 0, handler, Configuration(alpn_protocols=("h3",), certificates=store)
    ) as server:
        port = str(server.server.addresses[0][1])
        url = f"https://localhost:{port}/file"
        client = await asyncio.create_subprocess_exec(
            "gtlsclient", "--quiet", "--exit-on-all-streams-close", f"--download={tmp_path}", "127.0.0.1", port, url,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(client.communicate(), 30)
    assert (tmp_path / "file").read_bytes() == CONTENT, output.decode()


@pytest.mark.parametrize("option", ["--change-local-addr=50ms", "--no-preferred-addr", None])
async def test_their_client_moves(
    require: Callable[[str], None], certificate_files: Any, tmp_path: Path, option: str | None
) -> None:
    """RFC 9000 §9: to another socket in the middle of a download, and to the address that our server prefers."""
    require("gtlsclient")
    seen: set[Any] = set()
    content = CONTENT * 40

    async def handler(request: Request) -> Reply:
        return Reply(200, [("content-type", "application/octet-stream")], content)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        preferred = ("127.0.0.1", probe.getsockname()[1])
    wants = None if option and "preferred" not in option else preferred
    store = CertificateStore(CertificateKey.load(*map(str, certificate_files)))
    configuration = Configuration(alpn_protocols=("h3",), certificates=store, preferred_ipv4=wants)
    options = [] if option is None else [option]
    async with await serve("127.0.0.1", 0, handler, configuration) as server:
        port = str(server.server.addresses[0][1])
        url = f"https://localhost:{port}/file"
        client = await asyncio.create_subprocess_exec(
            "gtlsclient", "--quiet", "--exit-on-all-streams-close", *options, f"--download={tmp_path}",
            "127.0.0.1", port, url,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        talk = asyncio.ensure_future(client.communicate())
        while not talk.done():
            for connection in server.server.endpoint.connections:
                seen.add((connection.path.remote, connection.path.local))
            await asyncio.wait([talk], timeout=0.01)
        output, _ = await talk
    assert (tmp_path / "file").read_bytes() == content, output.decode()
    assert len({remote for remote, _ in seen}) == (2 if option and "preferred" not in option else 1)
    assert (preferred in {local for _, local in seen}) is (option is None)


async def test_our_client_with_their_server(
    require: Callable[[str], None], certificate_files: Any, tmp_path: Path
) -> None:
    require("gtlsserver")
    (tmp_path / "file").write_bytes(CONTENT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key, certificate = str(certificate_files.key), str(certificate_files.certificate)
    server = await asyncio.create_subprocess_exec(
        "gtlsserver", "--quiet", f"--htdocs={tmp_path}", "127.0.0.1", str(port), key, certificate,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            assert await fetch(port, certificate) == CONTENT
    finally:
        server.kill()
        await server.wait()


async def fetch(port: int, certificate: str) -> bytes:
    """Its socket is not there at once; until then the port is refused."""
    while True:
        try:
            configuration = Configuration(alpn_protocols=("h3",), server_name="localhost")
            trust = Trust.roots([certificate])
            async with H3Client.connect("127.0.0.1", port, configuration=configuration, trust=trust) as client:
                response = await client.get("/file")
                assert response.status == 200
                return await response.read()
        except (ConnectionRefusedError, ConnectionClosed):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("is_preferred", [False, True], ids=["one address", "preferred address"])
async def test_our_client_moves_with_their_server(
    require: Callable[[str], None], certificate_files: Any, tmp_path: Path, is_preferred: bool
) -> None:
    """RFC 9000 §9.2, §9.6: to the address that it prefers, and to another socket of ours."""
    require("gtlsserver")
    ports = []
    for _ in range(2):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    options = [f"--preferred-ipv4-addr=127.0.0.1:{ports[1]}"] if is_preferred else []
    key, certificate = str(certificate_files.key), str(certificate_files.certificate)
    server = await asyncio.create_subprocess_exec(
        "gtlsserver", "--quiet", f"--htdocs={tmp_path}", *options, "127.0.0.1", str(ports[0]), key, certificate,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            client = await reach(ports[0])
            async with client:
                expected = ports[int(is_preferred)]
                while not client.engine.handshake_confirmed or client.remote_address[1] != expected:
                    await asyncio.sleep(0.01)
                await client.migrate(local_address=("127.0.0.3", 0))
                assert client.local_address[0] == "127.0.0.3" and client.remote_address[1] == expected
            await client.wait_released()
    finally:
        server.kill()
        await server.wait()


async def reach(port: int) -> AsyncConnection:
    configuration = Configuration(alpn_protocols=("h3",), server_name="localhost", trust=Trust.insecure())
    while True:
        try:
            return await connect("127.0.0.1", port, configuration=configuration)
        except ConnectionClosed:
            await asyncio.sleep(0.05)

"""HTTP/3 with caddy (quic-go) as the server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from h3.client import H3Client
from quicstack.tls.trust import Trust

pytestmark = pytest.mark.peer

CONTENT = bytes(range(256)) * 4 * 10240


def free_port() -> int:
    """A port that neither TCP nor UDP uses now: caddy wants both."""
    for _ in range(100):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                tcp.bind(udp.getsockname())
                return int(udp.getsockname()[1])
    raise OSError("no free port")


@contextlib.asynccontextmanager
async def caddy(folder: Path, certificate_files: Any) -> AsyncIterator[int]:
    port = free_port()
    site = folder / "site"
    site.mkdir()
    (site / "big").write_bytes(CONTENT)
    (site / "small").write_text("hello")
    route = {"handle": [{"handler": "file_server", "root": str(site)}]}
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "protocols": ["h1", "h2", "h3"],
        "automatic_https": {"disable": True},
        "routes": [route],
        "tls_connection_policies": [{}],
    }
    files = {"certificate": str(certificate_files.certificate), "key": str(certificate_files.key)}
    config = {
        "admin": {"disabled": True},
        "apps": {"http": {"servers": {"test": server}}, "tls": {"certificates": {"load_files": [files]}}},
    }
    config_file = folder / "caddy.json"
    config_file.write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        "caddy", "run", "--config", str(config_file),
        env=os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    log = b""
    try:
        while b"serving initial configuration" not in log:
            line = await asyncio.wait_for(process.stderr.readline(), 30)
            assert line, log.decode()
            log += line
        drain = asyncio.ensure_future(process.stderr.read())
        yield port
        drain.cancel()
    finally:
        process.terminate()
        await process.wait()


async def test_our_client_gets_ten_mebibytes_from_caddy(
    require: Callable[[str], None], tmp_path: Path, certificate_files: Any
) -> None:
    require("caddy")
    trust = Trust.roots(str(certificate_files.certificate))
    async with caddy(tmp_path, certificate_files) as port, H3Client.connect("localhost", port, trust=trust) as client:
        response = await client.get("/big")
        assert response.status == 200 and response.headers.get("server") == "Caddy"
        assert hashlib.sha256(await response.read()).digest() == hashlib.sha256(CONTENT).digest()

        async def one(n: int) -> tuple[int, bytes]:
            response = await client.get("/small" if n % 2 else f"/missing-{n}")
            return response.status, await response.read()

        answers = await asyncio.gather(*map(one, range(10)))
        assert answers == [(200, b"hello") if n % 2 else (404, b"") for n in range(10)]

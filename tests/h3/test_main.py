"""The command line, run as a user runs it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from quicstack.tls.certificate import CertificateKey

CONTENT = os.urandom(300_000)


@pytest.fixture
def site(tmp_path: Path, certificate: CertificateKey) -> Path:
    (tmp_path / "site" / "folder").mkdir(parents=True)
    (tmp_path / "site" / "data.bin").write_bytes(CONTENT)
    (tmp_path / "site" / "folder" / "index.html").write_text("<p>hello")
    (tmp_path / "certificate.pem").write_bytes(certificate.certificates[0].public_bytes(Encoding.PEM))
    key = certificate.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(key)
    return tmp_path


async def run(*arguments: str) -> tuple[int, bytes, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "h3", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out, err.decode()


@pytest.mark.slow
async def test_serve_and_get(site: Path) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "h3", "serve", str(site / "site"), "--host", "127.0.0.1", "--port", "0",
        "--cert", str(site / "certificate.pem"), "--key", str(site / "key.pem"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        line = (await asyncio.wait_for(server.stdout.readline(), 30)).decode()
        url = f"https://127.0.0.1:{line.rpartition(', ')[2].rstrip(')]' + chr(10))}"
        status, out, err = await run("get", f"{url}/data.bin", "--insecure", "--include")
        assert (status, out) == (0, CONTENT)
        assert err.startswith("HTTP/3 200\n") and "content-length: 300000" in err
        assert (await run("get", f"{url}/folder/", "--insecure", "-o", str(site / "out")))[0] == 0
        assert (site / "out").read_text() == "<p>hello"
        assert (await run("get", f"{url}/missing", "--insecure"))[0] == 22
        assert (await run("get", f"{url}/../key.pem", "--insecure"))[0] == 22
        assert (await run("get", f"{url}/%2e%2e/key.pem", "--insecure"))[0] == 22
        status, out, err = await run("get", f"{url}/data.bin")
        assert status == 1 and out == b"" and "CertificateError" in err
    finally:
        server.send_signal(signal.SIGINT)
        await asyncio.wait_for(server.wait(), 10)


async def test_errors_are_one_line(site: Path) -> None:
    status, _, err = await run("get", "http://example.org/")
    assert status == 1 and err.count("\n") == 1 and "https" in err

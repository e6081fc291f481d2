"""HTTP/3 with curl (ngtcp2 and nghttp3) as the client."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from h3.server import Reply, Request, serve
from quicstack.config import Configuration
from quicstack.tls.certificate import CertificateKey, CertificateStore

pytestmark = pytest.mark.peer

try:
    from curl_cffi import requests
except ImportError:
    pytest.skip("curl_cffi is not installed: pip install curl_cffi", allow_module_level=True)

CONTENT = bytes(range(256)) * 4 * 10240


async def handler(request: Request) -> Reply:
    if request.path == "/big":
        return Reply(200, [("content-type", "application/octet-stream")], CONTENT)
    content = await request.read()
    return Reply(200, [("x-method", request.method), ("x-sum", hashlib.sha256(content).hexdigest())], content[:100])


def configuration(certificate_files: Any) -> Configuration:
    store = CertificateStore(CertificateKey.load(*map(str, certificate_files)))
    return Configuration(alpn_protocols=("h3",), certificates=store)


async def test_curl_gets_ten_mebibytes(certificate_files: Any) -> None:
    async with await serve("127.0.0.1", 0, handler, configuration(certificate_files)) as server:
        url = f"https://127.0.0.1:{server.server.addresses[0][1]}/big"
        response = await asyncio.to_thread(requests.get, url, verify=False, http_version="v3only", timeout=60)
        assert response.status_code == 200
        assert hashlib.sha256(response.content).digest() == hashlib.sha256(CONTENT).digest()


async def test_curl_sends_content_and_many_requests_on_one_connection(certificate_files: Any) -> None:
    async with await serve("127.0.0.1", 0, handler, configuration(certificate_files)) as server:
        url = f"https://127.0.0.1:{server.server.addresses[0][1]}"

        def talk() -> list[Any]:
            with requests.Session(verify=False, http_version="v3only", timeout=60) as session:
                return [session.post(f"{url}/{n}", data=bytes([n]) * 300_000) for n in range(10)]

        responses = await asyncio.to_thread(talk)
        for n, response in enumerate(responses):
            assert response.status_code == 200 and response.headers["x-method"] == "POST"
            assert response.headers["x-sum"] == hashlib.sha256(bytes([n]) * 300_000).hexdigest()


async def test_curl_checks_the_certificate(certificate_files: Any) -> None:
    async with await serve("127.0.0.1", 0, handler, configuration(certificate_files)) as server:
        url = f"https://localhost:{server.server.addresses[0][1]}/"
        response = await asyncio.to_thread(
            requests.get, url, verify=str(certificate_files.certificate), http_version="v3only", timeout=60
        )
        assert response.status_code == 200

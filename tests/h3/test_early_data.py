"""Requests in 0-RTT packets (RFC 9114 §7.2.4.2, RFC 8470)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from h3.client import H3Client
from h3.server import Reply, Request, serve
from quicstack import CertificateStore, Configuration, Trust
from quicstack.simulator import identity


async def handler(request: Request) -> Reply:
    return Reply(200, (), f"{request.method} {request.path}")


@asynccontextmanager
async def resumed(*, server_takes_it: bool = True) -> AsyncIterator[H3Client]:
    """The second connection to a server, before its handshake is complete."""
    store = CertificateStore(identity("localhost"))
    for_server = Configuration(alpn_protocols=("h3",), certificates=store, early_data=True)
    for_client = Configuration(alpn_protocols=("h3",), trust=Trust.insecure(), early_data=True, server_name="localhost")
    async with await serve("127.0.0.1", 0, handler, for_server) as server:
        port = server.server.addresses[0][1]
        async with H3Client.connect("127.0.0.1", port, configuration=for_client) as client:
            await (await client.get("/first")).read()
        if not server_takes_it:
            server.server.endpoint.configuration = replace(for_server, early_data=False)
        async with H3Client.connect("127.0.0.1", port, configuration=for_client) as client:
            assert client.session.connection.engine.sends_early_data
            yield client


@pytest.mark.parametrize("is_accepted", [True, False])
async def test_a_get_goes_out_at_once(is_accepted: bool) -> None:
    """And again by itself where the server refuses 0-RTT."""
    async with resumed(server_takes_it=is_accepted) as client:
        response = await client.get("/early")
        assert await response.read() == b"GET /early"
        assert client.session.connection.engine.early_data_accepted is is_accepted


@pytest.mark.parametrize(("method", "is_early"), [("GET", True), ("POST", False)])
async def test_only_what_is_safe_does(method: str, is_early: bool) -> None:
    async with resumed() as client:
        engine = client.session.connection.engine
        before = engine.stats().streams_opened
        request = asyncio.ensure_future(client.request(method, "/", body=b"x"))
        await asyncio.sleep(0)
        assert not engine.handshake_complete
        assert (engine.stats().streams_opened > before) is is_early
        assert (await (await request).read()).startswith(method.encode())

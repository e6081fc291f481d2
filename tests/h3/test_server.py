from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from h3.client import H3Client
from h3.errors import H3ErrorCode, H3StreamError
from h3.server import Reply, Request, serve
from quicstack import CertificateStore, Configuration, Trust
from quicstack.simulator import identity

Serving = Callable[..., Any]


async def test_what_a_handler_sees(serving: Serving) -> None:
    seen: list[Request] = []

    async def handler(request: Request) -> Reply:
        seen.append(request)
        return Reply(200, [("X-Mixed-Case", "kept")], b"")

    async with serving(handler) as (client, _):
        response = await client.get("/a%20b?c", headers=[("Cookie", "a=1"), ("Cookie", "b=2"), ("Accept", "*/*")])
        assert response.headers.get("x-mixed-case") == "kept"
        (request,) = seen
        assert (request.method, request.scheme, request.path) == ("GET", "https", "/a%20b?c")
        assert request.authority == client.authority
        assert list(request.headers) == [("accept", "*/*"), ("cookie", "a=1; b=2")]
        assert request.connection.remote_address[0] == "127.0.0.1"


async def test_a_client_that_waits_for_an_invitation(serving: Serving) -> None:
    async def handler(request: Request) -> Reply:
        return Reply(200, body=await request.read()) if request.path == "/" else Reply(413)

    async with serving(handler) as (client, _):
        fields = [
            (b":method", b"PUT"),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b"expect", b"100-continue"),
        ]
        exchange = await client.session.request([*fields[:3], (b":path", b"/"), fields[3]])
        await exchange.wait_for(lambda: exchange.exchange.informational)
        assert exchange.exchange.informational == [(100, [(b":status", b"100")])]
        await exchange.write(b"wanted", end_stream=True)
        assert await exchange.read_all() == b"wanted"
        exchange = await client.session.request([*fields[:3], (b":path", b"/refused"), fields[3]])
        await exchange.wait_for(lambda: exchange.exchange.status)
        assert (exchange.exchange.status, exchange.exchange.informational) == (413, [])
        exchange.cancel()


async def test_a_handler_that_fails_answers_500(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Reply:
        raise RuntimeError("on purpose")

    async with serving(handler) as (client, _):
        with caplog.at_level(logging.ERROR, "h3.server"):
            response = await client.get("/")
            assert (response.status, await response.read()) == (500, b"")
        assert "on purpose" in caplog.text


async def test_a_reply_that_cannot_be_sent_answers_500(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Reply:
        return Reply(200, [("bad name", "x")], "text")

    async with serving(handler) as (client, _):
        response = await client.get("/")
        assert response.status == 500
        assert "bad name" in caplog.text


async def test_a_protocol_that_nobody_knows_is_not_implemented(serving: Serving) -> None:
    async def handler(request: Request) -> Reply:
        raise AssertionError("not called")

    async with serving(handler) as (client, _):
        await client.session.wait_settings()
        fields = [(b":method", b"CONNECT"), (b":protocol", b"unknown"), (b":scheme", b"https")]
        exchange = await client.session.request([*fields, (b":authority", b"localhost"), (b":path", b"/")])
        await exchange.wait_for(lambda: exchange.exchange.status)
        assert exchange.exchange.status == 501


async def test_a_malformed_request_reaches_no_handler(serving: Serving) -> None:
    calls = 0

    async def handler(request: Request) -> Reply:
        nonlocal calls
        calls += 1
        return Reply(200)

    async with serving(handler) as (client, _):
        h3 = client.session.h3
        stream = h3.quic.open_stream()
        fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/"), (b"A", b"b")]
        stream.write(h3.encode_section(stream.id, fields), True)
        client.session.flush()
        response = await client.get("/")
        assert response.status == 200
        while stream.reset_code is None:
            await asyncio.sleep(0)
        assert stream.reset_code == H3ErrorCode.H3_MESSAGE_ERROR
        assert calls == 1


async def test_closing_at_once_fails_what_is_in_progress(serving: Serving) -> None:
    started = asyncio.Event()
    cancelled = asyncio.Event()

    async def handler(request: Request) -> Reply:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Reply()

    async with serving(handler) as (client, server):
        task = asyncio.ensure_future(client.get("/"))
        await started.wait()
        await asyncio.wait_for(server.close(), 5)
        await asyncio.wait_for(cancelled.wait(), 5)
        with pytest.raises(Exception, match="application code 0x100"):
            await asyncio.wait_for(task, 5)


async def test_nothing_is_left_after_many_requests(serving: Serving) -> None:
    async def handler(request: Request) -> Reply:
        if request.path == "/limit":
            with pytest.raises(H3StreamError):
                await request.read(limit=10)
        return Reply(200, body=b"x" * 10)

    async with serving(handler) as (client, server):
        for n in range(60):
            if n % 3 == 0:
                with pytest.raises(H3StreamError):
                    await client.post("/limit", b"x" * 1000)
            else:
                assert await (await client.post("/", b"abc")).read() == b"x" * 10
        (session,) = server._sessions
        async with asyncio.timeout(10):
            while session._tasks or session.h3.h3.exchanges or client.session.h3.exchanges or client._senders:
                await asyncio.sleep(0)


async def test_several_addresses_at_once() -> None:

    async def handler(request: Request) -> Reply:
        return Reply(200, (), b"here")

    configuration = Configuration(alpn_protocols=("h3",), certificates=CertificateStore(identity("localhost")))
    async with await serve(["127.0.0.1", "127.0.0.2"], 0, handler, configuration) as server:
        addresses = server.server.addresses
        assert [host for host, _ in addresses] == ["127.0.0.1", "127.0.0.2"]
        for host, port in addresses:
            async with H3Client.connect(host, port, trust=Trust.insecure()) as client:
                assert await (await client.get("/")).read() == b"here"

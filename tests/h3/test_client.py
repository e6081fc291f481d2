from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from h3.client import H3Client, split_url
from h3.errors import GoingAway, H3ErrorCode, H3StreamError, InvalidMessage
from h3.server import Reply, Request
from quicstack.config import Configuration
from quicstack.errors import ConnectionClosed
from quicstack.tls.trust import Trust

Serving = Callable[..., Any]

MEBIBYTE = 1 << 20


async def echo(request: Request) -> Reply:
    return Reply(200, [("x-method", request.method)], await request.read())


async def pieces(total: int, size: int) -> AsyncIterator[bytes]:
    for start in range(0, total, size):
        yield bytes([start // size % 251]) * min(size, total - start)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_ten_mebibytes_each_way(serving: Serving) -> None:
    content = bytes(range(256)) * 4 * 10240
    async with serving(echo) as (client, _):
        response = await client.post("/", content)
        assert response.status == 200
        assert response.headers.get("content-length") == str(len(content))
        assert sha256_of(await response.read()) == sha256_of(content)


async def test_ten_requests_at_once(serving: Serving) -> None:
    arrived = 0
    all_here = asyncio.Event()

    async def wait_for_all(request: Request) -> Reply:
        nonlocal arrived
        arrived += 1
        if arrived == 10:
            all_here.set()
        await all_here.wait()
        return Reply(200, body=request.path)

    async with serving(wait_for_all) as (client, _):
        responses = await asyncio.gather(*(client.get(f"/{n}") for n in range(10)))
        assert [await response.read() for response in responses] == [b"/%d" % n for n in range(10)]


async def test_more_requests_than_streams(serving: Serving) -> None:
    async with serving(echo, initial_max_streams_bidi=3) as (client, _):

        async def one(n: int) -> bytes:
            response = await client.post("/", b"%d" % n)
            return await response.read()

        assert await asyncio.gather(*(one(n) for n in range(40))) == [b"%d" % n for n in range(40)]
        assert client.session.h3.exchanges == []


async def test_content_in_pieces_with_trailers_both_ways(serving: Serving) -> None:
    seen: list[Any] = []

    async def handler(request: Request) -> Reply:
        request.send_informational(103, [("link", "</style.css>")])
        size = 0
        async for chunk in request:
            size += len(chunk)
        seen.append((size, dict(request.trailers or ())))
        return Reply(200, body=pieces(MEBIBYTE, 1000), trailers=[("x-sum", "server")])

    async with serving(handler) as (client, _):
        response = await client.request("PUT", "/", body=pieces(MEBIBYTE, 7000), trailers=[("X-Sum", "client")])
        size = 0
        async for chunk in response:
            size += len(chunk)
        assert (size, dict(response.trailers)) == (MEBIBYTE, {"x-sum": "server"})
        assert seen == [(MEBIBYTE, {"x-sum": "client"})]
        ((status, early),) = response.informational
        assert (status, early.get("link")) == (103, "</style.css>")


async def test_a_slow_reader_holds_the_server_back(serving: Serving) -> None:
    produced = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal produced
        while produced < 100 * MEBIBYTE:
            produced += MEBIBYTE
            yield bytes(MEBIBYTE)

    async def handler(request: Request) -> Reply:
        if request.path == "/big":
            return Reply(200, body=endless())
        return Reply(200, body="small")

    async with serving(handler) as (client, _):
        async with await client.get("/big") as big:
            for _ in range(20):
                small = await client.get("/small")  # the connection is not blocked by the unread response
                assert await small.read() == b"small"
            assert produced < 10 * MEBIBYTE
            assert big.status == 200
        assert await (await client.get("/small")).read() == b"small"


async def test_a_handler_that_answers_early_and_does_not_read(serving: Serving) -> None:
    async def refuse(request: Request) -> Reply:
        return Reply(413, body="too large")

    async with serving(refuse) as (client, _):
        response = await client.post("/", pieces(50 * MEBIBYTE, MEBIBYTE))
        assert response.status == 413
        assert await response.read() == b"too large"


async def test_cancelling_a_response_stops_the_handler(serving: Serving) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def wait(request: Request) -> Reply:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return Reply()

    async with serving(wait) as (client, _):
        task = asyncio.ensure_future(client.get("/"))
        await started.wait()
        task.cancel()
        await asyncio.wait_for(stopped.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_response_cut_short_is_an_error(serving: Serving) -> None:
    client_has_headers = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        await client_has_headers.wait()
        raise H3StreamError(H3ErrorCode.H3_INTERNAL_ERROR, "on purpose")

    async def handler(request: Request) -> Reply:
        return Reply(200, body=broken())

    async with serving(handler) as (client, _):
        response = await client.get("/")
        client_has_headers.set()
        with pytest.raises(H3StreamError) as error:
            await response.read()
        assert error.value.by_peer and error.value.code == H3ErrorCode.H3_REQUEST_CANCELLED


async def test_a_limit_on_what_is_read(serving: Serving) -> None:
    async with serving(echo) as (client, _):
        response = await client.post("/", bytes(1000))
        with pytest.raises(H3StreamError, match="longer than 999"):
            await response.read(limit=999)


async def test_head_and_no_content(serving: Serving) -> None:
    async def handler(request: Request) -> Reply | None:
        return Reply(200, body="hello") if request.method == "HEAD" else None

    async with serving(handler) as (client, _):
        response = await client.request("HEAD", "/")
        assert (response.status, response.headers.get("content-length"), await response.read()) == (200, "5", b"")
        response = await client.get("/")
        assert (response.status, await response.read()) == (204, b"")


async def test_requests_of_another_origin_are_refused(serving: Serving) -> None:
    async with serving(echo) as (client, _):
        url = f"https://{client.authority}/a?b"
        assert (await client.get(url)).status == 200
        for other in ("https://example.org/", "http://127.0.0.1/", "https://user@127.0.0.1/"):
            with pytest.raises(InvalidMessage):
                await client.get(other)
        with pytest.raises(InvalidMessage):
            await client.get("/", headers=[("connection", "close")])


async def test_a_request_when_the_connection_is_gone(serving: Serving) -> None:
    async def hang_up(request: Request) -> Reply:
        request.connection.close(H3ErrorCode.H3_EXCESSIVE_LOAD, "go away")
        return Reply()

    async with serving(hang_up) as (client, _):
        for _ in range(2):
            with pytest.raises(ConnectionClosed) as error:
                await client.get("/")
            assert (error.value.code, error.value.reason) == (H3ErrorCode.H3_EXCESSIVE_LOAD, "go away")


async def test_the_server_goes_away_after_the_requests_it_has(serving: Serving) -> None:
    started = asyncio.Event()
    release = asyncio.Event()

    async def handler(request: Request) -> Reply:
        started.set()
        await release.wait()
        return Reply(200, body="done")

    async with serving(handler) as (client, server):
        task = asyncio.ensure_future(client.get("/"))
        await started.wait()
        closing = asyncio.ensure_future(server.close(grace=10))
        while client.session.h3.peer_goaway is None:
            await asyncio.sleep(0)
        with pytest.raises(GoingAway):
            await client.get("/")
        release.set()
        assert await (await task).read() == b"done"
        await asyncio.wait_for(closing, 5)
        closed = await asyncio.wait_for(client.session.connection.wait_closed(), 5)
        assert isinstance(closed, ConnectionClosed) and closed.code == H3ErrorCode.H3_NO_ERROR


def test_split_url() -> None:
    assert split_url("https://example.org") == ("example.org", 443, "/")
    assert split_url("https://[::1]:4433/a/b?c=d#e") == ("::1", 4433, "/a/b?c=d")
    for url in ("http://example.org/", "https:///x", "https://user:pw@example.org/", "example.org"):
        with pytest.raises(InvalidMessage):
            split_url(url)


async def test_what_is_over_is_freed_at_once(serving: Serving, no_cycles: Callable[[], Any]) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"part"
            await asyncio.sleep(0)

    trust = Configuration(alpn_protocols=("h3",), trust=Trust.insecure())
    async with serving(echo) as (client, server):
        await (await client.get("/")).read()
        with no_cycles():
            async with H3Client.connect("127.0.0.1", server.server.addresses[0][1], configuration=trust) as other:
                await (await other.get("/")).read()
            while len(server.server.endpoint.connections) > 1:
                await asyncio.sleep(0.02)
            assert await (await client.post("/", b"?")).read() == b"?"
            assert await (await client.post("/", parts())).read() == 3 * b"part"
            (await client.post("/", b"?")).cancel()
            await client.session.drain()
            await asyncio.sleep(0.1)  # for the server's last acknowledgements

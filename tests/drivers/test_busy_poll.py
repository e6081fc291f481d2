from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from quicstack.drivers import blocking
from quicstack.drivers.aio import AsyncConnection, UdpOptions, connect, serve
from quicstack.drivers.busy_poll import BusyPoll
from quicstack.errors import ConnectionClosed

Run = Callable[[Coroutine[Any, Any, Any]], Any]
BUSY = UdpOptions(busy_poll=0.05)


class Waits(selectors.DefaultSelector):
    """A selector that remembers how long it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float | None] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.asked.append(timeout)
        return super().select(timeout)


def test_the_loop_sleeps_only_when_nothing_has_come_for_a_while() -> None:
    selector = Waits()
    loop = asyncio.SelectorEventLoop(selector)

    async def scenario() -> None:
        long, short = BusyPoll(loop, 60), BusyPoll(loop, 0.01)
        long.begin()
        long.begin()
        await asyncio.sleep(0.02)
        assert set(selector.asked) == {0}
        long.end()
        await asyncio.sleep(0.02)
        assert any(selector.asked)
        short.begin()
        selector.asked.clear()
        await asyncio.sleep(0.3)
        assert 0 in selector.asked and any(selector.asked)

    loop.run_until_complete(scenario())
    loop.close()


async def answer(connection: AsyncConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            stream = await connection.accept_stream()
            await stream.write_all(await stream.read_all())


@pytest.mark.parametrize("datagram_endpoint", [False, True])
def test_requests_while_both_stay_awake(
    run: Run, pair: Any, datagram_endpoint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it is left when they have closed: the fixture looks."""
    begun: list[BusyPoll] = []
    begin = BusyPoll.begin
    monkeypatch.setattr(BusyPoll, "begin", lambda poll: (begun.append(poll), begin(poll)))

    async def scenario() -> None:
        options: dict[str, Any] = {"options": BUSY, "datagram_endpoint": datagram_endpoint}
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=answer, **options) as server:
            port = server.addresses[0][1]
            async with await connect("127.0.0.1", port, configuration=pair.client, **options) as connection:
                for number in range(3):
                    stream = await connection.open_stream()
                    await stream.write_all(b"%d" % number)
                    assert await stream.read_all() == b"%d" % number
            await connection.wait_released()

    run(scenario())
    assert len(set(begun)) == 2


def test_blocking_sockets_may_stay_awake(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []
    select = selectors.DefaultSelector.select

    def watched(selector: Any, timeout: float | None = None) -> Any:
        asked.append(timeout)
        return select(selector, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", watched)
    with blocking.listen("127.0.0.1", 0, configuration=pair.server, options=BUSY) as server:

        def serve_one() -> None:
            with server.accept(timeout=10) as connection:
                stream = connection.accept_stream(timeout=10)
                stream.write_all(stream.read_all(timeout=10))
                connection.wait_closed(timeout=10)

        thread = threading.Thread(target=serve_one)
        thread.start()
        port = server.address[1]
        with blocking.connect("127.0.0.1", port, configuration=pair.client, options=BUSY, timeout=10) as connection:
            stream = connection.open_stream()
            stream.write_all(b"?")
            assert stream.read_all(timeout=10) == b"?"
        thread.join(10)
    assert asked.count(0) > 10

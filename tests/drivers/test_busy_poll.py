from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from quicstack.drivers import blocking, busy_poll
from quicstack.drivers.aio import AsyncConnection, UdpOptions, connect, serve
from quicstack.drivers.busy_poll import ENOUGH, PENALTY, SMALL, BusyPoll, Habit, habit_of
from quicstack.errors import ConnectionClosed

Run = Callable[[Coroutine[Any, Any, Any]], Any]
BUSY = UdpOptions(busy_poll=5)


class Waits(selectors.DefaultSelector):
    """A selector that remembers how long it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float | None] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.asked.append(timeout)
        return super().select(timeout)


def test_what_makes_a_habit() -> None:
    """Small datagrams that follow each other soon; nothing else, and not again for long once it was in vain."""
    habit = Habit(0.001)
    now = 100.0

    def come(count: int, *, every: float = 0.0005, size: int = 200) -> list[bool]:
        nonlocal now
        answers = []
        for _ in range(count):
            now += every
            answers.append(habit.came(now, size))
        return answers

    assert come(1, every=0.1) == [False]
    assert come(ENOUGH + 1) == [False] * (ENOUGH - 1) + [True, True]
    assert come(2, size=SMALL) == [False, False]  # a transfer
    assert come(ENOUGH) == [False] * (ENOUGH - 1) + [True]
    assert come(1, every=0.001) == [False]  # late
    assert come(ENOUGH)[-1]
    habit.in_vain()
    assert come(1, every=0.1) == [False]
    assert come(PENALTY + ENOUGH) == [False] * (PENALTY + ENOUGH - 1) + [True]


def test_a_transfer_packet_by_packet_is_no_habit() -> None:
    """A sender that paces: a full packet within each millisecond, and an ACK for it."""
    habit = Habit(0.001)
    assert not any(habit.came(100 + number * 0.0009, 1250) for number in range(100))


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has, and however it is metered."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(busy_poll, "_has_quota", lambda: False)
    monkeypatch.delenv("QUICSTACK_BUSY_POLL", raising=False)


@pytest.mark.usefixtures("two_cores")
def test_where_it_is_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert habit_of(0.0) is None
    assert habit_of(0.001) is not None
    with monkeypatch.context() as patch:
        patch.setattr(busy_poll, "_has_quota", lambda: True)
        assert habit_of(0.001) is None
    with monkeypatch.context() as patch:
        patch.setenv("QUICSTACK_BUSY_POLL", "0")
        assert habit_of(0.001) is None
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert habit_of(0.001) is None


@pytest.mark.parametrize(("text", "metered"), [("max 100000\n", False), ("50000 100000\n", True), (None, False)])
def test_quotas(text: str | None, metered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cpu.max of a control group: what may be used of a period, or no limit."""
    file = tmp_path / "cpu.max"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(busy_poll, "CPU_QUOTA", file)
    assert busy_poll._has_quota.__wrapped__() is metered


def test_the_loop_sleeps_again_when_nothing_came_in_time() -> None:
    selector = Waits()
    loop = asyncio.SelectorEventLoop(selector)

    async def scenario() -> None:
        long = BusyPoll(loop, Habit(60))
        for _ in range(ENOUGH + 1):
            long.came(100)
        await asyncio.sleep(0.02)
        assert set(selector.asked) == {0}
        long.came(SMALL)  # no message any more
        await asyncio.sleep(0.02)
        assert any(selector.asked)
        short = BusyPoll(loop, Habit(0.05))
        for _ in range(ENOUGH + 1):
            short.came(100)
        selector.asked.clear()
        await asyncio.sleep(0.3)
        assert 0 in selector.asked and any(selector.asked)
        selector.asked.clear()
        for _ in range(ENOUGH + 1):
            short.came(100)  # it was in vain
        await asyncio.sleep(0.02)
        assert any(selector.asked)

    loop.run_until_complete(scenario())
    loop.close()


async def answer(connection: AsyncConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            stream = await connection.accept_stream()
            await stream.write_all(await stream.read_all())


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("datagram_endpoint", [False, True])
def test_both_stay_awake_between_requests(
    run: Run, pair: Any, datagram_endpoint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it is left when they have closed: the fixture looks."""
    awake: set[BusyPoll] = set()
    turn = BusyPoll._turn
    monkeypatch.setattr(BusyPoll, "_turn", lambda poll: (awake.add(poll), turn(poll)))

    async def scenario() -> None:
        options: dict[str, Any] = {"options": BUSY, "datagram_endpoint": datagram_endpoint}
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=answer, **options) as server:
            port = server.addresses[0][1]
            async with await connect("127.0.0.1", port, configuration=pair.client, **options) as connection:
                for number in range(2 * ENOUGH):
                    stream = await connection.open_stream()
                    await stream.write_all(b"%d" % number)
                    assert await stream.read_all() == b"%d" % number
            await connection.wait_released()

    run(scenario())
    assert len(awake) == 2


@pytest.mark.usefixtures("two_cores")
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
                for _ in range(2 * ENOUGH):
                    stream = connection.accept_stream(timeout=10)
                    stream.write_all(stream.read_all(timeout=10))
                connection.wait_closed(timeout=10)

        thread = threading.Thread(target=serve_one)
        thread.start()
        port = server.address[1]
        with blocking.connect("127.0.0.1", port, configuration=pair.client, options=BUSY, timeout=10) as connection:
            for _ in range(2 * ENOUGH):
                stream = connection.open_stream()
                stream.write_all(b"?")
                assert stream.read_all(timeout=10) == b"?"
        thread.join(10)
    assert asked.count(0) > 10


@pytest.mark.usefixtures("two_cores")
def test_what_is_no_message_keeps_nobody_awake(run: Run, pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can send datagrams, and be it a thousand a second."""
    asked: list[int] = []
    monkeypatch.setattr(BusyPoll, "came", lambda poll, size: asked.append(size))

    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=answer, options=BUSY) as server:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                for data in (b"", b"junk", b"\x40" + bytes(60)) * (2 * ENOUGH):
                    stranger.sendto(data, server.addresses[0][:2])
                    await asyncio.sleep(0)
            while server.socket_stats()[0]["trains_received"] < 6 * ENOUGH:
                await asyncio.sleep(0.01)

    run(scenario())
    assert asked == []

"""Many small messages written in one turn of the loop do not all wait for its end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from quicstack.drivers.aio_connection import MESSAGES_TOGETHER

from .test_aio_stream import connected

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_a_batch_of_messages_begins_to_leave_before_it_is_complete(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        async with connected(pair) as (client, server):
            counters = client.engine.stats().counters
            sent = []
            streams = []
            for _ in range(2 * MESSAGES_TOGETHER + 1):  # none of this waits for anything, so the loop has no turn
                stream = await client.open_stream()
                await stream.write_all(b"a small message")
                streams.append(stream)
                sent.append(client.engine.stats().counters.trains_sent - counters.trains_sent)
            assert sent == [at // MESSAGES_TOGETHER for at in range(1, len(sent) + 1)]
            for _ in streams:
                theirs = await server.accept_stream()
                assert await theirs.read_all() == b"a small message"
                await theirs.write_all(b"yes")
            assert [await stream.read_all() for stream in streams] == [b"yes"] * len(streams)

    run(scenario())

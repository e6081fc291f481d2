from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from h3.qpack import Fields

Scripted = Callable[..., tuple[Any, Any]]

POST: Fields = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]


@pytest.mark.parametrize("buffer", [1 << 12, 1 << 16, 1 << 20])
@pytest.mark.parametrize("piece", [100, 5000, 1 << 20])
def test_whatever_the_buffer_everything_goes_out_once(both: Scripted, buffer: int, piece: int) -> None:
    """The stream's buffer cuts frames at any place; each time there is room again, writing goes on."""
    client, server = both({"send_buffer": buffer})
    content = bytes(range(256)) * 1200
    exchange = client.h3.request(POST)
    sent = 0
    calls_without_progress = 0
    received = b""

    def write(_: Any = None) -> None:
        nonlocal sent, calls_without_progress
        while sent < len(content):
            chunk = content[sent : sent + piece]
            accepted = exchange.send_body(chunk, end_stream=sent + len(chunk) == len(content))
            sent += accepted
            if accepted < len(chunk):
                return

    def read(incoming: Any) -> None:
        nonlocal received
        received += incoming.read_body()

    client.on_exchange, server.on_exchange = write, read
    write()
    client.pair.run()
    assert sent == len(content)
    assert received == content
    assert server.exchanges[0].at_end


def test_the_end_waits_for_what_is_queued(both: Scripted) -> None:
    client, server = both({"send_buffer": 4096})
    exchange = client.h3.request(POST)
    while exchange.send_body(bytes(1000)):
        pass
    assert exchange.writable == 0
    exchange.finish()
    assert not exchange.can_send
    client.pair.run()
    content = server.exchanges[0].read_body()
    assert 4000 <= len(content) <= 4096 and server.exchanges[0].at_end

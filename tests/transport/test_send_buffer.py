"""Bytes stay until acknowledged, and what is lost goes out again (RFC 9000 §13.3)."""

import random

from hypothesis import given
from hypothesis import strategies as st

from quicstack.transport.send_buffer import SendBuffer

BLOB = random.Random(2).randbytes(300_000)


@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_every_byte_arrives(rng: random.Random, steps: int) -> None:
    buffer = SendBuffer()
    received: dict[int, int] = {}
    flying: list[tuple[int, int]] = []
    written = 0
    for _ in range(steps):
        match rng.randrange(4):
            case 0:
                data = BLOB[written : written + rng.randrange(40_000)]
                buffer.write(data)
                written += len(data)
            case 1:
                for _ in range(rng.randrange(5)):
                    send(buffer, flying, received, rng.randrange(1, 30_000))
            case 2 if flying:
                buffer.on_acked(*flying.pop(rng.randrange(len(flying))))
            case 3 if flying:
                buffer.on_lost(*flying.pop(rng.randrange(len(flying))))
        assert buffer.acked_to <= buffer.next <= buffer.end == written
    while buffer.has_data or flying:
        while buffer.has_data:
            send(buffer, flying, received, 5000)
        buffer.on_acked(*flying.pop())
    assert buffer.buffered == 0
    assert buffer.acked_to == written
    assert not buffer._pieces and not buffer._starts


def send(buffer: SendBuffer, flying: list[tuple[int, int]], received: dict[int, int], limit: int) -> None:
    if buffer.lost.starts:
        start, stop = buffer.lost.starts[0], buffer.lost.stops[0]
    else:
        start, stop = buffer.next, buffer.end
    stop = min(stop, start + limit)
    if start < stop:
        assert buffer.get(start, stop) == BLOB[start:stop]
        buffer.mark_sent(start, stop)
        flying.append((start, stop))


def test_a_late_ack_cancels_a_retransmission() -> None:
    buffer = SendBuffer()
    buffer.write(b"0123456789")
    buffer.mark_sent(0, 10)
    buffer.on_lost(0, 10)
    buffer.on_acked(2, 8)
    assert list(buffer.lost) == [(0, 2), (8, 10)]
    buffer.on_lost(0, 10)
    assert list(buffer.lost) == [(0, 2), (8, 10)]

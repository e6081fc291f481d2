from __future__ import annotations

import pytest

from quicstack.errors import StreamError
from quicstack.transport.flow_control import SendWindow
from quicstack.transport.outbox import Outbox
from quicstack.transport.send_stream import SendStream
from quicstack.transport.stream_states import SendState
from quicstack.wire import frame


def open_stream() -> tuple[SendStream, SendWindow, Outbox]:
    outbox = Outbox()
    window = SendWindow()
    window.raise_limit(1 << 20)
    return SendStream(0, 1 << 20, 1 << 16, outbox), window, outbox


def queued(outbox: Outbox) -> list[bytes]:
    return [data for value in outbox.control if (data := value.write()) is not None]


def test_a_reset_goes_at_once() -> None:
    stream, window, outbox = open_stream()
    stream.write(b"x" * 100)
    stream.next_frame(50, window)
    sent = stream.buffer.next
    assert stream.reset(7)
    assert queued(outbox) == [frame.write_reset_stream(0, 7, sent)]
    assert not stream.has_work(window)


def test_a_reset_that_keeps_the_beginning_waits_for_it() -> None:
    stream, window, outbox = open_stream()
    stream.write(b"header")
    stream.write(b"x" * 1000, fin=True)
    assert stream.reset(7, reliable_size=6)
    assert queued(outbox) == []
    assert stream.writable == 0
    with pytest.raises(StreamError):
        stream.write(b"more")
    out = stream.next_frame(1200, window)
    assert out is not None
    data, (start, stop, fin) = out
    assert (data[-6:], start, stop, fin) == (b"header", 0, 6, False)
    assert not stream.has_work(window)
    assert stream.on_lost(0, 6, False)
    stream.next_frame(1200, window)
    assert stream.on_acked(0, 6, False)
    assert stream.state is SendState.RESET_SENT
    assert queued(outbox) == [frame.write_reset_stream(0, 7, 6)]


def test_what_was_sent_beyond_counts_in_the_final_size() -> None:
    stream, window, outbox = open_stream()
    stream.write(b"x" * 1000)
    stream.next_frame(500, window)
    sent = stream.buffer.next
    stream.reset(7, reliable_size=6)
    assert stream.buffer.end == sent
    stream.on_acked(0, sent, False)
    assert queued(outbox) == [frame.write_reset_stream(0, 7, sent)]


def test_nothing_to_wait_for_when_the_beginning_has_arrived() -> None:
    stream, window, _ = open_stream()
    stream.write(b"x" * 1000)
    stream.next_frame(500, window)
    stream.on_acked(0, 10, False)
    stream.reset(7, reliable_size=6)
    assert stream.state is SendState.RESET_SENT


def test_stop_sending_does_not_wait() -> None:
    stream, _, outbox = open_stream()
    stream.write(b"header")
    stream.reset(7, reliable_size=6)
    assert stream.receive_stop_sending(9)
    assert queued(outbox) == [frame.write_reset_stream(0, 9, 0)]


def test_an_end_that_was_sent_stands() -> None:
    stream, window, _ = open_stream()
    stream.write(b"header", fin=True)
    stream.next_frame(1200, window)
    stream.reset(7, reliable_size=6)
    assert stream.on_acked(0, 6, True)
    assert stream.state is SendState.DATA_RECVD

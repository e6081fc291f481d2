from __future__ import annotations

from quicstack.transport.flow_control import MemoryBudget, ReceiveWindow
from quicstack.transport.outbox import Outbox
from quicstack.transport.receive_stream import ReceiveStream
from quicstack.transport.stream import Stream
from webtransport.codes import ErrorCode
from webtransport.early_streams import EarlyStreams


def streams(count: int) -> list[Stream]:
    outbox = Outbox()
    window = ReceiveWindow(1000, 1000, MemoryBudget(1000))
    made = []
    for number in range(count):
        receive = ReceiveStream(2 + 4 * number, ReceiveWindow(100, 100, None), window, outbox)
        made.append(Stream(2 + 4 * number, receive, None, outbox))
    return made


def stopped(stream: Stream) -> int | None:
    assert stream.receive is not None
    return stream.receive.stop_code


def test_they_wait_for_their_session() -> None:
    early = EarlyStreams()
    first, second, third = streams(3)
    early.add(0, first, 1.0)
    early.add(4, second, 1.1)
    early.add(0, third, 1.2)
    assert early.deadline == 3.0
    assert early.take(0) == [first, third]
    assert early.take(0) == []
    assert len(early) == 1
    assert early.deadline == 3.1


def test_not_too_many() -> None:
    early = EarlyStreams(limit=2)
    all_of_them = streams(3)
    for stream in all_of_them:
        early.add(0, stream, 0.0)
    assert [stopped(stream) for stream in all_of_them] == [None, None, ErrorCode.WT_BUFFERED_STREAM_REJECTED]


def test_not_too_long() -> None:
    early = EarlyStreams(timeout=2.0)
    old, young = streams(2)
    early.add(0, old, 0.0)
    early.add(0, young, 1.0)
    early.expire(2.0)
    assert (stopped(old), stopped(young)) == (ErrorCode.WT_BUFFERED_STREAM_REJECTED, None)
    assert early.take(0) == [young]
    assert early.deadline is None

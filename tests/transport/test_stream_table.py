"""Stream IDs, counts and removal (RFC 9000 §2.1, §4.6, §19.11, §19.14)."""

from __future__ import annotations

import pytest

from quicstack.errors import StreamLimitReached, TransportError, TransportErrorCode
from quicstack.transport.flow_control import MemoryBudget, ReceiveWindow
from quicstack.transport.outbox import Outbox
from quicstack.transport.stream_table import BIDI, UNI, StreamLimits, StreamTable
from quicstack.wire import frame

STREAM = 0x0A
E = TransportErrorCode
OURS = StreamLimits(bidi_local=100, bidi_remote=200, uni=300, streams_bidi=4, streams_uni=6)
PEERS = StreamLimits(bidi_local=1000, bidi_remote=2000, uni=3000, streams_bidi=2, streams_uni=1)


def table(
    *, is_client: bool = True, known: bool = True, budget: MemoryBudget | None = None
) -> tuple[StreamTable, Outbox]:
    outbox = Outbox(is_client=is_client)
    streams = StreamTable(
        is_client=is_client,
        local_limits=OURS,
        receive_window=ReceiveWindow(10_000, 10_000),
        max_stream_window=800,
        send_buffer=1 << 16,
        outbox=outbox,
        budget=budget,
    )
    if known:
        streams.set_peer_limits(PEERS, 5000)
    return streams, outbox


def frames(outbox: Outbox) -> list[bytes]:
    found = []
    while outbox.control:
        value = outbox.control.popleft()
        value.queued = False
        if (written := value.write()) is not None:
            found.append(written)
    return found


@pytest.mark.parametrize(("is_client", "bidi", "uni"), [(True, [0, 4], [2]), (False, [1, 5], [3])])
def test_ids_and_limits_of_our_streams(is_client: bool, bidi: list[int], uni: list[int]) -> None:
    streams, _ = table(is_client=is_client)
    opened = [streams.open(False) for _ in bidi]
    assert [stream.id for stream in opened] == bidi
    for stream in opened:
        assert stream.receive is not None and stream.send is not None
        assert (stream.receive.window.limit, stream.send.limit) == (100, 2000)
    opened = [streams.open(True) for _ in uni]
    assert [stream.id for stream in opened] == uni
    for stream in opened:
        assert stream.receive is None and stream.send is not None and stream.send.limit == 3000


@pytest.mark.parametrize(("is_client", "bidi", "uni"), [(True, 1, 3), (False, 0, 2)])
def test_limits_of_the_peers_streams(is_client: bool, bidi: int, uni: int) -> None:
    streams, outbox = table(is_client=is_client)
    stream = streams.find(bidi, STREAM, sending=False)
    assert stream is not None and stream.receive is not None and stream.send is not None
    assert (stream.receive.window.limit, stream.send.limit) == (200, 1000)
    assert streams.find(bidi, STREAM, sending=False) is stream
    stream = streams.find(uni, STREAM, sending=False)
    assert stream is not None and stream.receive is not None and stream.send is None
    assert stream.receive.window.limit == 300
    assert [ready.id for ready in outbox.ready] == [bidi, uni]


@pytest.mark.parametrize(
    ("unidirectional", "count", "word", "blocked"),
    [(False, 2, "bidirectional", frame.STREAMS_BLOCKED_BIDI), (True, 1, "unidirectional", frame.STREAMS_BLOCKED_UNI)],
)
def test_no_more_than_the_peer_allows(unidirectional: bool, count: int, word: str, blocked: int) -> None:
    """And the peer is told, once for each limit."""
    streams, outbox = table()
    outbox.streams_allowed = False
    for _ in range(count):
        assert streams.can_open(unidirectional)
        streams.open(unidirectional)
    assert not streams.can_open(unidirectional)
    assert streams.can_open(not unidirectional)
    for _ in range(2):
        with pytest.raises(StreamLimitReached, match=f"allows {count} {word} streams so far"):
            streams.open(unidirectional)
    assert frames(outbox) == [frame.write_limit(blocked, count)]
    kind = UNI if unidirectional else BIDI
    streams.raise_stream_count(kind, count)
    assert not outbox.streams_allowed
    streams.raise_stream_count(kind, count + 1)
    assert outbox.streams_allowed and streams.can_open(unidirectional)
    streams.open(unidirectional)
    with pytest.raises(StreamLimitReached):
        streams.open(unidirectional)
    streams.raise_stream_count(kind, count)
    assert not streams.can_open(unidirectional)
    assert frames(outbox) == [frame.write_limit(blocked, count + 1)]


def test_blocked_is_not_said_when_it_is_over() -> None:
    streams, outbox = table()
    streams.open(True)
    with pytest.raises(StreamLimitReached):
        streams.open(True)
    streams.raise_stream_count(UNI, 2)
    assert frames(outbox) == []


def test_before_the_peers_limits_are_known() -> None:
    streams, outbox = table(known=False)
    for unidirectional, blocked in ((False, frame.STREAMS_BLOCKED_BIDI), (True, frame.STREAMS_BLOCKED_UNI)):
        assert not streams.can_open(unidirectional)
        with pytest.raises(StreamLimitReached, match="allows 0 "):
            streams.open(unidirectional)
        assert frames(outbox) == [frame.write_limit(blocked, 0)]
    stream = streams.find(1, STREAM, sending=False)
    assert stream is not None and stream.send is not None and stream.send.limit == 0


@pytest.mark.parametrize(
    ("stream_id", "sending", "code", "words"),
    [
        (2, False, E.STREAM_STATE_ERROR, "stream 2 has no receive side here"),
        (3, True, E.STREAM_STATE_ERROR, "stream 3 has no send side here"),
        (0, False, E.STREAM_STATE_ERROR, "stream 0 was never opened"),
        (0, True, E.STREAM_STATE_ERROR, "stream 0 was never opened"),
        (2, True, E.STREAM_STATE_ERROR, "stream 2 was never opened"),
        (17, False, E.STREAM_LIMIT_ERROR, "stream 17 is number 5 of its type, 4 are allowed"),
        (27, False, E.STREAM_LIMIT_ERROR, "stream 27 is number 7 of its type, 6 are allowed"),
    ],
)
def test_ids_that_nobody_may_name(stream_id: int, sending: bool, code: int, words: str) -> None:
    streams, _ = table()
    with pytest.raises(TransportError) as caught:
        streams.find(stream_id, STREAM, sending=sending)
    assert (caught.value.code, caught.value.frame_type, caught.value.reason) == (code, STREAM, words)
    assert not list(streams)


def test_both_sides_of_what_we_opened() -> None:
    streams, _ = table()
    both, out = streams.open(False), streams.open(True)
    assert streams.find(0, STREAM, sending=True) is streams.find(0, STREAM, sending=False) is both
    assert streams.find(2, STREAM, sending=True) is out


def test_a_higher_id_opens_the_lower_ones() -> None:
    """§2.1: in any order, each once, and each of them gone when it is finished."""
    streams, outbox = table()
    assert streams.find(13, STREAM, sending=False) is not None
    assert [stream.id for stream in streams] == [13]
    for stream_id in (5, 1, 9):
        assert streams.find(stream_id, STREAM, sending=False) is not None
    assert sorted(stream.id for stream in streams) == [1, 5, 9, 13]
    for stream in list(streams):
        finish(streams, outbox, stream.id)
    for stream_id in (1, 5, 9, 13):
        assert streams.find(stream_id, STREAM, sending=False) is None


def finish(streams: StreamTable, outbox: Outbox, stream_id: int) -> None:
    """Both sides end, and the application has seen it."""
    stream = streams.streams[stream_id]
    if stream.receive is not None:
        stream.receive.receive(0, b"", True, STREAM)
    if stream.send is not None:
        stream.send.write(b"", fin=True)
        written = stream.send.next_frame(100, streams.send_window)
        assert written is not None
        stream.send.on_acked(*written[1])
    stream.is_ready = False
    outbox.touched.append(stream)
    streams.forget_finished()


@pytest.mark.parametrize(
    ("kind", "window", "raised"), [(BIDI, 4, frame.MAX_STREAMS_BIDI), (UNI, 6, frame.MAX_STREAMS_UNI)]
)
def test_closed_streams_make_room_for_others(kind: int, window: int, raised: int) -> None:
    """§4.6: when half of those allowed are gone."""
    streams, outbox = table()
    for n in range(window // 2):
        assert frames(outbox) == []
        stream_id = 4 * n + kind + 1
        assert streams.find(stream_id, STREAM, sending=False) is not None
        finish(streams, outbox, stream_id)
    assert frames(outbox) == [frame.write_limit(raised, window + window // 2)]
    last = 4 * (window + window // 2 - 1) + kind + 1
    assert streams.find(last, STREAM, sending=False) is not None
    with pytest.raises(TransportError):
        streams.find(last + 4, STREAM, sending=False)


def test_our_own_streams_are_not_the_peers_room() -> None:
    streams, outbox = table()
    for stream_id in (0, 4):
        streams.open(False)
        finish(streams, outbox, stream_id)
    assert frames(outbox) == [] and not list(streams)
    assert streams.find(0, STREAM, sending=False) is None


def test_who_is_not_finished_stays() -> None:
    """Nor is a stream forgotten that the application has not seen, or that somebody holds for it."""
    streams, outbox = table()
    for stream_id in (1, 5, 9, 13):
        streams.find(stream_id, STREAM, sending=False)
    unseen, held, open_, done = list(streams)
    for stream in (unseen, held, done):
        assert stream.receive is not None and stream.send is not None
        stream.receive.receive(0, b"", True, STREAM)
        stream.send.write(b"", fin=True)
        written = stream.send.next_frame(100, streams.send_window)
        assert written is not None
        stream.send.on_acked(*written[1])
    held.is_held = True
    held.is_ready = open_.is_ready = done.is_ready = False
    outbox.touched += [unseen, held, open_, done, done]
    streams.forget_finished()
    assert list(streams) == [unseen, held, open_]
    assert streams.peer[BIDI].closed == 1 and outbox.touched == []


def test_a_stream_that_is_gone_returns_its_memory() -> None:
    budget = MemoryBudget(1000)
    streams, outbox = table(budget=budget)
    stream = streams.find(3, STREAM, sending=False)
    assert stream is not None and stream.receive is not None
    assert stream.receive.window.grow(500) and budget.used == 500
    assert stream.receive.window.max_size == 800
    finish(streams, outbox, 3)
    assert budget.used == 0


def test_a_window_that_starts_large_stays_large() -> None:
    streams, _ = table()
    OURS.uni, before = 5000, OURS.uni
    try:
        stream = streams.find(3, STREAM, sending=False)
    finally:
        OURS.uni = before
    assert stream is not None and stream.receive is not None
    assert (stream.receive.window.size, stream.receive.window.max_size) == (5000, 5000)


# -- the connection's credit (§4.1) --------------------------------------------------------------------------------


def test_who_waits_for_credit_is_woken() -> None:
    streams, outbox = table()
    first, second, idle = streams.open(False), streams.open(False), streams.open(True)
    for stream in (first, second):
        assert stream.send is not None
        stream.send.write(bytes(10))
    assert not streams.wait_for_credit(first)  # there is credit
    streams.send_window.used = 5000
    assert streams.wait_for_credit(first) and streams.wait_for_credit(second)
    assert not streams.wait_for_credit(idle)  # has nothing to send
    outbox.sending.clear()
    for stream in streams:
        stream.is_sending = False
    streams.raise_connection_limit(5000)
    assert not outbox.sending
    streams.raise_connection_limit(6000)
    assert list(outbox.sending) == [first, second]
    outbox.sending.clear()
    first.is_sending = second.is_sending = False
    streams.raise_connection_limit(7000)
    assert not outbox.sending


def test_a_stream_that_cannot_send_waits_for_nothing() -> None:
    streams, _ = table()
    stream = streams.find(3, STREAM, sending=False)
    streams.send_window.used = 5000
    assert stream is not None and not streams.wait_for_credit(stream)


def test_who_is_gone_is_not_woken() -> None:
    streams, outbox = table()
    stream = streams.open(True)
    assert stream.send is not None
    stream.send.write(bytes(10))
    streams.send_window.used = 5000
    assert streams.wait_for_credit(stream)
    stream.send.reset(1)
    for value in list(outbox.control):
        value.write()
        if value.on_acked is not None:
            value.on_acked()
    assert stream.finished
    stream.is_ready = False
    outbox.sending.clear()
    outbox.touched.append(stream)
    streams.forget_finished()
    stream.is_sending = False
    streams.raise_connection_limit(6000)
    assert not list(streams) and not outbox.sending

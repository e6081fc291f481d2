"""The receiving part of a stream (RFC 9000 §3.2, §4.5): sizes, resets, and the credit of stream and connection."""

from __future__ import annotations

import pytest

from quicstack.errors import StreamReset, TransportError, TransportErrorCode
from quicstack.transport.flow_control import MemoryBudget, ReceiveWindow
from quicstack.transport.outbox import Outbox, SentValue
from quicstack.transport.receive_stream import MAX_GAPS, ReceiveStream
from quicstack.transport.stream_states import ReceiveState
from quicstack.wire import frame

STREAM = 0x0E
E = TransportErrorCode


class Part:
    """A receiving part with its connection's window and outbox."""

    def __init__(self, size: int = 1000, most: int = 1000, connection: int = 2000, most_connection: int = 2000) -> None:
        self.budget = MemoryBudget(1 << 30)
        self.connection = ReceiveWindow(connection, most_connection, self.budget)
        self.outbox = Outbox()
        self.outbox.max_data = SentValue(lambda: b"MAX_DATA")
        self.outbox.now, self.outbox.smoothed_rtt = 50.0, 0.1
        self.stream = ReceiveStream(5, ReceiveWindow(size, most, self.budget), self.connection, self.outbox)

    def gets(self, offset: int, data: bytes = b"", fin: bool = False) -> bool:
        return self.stream.receive(offset, data, fin, STREAM)

    def refuses(self, offset: int, data: bytes = b"", fin: bool = False) -> TransportError:
        with pytest.raises(TransportError) as caught:
            self.gets(offset, data, fin)
        return caught.value

    def frames(self) -> list[bytes]:
        """What waits to be sent."""
        found = []
        while self.outbox.control:
            value = self.outbox.control.popleft()
            value.queued = False
            if (written := value.write()) is not None:
                found.append(written)
        return found


# -- limits and sizes ----------------------------------------------------------------------------------------------


def test_errors_name_the_frame_and_the_numbers() -> None:
    """RFC 9000 §19.19: the close says which frame was at fault."""
    cases = [
        (Part(size=10), (0, bytes(11)), E.FLOW_CONTROL_ERROR, "11 bytes sent, 10 were allowed"),
        (Part(connection=10), (0, bytes(11)), E.FLOW_CONTROL_ERROR, "11 bytes sent, 10 were allowed"),
    ]
    ended = Part()
    ended.gets(0, b"12345", fin=True)
    cases.append((ended, (0, b"123456"), E.FINAL_SIZE_ERROR, "stream 5 ends at 5, but offset 6"))
    shrunk = Part()
    shrunk.gets(0, b"12345")
    cases.append((shrunk, (0, b"123", True), E.FINAL_SIZE_ERROR, "stream 5 ends at 3, but 5 bytes"))  # type: ignore[arg-type]
    moved = Part()
    moved.gets(0, b"12345", fin=True)
    cases.append((moved, (0, b"123", True), E.FINAL_SIZE_ERROR, "stream 5 ends at 5, but offset 3"))  # type: ignore[arg-type]
    for part, arguments, code, words in cases:
        error = part.refuses(*arguments)
        assert (error.code, error.frame_type) == (code, STREAM)
        assert words in error.reason


def test_a_reset_that_contradicts() -> None:
    for final_size, code, words in [(4, E.FINAL_SIZE_ERROR, "ends at 4"), (1001, E.FLOW_CONTROL_ERROR, "1001 bytes")]:
        part = Part()
        part.gets(0, b"12345")
        with pytest.raises(TransportError) as caught:
            part.stream.receive_reset(7, final_size)
        assert (caught.value.code, caught.value.frame_type) == (code, frame.RESET_STREAM)
        assert words in caught.value.reason
    part = Part(connection=10)
    with pytest.raises(TransportError) as caught:
        part.stream.receive_reset(7, 11)
    assert (caught.value.code, caught.value.frame_type) == (E.FLOW_CONTROL_ERROR, frame.RESET_STREAM)


def test_two_resets_with_different_codes() -> None:
    part = Part()
    part.gets(0, b"12")
    assert part.stream.receive_reset(7, 20, 10, frame.RESET_STREAM_AT) is True
    with pytest.raises(TransportError) as caught:
        part.stream.receive_reset(8, 20, 5, frame.RESET_STREAM_AT)
    assert (caught.value.code, caught.value.frame_type) == (E.STREAM_STATE_ERROR, frame.RESET_STREAM_AT)
    assert "0x7, then with 0x8" in caught.value.reason


def test_pieces_behind_gaps_are_bounded() -> None:
    part = Part(size=3 * MAX_GAPS, connection=3 * MAX_GAPS)
    for n in range(MAX_GAPS):
        assert not part.gets(2 * n + 1, b"x")
    error = part.refuses(2 * MAX_GAPS + 1, b"x")
    assert (error.code, error.frame_type) == (E.INTERNAL_ERROR, STREAM)
    assert "stream 5 lies in more than 4096 pieces" in error.reason


def test_pieces_behind_gaps_are_bounded_when_the_size_is_known() -> None:
    part = Part(size=3 * MAX_GAPS, connection=3 * MAX_GAPS)
    part.gets(3 * MAX_GAPS, b"", fin=True)
    for n in range(MAX_GAPS):
        assert not part.gets(2 * n + 1, b"x")
    assert part.refuses(2 * MAX_GAPS + 1, b"x").frame_type == STREAM


# -- states --------------------------------------------------------------------------------------------------------


def test_to_the_end() -> None:
    part = Part()
    assert part.gets(2, b"cd") is False
    assert part.gets(2, b"cd", fin=True) is True  # news: the size
    assert part.gets(2, b"cd", fin=True) is False
    assert part.stream.state is ReceiveState.SIZE_KNOWN
    assert part.gets(0, b"ab") is True
    assert part.stream.state is ReceiveState.DATA_RECVD
    assert part.stream.read(3) == b"abc"
    assert part.stream.state is ReceiveState.DATA_RECVD
    assert part.stream.read() == b"d"
    assert part.stream.state is ReceiveState.DATA_READ
    assert part.gets(0, b"abcd", fin=True) is False
    assert part.stream.read() == b""


def test_a_reset_shows_at_once_and_returns_the_credit_once() -> None:
    part = Part()
    part.gets(0, b"x" * 300)
    part.stream.read(100)
    assert part.stream.receive_reset(9, 800) is True
    assert part.stream.state is ReceiveState.RESET_RECVD
    assert part.connection.received == part.connection.consumed == 800
    assert part.stream.receive_reset(9, 800) is False
    assert part.gets(300, b"late") is False
    assert part.connection.received == part.connection.consumed == 800
    with pytest.raises(StreamReset) as caught:
        part.stream.read()
    assert (caught.value.code, caught.value.stream_id) == (9, 5)
    assert "reset stream 5 with code 0x9" in str(caught.value)


@pytest.mark.parametrize("growth", [0, 1])
def test_a_reset_at_the_size_that_is_known(growth: int) -> None:
    part = Part()
    part.gets(0, b"x" * 10)
    assert part.stream.receive_reset(9, 10 + growth)
    assert part.connection.received == part.connection.consumed == 10 + growth


def test_a_reset_after_everything_arrived_is_no_news() -> None:
    """RFC 9000 §3.2."""
    part = Part()
    part.gets(0, b"all", fin=True)
    assert part.stream.receive_reset(9, 3) is False
    assert part.stream.read() == b"all"
    assert part.stream.receive_reset(9, 3) is False
    assert part.stream.state is ReceiveState.DATA_READ


def test_a_reset_that_keeps_the_beginning() -> None:
    part = Part()
    part.gets(0, b"abc")
    assert part.stream.receive_reset(9, 100, 6, frame.RESET_STREAM_AT) is True
    assert part.stream.state is ReceiveState.SIZE_KNOWN
    assert part.gets(5, b"fg") is False
    assert part.gets(7, b"hi") is False  # beyond what is reliable
    assert part.stream.data.gaps == 1
    assert part.gets(3, b"de") is True
    assert part.stream.read() == b"abcdef"
    assert part.stream.state is ReceiveState.RESET_RECVD
    assert part.connection.consumed == 100


def test_the_reliable_size_may_shrink_and_not_grow() -> None:
    part = Part()
    part.gets(0, b"abcdef")
    part.stream.receive_reset(9, 100, 5, frame.RESET_STREAM_AT)
    part.stream.receive_reset(9, 100, 6, frame.RESET_STREAM_AT)
    assert part.stream.reliable_size == 5
    part.stream.receive_reset(9, 100, 2, frame.RESET_STREAM_AT)
    assert part.stream.reliable_size == 2
    assert part.stream.read() == b"ab"
    assert part.stream.state is ReceiveState.RESET_RECVD


# -- STOP_SENDING --------------------------------------------------------------------------------------------------


def test_stop_sending_discards_what_came_and_what_comes() -> None:
    part = Part()
    part.gets(0, b"x" * 100)
    part.stream.stop_sending(3)
    assert part.frames() == [frame.write_stop_sending(5, 3)]
    assert part.connection.consumed == 100
    assert part.gets(100, b"x" * 50) is False
    assert part.gets(200, b"x" * 50) is False  # a gap counts as well
    assert part.connection.received == part.connection.consumed == 250
    assert part.stream.read() == b""
    part.stream.stop_sending(4)
    assert part.frames() == [] and part.stream.stop_code == 3
    assert part.gets(250, b"", fin=True) is True
    assert part.stream.state is ReceiveState.DATA_READ


def test_stop_sending_is_not_repeated_once_it_is_pointless() -> None:
    """RFC 9000 §3.5: after a reset, or with the size known."""
    for what in ("reset", "fin"):
        part = Part()
        part.stream.stop_sending(3)
        if what == "fin":
            part.gets(0, b"all", fin=True)
        else:
            part.stream.receive_reset(1, 5)
        assert part.frames() == []


def test_stop_sending_at_the_end_does_nothing() -> None:
    part = Part()
    part.gets(0, b"all", fin=True)
    part.stream.read()
    part.stream.stop_sending(3)
    assert part.stream.stop_code is None and part.frames() == []
    part = Part()
    part.stream.receive_reset(1, 0)
    part.stream.stop_sending(3)
    assert part.stream.stop_code is None and part.stream.reset_code == 1


def test_stop_sending_when_the_size_is_known_asks_nobody() -> None:
    part = Part()
    part.gets(10, b"end", fin=True)
    part.stream.stop_sending(3)
    assert part.frames() == []
    assert part.stream.state is ReceiveState.DATA_READ
    assert part.connection.consumed == 13


# -- credit --------------------------------------------------------------------------------------------------------


def test_the_stream_gets_credit_when_half_of_it_is_read() -> None:
    part = Part(connection=100_000, most_connection=100_000)
    part.gets(0, b"x" * 499)
    part.stream.read()
    assert part.frames() == []
    part.gets(499, b"x")
    part.stream.read()
    assert part.frames() == [frame.write_limit(frame.MAX_STREAM_DATA, 5, 1500)]


def test_the_connection_gets_credit_of_its_own() -> None:
    part = Part(size=10_000, most=10_000, connection=1000, most_connection=1000)
    part.gets(0, b"x" * 500)
    part.stream.read()
    assert part.frames() == [b"MAX_DATA"]


def test_no_credit_for_a_stream_that_ends_or_was_stopped() -> None:
    """RFC 9000 §3.2: MAX_STREAM_DATA only in the Recv state."""
    part = Part(connection=100_000, most_connection=100_000)
    part.gets(0, b"x" * 600)
    part.stream.read()
    part.gets(600, b"", fin=True)  # before the frame was written
    assert part.frames() == []
    part = Part(connection=100_000, most_connection=100_000)
    part.gets(0, b"x" * 600)
    part.stream.read()
    part.stream.stop_sending(1)
    assert part.frames() == [frame.write_stop_sending(5, 1)]
    part.gets(600, b"x" * 300)
    assert part.frames() == []
    part = Part(connection=100_000, most_connection=100_000)
    part.gets(0, b"x" * 600, fin=True)
    part.stream.read()
    assert not part.outbox.control


def test_a_fast_reader_gets_larger_windows() -> None:
    """The connection's window stays twice as large as the stream's, up to its own largest size."""
    part = Part(size=1000, most=6000, connection=3000, most_connection=7000)
    offset = 0
    sizes = []
    for _ in range(5):
        amount = part.stream.window.size
        part.gets(offset, bytes(amount))
        offset += amount
        part.stream.read()
        part.frames()
        part.outbox.now += 0.01
        part.connection.raise_limit(part.outbox.now, 1e-9)
        sizes.append((part.stream.window.size, part.connection.size))
    assert sizes == [(1000, 3000), (2000, 4000), (4000, 7000), (6000, 7000), (6000, 7000)]


def test_a_slow_reader_does_not() -> None:
    part = Part(size=1000, most=6000, connection=3000, most_connection=7000)
    for offset in range(0, 3000, 1000):
        part.gets(offset, bytes(1000))
        part.stream.read()
        part.frames()
        part.outbox.now += 1.0
        part.connection.raise_limit(part.outbox.now, 1e-9)
    assert (part.stream.window.size, part.connection.size) == (1000, 3000)


@pytest.mark.parametrize(("amount", "size"), [(500, 1000), (501, 2000)])
def test_streams_that_nobody_reads_make_room_for_others(amount: int, size: int) -> None:
    """Half of the connection's window lies unread: the window doubles, and the peer is told."""
    part = Part(size=5000, most=5000, connection=1000, most_connection=9000)
    part.gets(0, bytes(amount))
    assert part.connection.size == size
    assert part.frames() == ([b"MAX_DATA"] if size > 1000 else [])


def test_room_ends_at_the_largest_size() -> None:
    part = Part(size=5000, most=5000, connection=1000, most_connection=1300)
    part.gets(0, bytes(600))
    assert part.connection.size == 1300
    part.frames()
    part.gets(600, bytes(100))
    assert part.connection.size == 1300 and part.frames() == []
    part.outbox.max_data = None
    part = Part(size=5000, most=5000, connection=1000, most_connection=9000)
    part.outbox.max_data = None
    part.gets(0, bytes(600))
    assert part.connection.size == 2000 and part.frames() == []


# -- runs of frames ------------------------------------------------------------------------------------------------


def test_a_run_is_its_frames() -> None:
    single, run = Part(), Part()
    for part in (single, run):
        part.gets(0, b"begin")
        assert part.stream.continues_at(5) and not part.stream.continues_at(4)
        if part is run:
            part.stream.receive_run([b"123", b"45", b"6"], 11, STREAM)
        else:
            for offset, data in ((5, b"123"), (8, b"45"), (10, b"6")):
                part.gets(offset, data)
        assert part.stream.read() == b"begin123456"
        assert (part.stream.window.received, part.connection.received, part.connection.consumed) == (11, 11, 11)


def test_a_run_within_what_was_counted() -> None:
    """A byte far ahead used the credit up before the gap was filled; one byte more is counted once."""
    part = Part()
    part.gets(4, b"x")
    part.stream.data.clear()
    part.stream.receive_run([b"abcd"], 4, STREAM)
    assert part.stream.window.received == part.connection.received == 5
    part.stream.receive_run([b"ef"], 6, STREAM)
    assert part.stream.window.received == part.connection.received == 6
    assert part.stream.read() == b"abcdef"


def test_a_run_beyond_the_limit() -> None:
    part = Part(size=10)
    with pytest.raises(TransportError) as caught:
        part.stream.receive_run([b"123456", b"78901"], 11, STREAM)
    assert (caught.value.code, caught.value.frame_type) == (E.FLOW_CONTROL_ERROR, STREAM)


@pytest.mark.parametrize("what", ["size known", "stopped", "gap"])
def test_when_nothing_may_be_taken_as_a_run(what: str) -> None:
    part = Part()
    part.gets(0, b"begin")
    if what == "size known":
        part.gets(5, b"", fin=True)
    elif what == "stopped":
        part.stream.stop_sending(1)
    else:
        part.gets(7, b"x")
    assert not part.stream.continues_at(5)

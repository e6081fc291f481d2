"""The order in which streams are served (RFC 9218 §4, §10)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicstack.errors import StreamError, TransportError
from quicstack.transport.flow_control import ReceiveWindow
from quicstack.transport.outbox import Outbox
from quicstack.transport.receive_stream import ReceiveStream
from quicstack.transport.scheduler import FirstComeFirstServed, RoundRobin, StreamScheduler, UrgencyScheduler
from quicstack.transport.send_stream import SendStream
from quicstack.transport.stream import Stream

EVERY = [UrgencyScheduler, RoundRobin, FirstComeFirstServed]


def stream(number: int, urgency: int = 3, incremental: bool = True, outbox: Outbox | None = None) -> Stream:
    outbox = outbox or Outbox()
    made = Stream(number, None, SendStream(number, 1000, 1000, outbox), outbox)
    made.set_priority(urgency, incremental)
    return made


def turns(scheduler: StreamScheduler, count: int) -> list[int]:
    """Whose turn it was, so many times."""
    served = []
    for _ in range(count):
        first = scheduler.peek()
        assert first is not None
        served.append(first.id)
        scheduler.served(1000)
    return served


def drain(scheduler: StreamScheduler) -> list[int]:
    """The order if each has one frame to send."""
    served = []
    while (first := scheduler.peek()) is not None:
        served.append(first.id)
        scheduler.remove(first)
    return served


def filled(scheduler: StreamScheduler, *streams: Stream) -> StreamScheduler:
    for each in streams:
        scheduler.push(each)
    return scheduler


@pytest.mark.parametrize("kind", EVERY)
def test_what_every_scheduler_does(kind: type[UrgencyScheduler]) -> None:
    scheduler = kind()
    assert not scheduler and scheduler.peek() is None and list(scheduler) == []
    streams = [stream(0), stream(4, 1), stream(8, 3, False), stream(12, 3, False)]
    filled(scheduler, *streams)
    assert len(scheduler) == 4 and set(scheduler) == set(streams)
    scheduler.remove(streams[2])
    assert len(scheduler) == 3 and set(scheduler) == {streams[0], streams[1], streams[3]}
    assert sorted(drain(scheduler)) == [0, 4, 12] and not scheduler
    filled(scheduler, *streams).clear()
    assert not scheduler and scheduler.peek() is None and list(scheduler) == []
    filled(scheduler, *streams)
    assert len(drain(scheduler)) == 4


def test_the_most_urgent_go_first() -> None:
    scheduler = filled(UrgencyScheduler(), stream(0, 7), stream(4, 3), stream(8, 0), stream(12, 3))
    assert drain(scheduler) == [8, 4, 12, 0]


def test_incremental_streams_take_turns() -> None:
    scheduler = filled(UrgencyScheduler(), stream(8), stream(0), stream(4))
    assert turns(scheduler, 7) == [8, 0, 4, 8, 0, 4, 8]


def test_the_others_come_one_after_another() -> None:
    scheduler = filled(UrgencyScheduler(), *(stream(number, 3, False) for number in (8, 0, 12, 4)))
    assert turns(scheduler, 3) == [0, 0, 0]
    assert drain(scheduler) == [0, 4, 8, 12]


def test_one_that_is_not_incremental_shares_with_those_that_are() -> None:
    apart, later = stream(4, 3, False), stream(8, 3, False)
    scheduler = filled(UrgencyScheduler(), later, stream(0), apart, stream(12))
    assert turns(scheduler, 6) == [4, 0, 12, 4, 0, 12]
    scheduler.remove(apart)
    assert turns(scheduler, 6) == [8, 0, 12, 8, 0, 12]
    scheduler.remove(later)
    assert turns(scheduler, 4) == [0, 12, 0, 12]


def test_who_comes_back_waits_for_its_turn() -> None:
    first = stream(0)
    scheduler = filled(UrgencyScheduler(), first, stream(4), stream(8))
    scheduler.remove(first)
    scheduler.push(first)
    assert turns(scheduler, 4) == [4, 8, 0, 4]


def test_a_more_urgent_one_goes_ahead_at_once() -> None:
    urgent = stream(8, 1)
    scheduler = filled(UrgencyScheduler(), stream(0), stream(4))
    assert turns(scheduler, 1) == [0]
    scheduler.push(urgent)
    assert turns(scheduler, 3) == [8, 8, 8]
    scheduler.remove(urgent)
    assert turns(scheduler, 3) == [4, 0, 4]


def test_round_robin_and_first_come() -> None:
    streams = stream(4, 3, False), stream(0, 0), stream(8, 7)
    assert turns(filled(RoundRobin(), *streams), 5) == [4, 0, 8, 4, 0]
    scheduler = filled(FirstComeFirstServed(), *streams)
    assert turns(scheduler, 3) == [4, 4, 4]
    assert drain(scheduler) == [4, 0, 8]


def test_a_priority_changes_while_the_stream_waits() -> None:
    outbox = Outbox()
    streams = [stream(number, outbox=outbox) for number in (0, 4, 8)]
    for each in streams:
        outbox.push_stream(each)
    streams[2].set_priority(1)
    assert turns(outbox.sending, 2) == [8, 8]
    streams[2].set_priority(5, incremental=False)
    assert turns(outbox.sending, 3) == [0, 4, 0]
    streams[2].set_priority()
    assert (streams[2].urgency, streams[2].incremental) == (3, True)
    assert turns(outbox.sending, 3) == [4, 0, 8]
    streams[0].set_priority()  # as it was: it keeps its place
    assert turns(outbox.sending, 3) == [4, 0, 8]
    assert len(outbox.sending) == 3


def test_a_priority_that_nobody_can_have() -> None:
    outbox = Outbox()
    for urgency in (-1, 8):
        with pytest.raises(ValueError, match="expected 0 to 7"):
            stream(0, urgency)
    receiving = Stream(3, ReceiveStream(3, ReceiveWindow(9, 9), ReceiveWindow(9, 9), outbox), None, outbox)
    with pytest.raises(StreamError, match="for receiving only"):
        receiving.set_priority(0)


def test_a_priority_after_the_end() -> None:
    outbox = Outbox()
    late = stream(0, outbox=outbox)
    outbox.push_stream(late)
    outbox.sending.clear()
    outbox.closed = TransportError(0)
    late.set_priority(0)
    assert late.urgency == 0 and not outbox.sending


ids = st.integers(0, 7)


@given(st.lists(st.tuples(ids, ids, st.booleans(), st.sampled_from(["write", "serve", "stop", "change"]))))
def test_the_default_against_a_simple_model(steps: list[tuple[int, int, bool, str]]) -> None:
    """Whatever is done, the first has the lowest urgency that waits, nobody before it in the order of ids waits beside
    it unless both take turns, and nobody is lost or doubled."""
    outbox = Outbox()
    scheduler = outbox.sending
    streams = [stream(number, outbox=outbox) for number in range(8)]
    for index, urgency, incremental, what in steps:
        each, first = streams[index], scheduler.peek()
        if what == "write":
            outbox.push_stream(each)
        elif what == "serve" and first is not None:
            scheduler.served(1)
        elif what == "stop" and each.is_sending:
            scheduler.remove(each)
            each.is_sending = False
        elif what == "change":
            each.set_priority(urgency, incremental)
        waiting = [each for each in streams if each.is_sending]
        assert sorted(each.id for each in scheduler) == [each.id for each in waiting]
        assert len(scheduler) == len(waiting)
        first = scheduler.peek()
        assert (first is None) == (not waiting)
        if first is not None:
            level = [each for each in waiting if each.urgency == min(other.urgency for other in waiting)]
            apart = [each for each in level if not each.incremental][:1]
            takers = [each for each in level if each.incremental] + apart
            assert first in takers
            assert sorted(turns(scheduler, len(takers))) == sorted(each.id for each in takers)

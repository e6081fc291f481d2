"""Priorities, fairness and datagrams over a network: who gets the bytes (RFC 9218 §10, RFC 9221 §5)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quicstack.connection.connection import Connection
from quicstack.connection.retransmission import on_lost
from quicstack.simulator import Delay, Host, Loss, Node, Queue, Simulation, configurations
from quicstack.transport.scheduler import FirstComeFirstServed, RoundRobin, UrgencyScheduler
from quicstack.transport.stream import Stream

PLENTY = 900_000
LIMIT = 2000
"""Datagrams that wait for the line: all of them. Where one is lost, what comes behind it cannot be read and counted."""


class Reader:
    """Reads everything, and remembers what came, in order: (stream id, bytes), datagrams with the id -1."""

    def __init__(self) -> None:
        self.log: list[tuple[int, int]] = []
        self.ended: list[int] = []

    def start(self, host: Host) -> None:
        pass

    def ready(self, host: Host, connection: Connection) -> None:
        for stream in connection.take_ready().streams:
            data = stream.read()
            if data:
                self.log.append((stream.id, len(data)))
            if stream.at_end:
                self.ended.append(stream.id)
        while (datagram := connection.receive_datagram()) is not None:
            self.log.append((-1, len(datagram)))

    def sums(self) -> dict[int, int]:
        sums: dict[int, int] = {}
        for stream_id, size in self.log:
            sums[stream_id] = sums.get(stream_id, 0) + size
        return sums


class Line:
    """A client that writes to a server over a narrow line."""

    def __init__(self, *nodes: Node, rate: float = 4e6, **more: object) -> None:
        for_client, for_server = configurations(path_mtu_discovery=False, **more)
        self.reader = Reader()
        server, client = Host(for_server, server=True, application=self.reader), Host(for_client)
        self.simulation = Simulation([client, Delay(0.01), Queue(rate=rate, limit=LIMIT), *nodes, server])
        self.client = client
        self.connection = client.connect(server)
        self.simulation.run(until=lambda: self.connection.handshake_confirmed)

    def bulk(self, count: int, size: int = PLENTY, *, fin: bool = False) -> list[Stream]:
        streams = [self.connection.open_stream(unidirectional=True) for _ in range(count)]
        for stream in streams:
            assert stream.write(bytes(size), fin=fin) == size
        return streams

    def run(self, seconds: float) -> dict[int, int]:
        """What arrived in so many seconds."""
        self.client.wake()
        before = self.reader.sums()
        self.simulation.run(until=self.simulation.now + seconds)
        return {key: size - before.get(key, 0) for key, size in self.reader.sums().items()}

    def until_the_end(self, count: int) -> list[int]:
        self.client.wake()
        self.simulation.run(until=lambda: len(self.reader.ended) == count, limit=60.0)
        return self.reader.ended


def test_the_order_is_that_of_urgency() -> None:
    line = Line()
    streams = line.bulk(4, 30_000, fin=True)
    for stream, urgency in zip(streams, (5, 0, 7, 2), strict=True):
        stream.set_priority(urgency)
    assert line.until_the_end(4) == [streams[index].id for index in (1, 3, 0, 2)]


def test_ten_streams_get_the_same() -> None:
    line = Line()
    streams = line.bulk(10)
    line.run(0.2)
    got = line.run(0.5)
    shares = [got[stream.id] for stream in streams]
    assert min(shares) > 15_000 and max(shares) <= 1.1 * min(shares)


def test_streams_that_are_not_incremental_go_one_after_another() -> None:
    line = Line()
    streams = line.bulk(4, 30_000, fin=True)
    for stream in reversed(streams):
        stream.set_priority(3, incremental=False)
    assert line.until_the_end(4) == [stream.id for stream in streams]
    order = [stream_id for stream_id, _ in line.reader.log]
    assert order == sorted(order)


def test_a_priority_changes_midway() -> None:
    line = Line()
    first, second = line.bulk(2)
    second.set_priority(4)
    got = line.run(0.2)
    assert got[first.id] > 50_000 and second.id not in got
    second.set_priority(2)
    line.run(0.3)  # what was on its way
    got = line.run(0.2)
    assert got[second.id] > 50_000 and not got[first.id]


def test_what_an_urgent_stream_lost_goes_first() -> None:
    """Packets of both are lost, those of the other first: the urgent one is served first all the same."""
    line = Line()
    other, urgent = line.bulk(2, 3000)
    urgent.set_priority(1)
    line.client.wake()
    state = line.connection._state
    line.simulation.run(until=lambda: not other.is_sending and not urgent.is_sending)  # all is on its way
    packets = [packet for packet in state.recovery.outstanding(2) if packet.frames]
    for stream in (other, urgent):
        lost = [packet for packet in packets if packet.frames[0][1] is stream]
        assert lost
        on_lost(state, state.spaces[2], lost)
    assert len(state.outbox.sending) == 2 and state.outbox.sending.peek() is urgent


@pytest.mark.parametrize(
    ("share", "least", "most"), [(0.5, 0.4, 0.6), (0.2, 0.12, 0.28), (0.0, 0.0, 0.02), (1.0, 0.97, 1.0)]
)
def test_datagrams_have_their_share(share: float, least: float, most: float) -> None:
    line = Line(datagram_share=share)
    line.bulk(1)
    for _ in range(900):
        line.connection.send_datagram(bytes(500))
    line.run(0.2)
    got = line.run(0.4)
    datagrams = got.get(-1, 0) / sum(got.values())
    assert least <= datagrams <= most
    assert sum(got.values()) > 100_000


def test_one_datagram_waits_for_no_stream() -> None:
    line = Line()
    line.bulk(3)
    line.run(0.3)
    waiting = line.connection.stats().bytes_in_flight
    line.connection.send_datagram(b"now")
    before = len(line.reader.log)
    line.client.wake()
    line.simulation.run(until=lambda: (-1, 3) in line.reader.log[before:], limit=5.0)
    assert sum(size for _, size in line.reader.log[before:]) <= waiting + 3000


@pytest.mark.parametrize("kind", [RoundRobin, FirstComeFirstServed])
def test_another_scheduler(kind: type[RoundRobin]) -> None:
    line = Line(scheduler=kind)
    first, second = line.bulk(2)
    second.set_priority(0)
    got = line.run(0.4)
    if kind is RoundRobin:
        assert got[first.id] == pytest.approx(got[second.id], rel=0.1)
    else:
        assert got[first.id] > 50_000 and second.id not in got


priorities = st.tuples(st.integers(0, 7), st.booleans())


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.tuples(st.integers(0, 9000), priorities, priorities), min_size=1, max_size=6),
    st.sampled_from([UrgencyScheduler, RoundRobin, FirstComeFirstServed]),
    st.integers(0, 40),
)
def test_whatever_the_priorities_every_stream_completes(
    plans: list[tuple[int, tuple[int, bool], tuple[int, bool]]], kind: type[UrgencyScheduler], datagrams: int
) -> None:
    line = Line(Loss(0.05), rate=20e6, scheduler=kind)
    streams = []
    for size, before, _ in plans:
        (stream,) = line.bulk(1, size, fin=True)
        stream.set_priority(*before)
        streams.append(stream)
    for _ in range(datagrams):
        line.connection.send_datagram(bytes(900))
    line.run(0.011)
    for stream, (_, _, after) in zip(streams, plans, strict=True):
        stream.set_priority(*after)
    assert sorted(line.until_the_end(len(plans))) == [stream.id for stream in streams]
    got = line.reader.sums()
    assert [got.get(stream.id, 0) for stream in streams] == [size for size, _, _ in plans]
    line.simulation.run(until=line.simulation.now + 2.0)
    assert not line.connection._state.outbox.sending

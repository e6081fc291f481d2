"""The loop all drivers share, with a real endpoint between sources and carriers that the test controls."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest

from quicstack.drivers.pump import MAX_TRAINS, SHORTEST_TIMER, Pump, forget_connections, give_up_if_unreachable
from quicstack.drivers.system import real_environment
from quicstack.endpoint import Endpoint
from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.observe.trace import Trace
from quicstack.train import Path, SendError, Train

PATH = Path(("192.0.2.1", 4433))


class Wire:
    """Takes trains until it is full, or answers each with an error."""

    def __init__(self, room: int = 1000, error: SendError | None = None) -> None:
        self.room = room
        self.error = error
        self.sent: list[Train] = []

    def send(self, train: Train) -> Train | SendError | None:
        if self.error is not None:
            return self.error
        if not self.room:
            return train
        self.room -= 1
        self.sent.append(train)
        return None


class Flood:
    """Always has another train."""

    def __init__(self, data: bytes) -> None:
        self.refused: list[Train] = []
        self.data = data
        self.taken = 0

    def receive(self) -> Train | None:
        self.taken += 1
        return Train(self.data, 1, PATH)


@pytest.fixture
def pump(pair: Any) -> Pump:
    configuration = dataclasses.replace(pair.client, server_name="localhost")
    return Pump(Endpoint(configuration, environment=real_environment(), server=False))


def connect(pump: Pump, connections: int = 1) -> list[Any]:
    return [pump.endpoint.connect(PATH, time.monotonic()) for _ in range(connections)]


@pytest.mark.attack("c: zero-length UDP datagrams")
@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 100])
def test_a_flood_does_not_keep_the_loop_for_itself(pump: Pump, data: bytes) -> None:
    flood = Flood(data)
    pump.receive(flood)
    assert flood.taken == MAX_TRAINS


def test_what_the_engine_has_is_sent(pump: Pump) -> None:
    wire = Wire()
    pump.carriers.append(wire)
    connect(pump, 3)
    assert pump.send() is False
    assert pump.waiting is None
    assert len(wire.sent) >= 3


def test_one_turn_sends_a_bounded_number_of_trains(pump: Pump) -> None:
    wire = Wire()
    pump.carriers.append(wire)
    connect(pump, MAX_TRAINS + 1)
    assert pump.send() is True
    assert len(wire.sent) == MAX_TRAINS
    while pump.send():
        assert len(wire.sent) % MAX_TRAINS == 0
    assert len(wire.sent) > MAX_TRAINS


def test_a_full_socket_keeps_exactly_one_train(pump: Pump) -> None:
    wire = Wire(room=1)
    pump.carriers.append(wire)
    connect(pump, 4)
    assert pump.send() is False
    waiting = pump.waiting
    assert waiting is not None
    assert pump.send() is False
    assert pump.waiting is waiting  # nothing else was built in the meantime
    wire.room = 1000
    pump.send()
    assert pump.waiting is None
    assert wire.sent[1] is waiting


def test_the_path_names_the_socket(pump: Pump) -> None:
    wires = [Wire(), Wire()]
    pump.carriers += wires
    pump.endpoint.connect(PATH._replace(socket=1), time.monotonic())
    pump.send()
    assert not wires[0].sent
    assert wires[1].sent


@pytest.mark.parametrize("error", list(SendError))
def test_errors_of_sending_reach_the_engine_and_go_no_further(pump: Pump, error: SendError) -> None:
    pump.carriers.append(Wire(error=error))
    [engine] = connect(pump)
    pump.send()
    assert pump.failure is error
    assert engine.stats().counters.send_errors >= 1
    assert engine.closed is None


def test_refused_datagrams_are_told_once(pump: Pump) -> None:
    pump.carriers.append(Wire())
    [engine] = connect(pump)
    source = Flood(b"")
    source.refused.append(Train(b"x", 1, PATH))
    pump.receive(source)
    assert (pump.failure, source.refused) == (SendError.REFUSED, [])
    assert engine.stats().counters.send_errors == 1


def test_the_network_is_believed_before_the_first_packet_only(pump: Pump, pair: Any) -> None:
    engines = connect(pump, 3)
    give_up_if_unreachable(engines[0], SendError.TOO_BIG)
    assert engines[0].closed is None
    for engine, error in zip(engines[1:], (SendError.REFUSED, SendError.UNREACHABLE), strict=True):
        give_up_if_unreachable(engine, error)
        assert isinstance(engine.closed, ConnectionClosed)
        assert engine.closed.code == TransportErrorCode.CONNECTION_REFUSED
        assert "192.0.2.1" in engine.closed.reason
    client, server = Wire(), Wire()
    pump.carriers.append(client)
    [engine] = connect(pump)
    pump.send()
    other = Pump(Endpoint(pair.server, environment=real_environment(), server=True))
    other.carriers.append(server)
    for train in client.sent:
        other.endpoint.receive(train, time.monotonic())
    other.send()
    for train in server.sent:
        pump.endpoint.receive(train, time.monotonic())
    give_up_if_unreachable(engine, SendError.REFUSED)
    assert engine.closed is None


def test_a_timer_is_never_shorter_than_loops_can_measure(pump: Pump) -> None:
    assert pump.delay() is None
    pump.carriers.append(Wire())
    past = time.monotonic() - 100
    pump.endpoint.connect(PATH, past)
    pump.send()
    assert pump.delay() == SHORTEST_TIMER
    pump.expire()
    delay = pump.delay()
    assert delay is None or delay >= SHORTEST_TIMER


class Watcher(Trace):
    """A trace that tells when it ends."""

    def __init__(self, ended: list[str]) -> None:
        self.ended = ended

    def close(self) -> None:
        self.ended.append("closed")


def test_without_sockets_every_connection_and_its_trace_ends(pair: Any) -> None:
    ended: list[str] = []
    configuration = dataclasses.replace(pair.client, trace_factory=lambda odcid, is_client: Watcher(ended))
    pump = Pump(Endpoint(configuration, environment=real_environment(), server=False))
    pump.carriers.append(Wire())
    engines = connect(pump, 3)
    pump.send()
    engines[0].close(7, "", now=time.monotonic())
    forget_connections(pump.endpoint)
    assert not pump.endpoint.connections
    assert all(engine.terminated for engine in engines)
    assert ended == ["closed"] * 3
    assert isinstance(engines[0].closed, ConnectionClosed) and engines[0].closed.code == 7

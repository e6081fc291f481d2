"""What is done a train at a time is the same as what is done packet by packet: the same bytes, the same end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from peer import Pair

from quicstack.connection import receive, send
from quicstack.connection.connection import Connection
from quicstack.observe.trace import Trace
from quicstack.train import Train
from quicstack.wire.varint import encode_varint

UP, DOWN = Random("up").randbytes(700_000), Random("down").randbytes(900_000)


@dataclass
class Outcome:
    """What a transfer put on the wire, and what it left."""

    wire: list[bytes] = field(default_factory=list)
    longest: int = 0
    state: list[object] = field(default_factory=list)


def whole(train: Train) -> list[Train]:
    return [train]


def one_by_one(train: Train) -> list[Train]:
    return [Train(datagram, len(datagram), train.path, train.ecn) for datagram in train.datagrams()]


def transfer(
    carry: Callable[[Train], list[Train]] = whole, *, loses: frozenset[int] = frozenset(), traced: bool = False
) -> Outcome:
    """Both ways at once over one stream; ``loses`` are packets of trains, by number of the train times 100."""
    settings: dict[str, Any] = {"pacing": False, "grease": False}
    if traced:
        settings["trace_factory"] = lambda dcid, is_client: Watcher()
    pair = Pair(client=settings, server=settings)
    pair.exchange()
    outcome = Outcome()
    stream = pair.client.open_stream()
    received = {pair.client: bytearray(), pair.server: bytearray()}
    written = {pair.client: 0, pair.server: 0}
    data = {pair.client: UP, pair.server: DOWN}
    trains = 0

    def serve(connection: Connection) -> None:
        mine = connection.stream(stream.id)
        connection.take_ready()
        if mine is None:
            return
        received[connection] += mine.read()
        left = data[connection][written[connection] :]
        if left:
            written[connection] += mine.write(left, fin=True)

    for _ in range(4000):
        serve(pair.client)
        serve(pair.server)
        for pulled, deliver in ((pair.from_client(), pair.to_server), (pair.from_server(), pair.to_client)):
            for train in pulled:
                outcome.wire.append(train.data)
                datagrams = one_by_one(train)
                outcome.longest = max(outcome.longest, len(datagrams))
                kept = [part for n, part in enumerate(datagrams) if trains * 100 + n not in loses]
                trains += 1
                if len(kept) == len(datagrams):
                    deliver(carry(train))
                elif kept:
                    joined = Train(b"".join(part.data for part in kept), train.segment_size, train.path, train.ecn)
                    deliver(carry(joined))
        pair.now += 0.005
        pair.client_endpoint.handle_timeout(pair.now)
        pair.server_endpoint.handle_timeout(pair.now)
        if received[pair.client] == DOWN and received[pair.server] == UP:
            break
    pair.exchange()
    assert (received[pair.client] == DOWN, received[pair.server] == UP) == (True, True)
    for connection in (pair.client, pair.server):
        state = connection._state
        acks = state.spaces[2].acks
        outcome.state += [
            acks.unacked, state.recovery.bytes_in_flight, len(state.streams.streams), connection.closed,
            state.streams.receive_window.received, state.streams.send_window.used,
            len(list(state.recovery.outstanding(2))),
        ]  # fmt: skip
    return outcome


class Watcher(Trace):
    """A trace that somebody looks at: packets are reported one by one, so none is taken in as part of a run."""

    __slots__ = ()


LOSSES = frozenset({3020, 3021, 4000, 5010, 7033, 8002, 8004, 8006})


@pytest.mark.parametrize("loses", [frozenset[int](), LOSSES], ids=["no-loss", "loss"])
def test_the_same_bytes_without_the_shortcuts(loses: frozenset[int], monkeypatch: pytest.MonkeyPatch) -> None:
    quick = transfer(loses=loses)
    assert quick.longest > 20
    monkeypatch.setattr(receive, "take_run", lambda *arguments: 0)
    monkeypatch.setattr(send, "fill_run", lambda *arguments: [])
    assert transfer(loses=loses) == quick


@pytest.mark.parametrize("loses", [frozenset[int](), LOSSES], ids=["no-loss", "loss"])
def test_the_same_end_packet_by_packet(loses: frozenset[int]) -> None:
    """There are more acknowledgements, so other bytes on the wire; the streams and what is left are the same."""
    slow, quick = transfer(one_by_one, loses=loses), transfer(whole, loses=loses)
    assert slow.state == quick.state


def test_the_same_bytes_when_somebody_watches() -> None:
    assert transfer(traced=True) == transfer()


def test_runs_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the tests above would compare a thing with itself."""
    taken: list[int] = []
    filled: list[int] = []
    take, fill = receive.take_run, send.fill_run

    def watched_take(*arguments: Any) -> int:
        taken.append(take(*arguments))
        return taken[-1]

    def watched_fill(*arguments: Any) -> list[bytes]:
        payloads = fill(*arguments)
        filled.append(len(payloads))
        return payloads

    monkeypatch.setattr(receive, "take_run", watched_take)
    monkeypatch.setattr(send, "fill_run", watched_fill)
    transfer()
    assert max(taken) > 20 and max(filled) > 20


@pytest.mark.parametrize("third", [encode_varint(70), bytes((70,)), b"\x80\x00\x00\x46"], ids=["2", "not-1", "4"])
def test_a_run_ends_where_its_offset_takes_more_bytes(third: bytes) -> None:
    pair = Pair()
    pair.exchange()
    pair.client.open_stream().write(bytes(10))
    pair.exchange()
    state = pair.server._state
    space = state.spaces[2]
    number = space.acks.largest + 1
    payloads = [b"\x0c\x00" + offset + bytes(30) for offset in (b"\x0a", b"\x28", third)]
    packets = [(number + index, payload, 60) for index, payload in enumerate(payloads)]
    assert receive.take_run(state, space, packets, 0, pair.now, 0) == 2
    stream = pair.server.stream(0)
    assert stream is not None and stream.readable == 70

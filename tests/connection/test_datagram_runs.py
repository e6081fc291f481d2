"""DATAGRAM frames that are written and read as one: the same bytes, and the same datagrams, as frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peer import Pair, Peer
from test_fast_paths import Watcher, one_by_one, whole

from quicstack.connection import receive, send
from quicstack.connection.connection import Connection
from quicstack.connection.datagrams import _datagrams_of
from quicstack.errors import ConfigurationError, ConnectionClosed, TransportErrorCode
from quicstack.train import SendError, Train
from quicstack.transport.datagram_queue import DatagramQueue
from quicstack.wire import frame as f

ALIKE = [100] * 400
BIG = [1000] * 90
MIXED = [*([100] * 40), 7, 0, 0, 0, *([1100] * 5), *([60] * 70), 1156, 1, *([1000, 900] * 10), *([63, 64] * 30)]
FULL = [1168] * 60
SIZES = {
    "alike": ALIKE,
    "full": FULL,
    "big": BIG,
    "mixed": MIXED,
    "any": [Random(n).randrange(1150) for n in range(150)],
}


class Flood:
    """Datagrams both ways, with a stream beside them now and then: what went over the wire, and what arrived."""

    def __init__(
        self,
        sizes: list[int],
        carry: Callable[[Train], list[Train]] = whole,
        *,
        loses: int = 0,
        traced: bool = False,
        stream: bool = False,
    ) -> None:
        options: dict[str, Any] = {"grease": False, "pacing": False}
        if traced:
            options["trace_factory"] = lambda dcid, is_client: Watcher()
        self.pair = pair = Pair(client=options, server=options)
        pair.exchange()
        self.wire: list[bytes] = []
        self.longest = 0
        self.arrived: dict[str, list[bytes]] = {"client": [], "server": []}
        self.sent = [bytes((n & 0xFF,)) * size for n, size in enumerate(sizes)]
        self.loses = loses
        waiting = {"client": list(self.sent), "server": list(self.sent)}
        if stream:
            pair.client.open_stream().write(bytes(60_000), fin=True)
        idle = 0
        while idle < 8:
            idle += 1
            for name, connection in (("client", pair.client), ("server", pair.server)):
                batch, waiting[name] = waiting[name][:70], waiting[name][70:]
                for data in batch:
                    assert connection.send_datagram(data)
                    idle = 0
                self._take(name, connection)
            self._carry(pair.from_client(), pair.to_server, carry)
            self._carry(pair.from_server(), pair.to_client, carry)
            pair.now += 0.005
            pair.client_endpoint.handle_timeout(pair.now)
            pair.server_endpoint.handle_timeout(pair.now)
        self.state = [
            value
            for connection in (pair.client, pair.server)
            for value in (
                connection._state.spaces[2].acks.unacked,
                connection._state.recovery.bytes_in_flight,
                connection._state.datagrams_out.size,
                connection._state.datagrams_in.size,
                connection.closed,
                connection.stats().datagrams_dropped_in,
            )
        ]

    def _take(self, name: str, connection: Connection) -> None:
        for stream in connection.take_ready().streams:
            stream.read()
        while (data := connection.receive_datagram()) is not None:
            self.arrived[name].append(data)

    def _carry(
        self, trains: list[Train], deliver: Callable[[list[Train]], None], carry: Callable[[Train], list[Train]]
    ) -> None:
        for train in trains:
            self.wire.append(train.data)
            datagrams = train.datagrams()
            self.longest = max(self.longest, len(datagrams))
            if self.loses and len(self.wire) % self.loses == 0 and len(datagrams) > 4:
                del datagrams[2]
            deliver(carry(Train(b"".join(datagrams), train.segment_size, train.path, train.ecn)))


@pytest.mark.parametrize("loses", [0, 3], ids=["no-loss", "loss"])
@pytest.mark.parametrize("stream", [False, True], ids=["alone", "with a stream"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_the_same_bytes_without_the_shortcuts(
    sizes: list[int], stream: bool, loses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Flood(sizes, loses=loses, stream=stream)
    monkeypatch.setattr(receive, "take_datagram_run", lambda *arguments: 0)
    monkeypatch.setattr(send, "fill_datagram_run", lambda *arguments: [])
    slow = Flood(sizes, loses=loses, stream=stream)
    assert quick.wire == slow.wire
    assert quick.arrived == slow.arrived
    assert quick.state == slow.state
    if not loses:
        assert quick.arrived == {"client": quick.sent, "server": quick.sent}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_the_same_datagrams_packet_by_packet(sizes: list[int]) -> None:
    quick, slow = Flood(sizes), Flood(sizes, one_by_one)
    assert quick.arrived == slow.arrived == {"client": quick.sent, "server": quick.sent}
    assert quick.state == slow.state


def test_the_same_bytes_when_somebody_watches() -> None:
    assert Flood(ALIKE, traced=True).wire == Flood(ALIKE).wire


def test_runs_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the tests above would compare a thing with itself."""
    taken: list[int] = []
    filled: list[int] = []
    take, fill = receive.take_datagram_run, send.fill_datagram_run

    def watched_take(*arguments: Any) -> int:
        taken.append(take(*arguments))
        return taken[-1]

    def watched_fill(*arguments: Any) -> list[bytes]:
        payloads = fill(*arguments)
        filled.append(len(payloads))
        return payloads

    monkeypatch.setattr(receive, "take_datagram_run", watched_take)
    monkeypatch.setattr(send, "fill_datagram_run", watched_fill)
    for sizes, least in ((ALIKE, 4), (BIG, 20)):
        taken.clear()
        filled.clear()
        Flood(sizes)
        assert max(taken) >= least
        assert max(filled) >= least


def test_packets_of_nearly_one_size_share_a_train() -> None:
    """They are padded to the size of the first, which is cheaper than a train each."""
    pair = Pair(client={"pacing": False})
    pair.exchange()
    for size in [1100, 1080, 1090, 1099, 1085, 1095]:
        pair.client.send_datagram(bytes(size))
    (train,) = pair.from_client()
    datagrams = train.datagrams()
    assert [len(datagram) for datagram in datagrams[:-1]] == [train.segment_size] * 5
    assert len(datagrams[-1]) < train.segment_size


def test_much_smaller_ones_are_not_padded() -> None:
    pair = Pair(client={"pacing": False})
    pair.exchange()
    for size in [1100, 700, 1100]:
        pair.client.send_datagram(bytes(size))
    trains = pair.from_client()
    assert sum(len(train.data) for train in trains) < 1100 + 700 + 1100 + 3 * 40


# -- what does not fit ---------------------------------------------------------------------------------------------


def test_the_limit_follows_the_path() -> None:
    """What was found to fit does not fit any more on a smaller path, and the end of a connection is seen as well."""
    pair = Pair(client={"max_datagram_size": 1400, "path_mtu_discovery": True})
    pair.exchange()
    limit = pair.client.max_datagram_payload
    assert limit > 1300
    for _ in range(2):
        assert pair.client.send_datagram(bytes(limit))
        assert pair.client.send_datagram(bytes(limit - 20))
        assert pair.client.datagram_fits(limit) and not pair.client.datagram_fits(limit + 1)
        with pytest.raises(ConfigurationError, match=f"at most {limit} bytes"):
            pair.client.send_datagram(bytes(limit + 1))
    trains = pair.from_client()
    pair.client.send_failed(SendError.TOO_BIG, trains[0].segment_size)
    assert not pair.client.datagram_fits(limit)
    smaller = pair.client.max_datagram_payload
    assert smaller < 1200
    assert pair.client.send_datagram(bytes(smaller))
    with pytest.raises(ConfigurationError, match=f"at most {smaller} bytes"):
        pair.client.send_datagram(bytes(smaller + 1))
    pair.client.close()
    for size in (0, 10, smaller + 1):
        with pytest.raises(ConnectionClosed):
            pair.client.send_datagram(bytes(size))


def test_what_got_too_long_while_it_waited_is_dropped() -> None:
    pair = Pair(client={"max_datagram_size": 1400, "path_mtu_discovery": True, "pacing": False})
    pair.exchange()
    for size in (1300, 1300, 50, 1300, 60):
        pair.client.send_datagram(bytes(size))
    pair.client.send_failed(SendError.TOO_BIG, 1400)
    pair.exchange()
    assert [len(data) for data in pair.server.receive_datagrams()] == [50, 60]
    assert pair.client.stats().datagrams_dropped_out == 3


@pytest.mark.parametrize("limit", [3000, 100])
def test_a_frame_over_the_limit_among_those_within(limit: int) -> None:
    """RFC 9221 §3: each frame counts, in packets that hold nothing else and in packets that do."""
    small = f.write_datagram(bytes(20))
    for payload in (small * 3 + f.write_datagram(bytes(150)) + small, b"\x01" + small + f.write_datagram(bytes(150))):
        peer = Peer(max_datagram_frame_size=limit)
        peer.sends(payload)
        if limit == 100:
            assert peer.closed_with() == TransportErrorCode.PROTOCOL_VIOLATION
        else:
            assert bytes(150) in peer.engine.receive_datagrams()


@pytest.mark.parametrize("start", [b"", b"\x01", b"\x31\x05abcde\x31\x05abcde"], ids=["alone", "PING", "others"])
def test_a_frame_that_ends_too_late(start: bytes) -> None:
    peer = Peer()
    peer.sends(start + b"\x31\x05abcd")
    assert peer.closed_with() == TransportErrorCode.FRAME_ENCODING_ERROR


# -- cutting a packet ----------------------------------------------------------------------------------------------


@given(
    st.lists(st.one_of(st.binary(max_size=70), st.sampled_from([b"\x31\x04aaaa", b"\x31\x02", bytes(5)])), min_size=1),
    st.integers(0, 70),
)
@settings(max_examples=150, deadline=None)
def test_what_was_written_is_read(datagrams: list[bytes], padding: int) -> None:
    payload = b"".join(map(f.write_datagram, datagrams))
    assert list(_datagrams_of(payload + bytes(padding)) or ()) == datagrams
    assert f.read_datagrams(payload + bytes(padding), 0) == (datagrams, len(payload))
    assert _datagrams_of(payload + b"\x01") is None


@pytest.mark.parametrize("count", [63, 64, 65, 600])
def test_however_many_share_a_packet(count: int) -> None:
    datagrams = [bytes((n & 0xFF,)) * 9 for n in range(count)]
    payload = b"".join(map(f.write_datagram, datagrams))
    assert list(_datagrams_of(payload) or ()) == datagrams
    assert list(_datagrams_of(payload + bytes(3)) or ()) == datagrams


@given(st.binary(max_size=40).map(lambda tail: b"\x31" + tail))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_alike(payload: bytes) -> None:
    """Whatever is taken for a packet of datagrams is one to the ordinary parser as well."""
    found = _datagrams_of(payload)
    if found is not None:
        datagrams, end = f.read_datagrams(payload, 0)
        assert list(found) == datagrams and not payload[end:].strip(b"\0")


# -- the queue -----------------------------------------------------------------------------------------------------


def test_a_full_queue_keeps_the_newest() -> None:
    queue = DatagramQueue(1000)
    queue.push_newest([bytes((n,)) * 36 for n in range(25)])
    assert (len(queue), queue.dropped, queue.size) == (10, 15, 1000)
    assert [data[0] for data in queue.take(10)] == list(range(15, 25))
    assert queue.size == 0
    queue.push_newest([bytes(2000)])  # better than none
    assert len(queue) == 1


def test_alike_ones_are_counted_from_the_oldest() -> None:
    queue = DatagramQueue(1 << 20)
    for size in (5, 5, 5, 6, 5):
        assert queue.push(bytes(size))
    assert [queue.alike(most) for most in (1, 3, 4, 9)] == [1, 3, 3, 3]
    queue.take(3)
    assert queue.alike(9) == 1


# -- acknowledgements ----------------------------------------------------------------------------------------------


def test_a_full_window_does_not_keep_acknowledgements_back() -> None:
    peer = Peer(pacing=False)
    peer.hears(ack=True)
    for _ in range(40):
        assert peer.engine.send_datagram(bytes(1000))
    peer.hears()
    assert peer.hears() == []
    peer.sends(b"\x01")
    peer.sends(b"\x01")
    assert [frame.name[:3] for frame in peer.hears()] == ["ACK"]


def test_the_limit_follows_the_connection_id() -> None:
    """A longer one leaves less room (RFC 9000 §19.15)."""
    peer = Peer()
    peer.hears(ack=True)
    limit = peer.engine.max_datagram_payload
    assert peer.engine.send_datagram(bytes(limit))
    peer.hears(ack=True)
    peer.sends(f.write_new_connection_id(8, 8, bytes(range(20)), bytes(16)))
    smaller = peer.engine.max_datagram_payload
    assert smaller < limit
    with pytest.raises(ConfigurationError, match=f"at most {smaller} bytes"):
        peer.engine.send_datagram(bytes(limit))


def test_an_acknowledgement_goes_with_the_first_packet_that_has_room() -> None:
    peer = Peer(pacing=False)
    peer.hears(ack=True)
    peer.sends(b"\x01")
    for size in (peer.engine.max_datagram_payload, *([100] * 60)):
        assert peer.engine.send_datagram(bytes(size))
    names = [frame.name[:3] for frame in peer.hears()]
    assert names[:3] == ["DAT", "ACK", "DAT"]
    assert names.count("ACK") == 1

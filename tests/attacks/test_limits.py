"""What a peer can make grow, filled until it is full: the limits of docs/security.md that no other test reaches."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path as File

import pytest
from measure import size_of
from peer import INITIAL, ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer, client_configuration, environment

from quicstack.endpoint import Endpoint
from quicstack.errors import TransportErrorCode
from quicstack.observe.qlog import QlogTrace
from quicstack.token_store import MAX_PER_SERVER, MAX_SERVERS, MAX_TOKEN, MemoryTokenStore
from quicstack.train import Path, Train
from quicstack.transport import address_tokens
from quicstack.transport.address_tokens import AddressTokens
from quicstack.wire import frame as f

ROOT = File(__file__).parents[2]


def newcomers(pair: Pair, count: int) -> list[Endpoint]:
    """Clients that try to connect, each from its own address, and carry on until nothing happens."""
    clients = []
    for n in range(count):
        client = Endpoint(client_configuration(groups=(0x1D,)), environment=environment(1000 + n), server=False)
        client.connect(TO_SERVER, pair.now)
        clients.append(client)
        path = Path((f"203.0.113.{n}", 4000 + n))
        for _ in range(6):
            pair.now += 0.01
            while (train := client.next_train(pair.now)) is not None:
                pair.server_endpoint.receive(Train(train.data, train.segment_size, path), pair.now)
            for endpoint in (client, pair.server_endpoint):
                endpoint.handle_timeout(pair.now)
            while (train := pair.server_endpoint.next_train(pair.now)) is not None:
                if train.path == path:
                    client.receive(Train(train.data, train.segment_size, TO_SERVER), pair.now)
    return clients


def connections() -> None:
    pair = Pair(server={"max_connections": 4})
    clients = newcomers(pair, 7)
    assert sum(next(iter(client.connections)).handshake_confirmed for client in clients) == 4
    assert len(pair.server_endpoint.connections) == 4
    assert pair.server_endpoint.counters.connections_refused >= 3
    assert pair.server_endpoint.next_train(pair.now) is None


def connection_ids() -> None:
    pair = Pair()
    newcomers(pair, 5)
    assert len(pair.server_endpoint._by_cid) <= 5 * 5
    assert not pair.server_endpoint._fresh_cids
    (first,) = pair.from_client()
    for n in range(200):  # as good as an Initial can look that no key opens
        data = first.data[:6] + n.to_bytes(8, "big") + first.data[14:]
        pair.to_server([Train(data, len(data), TO_CLIENT)])
    assert len(pair.server_endpoint._by_cid) <= 5 * 5 and not pair.server_endpoint._fresh_cids


def used_tokens() -> None:
    before = address_tokens.MAX_REMEMBERED
    address_tokens.MAX_REMEMBERED = 50
    try:
        clock = [1e9]
        tokens = AddressTokens(bytes(32), random.Random(1).randbytes, lambda: clock[0])
        for _ in range(200):
            clock[0] += 3600.0
            assert tokens.accept_new_token(tokens.seal_new_token(("192.0.2.1", 1), 1), ("192.0.2.1", 1), 1)
        assert len(tokens._used) == 50 and len(tokens._keys) <= 9
    finally:
        address_tokens.MAX_REMEMBERED = before


def tokens_of_servers() -> None:
    store = MemoryTokenStore()
    for n in range(3 * MAX_SERVERS):
        store.put(f"server {n}", bytes(MAX_TOKEN + 1))
        for token in range(n % 2 * 10):
            store.put(f"server {n}", bytes([token]))
    assert len(store._tokens) == MAX_SERVERS
    assert max(map(len, store._tokens.values())) == MAX_PER_SERVER
    assert all(len(token) <= MAX_TOKEN for tokens in store._tokens.values() for token in tokens)


def datagrams_to_send() -> None:
    peer = Peer(datagram_buffer=50_000)
    accepted = sum(peer.engine.send_datagram(bytes(1000)) for _ in range(200))
    assert accepted == 50_000 // 1064
    assert peer.engine.stats().datagrams_dropped_out == 200 - accepted


def streams() -> None:
    peer = Peer(initial_max_streams_bidi=10)
    for n in range(10):
        peer.sends(f.stream_header(4 * n, 0, 0, False))
    assert peer.engine.closed is None
    peer.sends(f.stream_header(40, 0, 0, False))
    assert peer.closed_with() == TransportErrorCode.STREAM_LIMIT_ERROR


def unread_data() -> None:
    peer = Peer(initial_max_data=50_000, max_connection_window=50_000)
    before = size_of(peer.engine._state)
    for n in range(49):
        peer.sends(f.stream_header(4 * (n % 10), 1000 * (n // 10), 1000, False) + bytes(1000))
    assert peer.engine.closed is None and size_of(peer.engine._state) - before < 120_000
    peer.sends(f.stream_header(400, 2000, 1000, False) + bytes(1000))
    assert peer.closed_with() == TransportErrorCode.FLOW_CONTROL_ERROR


def windows_that_grow() -> None:
    received, streams = fast_reader(Peer(max_stream_window=1 << 20, max_connection_window=3 << 20))
    assert received == 1 << 20 and streams <= 3 << 20


def memory_of_all_windows() -> None:
    peer = Peer(memory_budget=300_000)
    budget = peer.endpoint._budget
    stream, connection = fast_reader(peer)
    assert stream - (1 << 18) + connection - (1 << 20) <= budget.used <= 300_000
    peer.engine.close(now=peer.now)
    assert budget.used == 0


def fast_reader(peer: Peer) -> tuple[int, int]:
    """The windows of a stream and of the connection, when all is read at once for long enough."""
    peer.engine._state.recovery.rtt.smoothed_rtt = 10.0  # a reader as fast as can be
    streams = peer.engine._state.streams
    offset = 0
    for _ in range(100):
        size = streams.receive_window.limit - streams.receive_window.received
        for _ in range(min(40, size // 1100)):
            peer.sends(f.stream_header(0, offset, 1100, False) + bytes(1100))
            offset += 1100
        received = peer.engine.stream(0)
        assert received is not None and received.receive is not None
        received.read()
        peer.hears()
    return received.receive.window.size, streams.receive_window.size


def challenges() -> None:
    peer = Peer()
    elsewhere = Path(("203.0.113.9", 50000))
    for _ in range(5):  # so that the limit of three times would allow more
        peer.sends(b"\x01", bytes(1180), path=elsewhere)
    sent = 0
    for _ in range(2000):
        peer.pair.now += 0.02
        peer.endpoint.handle_timeout(peer.now)
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            _, frames = peer.opens(train.data)
            sent += train.path == elsewhere and any(frame.name == "PATH_CHALLENGE" for frame in frames)
    assert sent == 3
    assert peer.engine.path != elsewhere or peer.engine.closed is not None


def acks() -> None:
    peer = Peer()
    for _ in range(300):
        peer.packet(b"\x01")
        peer.sends(b"\x01")
    train = peer.endpoint.next_train(peer.now)
    assert train is not None
    (ack, *_) = [frame for frame in peer.opens(train.data)[1] if frame.name.startswith("ACK")]
    ranges = ack.fields["ranges"]
    assert isinstance(ranges, list) and len(ranges) == 32
    assert len(peer.engine._state.spaces[ONE_RTT].acks._ranges) == 256


def closing_reasons() -> None:
    peer = Peer()
    peer.sends(f.write_connection_close(1, b"x" * 1100, None))
    assert len(str(peer.engine.closed)) < 600


def keys_in_the_log() -> None:
    import io

    trace = QlogTrace(io.StringIO(), odcid=b"", is_client=True)
    for generation in range(1000):
        trace.key_updated(float(generation), "1RTT", generation)
    assert trace.failed is None and len(trace._keys) == 1


def crypto_ahead() -> None:
    peer = Peer("server")
    space = peer.engine._state.spaces[ONE_RTT]
    peer.sends(f.write_crypto(space.crypto.incoming.end + (1 << 16) - 1, b"x"))
    assert peer.engine.closed is None
    peer.sends(f.write_crypto(space.crypto.incoming.end + (1 << 16), b"x"))
    assert peer.closed_with() == TransportErrorCode.CRYPTO_BUFFER_EXCEEDED
    assert not peer.engine._state.spaces[INITIAL].crypto.incoming.gaps


CASES: dict[str, Callable[[], None]] = {
    fill.__name__: fill
    for fill in (
        connections, connection_ids, used_tokens, tokens_of_servers, datagrams_to_send, streams, unread_data,
        windows_that_grow, memory_of_all_windows, challenges, acks, closing_reasons,
        keys_in_the_log, crypto_ahead,
    )
}  # fmt: skip


@pytest.mark.attack("CVE-2026-44433", "fuzz-queue-bounds")
@pytest.mark.parametrize("queue", CASES)
def test_it_is_full(queue: str) -> None:
    CASES[queue]()

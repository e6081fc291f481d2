"""What a connection tells about itself."""

from __future__ import annotations

from math import inf

from peer import ONE_RTT, Pair, Peer

from quicstack.train import Path
from quicstack.wire import frame as f
from quicstack.wire.version import QUIC_V1, QUIC_V2


def test_before_the_handshake() -> None:
    stats = Pair().client.stats()
    assert stats.handshake_time is None and stats.cipher_suite is None and stats.alpn_protocol is None
    assert (stats.version, stats.paths, stats.streams_open) == (QUIC_V1, 1, 0)
    assert stats.ssthresh == inf and stats.congestion_window >= 12_000


def test_what_was_negotiated() -> None:
    pair = Pair(client={"versions": (QUIC_V1, QUIC_V2)}, server={"versions": (QUIC_V2, QUIC_V1)})
    start = pair.now
    pair.exchange()
    for stats in (pair.client.stats(), pair.server.stats()):
        assert (stats.version, stats.cipher_suite, stats.group) == (QUIC_V2, "TLS_AES_128_GCM_SHA256", "x25519")
        assert stats.alpn_protocol == "test"
        assert stats.handshake_time is not None and 0 <= stats.handshake_time < pair.now - start


def test_what_went_over_the_wire() -> None:
    """What one side has sent the other has received, as the path carried it."""
    pair = Pair()
    carried = {"client": [0, 0], "server": [0, 0]}
    pair.client.ping()
    for _ in range(8):
        pair.now += 0.03
        for endpoint in (pair.client_endpoint, pair.server_endpoint):
            endpoint.handle_timeout(pair.now)
        for name, trains, deliver in (
            ("client", pair.from_client(), pair.to_server),
            ("server", pair.from_server(), pair.to_client),
        ):
            carried[name][0] += sum(len(train.datagrams()) for train in trains)
            carried[name][1] += sum(len(train.data) for train in trains)
            deliver(trains)
    client, server = pair.client.stats().counters, pair.server.stats().counters
    for sender, receiver, name in ((client, server, "client"), (server, client, "server")):
        assert [sender.datagrams_sent, sender.bytes_sent] == carried[name]
        assert [receiver.datagrams_received, receiver.bytes_received] == carried[name]
        assert sender.packets_sent >= receiver.packets_received > 0
    assert client.packets_lost == client.bytes_lost == 0


def test_what_was_lost() -> None:
    peer = Peer()
    peer.hears(ack=True)
    peer.engine.send_datagram(bytes(500))
    train = peer.endpoint.next_train(peer.now)
    assert train is not None
    for _ in range(5):
        peer.engine.ping()
        peer.hears()
    peer.acknowledges(max(peer.received))
    counters = peer.engine.stats().counters
    pings = counters.packets_lost - 1
    assert 1 <= counters.packets_lost <= 5
    assert len(train.data) <= counters.bytes_lost <= len(train.data) + 60 * pings


def test_streams_paths_and_keys() -> None:
    peer = Peer(initial_max_streams_bidi=20)
    peer.hears(ack=True)
    peer.engine.open_stream()
    peer.engine.open_stream(unidirectional=True)
    peer.sends(f.stream_header(8, 0, 1, False) + b"x")
    stats = peer.engine.stats()
    assert (stats.streams_open, stats.streams_opened, stats.streams_accepted) == (3, 2, 3)  # 0 and 4 are open as well
    assert stats.paths == 1
    peer.sends(b"\x1a12345678", path=Path(("198.51.100.7", 50001)))
    assert peer.engine.stats().paths == 2
    assert peer.engine.update_keys(peer.now)
    assert peer.engine.stats().counters.key_updates == 1


def test_congestion_and_ecn() -> None:
    peer = Peer()
    peer.hears(ack=True)
    before = peer.engine.stats()
    assert before.ecn == "unknown" or before.ecn == "testing"
    assert before.pacing_rate > 0 and 0 < before.min_rtt <= before.latest_rtt
    peer.sends(b"\x01", ecn=3)
    assert peer.engine.stats().ecn_ce_received == before.ecn_ce_received + 1
    peer.engine.send_datagram(bytes(1000))
    peer.hears()
    assert peer.engine.stats().bytes_in_flight > 1000
    peer.sends(f.write_ack([(peer.state.spaces[ONE_RTT].acks.largest, max(peer.received))], 0, (0, 0, 0)))
    assert peer.engine.stats().ecn == "failed"  # the marks did not come back


def test_datagrams_that_were_dropped() -> None:
    peer = Peer(datagram_buffer=2000)
    for _ in range(4):
        peer.sends(f.write_datagram(bytes(900)))
    while peer.engine.send_datagram(bytes(900)):
        pass
    stats = peer.engine.stats()
    assert stats.datagrams_dropped_in > 0 and stats.datagrams_dropped_out == 1

"""Routing, deadlines and limits over many connections (RFC 9000 §5.2, §10.3)."""

from __future__ import annotations

import sys
from pathlib import Path as FilePath

import pytest

sys.path.insert(0, str(FilePath(__file__).parent / "connection"))
from peer import TO_CLIENT, TO_SERVER, Pair, client_configuration, environment

from quicstack.endpoint import Endpoint
from quicstack.errors import ConfigurationError, ConnectionClosed
from quicstack.observe.trace import Trace
from quicstack.train import Path, SendError, Train


def initial(seed: int) -> Train:
    client = Endpoint(client_configuration(groups=(0x1D,)), environment=environment(seed), server=False)
    client.connect(TO_SERVER, 100.0)
    train = client.next_train(100.0)
    assert train is not None
    return train


def test_an_initial_that_does_not_open_leaves_nothing() -> None:
    """§5.2.2: state is made for those who hold the keys, which anyone can compute but not by accident."""
    closed = []

    class Watch(Trace):
        def close(self) -> None:
            closed.append(self)

    pair = Pair(server={"trace_factory": lambda odcid, is_client: Watch()})
    for seed in range(20):
        train = initial(seed + 50)
        spoiled = train.data[:-1] + bytes([train.data[-1] ^ 1])
        pair.to_server([Train(spoiled, len(spoiled), TO_CLIENT)])
    endpoint = pair.server_endpoint
    assert not endpoint.connections and not endpoint.take_ready()
    assert not pair.from_server()
    assert endpoint.next_timeout() is None
    assert not endpoint._by_cid and not endpoint._deadlines._known and not endpoint._handshakes
    assert endpoint.counters.initials_refused == len(closed) == 20


def test_handshakes_at_a_time() -> None:
    """Whoever does not go on with a handshake takes the place of a few others, not of all."""
    pair = Pair(server={"max_handshakes": 5, "handshake_timeout": 3.0})
    for seed in range(10):
        pair.to_server([initial(seed + 50)])
    assert len(pair.server_endpoint.connections) == 5
    assert pair.server_endpoint.counters.connections_refused == 5
    pair.exchange()
    assert not pair.client.handshake_complete
    pair.advance(3.5)
    pair.to_server([initial(99)])
    assert len(pair.server_endpoint.connections) == 1


def test_complete_handshakes_make_room() -> None:
    pair = Pair(server={"max_handshakes": 1})
    pair.exchange()
    assert pair.server.handshake_complete
    pair.to_server([initial(50)])
    assert len(pair.server_endpoint.connections) == 2


def test_old_deadlines_do_not_pile_up() -> None:
    """The heap holds a few times what there are connections, however often their deadlines move."""
    pair = Pair(client={"max_idle_timeout": 3600.0}, server={"max_idle_timeout": 3600.0})
    pair.exchange()
    for _ in range(300):
        pair.client.ping()
        pair.exchange(rounds=6)
    for endpoint in (pair.client_endpoint, pair.server_endpoint):
        assert len(endpoint._deadlines._heap) <= 70


def test_nothing_is_left_of_closed_connections() -> None:
    pair = Pair()
    pair.exchange()
    pair.client.close(1, "enough", now=pair.now)
    pair.exchange()
    pair.advance(60)
    for endpoint in (pair.client_endpoint, pair.server_endpoint):
        assert endpoint.next_timeout() is None
        assert not endpoint.connections and not endpoint._by_cid and not endpoint._by_token
        assert not endpoint._deadlines._known and not endpoint._handshakes and not endpoint._deadlines._heap


def test_connection_ids_are_not_given_twice() -> None:
    """§5.1: one byte of connection ID, and forty connections."""
    pair = Pair(client={"connection_id_length": 1})
    for _ in range(30):
        pair.client_endpoint.connect(TO_SERVER, pair.now)
    pair.exchange(rounds=60)
    cids = [cid for connection in pair.client_endpoint.connections for cid in connection.local_cids]
    assert len(set(cids)) == len(cids) == 31 * 4
    assert all(connection.handshake_confirmed for connection in pair.client_endpoint.connections)


def test_a_client_without_connection_ids() -> None:
    """§5.1: it has its socket for one connection."""
    pair = Pair(client={"connection_id_length": 0})
    with pytest.raises(ConfigurationError, match="one connection"):
        pair.client_endpoint.connect(TO_SERVER, pair.now)
    pair.exchange()
    assert pair.client.handshake_confirmed and pair.server.handshake_confirmed


def reset_of(pair: Pair) -> bytes:
    token = pair.client._state.peer_cids.current.reset_token
    assert token is not None
    return token


@pytest.mark.parametrize("first", [0x40, 0xC0, 0xFF, 0x00])
def test_a_reset_may_look_like_any_packet(first: int) -> None:
    """§10.3.1: only the last 16 bytes count."""
    pair = Pair()
    pair.exchange()
    datagram = bytes([first]) + bytes(range(100, 130)) + reset_of(pair)
    pair.to_client([Train(datagram, len(datagram), TO_SERVER)])
    error = pair.client.closed
    assert isinstance(error, ConnectionClosed) and "stateless reset" in str(error)


def test_a_reset_from_elsewhere() -> None:
    """§10.3.1: the token belongs to one remote address."""
    pair = Pair()
    pair.exchange()
    datagram = b"\x40" + bytes(30) + reset_of(pair)
    pair.client_endpoint.receive(Train(datagram, len(datagram), Path(("192.0.2.66", 443))), pair.now)
    assert pair.client.closed is None


def test_tokens_of_unused_and_retired_connection_ids_do_not_count() -> None:
    """§10.3.1."""
    pair = Pair()
    pair.exchange()
    cids = pair.client._state.peer_cids
    spare = [known.reset_token for known in cids.spare]
    retired = cids.current.reset_token
    cids.rotate()
    pair.client.ping()
    pair.exchange()
    for token in [*spare[1:], retired]:
        assert token is not None
        datagram = b"\x40" + bytes(30) + token
        pair.to_client([Train(datagram, len(datagram), TO_SERVER)])
    assert pair.client.closed is None
    assert len(pair.client_endpoint._by_token) == 1


def test_a_train_that_the_network_refused() -> None:
    """§14.2.1: counted, and otherwise lost like any other."""
    pair = Pair()
    train = pair.client_endpoint.next_train(pair.now)
    assert train is not None
    pair.client_endpoint.send_failed(train, SendError.TOO_BIG, pair.now)
    pair.client_endpoint.send_failed(Train(b"", 0, TO_SERVER), SendError.REFUSED, pair.now)
    pair.client_endpoint.send_failed(Train(b"", 0, TO_CLIENT), SendError.REFUSED, pair.now)
    assert pair.client_endpoint.counters.send_errors == 3
    assert pair.client.stats().counters.send_errors == 2

"""Streams, datagrams and credit of sessions, between two tables in memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from webtransport.codes import CapsuleType, ErrorCode, http_code
from webtransport.dialects import DIALECTS, DRAFT02, DRAFT16, Dialect, FlowLimits
from webtransport.errors import CloseInfo
from webtransport.session_limits import SessionState

Make = Callable[..., Any]

ALL = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)


@ALL
@pytest.mark.parametrize("unidirectional", [False, True])
@pytest.mark.parametrize("from_client", [False, True])
def test_streams_both_ways(net: Make, dialect: Dialect, unidirectional: bool, from_client: bool) -> None:
    n = net(client_dialects=(dialect,))
    client, server = n.connect()
    (a, side), b = ((client, n.client), server) if from_client else ((server, n.server), client)
    sent = a.add_opened_stream(side.h3.open_webtransport_stream(a.session_id, unidirectional=unidirectional))
    assert sent.write(b"there", True) == 5
    n.run()
    got = b.accept_stream(unidirectional=unidirectional)
    assert got.read() == b"there" and got.at_end
    if not unidirectional:
        got.write(b"and back", True)
        n.run()
        assert sent.read() == b"and back" and sent.at_end
    n.run()
    assert client.streams == server.streams == {}


@ALL
def test_stream_codes_both_ways(net: Make, dialect: Dialect) -> None:
    n = net(client_dialects=(dialect,))
    client, server = n.connect()
    sent = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id))
    sent.write(b"x")
    n.run()
    got = server.accept_stream(unidirectional=False)
    code = dialect.max_stream_error
    sent.reset(code)
    sent.stop_sending(30)
    n.run()
    assert got.stream.reset_code == http_code(code)
    assert got.stream.stop_code == http_code(30)
    with pytest.raises(Exception, match=f"reset by the peer with code {code}"):
        got.read()
    with pytest.raises(Exception, match="stopped by the peer with code 30"):
        got.write(b"y")
    n.run()
    assert client.streams == server.streams == {}
    with pytest.raises(ValueError, match="stream error code"):
        sent.reset(code + 1)


@ALL
@pytest.mark.parametrize("lossy", [False, True])
def test_a_reset_right_after_opening_arrives(net: Make, dialect: Dialect, lossy: bool) -> None:
    n = net(client_dialects=(dialect,))
    client, server = n.connect()
    lost = iter([lossy])
    n.drop = lambda train: train.path.remote[1] == 443 and next(lost, False)
    sent = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id, unidirectional=True))
    sent.write(b"never mind")
    sent.reset(200)
    n.run()
    got = server.accept_stream(unidirectional=True)
    with pytest.raises(Exception, match="code 200"):
        got.read()


def test_a_foreign_code_is_no_application_code(net: Make) -> None:
    n = net()
    client, server = n.connect()
    sent = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id, unidirectional=True))
    sent.write(b"x")
    n.run()
    got = server.accept_stream(unidirectional=True)
    sent.stream.reset(0x10C)
    n.run()
    with pytest.raises(Exception, match="0x10c") as error:
        got.read()
    assert error.value.code is None and error.value.http_code == 0x10C  # type: ignore[attr-defined]


@ALL
def test_datagrams_both_ways(net: Make, dialect: Dialect) -> None:
    n = net(client_dialects=(dialect,))
    client, server = n.connect()
    assert client.send_datagram(b"ping")
    assert server.send_datagram(b"x" * server.max_datagram_size)
    n.run()
    assert list(server.datagrams) == [b"ping"]
    assert [len(data) for data in client.datagrams] == [server.max_datagram_size]
    with pytest.raises(ValueError, match="does not fit"):
        client.send_datagram(b"x" * 65536)


def test_the_oldest_datagrams_make_room(net: Make) -> None:
    n = net()
    client, server = n.connect()
    for number in range(1500):
        client.send_datagram(number.to_bytes(2, "big") + bytes(1000))
        if number % 100 == 0:
            n.run()
    n.run()
    assert len(server.datagrams) == (1 << 20) // (1002 + 64)
    assert list(server.datagrams)[-1][:2] == (1499).to_bytes(2, "big")
    assert server.stats.datagrams_dropped_incoming == 1500 - len(server.datagrams)


def test_streams_that_nobody_accepts(net: Make) -> None:
    n = net(client_dialects=(DRAFT02,))
    client, server = n.connect()
    server.limits = type(server.limits)(max_unaccepted_streams=3)
    streams = [
        client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id, unidirectional=True))
        for _ in range(5)
    ]
    n.run()
    assert [stream.stream.stop_code is not None for stream in streams] == [False] * 3 + [True] * 2
    assert server.stats.streams_rejected == 2


# Flow control of sessions

TIGHT = FlowLimits(100, 2, 2)


def test_data_waits_for_credit_and_credit_comes(net: Make) -> None:
    n = net(client_limits=TIGHT, server_limits=TIGHT, window=FlowLimits(400, 2, 2))
    client, server = n.connect()
    sent = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id))
    data, done, received = bytes(range(256)) * 20, 0, b""
    got = None
    for _ in range(100):
        done += sent.write(data[done:], True)
        n.run()
        got = got or server.accept_stream(unidirectional=False)
        assert got.stream.readable <= 400
        received += got.read()
        n.run()
        if got.at_end:
            break
    assert received == data


def test_streams_wait_for_credit_and_credit_comes(net: Make) -> None:
    n = net(client_limits=TIGHT, server_limits=TIGHT, window=TIGHT)
    client, server = n.connect()
    for _ in range(7):
        for _ in range(2):
            assert client.may_open_stream(unidirectional=True)
            stream = n.client.h3.open_webtransport_stream(client.session_id, unidirectional=True)
            client.add_opened_stream(stream).write(b"x", True)
        assert not client.may_open_stream(unidirectional=True)
        n.run()
        for _ in range(2):
            got = server.accept_stream(unidirectional=True)
            assert got.read() == b"x" and got.at_end
            got.check_settled()
        n.run()


def test_a_peer_that_ignores_the_limits(net: Make) -> None:
    n = net(client_limits=TIGHT, server_limits=TIGHT, window=TIGHT)
    client, server = n.connect()
    client.flow = None
    stream = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id))
    stream.write(b"x" * 101)
    n.run()
    assert server.state is SessionState.CLOSED
    assert client.exchange.reset_code == ErrorCode.WT_FLOW_CONTROL_ERROR
    assert n.server.quic.closed is None


def test_a_peer_that_opens_too_many_streams(net: Make) -> None:
    n = net(client_limits=TIGHT, server_limits=TIGHT, window=TIGHT)
    client, _ = n.connect()
    for _ in range(3):
        n.client.h3.open_webtransport_stream(client.session_id).write(b"x")
    n.run()
    assert client.exchange.reset_code == ErrorCode.WT_FLOW_CONTROL_ERROR


def test_both_count_the_same_after_resets(net: Make) -> None:
    n = net(client_limits=FlowLimits(5000, 4, 4), server_limits=FlowLimits(5000, 4, 4), window=FlowLimits(5000, 4, 4))
    client, server = n.connect()
    stream = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id))
    stream.write(b"x" * 3000)
    stream.reset(1)
    n.run()
    other = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id))
    other.write(b"y" * 700)
    n.run()
    assert client.flow._send_data.used == server.flow._receive_data.received
    other.reset(1)
    n.run()
    assert client.flow._send_data.used == server.flow._receive_data.received == server.flow._receive_data.released


def test_capsules_mean_nothing_without_flow_control(net: Make) -> None:
    n = net(client_dialects=(DRAFT16,), client_limits=FlowLimits())
    client, server = n.connect()
    assert client.flow is None and server.flow is None
    client.exchange.send_capsule(CapsuleType.WT_MAX_DATA, b"\x05")
    client.exchange.send_capsule(CapsuleType.WT_MAX_DATA, b"\x04")
    n.run()
    assert server.is_open


@ALL
@pytest.mark.parametrize("seed", range(3))
def test_over_a_network_that_loses_packets(net: Make, dialect: Dialect, seed: int) -> None:
    """Streams both ways, their resets and the close arrive although every eighth packet does not."""
    n = net(client_dialects=(dialect,), window=FlowLimits(20_000, 4, 4), client_limits=TIGHT, server_limits=TIGHT)
    client, server = n.connect()
    luck = random.Random(seed)
    n.drop = lambda train: luck.random() < 1 / 8
    n.soon = 8.0
    data = luck.randbytes(100_000)
    n.run()
    sent = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id))
    victim = client.add_opened_stream(n.client.h3.open_webtransport_stream(client.session_id, unidirectional=True))
    victim.reset(11)
    done, back, received, echoed, got = 0, b"", b"", 0, None
    for _ in range(400):
        if done < len(data):
            done += sent.write(data[done:], True)
        n.run()
        got = got or server.accept_stream(unidirectional=False)
        if got is not None:
            received += got.read()
            if echoed < len(received) or (got.at_end and not got.is_ended):
                echoed += got.write(received[echoed:], got.at_end)
        n.run()
        back += sent.read()
        if sent.at_end:
            break
    assert back == received == data
    reset = server.accept_stream(unidirectional=True)
    assert reset.stream.reset_code == http_code(11)
    server.close(12, "enough", n.now)
    n.run()
    assert client.close_info == CloseInfo(12, "enough", by_peer=True)
    assert client.streams == server.streams == {}
    assert n.client.table.sessions == n.server.table.sessions == {}


def test_the_request_of_a_forgotten_session_is_not_taken_for_a_new_one(net: Make) -> None:
    """The session is lost with its connection, so its CONNECT stream never ends."""
    n = net()
    _, server = n.connect()
    n.client.h3.close()
    n.run()
    assert server.state is SessionState.CLOSED and server.exchange.can_send
    server.let_go()
    n.server.table._on_exchange(server.exchange)
    assert not n.server.table.sessions

"""Version negotiation, compatible and not, and its checks (RFC 9368, RFC 9369 §4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from peer import TO_SERVER, Pair

from quicstack.connection import handshake
from quicstack.errors import ConfigurationError, ConnectionClosed, TransportError, TransportErrorCode
from quicstack.train import Train
from quicstack.wire.packet import write_version_negotiation
from quicstack.wire.transport_parameters import TransportParameters, read_transport_parameters
from quicstack.wire.version import QUIC_V1, QUIC_V2

BOTH, BACK = (QUIC_V1, QUIC_V2), (QUIC_V2, QUIC_V1)


def version_of(train: Train) -> int:
    return int.from_bytes(train.data[1:5], "big")


def code(connection: object) -> int:
    error = connection.closed  # type: ignore[attr-defined]
    assert isinstance(error, ConnectionClosed)
    return error.code


@pytest.mark.conformance("V2-04", "V2-05", "V2-06", "V2-07")
@pytest.mark.parametrize(("client", "server"), [(BOTH, BACK), (BACK, BOTH)])
@pytest.mark.parametrize("retry", ["never", "always"])
def test_compatible(client: tuple[int, ...], server: tuple[int, ...], retry: str) -> None:
    """RFC 9369 §4.1: the server answers in the version it prefers, and the client goes along."""
    pair = Pair(client={"versions": client}, server={"versions": server, "retry": retry})
    first = pair.from_client()
    assert version_of(first[0]) == client[0]
    pair.to_server(first)
    answers = pair.from_server()
    if retry == "always":
        assert version_of(answers[0]) == client[0]
        pair.to_client(answers)
        first = pair.from_client()
        assert version_of(first[0]) == client[0]
        pair.to_server(first)
        answers = pair.from_server()
    assert {version_of(answer) for answer in answers} == {server[0]}
    pair.to_server(first)  # a late Initial of the original version does no harm
    pair.to_client(answers)
    assert all(version_of(train) == server[0] for train in pair.from_client() if train.data[0] & 0x80)
    pair.exchange()
    assert pair.client.handshake_confirmed and pair.server.handshake_confirmed
    assert pair.client.version == pair.server.version == server[0]
    for connection in (pair.client, pair.server):
        assert connection.peer_transport_parameters is not None
        assert connection.peer_transport_parameters.version_information is not None


@pytest.mark.parametrize(("server", "spoken"), [(BOTH, QUIC_V1), (BACK, QUIC_V2), ((QUIC_V1,), QUIC_V1)])
def test_a_client_that_begins_with_less_than_the_best(server: tuple[int, ...], spoken: int) -> None:
    """RFC 9368 §2: the server reads what the client would rather speak; one without version 2 answers at once."""
    pair = Pair(client={"versions": BACK, "original_version": QUIC_V1}, server={"versions": server})
    first = pair.from_client()
    assert version_of(first[0]) == QUIC_V1
    pair.to_server(first)
    information = pair.server.peer_transport_parameters
    assert information is not None and information.version_information is not None
    chosen, *available = information.version_information
    assert chosen == QUIC_V1 and tuple(version for version in available if version in BOTH) == BACK
    pair.exchange()
    assert pair.client.handshake_confirmed and pair.client.version == pair.server.version == spoken


def test_the_first_version_is_one_that_is_spoken() -> None:
    with pytest.raises(ConfigurationError, match="original_version"):
        Pair(client={"versions": (QUIC_V2,), "original_version": QUIC_V1})


def test_incompatible() -> None:
    """RFC 9368 §2.1: one round trip more, and the same connection for the application."""
    pair = Pair(client={"versions": BACK}, server={"versions": (QUIC_V1,)})
    pair.exchange()
    assert pair.client.handshake_confirmed and pair.client.version == QUIC_V1


@pytest.mark.conformance("V06", "V07")
def test_a_forged_version_negotiation() -> None:
    """RFC 9368 §4: the server would have taken the first version, so somebody else said no; once is enough for that."""
    pair = Pair(client={"versions": BACK}, server={"versions": BOTH})
    pair.from_client()
    state = pair.client._state
    for versions in ((QUIC_V2, QUIC_V1), (QUIC_V1,), (QUIC_V2,)):
        data = write_version_negotiation(state.local_cids.first, state.original_dcid, versions)
        pair.to_client([Train(data, len(data), TO_SERVER)])
        assert pair.client.version == (QUIC_V2 if len(versions) == 2 else QUIC_V1)
    pair.exchange()
    assert code(pair.client) == code(pair.server) == TransportErrorCode.VERSION_NEGOTIATION_ERROR


@pytest.mark.conformance("V03")
def test_a_client_that_lies_about_its_version() -> None:
    """RFC 9368 §4: what it chose is what its packets say."""
    pair = Pair()
    state = pair.client._state
    state.local_parameters.version_information = (QUIC_V2, QUIC_V2, QUIC_V1)
    state.spaces[0].crypto = type(state.spaces[0].crypto)()
    handshake.start(state, pair.now)  # a ClientHello with that in it
    pair.exchange()
    assert code(pair.client) == code(pair.server) == TransportErrorCode.VERSION_NEGOTIATION_ERROR


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param((QUIC_V2, QUIC_V2, QUIC_V1), marks=pytest.mark.conformance("V04"), id="not the one in use"),
        pytest.param((0x1A2A3A4A, QUIC_V1), marks=pytest.mark.conformance("V04a"), id="not offered"),
        pytest.param((), marks=pytest.mark.conformance("V08"), id="absent, which is no lie"),
    ],
)
def test_a_server_that_lies_about_its_version(lie: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(client={"versions": BOTH})
    real = handshake.write_transport_parameters

    def written(parameters: TransportParameters) -> bytes:
        return real(replace(parameters, version_information=lie or None))

    monkeypatch.setattr(handshake, "write_transport_parameters", written)
    pair.exchange()
    if not lie:
        assert pair.client.handshake_confirmed
    else:
        assert code(pair.client) == code(pair.server) == TransportErrorCode.VERSION_NEGOTIATION_ERROR


@pytest.mark.conformance("V01", "V02")
@pytest.mark.parametrize("value", ["", "000000", "0000000100", "0000000100000000", "000000016b3343cf"])
def test_malformed(value: str) -> None:
    body = bytes.fromhex(value)
    with pytest.raises(TransportError) as caught:
        read_transport_parameters(b"\x11" + bytes([len(body)]) + body, from_server=False)
    assert caught.value.code == TransportErrorCode.TRANSPORT_PARAMETER_ERROR

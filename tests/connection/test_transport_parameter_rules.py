"""Transport parameters that lie, are missing or make no sense: what the other side says to that (RFC 9000 §7.3, §7.4).

One side of a pair writes its parameters as a test wants them; the other closes, and the first reads the code off the
wire. TLS authenticates the parameters as they were sent, so nothing else is wrong with these handshakes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from peer import Pair

from quicstack.connection import handshake
from quicstack.connection.connection import Connection
from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.wire.transport_parameters import TransportParameters
from quicstack.wire.varint import encode_varint, read_varint

Edit = Callable[[bytes], bytes]
ORIGINAL_DCID, MAX_DATA, STREAMS_BIDI, STREAMS_UNI = 0x00, 0x04, 0x08, 0x09
INITIAL_SCID, RETRY_SCID = 0x0F, 0x10
SIDES = pytest.mark.parametrize("side", ["client", "server"])


def entry(identifier: int, body: bytes) -> bytes:
    return encode_varint(identifier) + encode_varint(len(body)) + body


def without(identifier: int) -> Edit:
    def edit(data: bytes) -> bytes:
        out, pos = b"", 0
        while pos < len(data):
            start = pos
            found, pos = read_varint(data, pos)
            length, pos = read_varint(data, pos)
            pos += length
            out += b"" if found == identifier else data[start:pos]
        return out

    return edit


def given(identifier: int, body: bytes) -> Edit:
    return lambda data: without(identifier)(data) + entry(identifier, body)


def followed_by(more: bytes) -> Edit:
    return lambda data: data + more


class Liar:
    """A pair one of whose sides sends ``edit`` of its parameters, after the handshake or its failure."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, side: str, edit: Edit, retry: str = "never") -> None:
        real = handshake.write_transport_parameters
        self.lies = 0

        def written(parameters: TransportParameters) -> bytes:
            by_server = parameters.original_destination_connection_id is not None
            if by_server != (side == "server"):
                return real(parameters)
            self.lies += 1
            return edit(real(parameters))

        monkeypatch.setattr(handshake, "write_transport_parameters", written)
        self.pair = Pair(server={"retry": retry})
        self.pair.exchange()
        assert self.lies == 1

    def hears(self, side: str) -> int | None:
        """The code of the CONNECTION_CLOSE that reached the liar; None if the handshake was fine."""
        liar: Connection = self.pair.client if side == "client" else self.pair.server
        if liar.closed is None:
            assert self.pair.client.handshake_confirmed and self.pair.server.handshake_confirmed
            return None
        assert isinstance(liar.closed, ConnectionClosed) and liar.closed.by_peer
        return liar.closed.code


ERROR = TransportErrorCode.TRANSPORT_PARAMETER_ERROR
FORGED = b"forgedID"


@pytest.mark.conformance("T37")
@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(without(INITIAL_SCID), id="missing"),
        pytest.param(given(INITIAL_SCID, FORGED), id="another"),
        pytest.param(given(INITIAL_SCID, b""), id="empty"),
    ],
)
def test_the_client_confirms_its_connection_id(edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    """§7.3: initial_source_connection_id is the Source Connection ID of its Initials."""
    assert Liar(monkeypatch, "client", edit).hears("client") == ERROR


@pytest.mark.conformance("T38")
@pytest.mark.parametrize(
    ("edit", "retry"),
    [
        pytest.param(without(ORIGINAL_DCID), "never", id="original_destination missing"),
        pytest.param(given(ORIGINAL_DCID, FORGED), "never", id="original_destination another"),
        pytest.param(without(INITIAL_SCID), "never", id="initial_source missing"),
        pytest.param(given(INITIAL_SCID, FORGED), "never", id="initial_source another"),
        pytest.param(given(RETRY_SCID, FORGED), "never", id="retry_source without a Retry"),
        pytest.param(given(RETRY_SCID, b""), "never", id="retry_source empty, without a Retry"),
        pytest.param(without(RETRY_SCID), "always", id="retry_source missing"),
        pytest.param(given(RETRY_SCID, FORGED), "always", id="retry_source another"),
        pytest.param(without(ORIGINAL_DCID), "always", id="original_destination missing after a Retry"),
        pytest.param(given(ORIGINAL_DCID, FORGED), "always", id="original_destination another after a Retry"),
        pytest.param(given(INITIAL_SCID, FORGED), "always", id="initial_source another after a Retry"),
    ],
)
def test_the_server_confirms_every_connection_id(edit: Edit, retry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """§7.3: the ones that it has chosen, and the one that the client began with."""
    assert Liar(monkeypatch, "server", edit, retry).hears("server") == ERROR


@pytest.mark.conformance("T38")
@pytest.mark.parametrize("retry", ["never", "always"])
def test_a_server_that_confirms_them_all(retry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """§7.3: then nothing is wrong, with a Retry or without."""
    liar = Liar(monkeypatch, "server", lambda data: data, retry)
    assert liar.hears("server") is None
    parameters = liar.pair.client.peer_transport_parameters
    assert parameters is not None
    assert (parameters.retry_source_connection_id is None) == (retry == "never")


@pytest.mark.conformance("T39")
@SIDES
@pytest.mark.parametrize(
    "more",
    [
        pytest.param(entry(MAX_DATA, encode_varint(1 << 20)), id="with the same value"),
        pytest.param(entry(MAX_DATA, encode_varint(5)), id="with another value"),
        pytest.param(entry(0x3A2B, b"") + entry(0x3A2B, b"x"), id="unknown"),
    ],
)
def test_a_parameter_twice(side: str, more: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """§7.4."""
    assert Liar(monkeypatch, side, followed_by(more)).hears(side) == ERROR


@pytest.mark.conformance("T40")
@SIDES
@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"".join(entry(31 * n + 27, bytes(n)) for n in (0, 1, 40, 1 << 40) if n < 99), id="reserved"),
        pytest.param(entry(31 * (1 << 50) + 27, b"any value"), id="reserved, of eight bytes"),
        pytest.param(entry(0x3A2B, b"\xff" * 300), id="unknown"),
        pytest.param(entry((1 << 62) - 1, b""), id="the largest number"),
    ],
)
def test_unknown_parameters_are_ignored(side: str, more: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """§7.4.2, §18.1."""
    assert Liar(monkeypatch, side, followed_by(more)).hears(side) is None


@pytest.mark.conformance("T41")
@SIDES
@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(followed_by(entry(0x3A2B, b"x" * 20)[:-1]), id="a length beyond the end"),
        pytest.param(followed_by(b"\x40\x2a"), id="no length"),
        pytest.param(followed_by(b"\x40"), id="half a number"),
        pytest.param(followed_by(b"\x3a\xc0\x00"), id="half a length"),
        pytest.param(given(MAX_DATA, b"\x05\x00"), id="bytes after an integer"),
        pytest.param(given(MAX_DATA, b""), id="no integer"),
        pytest.param(given(MAX_DATA, b"\x80\x00"), id="half an integer"),
    ],
)
def test_parameters_that_cannot_be_parsed(side: str, edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    """§7.4, §18."""
    assert Liar(monkeypatch, side, edit).hears(side) == ERROR


@pytest.mark.conformance("T19")
@SIDES
@pytest.mark.parametrize("identifier", [STREAMS_BIDI, STREAMS_UNI])
@pytest.mark.parametrize(("value", "code"), [(1 << 60, None), ((1 << 60) + 1, ERROR), ((1 << 62) - 1, ERROR)])
def test_streams_beyond_numbering(
    side: str, identifier: int, value: int, code: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§4.6: 2^60 of a type is what stream IDs can tell apart."""
    edit = given(identifier, encode_varint(value))
    assert Liar(monkeypatch, side, edit).hears(side) == code

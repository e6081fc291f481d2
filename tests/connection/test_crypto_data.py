"""CRYPTO data out of order, too much of it, and after the handshake (RFC 9000 §7.5, §19.6)."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet, opens_long

from quicstack.errors import TransportErrorCode
from quicstack.train import Train
from quicstack.transport.crypto_stream import MAX_BUFFERED
from quicstack.wire import frame as f
from quicstack.wire.frame_study import Frame
from quicstack.wire.packet import read_long_header
from quicstack.wire.version import VERSIONS

E = TransportErrorCode


class Script:
    """Somebody in the middle of a handshake sends CRYPTO data; what the other side answers, level by level."""

    def __init__(self, side: str, level: int) -> None:
        self.pair = pair = Pair()
        self.to_server = side == "server"
        self.level = level
        pair.to_server(pair.from_client())
        answers = pair.from_server()
        if level == HANDSHAKE:
            pair.to_client(answers)
            if self.to_server:
                pair.from_client()
        self.state = (pair.client if self.to_server else pair.server)._state
        self.endpoint = pair.server_endpoint if self.to_server else pair.client_endpoint
        self.number = 40

    def sends(self, *frames: bytes) -> int:
        self.number += 1
        data = long_packet(self.state, self.level, *frames, number=self.number, pad_to=1200)
        self.endpoint.receive(Train(data, len(data), TO_CLIENT if self.to_server else TO_SERVER), self.pair.now)
        return self.number

    def hears(self) -> list[Frame]:
        frames = []
        trains = self.pair.from_server() if self.to_server else self.pair.from_client()
        for train in trains:
            for _, found in opens_long(self.state, train.data):
                frames += found
        return frames


def acknowledged(frames: list[Frame], number: int) -> bool:
    for frame in frames:
        ranges = frame.fields.get("ranges", ())
        assert isinstance(ranges, list | tuple)
        if any(smallest <= number <= largest for smallest, largest in ranges):
            return True
    return False


def closes(frames: list[Frame]) -> set[object]:
    return {frame.fields["error_code"] for frame in frames if frame.name == "CONNECTION_CLOSE"}


LEVELS = pytest.mark.parametrize(
    ("side", "level"),
    [("server", INITIAL), ("client", INITIAL), ("server", HANDSHAKE), ("client", HANDSHAKE)],
    ids=["Initial of a client", "Initial of a server", "Handshake of a client", "Handshake of a server"],
)


@pytest.mark.conformance("T44", "TLS12")
@LEVELS
def test_4096_bytes_out_of_order_are_kept(side: str, level: int) -> None:
    """§7.5: in pieces, the last one first, each acknowledged."""
    script = Script(side, level)
    start = 5000
    numbers = [script.sends(f.write_crypto(start + offset, bytes(1024))) for offset in (3072, 2048, 1024, 0)]
    frames = script.hears()
    assert all(acknowledged(frames, number) for number in numbers)
    assert not closes(frames)


@pytest.mark.conformance("T44", "TLS12")
@LEVELS
def test_more_than_the_buffer_holds(side: str, level: int) -> None:
    """§7.5: CRYPTO_BUFFER_EXCEEDED, and nothing of it is kept."""
    script = Script(side, level)
    receiver = (script.pair.server if script.to_server else script.pair.client)._state.spaces[level].crypto.incoming
    at = receiver.end
    script.sends(f.write_crypto(at + MAX_BUFFERED - 100, bytes(100)))
    assert not closes(script.hears())
    script.sends(f.write_crypto(at + MAX_BUFFERED, b"x"))
    assert closes(script.hears()) == {E.CRYPTO_BUFFER_EXCEEDED}


@pytest.mark.conformance("TLS12")
def test_a_message_without_end_is_not_collected() -> None:
    """RFC 8446 §4: sixteen megabytes of EncryptedExtensions are refused when their length is read."""
    pair = Pair()
    pair.to_server(pair.from_client())
    (answer, *_) = pair.from_server()
    end = read_long_header(answer.data, 0, VERSIONS[1]).end
    pair.to_client([Train(answer.data[:end], end, TO_SERVER)])
    pair.from_client()
    state = pair.server._state
    data = long_packet(state, HANDSHAKE, f.write_crypto(0, b"\x08\xff\xff\xff" + bytes(1000)), number=40)
    pair.to_client([Train(data, len(data), TO_SERVER)])
    frames = [frame for sent in pair.from_client() for _, found in opens_long(state, sent.data) for frame in found]
    assert closes(frames) == {E.CRYPTO_BUFFER_EXCEEDED}


@pytest.mark.conformance("T44")
@pytest.mark.parametrize("plays", ["client", "server"])
def test_after_the_handshake(plays: str) -> None:
    """§7.5: what a small buffer takes is acknowledged; what none could is answered by CRYPTO_BUFFER_EXCEEDED."""
    peer = Peer(plays)
    at = peer.engine._state.spaces[ONE_RTT].crypto.incoming.end
    number = peer.sends(f.write_crypto(at + 2000, bytes(1000)), b"\x01")
    assert acknowledged(peer.hears() + peer.advance(0.03), number)
    assert peer.engine.closed is None
    peer.sends(f.write_crypto(at + (1 << 30), b"x"))
    assert peer.closed_with() == E.CRYPTO_BUFFER_EXCEEDED

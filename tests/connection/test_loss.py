"""Every retransmittable frame, lost twice over: found missing by an ACK, and by a probe timeout (RFC 9000 §13.3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from peer import Peer

from quicstack.wire import frame as f


def _open(peer: Peer) -> None:
    stream = peer.engine.open_stream()
    stream.write(b"hello")


def _finish(peer: Peer) -> None:
    stream = peer.engine.open_stream(unidirectional=True)
    stream.write(b"bye", fin=True)


def _reset(peer: Peer) -> None:
    stream = peer.engine.open_stream()
    stream.reset(7)


def _stop(peer: Peer) -> None:
    peer.sends(f.stream_header(0, 0, 4, False) + b"data")
    stream = peer.engine.stream(0)
    assert stream is not None
    stream.stop_sending(8)


def _read(peer: Peer) -> None:
    peer.sends(f.stream_header(0, 0, 900, False) + bytes(900))
    stream = peer.engine.stream(0)
    assert stream is not None
    stream.read()


def _finish_theirs(peer: Peer) -> None:
    for n in range(2):
        peer.sends(f.stream_header(2 + 4 * n, 0, 1, True) + b"x")
    for stream in peer.engine.take_ready().streams:
        stream.read()


def _retire(peer: Peer) -> None:
    peer.sends(f.write_new_connection_id(4, 1, b"fourfour", bytes(16)))


def _issue(peer: Peer) -> None:
    peer.sends(f.write_limit(f.RETIRE_CONNECTION_ID, 1))


def _blocked(peer: Peer) -> None:
    peer.engine._state.streams.send_window.limit = 3
    stream = peer.engine.open_stream()
    stream.write(b"hello")


def _streams_blocked(peer: Peer) -> None:
    with pytest.raises(Exception, match="streams so far"):
        for _ in range(1000):
            peer.engine.open_stream()


SMALL = {"initial_max_data": 1000, "initial_max_stream_data_bidi_remote": 1000, "initial_max_streams_uni": 4}
CASES: dict[str, Callable[[Peer], None]] = {
    "STREAM": _open,
    "STREAM with FIN": _finish,
    "RESET_STREAM": _reset,
    "STOP_SENDING": _stop,
    "MAX_DATA": _read,
    "MAX_STREAM_DATA": _read,
    "MAX_STREAMS": _finish_theirs,
    "RETIRE_CONNECTION_ID": _retire,
    "NEW_CONNECTION_ID": _issue,
    "DATA_BLOCKED": _blocked,
    "STREAMS_BLOCKED": _streams_blocked,
}


@pytest.mark.parametrize("by_timeout", [False, True], ids=["by ACK", "by PTO"])
@pytest.mark.parametrize("name", CASES)
def test_lost_and_sent_again(name: str, by_timeout: bool) -> None:
    peer = Peer(**SMALL)
    peer.hears(ack=True)
    CASES[name](peer)
    kind = name.split()[0]
    first = [frame for frame in peer.hears() if frame.name == kind]
    assert len(first) == 1
    if by_timeout:
        again = peer.advance(2.0)
    else:
        for _ in range(3):
            peer.engine.ping()
            peer.hears()
        peer.acknowledges(max(peer.received))
        again = peer.hears()
    found = [frame for frame in again if frame.name == kind]
    assert found and found[0].fields == first[0].fields


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("DATA_BLOCKED", "STREAMS_BLOCKED")])
def test_acknowledged_and_never_sent_again(name: str) -> None:
    peer = Peer(**SMALL)
    peer.hears(ack=True)
    CASES[name](peer)
    kind = name.split()[0]
    assert [frame for frame in peer.hears(ack=True) if frame.name == kind]
    peer.hears(ack=True)
    assert not [frame for frame in peer.advance(20) if frame.name == kind]


def test_what_is_not_sent_again() -> None:
    """PING, DATAGRAM, PATH_RESPONSE (§13.3, RFC 9221 §5.2)."""
    peer = Peer()
    peer.hears(ack=True)
    peer.engine.send_datagram(b"once")
    peer.sends(b"\x1a12345678")
    first = {frame.name for frame in peer.hears()}
    assert {"DATAGRAM", "PATH_RESPONSE"} <= first
    again = {frame.name for frame in peer.advance(5)}
    assert again == {"PING", "PADDING"}

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from h3.errors import H3ErrorCode
from h3.frames import StreamType
from h3.qpack import Fields
from h3.settings import Setting

Scripted = Callable[..., tuple[Any, Any]]

GET: Fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]


def written_to(peer: Any, stream_type: int) -> bytes:
    """What the side under test has put on a unidirectional stream, type included."""
    (data,) = (bytes(data) for i, data in peer.received.items() if i & 2 and data and data[0] == stream_type)
    return data


def test_no_instruction_before_the_peers_settings_nor_without_a_table(scripted: Scripted) -> None:
    side, peer = scripted("client")
    for n in range(5):
        side.h3.request([*GET, (b"x-field", b"value")], end_stream=True)
        side.pair.run()
        if n == 2:
            peer.opens_control({Setting.QPACK_MAX_TABLE_CAPACITY: 0})
    assert written_to(peer, StreamType.QPACK_ENCODER) == b"\x02"


def test_the_table_is_used_once_the_peer_offers_one(scripted: Scripted) -> None:
    side, peer = scripted("client")
    peer.opens_control({Setting.QPACK_MAX_TABLE_CAPACITY: 220})
    assert written_to(peer, StreamType.QPACK_ENCODER) == bytes.fromhex("023fbd01")  # Set Capacity 220
    for _ in range(3):
        side.h3.request([*GET, (b"x-field", b"value")], end_stream=True)
        side.pair.run()
    assert len(written_to(peer, StreamType.QPACK_ENCODER)) > 4


def test_without_credit_for_instructions_requests_do_without(scripted: Scripted) -> None:
    """RFC 9204 §2.1.3: the request must not wait for an insert that cannot be sent."""
    side, peer = scripted("client", {"initial_max_stream_data_uni": 4})
    exchanges = []
    for n in range(40):
        fields = [*GET, (b"x-long", bytes([97 + n % 26]) * 500)]
        for _ in range(2):
            exchanges.append(side.h3.request(fields, end_stream=True))
        side.pair.run()
    sections = [bytes(peer.received[exchange.stream_id]) for exchange in exchanges]
    assert all(len(section) > 30 for section in sections)
    assert side.quic.closed is None


def test_a_peer_that_never_reads_our_decoder_stream_is_given_up(scripted: Scripted) -> None:
    """A thousand cancelled sections, and no credit to say so: the bytes that wait are bounded."""
    side, peer = scripted("server", {"initial_max_stream_data_uni": 1, "initial_max_streams_bidi": 100_000})
    local = side.h3._critical._local[StreamType.QPACK_DECODER]
    stream_id = 0
    while side.h3.error is None and stream_id < 4_000_000:
        side.h3._guarded(lambda: local.write(bytes(1000)))
        stream_id += 4
    assert side.h3.error.code == H3ErrorCode.H3_EXCESSIVE_LOAD
    assert stream_id / 4 < 1200
    peer.sees_close(H3ErrorCode.H3_EXCESSIVE_LOAD)

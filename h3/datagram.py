"""HTTP Datagrams in QUIC DATAGRAM frames (RFC 9297 §2.1): a quarter of the stream's id, then the payload."""

from __future__ import annotations

from quicstack.errors import Truncated
from quicstack.wire.varint import encode_varint, read_varint

from .errors import H3ConnectionError, H3ErrorCode

__all__ = [
    "MAX_QUARTER_STREAM_ID",
    "EarlyDatagrams",
    "encode_datagram",
    "quarter_id_size",
    "read_datagram",
    "read_datagrams",
]

MAX_QUARTER_STREAM_ID = (1 << 60) - 1


def quarter_id_size(stream_id: int) -> int:
    """Bytes that the prefix of a datagram takes for this stream."""
    return len(encode_varint(stream_id >> 2))


def encode_datagram(stream_id: int, payload: bytes) -> bytes:
    """RFC 9297 §2.1, figure 1."""
    if stream_id < 0x100:  # most often, and 0.2 us less
        return bytes((stream_id >> 2,)) + payload
    return encode_varint(stream_id >> 2) + payload


def read_datagram(data: bytes) -> tuple[int, bytes]:
    """The id of the request stream and the payload."""
    if data and data[0] < 0x40:  # most often, and 0.2 us less
        return data[0] << 2, data[1:]
    try:
        quarter, position = read_varint(data, 0)
    except Truncated:
        raise H3ConnectionError(
            H3ErrorCode.H3_DATAGRAM_ERROR, "DATAGRAM is too short for a quarter stream id"
        ) from None
    if quarter > MAX_QUARTER_STREAM_ID:
        raise H3ConnectionError(H3ErrorCode.H3_DATAGRAM_ERROR, f"quarter stream id {quarter} is above 2^60-1")
    return quarter << 2, data[position:]


def read_datagrams(many: list[bytes]) -> list[tuple[int, list[bytes]]]:
    """The same for many: those that come after each other for one stream are together."""
    runs: list[tuple[int, list[bytes]]] = []
    payloads: list[bytes] = []
    last = -1
    for data in many:
        stream_id, payload = read_datagram(data)
        if stream_id != last:
            last, payloads = stream_id, []
            runs.append((stream_id, payloads))
        payloads.append(payload)
    return runs


class EarlyDatagrams:
    """Datagrams that overtook the request they belong to (RFC 9297 §2.1 allows to keep them for about a round trip).

    Without a clock the bound is a number: the newest ``limit`` of the whole connection are kept, whoever they are for.
    """

    __slots__ = ("_limit", "_waiting")

    def __init__(self, limit: int = 32) -> None:
        self._limit = limit
        self._waiting: list[tuple[int, bytes]] = []  # a few; an empty deque takes 700 bytes more of every connection

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, stream_id: int, *payloads: bytes) -> None:
        """Keep them; the oldest make room."""
        self._waiting += [(stream_id, payload) for payload in payloads[-self._limit :]]
        del self._waiting[: -self._limit]

    def take(self, stream_id: int) -> list[bytes]:
        """What waited for this stream, in order of arrival."""
        if not self._waiting:
            return []
        mine = [payload for waiting_id, payload in self._waiting if waiting_id == stream_id]
        self._waiting = [item for item in self._waiting if item[0] != stream_id]
        return mine

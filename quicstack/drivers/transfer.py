"""One step of reading and writing a stream, for the faces that wait between steps."""

from __future__ import annotations

from quicstack.errors import QuicstackError, StreamError, once_more
from quicstack.transport.stream import Stream

__all__ = ["give", "take"]


def take(stream: Stream, n: int, closed: QuicstackError | None) -> bytes | None:  # hot path
    """At most ``n`` bytes of what is there; b"" at the end; None if it has to be waited for.

    Raises StreamReset, or ``closed`` when nothing is left to read of a connection that is over.
    """
    receive = stream.receive
    if receive is not None:
        if receive.stop_code is not None:
            raise StreamError(f"stream {stream.id} was told to stop; there is nothing to read", stream_id=stream.id)
        if closed is None and n and receive.is_waiting:
            return None
    data = stream.read(n)
    if data:
        return data
    if stream.at_end or n == 0:
        return b""
    if closed is not None:
        raise once_more(closed)
    return None


def give(stream: Stream, data: bytes, accepted: int, fin: bool, closed: QuicstackError | None) -> int:  # hot path
    """Hand over what fits of ``data[accepted:]``, and the end with the last of it; how much is accepted by now."""
    if closed is not None:
        raise once_more(closed)
    # One byte more than there is room for tells the engine that somebody waits for more room.
    end = accepted + stream.writable + 1
    is_last = end >= len(data)
    part = data if not accepted and is_last else bytes(data[accepted:end])
    return accepted + stream.write(part, fin and is_last)

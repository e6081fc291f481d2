"""CRYPTO data of one encryption level (RFC 9000 §7.5, §19.6): a stream without flow control, so with a hard bound."""

from __future__ import annotations

from quicstack.errors import TransportError, TransportErrorCode
from quicstack.transport.reassembly import Reassembly
from quicstack.transport.send_buffer import SendBuffer
from quicstack.wire import frame
from quicstack.wire.varint import varint_size

__all__ = ["CryptoStream"]

MAX_BUFFERED = 1 << 16
"""RFC 9000 §7.5 asks for 4096 at least; a chain of certificates with post-quantum shares takes more."""
MAX_GAPS = 2048
"""Disjoint ranges held back: what 4096 bytes in any order can take. More is no handshake."""


class CryptoStream:
    """Both directions. ``incoming`` hands out bytes in order, ``outgoing`` keeps them until acknowledged."""

    __slots__ = ("incoming", "outgoing")

    def __init__(self) -> None:
        self.incoming = Reassembly()
        self.outgoing = SendBuffer()

    def receive(self, offset: int, data: bytes) -> bytes:
        """Store a CRYPTO frame and return what is in order now."""
        if offset + len(data) - self.incoming.end > MAX_BUFFERED:
            raise TransportError(
                TransportErrorCode.CRYPTO_BUFFER_EXCEEDED,
                f"CRYPTO data at offset {offset}, {self.incoming.end} was reached and {MAX_BUFFERED} are buffered",
                frame.CRYPTO,
            )
        if not self.incoming.add(offset, data):
            if self.incoming.gaps > MAX_GAPS:
                reason = f"CRYPTO data in more than {MAX_GAPS} pieces"
                raise TransportError(TransportErrorCode.CRYPTO_BUFFER_EXCEEDED, reason, frame.CRYPTO)
            return b""
        return self.incoming.read()

    def next_frame(self, capacity: int) -> tuple[bytes, tuple[int, int]] | None:
        """A CRYPTO frame of at most ``capacity`` bytes and the (start, stop) it carries, lost bytes first."""
        buffer = self.outgoing
        if buffer.lost.starts:
            start, available = buffer.lost.starts[0], buffer.lost.stops[0]
        else:
            start, available = buffer.next, buffer.end
        length = min(available - start, capacity - 1 - varint_size(start) - 2)
        if length <= 0:
            return None
        stop = start + length
        data = buffer.get(start, stop)
        buffer.mark_sent(start, stop)
        return frame.write_crypto(start, bytes(data)), (start, stop)

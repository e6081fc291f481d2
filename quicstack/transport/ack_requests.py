"""What we have asked the peer about its acknowledgements (draft-ietf-quic-ack-frequency §4, §7)."""

from __future__ import annotations

from quicstack.config import AckFrequency
from quicstack.wire.frame import write_ack_frequency

__all__ = ["AckRequests"]


class AckRequests:
    """The newest request, and how late acknowledgements may be while the peer has not heard of it."""

    __slots__ = ("_in_flight", "_sequence", "_wanted", "max_ack_delay")

    def __init__(self) -> None:
        self.max_ack_delay = 0.025
        """In force at the peer: what its transport parameters said, or the request that it has acknowledged."""
        self._wanted: AckFrequency | None = None
        self._sequence = -1
        self._in_flight: list[float] = []

    @property
    def are_made(self) -> bool:
        """The peer may be in no hurry any more."""
        return self._wanted is not None

    @property
    def longest_delay(self) -> float:
        """§7: within this time the peer acknowledges, whichever of the requests on their way it has heard."""
        return max(self.max_ack_delay, *self._in_flight) if self._in_flight else self.max_ack_delay

    def add(self, wanted: AckFrequency) -> None:
        self._wanted = wanted
        self._sequence += 1
        self._in_flight.append(wanted.max_ack_delay)

    def write(self) -> bytes | None:
        """The frame, with the newest request; it makes all before it obsolete."""
        wanted = self._wanted
        if wanted is None:
            return None
        delay = round(wanted.max_ack_delay * 1e6)
        return write_ack_frequency(self._sequence, wanted.threshold, delay, wanted.reordering_threshold)

    def on_acked(self) -> None:
        """The newest request has arrived."""
        if self._wanted is not None:
            self.max_ack_delay = self._wanted.max_ack_delay
        self._in_flight.clear()

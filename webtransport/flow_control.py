"""Flow control of one session (draft-16 §5): how many streams and bytes each side may still send within it.

It comes on top of QUIC's, and works like it: limits are totals since the session began and only grow. The CONNECT
stream, stream headers, capsules and datagrams do not count. Values leave as capsules; what waits to leave is always the
newest value of each kind, so a peer that does not read its CONNECT stream cannot make a queue grow here.
"""

from __future__ import annotations

from dataclasses import dataclass

from webtransport.capsules import MAX_STREAMS_LIMIT, CapsuleError
from webtransport.codes import CapsuleType, ErrorCode
from webtransport.dialects import FlowLimits

__all__ = ["Limit", "Quota", "SessionFlowControl"]


@dataclass(slots=True)
class Limit:
    """What the peer lets us do: ``used`` of ``maximum``."""

    maximum: int
    used: int = 0
    blocked_at: int = -1

    @property
    def left(self) -> int:
        return self.maximum - self.used

    def raise_to(self, maximum: int, *, must_grow: bool) -> None:
        """draft-16 §5.6: limits arrive in order, so one that shrinks (or, from -16 on, repeats) is an error."""
        if maximum < self.maximum or (must_grow and maximum == self.maximum):
            raise CapsuleError(ErrorCode.WT_FLOW_CONTROL_ERROR, f"the limit goes from {self.maximum} to {maximum}")
        self.maximum = maximum

    def note_blocked(self) -> bool:
        """True the first time that somebody is held up by the present maximum."""
        if self.blocked_at == self.maximum:
            return False
        self.blocked_at = self.maximum
        return True


@dataclass(slots=True)
class Quota:
    """What we let the peer do: ``received`` of ``maximum``; ``released`` of it is done with and may be granted anew."""

    maximum: int
    window: int
    received: int = 0
    released: int = 0

    def receive(self, amount: int, what: str) -> None:
        """Count what the peer did; CapsuleError once it did more than it may."""
        self.received += amount
        if self.received > self.maximum:
            raise CapsuleError(
                ErrorCode.WT_FLOW_CONTROL_ERROR, f"{self.received} {what} received, {self.maximum} allowed"
            )

    def next_maximum(self) -> int | None:
        """A maximum worth telling: a quarter of the window has been released since the last one."""
        maximum = min(self.released + self.window, MAX_STREAMS_LIMIT)
        return maximum if maximum - self.maximum >= max(1, self.window // 4) else None


class SessionFlowControl:
    """Both directions. ``local`` are the limits that our SETTINGS gave, ``peer`` those that the peer's gave.

    ``window`` says how much may be outstanding once the session is open: SETTINGS count for every session that somebody
    might open, so they are smaller, and the first capsules raise them.
    """

    def __init__(self, *, local: FlowLimits, peer: FlowLimits, window: FlowLimits, must_grow: bool) -> None:
        self._must_grow = must_grow
        self._send_data = Limit(peer.max_data)
        self._send_streams = (Limit(peer.max_streams_bidi), Limit(peer.max_streams_uni))
        self._receive_data = Quota(local.max_data, max(window.max_data, local.max_data))
        self._receive_streams = (
            Quota(local.max_streams_bidi, max(window.max_streams_bidi, local.max_streams_bidi)),
            Quota(local.max_streams_uni, max(window.max_streams_uni, local.max_streams_uni)),
        )
        self._blocked: dict[CapsuleType, int] = {}

    # What we send

    @property
    def data_left(self) -> int:
        """Bytes of stream data that may be sent now."""
        return self._send_data.left

    def send_data(self, amount: int) -> None:
        """Count ``amount`` bytes of stream data as sent; negative for what a reset took back before it left."""
        self._send_data.used += amount

    def data_blocked(self) -> None:
        """Somebody has data and may not send it: worth a WT_DATA_BLOCKED, once per limit (§5.6.5)."""
        if self._send_data.note_blocked():
            self._blocked[CapsuleType.WT_DATA_BLOCKED] = self._send_data.maximum

    def may_open(self, *, unidirectional: bool) -> bool:
        """Whether one more stream fits; if not, the peer hears of it in a WT_STREAMS_BLOCKED (§5.6.3)."""
        limit = self._send_streams[unidirectional]
        if limit.left > 0:
            return True
        if limit.note_blocked():
            blocked = CapsuleType.WT_STREAMS_BLOCKED_UNI if unidirectional else CapsuleType.WT_STREAMS_BLOCKED_BIDI
            self._blocked[blocked] = limit.maximum
        return False

    def opened(self, *, unidirectional: bool) -> None:
        """We opened a stream."""
        self._send_streams[unidirectional].used += 1

    # What the peer sends

    def stream_received(self, *, unidirectional: bool) -> None:
        """The peer opened a stream (§5.6.2)."""
        self._receive_streams[unidirectional].receive(1, "streams")

    def stream_released(self, *, unidirectional: bool) -> None:
        """A stream of the peer is over in both directions."""
        self._receive_streams[unidirectional].released += 1

    def data_received(self, amount: int) -> None:
        """``amount`` more bytes of stream data arrived (§5.6.4)."""
        self._receive_data.receive(amount, "bytes")

    def data_released(self, amount: int) -> None:
        """``amount`` bytes were read, or thrown away."""
        self._receive_data.released += amount

    # Capsules

    def receive_capsule(self, capsule_type: int, limit: int) -> None:
        """A flow control capsule of the peer. The BLOCKED ones ask for nothing: credit never waits for them (§5.6)."""
        if capsule_type == CapsuleType.WT_MAX_DATA:
            self._send_data.raise_to(limit, must_grow=self._must_grow)
        elif capsule_type == CapsuleType.WT_MAX_STREAMS_BIDI:
            self._send_streams[False].raise_to(limit, must_grow=self._must_grow)
        elif capsule_type == CapsuleType.WT_MAX_STREAMS_UNI:
            self._send_streams[True].raise_to(limit, must_grow=self._must_grow)

    def take_capsules(self) -> list[tuple[CapsuleType, int]]:
        """Type and limit of each capsule that is due."""
        capsules = []
        for capsule_type, quota in (
            (CapsuleType.WT_MAX_DATA, self._receive_data),
            (CapsuleType.WT_MAX_STREAMS_BIDI, self._receive_streams[False]),
            (CapsuleType.WT_MAX_STREAMS_UNI, self._receive_streams[True]),
        ):
            maximum = quota.next_maximum()
            if maximum is not None:
                quota.maximum = maximum
                capsules.append((capsule_type, maximum))
        capsules.extend(self._blocked.items())
        self._blocked.clear()
        return capsules

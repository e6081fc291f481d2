"""How the window grows before the path has ever said stop (RFC 9002 §7.3.1)."""

from __future__ import annotations

from typing import Protocol

from quicstack.recovery.congestion.controller import AckEvent

__all__ = ["ClassicSlowStart", "SlowStart"]


class SlowStart(Protocol):
    """A way to open the window; ``is_over`` when it wants to leave slow start without a loss."""

    is_over: bool

    def increase(self, acked_bytes: int, ack: AckEvent) -> int:
        """Bytes by which the window grows for ``acked_bytes`` acknowledged."""

    def on_congestion_event(self) -> None:
        """Slow start ended by loss or CE."""


class ClassicSlowStart:
    """Every acknowledged byte opens the window by one: it doubles in a round trip."""

    is_over = False

    def increase(self, acked_bytes: int, ack: AckEvent) -> int:
        return acked_bytes

    def on_congestion_event(self) -> None:
        """Keeps no state."""

"""How large a datagram one path carries: a search with probes that nobody misses (RFC 9000 §14.3, RFC 8899 §5)."""

from __future__ import annotations

__all__ = ["BASE", "PathMtu", "largest_datagram"]

BASE = 1200
"""BASE_PLPMTU (RFC 9000 §14.3): what every path of QUIC carries."""
MAX_PROBES = 3
"""RFC 8899 §5.1.2: probes of one size that may be lost before the size counts as too large."""
RAISE_AFTER = 600.0
"""PMTU_RAISE_TIMER (RFC 8899 §5.1.1): when to look for more once more."""
CLOSE_ENOUGH = 16
"""The search ends when it would gain fewer bytes."""
BLACK_HOLE_LOSSES = 6
"""Packets above the base lost in a row, with none acknowledged, that make the path one that has shrunk."""


def largest_datagram(host: object) -> int:
    """UDP payload of an Ethernet frame to a host: 1500 bytes less the IP and UDP headers."""
    is_ipv6 = isinstance(host, str) and ":" in host and not host.lower().startswith("::ffff:")
    return 1452 if is_ipv6 else 1472


class PathMtu:
    """``current`` is the size in use. One probe is out at a time; the ceiling is tried first, then halves."""

    __slots__ = ("_ceiling", "_failed", "_probe", "_raise_at", "_tries", "current", "enabled", "suspicion")

    def __init__(self, start: int, ceiling: int, *, enabled: bool) -> None:
        self.current = start
        self.enabled = enabled
        self.suspicion = 0
        """Packets above the base that were lost since one was acknowledged."""
        self._ceiling = max(start, ceiling)
        self._failed = self._ceiling + 1
        self._probe = 0
        self._tries = 0
        self._raise_at: float | None = None

    def limit(self, size: int) -> None:
        """The peer takes no larger datagrams (RFC 9000 §18.2)."""
        self.current = min(self.current, size)
        self._ceiling = min(self._ceiling, size)
        self._failed = min(self._failed, self._ceiling + 1)

    def next_probe(self, now: float) -> int:
        """The size to probe now, 0 for none."""
        if not self.enabled or self._probe:
            return 0
        if self._raise_at is not None:
            if now < self._raise_at:
                return 0
            self._failed, self._raise_at = self._ceiling + 1, None
        size = self._ceiling if self._failed > self._ceiling else (self.current + self._failed) // 2
        if size - self.current < (1 if size == self._ceiling else CLOSE_ENOUGH // 2):
            self._tries = 0
            self._raise_at = now + RAISE_AFTER
            return 0
        return size

    def on_probe_sent(self, size: int) -> None:
        self._probe = size
        self._tries += 1

    def on_probe_acked(self, size: int) -> bool:
        """True when the path has proven that it carries more."""
        if size != self._probe:
            return False
        self._probe = self._tries = self.suspicion = 0
        self.current = max(self.current, size)
        return True

    def on_probe_lost(self, size: int) -> None:
        if size == self._probe:
            self._probe = 0
            if self._tries >= MAX_PROBES:
                self._fail(size)

    def on_probe_refused(self, size: int) -> None:
        """This host cannot send it at all: no need to try three times."""
        if size == self._probe:
            self._probe = 0
            self._fail(size)

    def _fail(self, size: int) -> None:
        self._failed = size
        self._tries = 0

    def on_large_losses(self, count: int) -> bool:
        """RFC 8899 §4.3: so many packets above the base were lost and none arrived. True when it is a black hole."""
        self.suspicion += count
        return self.suspicion >= BLACK_HOLE_LOSSES

    def lower(self) -> bool:
        """Back to the base; what is above must be proven anew. False if there is nothing lower."""
        if not self.enabled or self.current <= BASE:
            return False
        self._failed = self.current
        self.current = BASE
        self._probe = self._tries = self.suspicion = 0
        self._raise_at = None
        return True

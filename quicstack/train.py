"""Trains of datagrams and the paths they travel: what passes between the engine and whatever moves UDP.

A train is what UDP GRO delivers and UDP GSO sends: datagrams of one size, on one path, with one ECN mark. Speed comes
from handling a train, not a datagram, as the unit in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

__all__ = ["Address", "Path", "SendError", "Train"]

Address = tuple[Any, ...]
"""A socket address as Python's ``socket`` gives it: ``(host, port)`` or ``(host, port, flowinfo, scope_id)``."""


class Path(NamedTuple):
    """RFC 9000 §9: the addresses a datagram travels between. Hashable, compared by value, opaque to the engine."""

    remote: Address
    local: Address | None = None
    interface: int = 0
    socket: int = 0


@dataclass(slots=True)
class Train:
    """Datagrams of ``segment_size`` bytes back to back in ``data``; the last one may be shorter.

    ``ecn`` is the two-bit codepoint of the IP header: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE.
    """

    data: bytes
    segment_size: int
    path: Path
    ecn: int = 0

    def datagrams(self) -> list[bytes]:
        """The datagrams one by one."""
        data, size = self.data, self.segment_size
        if len(data) <= size:
            return [data]
        return [data[i : i + size] for i in range(0, len(data), size)]


class SendError(Enum):
    """Why a train did not leave the host. Told to the engine, never raised into an event loop."""

    TOO_BIG = "too big"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"

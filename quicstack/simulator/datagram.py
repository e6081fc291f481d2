"""What travels: datagrams, and the two ways they can go."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from quicstack.train import Address

__all__ = ["IP_UDP_HEADER", "Datagram", "Direction"]

IP_UDP_HEADER = 28
"""Bytes that IPv4 and UDP put before the payload: what a link carries and an MTU counts besides ``len(data)``."""


class Direction(Enum):
    """A network is written from left to right: ``[client, ..., server]``."""

    FORWARD = "forward"
    BACKWARD = "backward"


class Datagram(NamedTuple):
    """One UDP datagram. Immutable: a node that changes something passes on ``datagram._replace(...)``.

    ``ecn`` is the codepoint of the IP header: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE.
    """

    data: bytes
    source: Address
    destination: Address
    ecn: int = 0

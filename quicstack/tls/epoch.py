"""Encryption levels: which keys protect a packet, and so which part of the handshake its CRYPTO bytes belong to.

RFC 9001 §2.1 lists the four levels, §4.1.4 calls their order an epoch. The numbers are the order of installation.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Epoch"]


class Epoch(IntEnum):
    """RFC 9001 §2.1. CRYPTO frames never travel at ``EARLY_DATA`` (RFC 9001 §4.1.3)."""

    INITIAL = 0
    EARLY_DATA = 1
    HANDSHAKE = 2
    ONE_RTT = 3

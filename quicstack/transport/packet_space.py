"""A packet number space (RFC 9000 §12.3): numbers, acknowledgements, CRYPTO data and keys of one level."""

from __future__ import annotations

from dataclasses import dataclass

from quicstack.tls.epoch import Epoch
from quicstack.train import Path
from quicstack.transport.ack_tracker import AckTracker
from quicstack.transport.crypto_stream import CryptoStream
from quicstack.transport.packet_protection import PacketKeys

__all__ = ["MAX_WAITING", "MAX_WAITING_BYTES", "PacketSpace", "WaitingPacket"]

MAX_WAITING = 16
"""Packets of a level whose keys are not known yet that are kept (RFC 9001 §5.7)."""
MAX_WAITING_BYTES = 1 << 15
"""And what they may add up to."""


@dataclass(slots=True)
class WaitingPacket:
    """A packet that came before its keys, as it came."""

    data: bytes
    path: Path
    ecn: int
    now: float


_NO_CRYPTO = CryptoStream()
_NO_ACKS = AckTracker(immediate=True)
"""Of all spaces that are over: a kilobyte for each of two in every connection. Nothing comes there any more."""


class PacketSpace:
    """One of three: Initial, Handshake, Application Data (0-RTT and 1-RTT share it)."""

    __slots__ = ("acks", "crypto", "discarded", "epoch", "index", "largest_acked", "next_packet_number", "open_keys",
                 "rejected_below",
                 "seal_keys", "skip_at", "skipped", "waiting", "waiting_bytes")  # fmt: skip

    def __init__(self, index: int, epoch: Epoch) -> None:
        self.index = index
        """As ``recovery`` counts spaces: 0 Initial, 1 Handshake, 2 Application."""
        self.epoch = epoch
        self.acks = AckTracker(immediate=epoch is not Epoch.ONE_RTT)
        self.crypto = CryptoStream()
        self.next_packet_number = 0
        self.largest_acked = -1
        self.open_keys: PacketKeys | None = None
        self.seal_keys: PacketKeys | None = None
        self.waiting: list[WaitingPacket] = []
        self.waiting_bytes = 0
        self.skip_at = 0
        """Packet number at or after which one is left out next; 0 before that was chosen (§21.4)."""
        self.skipped = -1
        """The last one left out."""
        self.rejected_below = 0
        """Lower numbers were 0-RTT packets that the server did not take, nor acknowledges (RFC 9001 §4.6.2)."""
        self.discarded = False
        """RFC 9001 §4.9: the keys are gone for good."""

    def release(self) -> None:
        """The keys are gone and no packet of this space is being read: nothing has a place in it any more."""
        self.crypto = _NO_CRYPTO
        self.acks = _NO_ACKS

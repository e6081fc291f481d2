"""One network path (RFC 9000 §8, §9): what may be sent on it before the peer's address is proven, and its proof."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from quicstack.recovery.loss import PathRecovery
from quicstack.train import Path
from quicstack.transport.connection_ids import PeerConnectionId
from quicstack.transport.path_mtu import PathMtu
from quicstack.transport.spin_bit import SpinBit

__all__ = ["MAX_CHALLENGES", "MAX_RESPONSES", "Migration", "MigrationOutcome", "PathState"]

AMPLIFICATION = 3
"""RFC 9000 §8.1: bytes that may be sent for each byte received, until the address is validated."""
MAX_RESPONSES = 4
"""Answers that wait to be sent on a path; a peer that asks faster gets none for its oldest challenges."""
MAX_CHALLENGES = 3
"""PATH_CHALLENGE frames sent before a path counts as failed (§8.2.4)."""


class MigrationOutcome(Enum):
    """How far a migration of ours has come (§9.2)."""

    VALIDATING = "validating"
    MOVED = "moved"
    FAILED = "failed"


@dataclass(slots=True)
class Migration:
    """A move to another path that this client has begun."""

    path: Path
    outcome: MigrationOutcome = MigrationOutcome.VALIDATING


class PathState:
    """Counters of one path, the challenge that validates it (§8.2), and what else belongs to it alone."""

    __slots__ = ("address", "bytes_received", "bytes_sent", "challenge", "challenge_deadline",
                 "challenge_is_small", "challenges_sent", "cid", "left_at", "migration", "mtu", "outstanding",
                 "pad_next", "recovery", "responses", "spin", "validated", "wants_move")  # fmt: skip

    def __init__(self, address: Path, mtu: PathMtu, *, validated: bool) -> None:
        self.address = address
        self.mtu = mtu
        self.spin = SpinBit()
        self.cid: PeerConnectionId | None = None
        """The peer's ID on what we send here while this is not the path in use (§9.5)."""
        self.recovery: PathRecovery | None = None
        """Congestion control, RTT and ECN as they were when the path was left, at ``left_at``."""
        self.left_at = 0.0
        self.migration: Migration | None = None
        """The client wants to move here when the path is proven."""
        self.wants_move = False
        """The peer sent more than probes to another address of ours: answer from it when the path is proven."""
        self.validated = validated
        self.bytes_received = 0
        self.bytes_sent = 0
        self.challenge: bytes | None = None
        """Data of the challenge that is to be sent or was sent last."""
        self.outstanding: dict[bytes, bool] = {}
        """Challenges sent, each with data of its own (§8.2.1), and whether it went in less than a full datagram."""
        self.challenge_deadline: float | None = None
        """When to repeat it; None while it waits to be sent."""
        self.challenges_sent = 0
        self.challenge_is_small = False
        """The challenge that was answered went in a small datagram, for the limit, so it says nothing about size."""
        self.pad_next = False
        """The next packet proves the path and has to be full size (§8.2.1)."""
        self.responses: list[bytes] = []
        """Challenges to answer, each once (§8.2.2). A peer may send several; of a flood the newest are kept."""

    def budget(self) -> int:
        """Bytes that the anti-amplification limit still allows; a large number on a validated path."""
        if self.validated:
            return 1 << 30
        return max(0, AMPLIFICATION * self.bytes_received - self.bytes_sent)

    def on_challenge(self, data: bytes) -> None:
        """PATH_CHALLENGE came here, and is to be answered."""
        self.responses = [*self.responses[1 - MAX_RESPONSES :], data]

    def start_challenge(self, data: bytes) -> None:
        """Prove this path (§8.2.1) with ``data``, which nobody can guess."""
        self.challenge = data
        self.outstanding = {}
        self.challenges_sent = 0
        self.challenge_deadline = None

    def on_challenge_sent(self, *, is_small: bool, deadline: float) -> None:
        """The challenge goes out; at ``deadline`` another one has to."""
        if self.challenge is not None:
            self.outstanding[self.challenge] = is_small
        self.challenges_sent += 1
        self.challenge_deadline = deadline

    def stop_challenge(self) -> None:
        self.challenge = self.challenge_deadline = None
        self.outstanding = {}

    def on_response(self, data: bytes) -> bool:
        """PATH_RESPONSE (§8.2.3). True when it proves this path: it answers any of the challenges that were sent."""
        is_small = self.outstanding.get(data)
        if is_small is None:
            return False
        self.stop_challenge()
        self.challenge_is_small = is_small
        self.validated = True
        return True

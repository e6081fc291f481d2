"""Connection IDs, ours and the peer's (RFC 9000 §5.1, §19.15, §19.16)."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from quicstack.errors import TransportError, TransportErrorCode
from quicstack.transport.outbox import Outbox, SentValue
from quicstack.wire import frame
from quicstack.wire.ranges import RangeSet

__all__ = ["LocalConnectionIds", "PeerConnectionId", "PeerConnectionIds", "stateless_reset_token"]

MAX_ISSUED = 4
"""Connection IDs we keep active at the peer, whatever larger limit it names (§5.1.1 leaves that to the issuer)."""

MAX_RETIRING = 4
"""Retirements that may be unacknowledged, as a multiple of active_connection_id_limit (§5.1.2: of twice is enough)."""
MAX_RETIRED_RANGES = 64
"""Gaps that a peer may leave between the sequence numbers of its IDs before we stop remembering them."""

NO_CHANGES: tuple[list[bytes], list[bytes]] = [], []


def stateless_reset_token(key: bytes, cid: bytes) -> bytes:
    """RFC 9000 §10.3.2: computed from the connection ID, so it survives the state that it resets."""
    return hmac.digest(key, cid, "sha256")[:16]


class LocalConnectionIds:
    """IDs the peer puts on packets to us. Changes go up as values: :meth:`take_changes` feeds the routing table."""

    __slots__ = ("_added", "_frames", "_generate", "_next", "_outbox", "_removed", "_reset_token", "active", "first",
                 "length")  # fmt: skip

    def __init__(
        self, first: bytes, generate: Callable[[], bytes], reset_token: Callable[[bytes], bytes], outbox: Outbox
    ) -> None:
        self.active: dict[int, bytes] = {0: first}
        self.first = first
        """The one in our long headers."""
        self.length = len(first)
        self._generate = generate
        self._reset_token = reset_token
        self._outbox = outbox
        self._next = 1
        self._added: list[bytes] = [first]
        self._removed: list[bytes] = []
        self._frames: dict[int, SentValue] = {}
        """By sequence number: those that the peer has not acknowledged."""

    def issue(self, peer_limit: int) -> None:
        """Supply IDs up to the peer's active_connection_id_limit (§5.1.1). None if ours are empty (§19.15)."""
        if not self.active or not next(iter(self.active.values())):
            return
        while len(self.active) < min(peer_limit, MAX_ISSUED):
            sequence = self._next
            self._next += 1
            cid = self._generate()
            self.active[sequence] = cid
            self._added.append(cid)
            value = SentValue(
                partial(_write_new, self.active, self._reset_token, sequence, cid),
                partial(self._frames.pop, sequence, None),
            )
            self._frames[sequence] = value
            self._outbox.push(value)

    def reserve(self) -> bytes:
        """An ID that goes out in a transport parameter and not in a frame (§5.1.1: preferred_address has number 1)."""
        cid = self._generate()
        self.active[self._next] = cid
        self._added.append(cid)
        self._next += 1
        return cid

    def retire(self, sequence: int, packet_dcid: bytes, peer_limit: int) -> None:
        """RETIRE_CONNECTION_ID (§19.16): an ID never sent, or the one the packet came under, is a violation."""
        value = self._frames.get(sequence)
        if sequence >= self._next or (value is not None and value.packet_number < 0):
            # One that still waits to be sent counts, or guessing numbers would make us queue without end.
            reason = f"connection ID {sequence} was never sent"
            raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, reason, frame.RETIRE_CONNECTION_ID)
        cid = self.active.get(sequence)
        if cid is None:
            return
        if cid == packet_dcid:
            reason = f"connection ID {sequence} is retired by a packet that uses it"
            raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, reason, frame.RETIRE_CONNECTION_ID)
        del self.active[sequence]
        self._frames.pop(sequence, None)
        self._removed.append(cid)
        self.issue(peer_limit)

    @property
    def have_changed(self) -> bool:
        return bool(self._added or self._removed)

    def take_changes(self) -> tuple[list[bytes], list[bytes]]:
        """IDs issued and IDs retired since the last call."""
        if not self._added and not self._removed:
            return NO_CHANGES
        changes = self._added, self._removed
        self._added, self._removed = [], []
        return changes

    def let_go(self) -> None:
        """The connection is over: nothing goes out any more."""
        self._frames.clear()


def _write_new(
    active: dict[int, bytes], reset_token: Callable[[bytes], bytes], sequence: int, cid: bytes
) -> bytes | None:
    if sequence not in active:
        return None
    return frame.write_new_connection_id(sequence, 0, cid, reset_token(cid))


@dataclass(slots=True)
class PeerConnectionId:
    """An ID that we put on packets to the peer, with the token of its stateless resets (§10.3)."""

    sequence: int
    cid: bytes
    reset_token: bytes | None = None


class PeerConnectionIds:
    """IDs the peer has issued: ``current`` is on our packets, ``elsewhere`` on those to other paths."""

    __slots__ = ("_limit", "_outbox", "_retire_prior_to", "_retired", "_retiring", "_seen", "current", "elsewhere",
                 "spare", "tokens_changed")  # fmt: skip

    def __init__(self, first: bytes, limit: int, outbox: Outbox) -> None:
        self.current = PeerConnectionId(0, first)
        self.spare: list[PeerConnectionId] = []
        self.elsewhere: list[PeerConnectionId] = []
        self._limit = limit
        self._outbox = outbox
        self._retire_prior_to = 0
        self._retiring: dict[int, SentValue] = {}
        self._retired = RangeSet()  # sequence numbers, so that a frame that comes again revives nothing
        self._seen: dict[int, bytes] = {0: first}
        self.tokens_changed = False
        """The set of reset tokens is another one than when the flag was cleared."""

    @property
    def reset_tokens(self) -> list[bytes]:
        """Tokens by which a stateless reset is recognised: of IDs in use, not of spare or retired ones (§10.3.1)."""
        return [known.reset_token for known in (self.current, *self.elsewhere) if known.reset_token is not None]

    def replace_first(self, cid: bytes) -> None:
        """The peer chose its Source Connection ID (§7.2), or a Retry did."""
        self.current.cid = cid
        self._seen[0] = cid

    def add(self, sequence: int, retire_prior_to: int, cid: bytes, token: bytes) -> None:
        """NEW_CONNECTION_ID (§19.15), which may come more than once but must not change."""
        if not self.current.cid:
            self._fail(TransportErrorCode.PROTOCOL_VIOLATION, "NEW_CONNECTION_ID to a zero-length connection ID")
        known = self._seen.get(sequence)
        if known is not None:
            if known != cid or self._token_of(sequence) not in (None, token):
                self._fail(TransportErrorCode.PROTOCOL_VIOLATION, f"connection ID {sequence} changed")
        elif cid in self._seen.values():
            self._fail(TransportErrorCode.PROTOCOL_VIOLATION, f"connection ID {sequence} repeats an earlier one")
        elif sequence in self._retired:
            pass  # a copy that comes late
        elif sequence < self._retire_prior_to:
            self._retire(sequence)  # §19.15: asked back before it came
        else:
            self._seen[sequence] = cid
            self.spare.append(PeerConnectionId(sequence, cid, token))
        if retire_prior_to > self._retire_prior_to:
            self._retire_prior_to = retire_prior_to
            self._retire_old()
        active = 1 + len(self.spare) + len(self.elsewhere)
        if active > self._limit:
            self._fail(
                TransportErrorCode.CONNECTION_ID_LIMIT_ERROR,
                f"{active} connection IDs are active, {self._limit} are allowed",
            )
        self._check_retirements()

    def _check_retirements(self) -> None:
        """Whatever is retired has come in a frame, so the one place to look at is where the next one comes."""
        # CVE-2024-22189: a peer that never acknowledges could make this queue grow without end.
        if len(self._retiring) > MAX_RETIRING * self._limit:
            self._fail(TransportErrorCode.CONNECTION_ID_LIMIT_ERROR, "too many retirements are unacknowledged")
        if len(self._retired) > MAX_RETIRED_RANGES:
            # §5.1.1: sequence numbers rise by one, so what was retired lies close together
            self._fail(TransportErrorCode.CONNECTION_ID_LIMIT_ERROR, "sequence numbers with too many gaps")

    def _token_of(self, sequence: int) -> bytes | None:
        everything = (self.current, *self.spare, *self.elsewhere)
        return next((known.reset_token for known in everything if known.sequence == sequence), None)

    def _retire_old(self) -> None:
        """§5.1.2: stop using what the peer asks back, then say so."""
        keep = []
        for known in self.spare:
            if known.sequence < self._retire_prior_to:
                self._retire(known.sequence)
            else:
                keep.append(known)
        self.spare = keep
        for known in [known for known in self.elsewhere if known.sequence < self._retire_prior_to]:
            self.release(known)
        if self.current.sequence < self._retire_prior_to:
            if not self.spare:
                self._fail(TransportErrorCode.CONNECTION_ID_LIMIT_ERROR, "every connection ID was asked back")
            self.rotate()

    def rotate(self) -> bool:
        """Use another ID from now on and retire the current one (§5.1.2). False when the peer supplied none."""
        if not self.spare:
            return False
        old = self.current.sequence
        self.current = self.spare.pop(0)
        self._retire(old)
        return True

    def take(self, sequence: int | None = None) -> PeerConnectionId | None:
        """An unused ID for another path (§9.5), that of a number if one is wanted. None when there is none."""
        for index, known in enumerate(self.spare):
            if sequence is None or known.sequence == sequence:
                self.elsewhere.append(self.spare.pop(index))
                self.tokens_changed = True
                return known
        return None

    def switch(self, known: PeerConnectionId) -> None:
        """Another path is the one in use now, and its ID the current one."""
        if known is not self.current:
            self.elsewhere.remove(known)
            self.elsewhere.append(self.current)
            self.current = known

    def release(self, known: PeerConnectionId) -> None:
        """The path that used this ID is left for good: retire it (§5.1.2), unless that has happened."""
        if known in self.elsewhere:
            self.elsewhere.remove(known)
            self._retire(known.sequence)

    def _retire(self, sequence: int) -> None:
        self._seen.pop(sequence, None)
        self.tokens_changed = True
        self._retired.add(sequence, sequence + 1)
        value = SentValue(
            lambda: frame.write_limit(frame.RETIRE_CONNECTION_ID, sequence),
            lambda: self._on_retired(sequence),
        )
        self._retiring[sequence] = value
        self._outbox.push(value)

    def _on_retired(self, sequence: int) -> None:
        self._retiring.pop(sequence, None)

    def _fail(self, code: TransportErrorCode, reason: str) -> None:
        raise TransportError(code, reason, frame.NEW_CONNECTION_ID)

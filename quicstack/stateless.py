"""What a server says without a connection: Version Negotiation, Retry, a refusal, stateless reset (RFC 9000 §5.2.2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from quicstack.train import Path, Train
from quicstack.transport.connection_ids import stateless_reset_token
from quicstack.transport.packet_protection import INITIAL_SUITE, PacketKeys, initial_secrets, retry_integrity_tag
from quicstack.wire.frame import write_connection_close
from quicstack.wire.packet import LongHeader, write_long_header, write_retry, write_version_negotiation
from quicstack.wire.version import VERSIONS, PacketType, reserved_version

__all__ = ["MAX_STATELESS", "StatelessAnswers"]

MAX_STATELESS = 64
"""Answers that wait to be sent. More are not made: what they cost is bounded by how fast the socket takes them."""
MIN_RESET = 21
"""RFC 9000 §10.3: the smallest stateless reset that can pass for a packet."""
MAX_RESET = 42


_NOTHING: deque[Train] = deque()
"""The queue of all that have not answered yet; every client has one of these."""


class StatelessAnswers:
    """Each method queues one datagram, smaller than the one it answers, or returns False when too many wait."""

    __slots__ = ("_random", "queue")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self.queue = _NOTHING

    def negotiate_version(
        self, path: Path, dcid: bytes, scid: bytes, versions: tuple[int, ...], *, grease: bool
    ) -> bool:
        """RFC 9000 §6.1; ``dcid`` and ``scid`` as the client wrote them, of any length (RFC 8999 §5.3)."""
        if self._is_full:
            return False
        offered = list(versions)
        if grease:
            offered.append(reserved_version(self._random(4)))
        first = self._random(1)[0] | 0x40  # §17.2.1: looks like a QUIC packet to multiplexers
        return self._push(write_version_negotiation(scid, dcid, offered, first), path)

    def retry(self, path: Path, header: LongHeader, scid: bytes, token: bytes) -> bool:
        """§17.2.5: the client shall come back with this token, to another connection ID."""
        if self._is_full or scid == header.dcid:
            return False
        version = VERSIONS[header.version]
        packet = write_retry(version, header.scid, scid, token)
        return self._push(packet + retry_integrity_tag(version, header.dcid, packet), path)

    def refuse(self, path: Path, header: LongHeader, code: int, reason: bytes) -> bool:
        """§5.2.2, §8.1.2: CONNECTION_CLOSE in an Initial, under keys that need nothing but the client's packet."""
        if self._is_full:
            return False
        version = VERSIONS[header.version]
        _, secret = initial_secrets(version, header.dcid)
        payload = write_connection_close(code, reason, 0)
        head = write_long_header(
            version, PacketType.INITIAL, header.scid, header.dcid, b"", len(payload) + 16, 0, 2
        )  # fmt: skip
        return self._push(PacketKeys(INITIAL_SUITE, secret, version).seal(head, 2, 0, payload), path)

    def reset(self, train: Train, cid: bytes, key: bytes) -> bool:
        """§10.3: the end of a connection that nobody here knows. §10.3.3: smaller, so that no loop is endless."""
        length = min(train.segment_size, len(train.data), MAX_RESET + 1) - 1
        if length < MIN_RESET or self._is_full:
            return False
        head = self._random(length - 16)
        return self._push(bytes((head[0] & 0x3F | 0x40,)) + head[1:] + stateless_reset_token(key, cid), train.path)

    @property
    def _is_full(self) -> bool:
        return len(self.queue) >= MAX_STATELESS

    def _push(self, datagram: bytes, path: Path) -> bool:
        if not self.queue:
            self.queue = deque()
        self.queue.append(Train(datagram, len(datagram), path))
        return True

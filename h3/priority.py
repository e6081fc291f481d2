"""Extensible priorities (RFC 9218): read and remembered, not yet acted upon."""

from __future__ import annotations

import re
from typing import NamedTuple

from quicstack.errors import Truncated
from quicstack.wire.varint import read_varint

from .errors import H3ConnectionError, H3ErrorCode

__all__ = ["DEFAULT_PRIORITY", "Priority", "parse_priority", "read_priority_update"]


class Priority(NamedTuple):
    """Urgency 0 (first) to 7 (last), and whether responses of equal urgency share the link (RFC 9218 §4)."""

    urgency: int = 3
    incremental: bool = False


DEFAULT_PRIORITY = Priority()

# RFC 8941 §3.2: one member of a dictionary, with the parameters that are allowed behind it and mean nothing here.
_MEMBER = re.compile(rb"([a-z*][a-z0-9_\-.*]*)(?:=((?:\"(?:[^\"\\]|\\.)*\"|\([^)]*\)|:[^:]*:|[^,;\"])*))?(?:;[^,]*)?")


def parse_priority(value: bytes) -> Priority:
    """A Priority field value. What is unknown, of the wrong type or out of range counts as absent (RFC 9218 §4)."""
    urgency, incremental = DEFAULT_PRIORITY
    for part in value.split(b","):
        member = _MEMBER.fullmatch(part.strip(b" \t"))
        if member is None:
            continue
        key, item = member[1], member[2]
        if key == b"u":
            is_urgency = item is not None and len(item) == 1 and b"0" <= item <= b"7"
            urgency = int(item) if is_urgency else DEFAULT_PRIORITY.urgency
        elif key == b"i":
            incremental = item is None or item == b"?1"
    return Priority(urgency, incremental)


def read_priority_update(payload: bytes) -> tuple[int, Priority]:
    """PRIORITY_UPDATE (RFC 9218 §7.2): the id of a request stream or push, and the complete new priority."""
    try:
        element_id, position = read_varint(payload, 0)
    except Truncated:
        raise H3ConnectionError(H3ErrorCode.H3_FRAME_ERROR, "PRIORITY_UPDATE is too short") from None
    return element_id, parse_priority(payload[position:])

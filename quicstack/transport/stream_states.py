"""The two halves of a stream as RFC 9000 §3 draws them, as tables. Consulted on FIN and RESET, not on every byte.

Sending part (§3.1)::

    READY -> SEND -> DATA_SENT -> DATA_RECVD        data acknowledged
      |       |          |
      +-------+----------+-> RESET_SENT -> RESET_RECVD      reset acknowledged

Receiving part (§3.2)::

    RECV -> SIZE_KNOWN -> DATA_RECVD -> DATA_READ       the application has read everything
      |         |             |
      +---------+-------------+-> RESET_RECVD -> RESET_READ
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["RECEIVE_TERMINAL", "SEND_TERMINAL", "ReceiveState", "SendState"]


class SendState(IntEnum):
    """RFC 9000 §3.1."""

    READY = 0
    SEND = 1
    DATA_SENT = 2
    DATA_RECVD = 3
    RESET_SENT = 4
    RESET_RECVD = 5


class ReceiveState(IntEnum):
    """RFC 9000 §3.2."""

    RECV = 0
    SIZE_KNOWN = 1
    DATA_RECVD = 2
    DATA_READ = 3
    RESET_RECVD = 4


SEND_TERMINAL = frozenset({SendState.DATA_RECVD, SendState.RESET_RECVD})
RECEIVE_TERMINAL = frozenset({ReceiveState.DATA_READ, ReceiveState.RESET_RECVD})

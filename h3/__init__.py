"""HTTP/3 in pure Python: RFC 9114, with QPACK (9204), extended CONNECT (9220), datagrams and capsules (9297).

The names here do no I/O. What most programs want is built on them and on asyncio: :class:`h3.client.H3Client`,
:func:`h3.server.serve`, and ``python -m h3`` for a shell. From the outside in::

    connection              one HTTP/3 connection over a QUIC connection: who owns which stream, what errors become
    exchange                one request and its response; datagrams and capsules of a CONNECT
    message_reader, message_writer   the two halves of a request stream
    critical_streams        control and QPACK streams, ours and the peer's; control: what the peer says on its own
    peer_stream             what the first bytes of another stream say that it is
    qpack                   field sections, behind a guard against those that grow; fields: what makes them valid
    frames, settings, capsule, datagram, priority    bytes to values and back
    budget, errors
    aio, headers            what client and server share
"""

from __future__ import annotations

from .connection import H3Connection, H3Ready
from .errors import (
    ExtendedConnectUnavailable,
    GoingAway,
    H3ConnectionError,
    H3Error,
    H3ErrorCode,
    H3StreamError,
    InvalidMessage,
)
from .exchange import Exchange
from .settings import H3Settings

__all__ = [
    "Exchange",
    "ExtendedConnectUnavailable",
    "GoingAway",
    "H3Connection",
    "H3ConnectionError",
    "H3Error",
    "H3ErrorCode",
    "H3Ready",
    "H3Settings",
    "H3StreamError",
    "InvalidMessage",
]

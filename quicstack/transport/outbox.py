"""What the parts of a connection leave for it: frames to write, streams with data, streams that changed.

The parts hold this and nothing above it. ``SentValue`` is the one lifecycle of everything but STREAM, CRYPTO and
DATAGRAM that must reach the peer (RFC 9000 §13.3): queued, sent in a packet, then acknowledged or queued again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from quicstack.transport.scheduler import StreamScheduler, UrgencyScheduler

if TYPE_CHECKING:
    from quicstack.transport.stream import Stream

__all__ = ["EMPTY", "Bell", "Outbox", "SentValue"]


class Bell(Protocol):
    """Where those stand in line that may have something to send."""

    def append(self, item: Any, /) -> None: ...


class SentValue:
    """A control frame that is written from the current state whenever it goes out.

    ``write`` returns the frame, or None when there is nothing to say any more. ``on_acked`` is called once, when the
    packet with the latest version of the frame is acknowledged.
    """

    __slots__ = ("acked", "on_acked", "packet_number", "queued", "stream_id", "write")

    def __init__(
        self,
        write: Callable[[], bytes | None],
        on_acked: Callable[[], object] | None = None,
        stream_id: int | None = None,
    ) -> None:
        self.write = write
        self.on_acked = on_acked
        self.stream_id = stream_id
        """The stream whose state an acknowledgement changes, if there is one."""
        self.queued = False
        self.packet_number = -1
        """The last packet that carried the frame; -1 before there is one."""
        self.acked = False


EMPTY: deque[SentValue] = deque()
"""What all share that have nothing to say: an empty deque takes 700 bytes of every connection."""

NOWHERE: deque[Stream] = deque(maxlen=0)
"""What goes in is not kept: the streams of a closed connection need no successors."""


class Outbox:
    """Filled from below, emptied by ``connection/send`` and by the application."""

    __slots__ = (
        "bell", "closed", "control", "datagrams", "drained", "is_client", "max_data", "now", "ready", "reset_stream_at",
        "ring_for", "rung", "sending", "smoothed_rtt", "state_changed", "streams_allowed", "touched",
    )  # fmt: skip

    def __init__(
        self,
        *,
        is_client: bool = False,
        bell: Bell | None = None,
        ring_for: object = None,
        scheduler: StreamScheduler | None = None,
    ) -> None:
        self.is_client = is_client
        self.control = EMPTY
        self.sending: StreamScheduler = UrgencyScheduler() if scheduler is None else scheduler
        """Streams with something to send, and whose turn it is."""
        self.ready: list[Stream] = []
        self.touched: list[Stream] | deque[Stream] = []
        """Streams that may have finished; the stream table forgets those that did."""
        self.datagrams = False
        self.streams_allowed = False
        self.state_changed = False
        self.closed: Exception | None = None
        """Why nothing more can be written."""
        self.bell = bell
        self.ring_for = ring_for
        self.rung = False
        self.drained = False
        """The train just built took all there was: asking for another one would be in vain."""
        self.now = 0.0
        self.smoothed_rtt = 0.333
        self.reset_stream_at = False
        """The peer takes RESET_STREAM_AT."""
        self.max_data: SentValue | None = None
        """The connection's MAX_DATA, pushed by the stream that uses up half of the window."""

    def ring(self) -> None:
        """Tell whoever drives this connection that it may have something to send."""
        if not self.rung and self.bell is not None:
            self.rung = True
            self.bell.append(self.ring_for)

    def push(self, value: SentValue) -> None:
        """Queue a control frame, unless it is queued already, or nothing goes out any more."""
        if not value.queued and self.closed is None:
            value.queued = True
            if not self.control:
                self.control = deque()
            self.control.append(value)
        if not self.rung:
            self.ring()

    def clear(self) -> None:
        """Nothing more of this goes out, and no stream is replaced by another."""
        self.control = EMPTY
        self.touched = NOWHERE
        self.sending.clear()

    def let_go(self) -> None:
        """The connection is over: hold nothing that holds the connection, so that it goes when nobody wants it any
        more. Waiting for the garbage collector cost 0.3 ms and 300 objects a connection."""
        self.bell = self.ring_for = self.max_data = None

    def push_stream(self, stream: Stream) -> None:
        """The stream has something to send."""
        if not stream.is_sending:
            stream.is_sending = True
            self.sending.push(stream)
        if not self.rung:
            self.ring()

    def push_ready(self, stream: Stream) -> None:
        """Something about the stream changed that the application wants to know."""
        if not stream.is_ready:
            stream.is_ready = True
            self.ready.append(stream)

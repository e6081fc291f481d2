"""One session, without waiting: from the CONNECT request to the end of its stream (draft-16 §3, §4, §6).

::

    CONNECTING --2xx--> CONNECTED --DRAIN or GOAWAY--> DRAINING
        |                   |                              |
        +---refused---------+---WT_CLOSE_SESSION, FIN------+--> CLOSED
                                or RESET_STREAM, either way

A session that closes gives up its streams at once and never waits for the peer: the capsule and the end of the CONNECT
stream are queued, and if the peer has not ended its side in time the stream is reset.
"""

from __future__ import annotations

from collections.abc import Callable

from h3.exchange import Exchange
from quicstack.errors import QuicstackError
from quicstack.transport.datagram_queue import DatagramQueue
from quicstack.transport.stream import Stream
from webtransport.capsules import (
    CAPSULE_LIMITS,
    FLOW_CONTROL_CAPSULES,
    CapsuleError,
    encode_close,
    encode_limit,
    read_close,
    read_limit,
)
from webtransport.codes import CapsuleType, ErrorCode
from webtransport.dialects import Dialect
from webtransport.errors import CloseInfo, DatagramTooLarge, SessionClosed
from webtransport.flow_control import SessionFlowControl
from webtransport.session_limits import SessionLimits, SessionState, SessionStats
from webtransport.session_stream import Face, SessionStream

__all__ = ["Session"]

_MAX_UNSENT_ON_CONNECT = 1 << 14


_OVER = object()
"""Owns the requests of sessions that are forgotten, so that none is taken for a new one."""


class Session:
    """The state of a session. ``face`` is free for whoever waits on it; ``on_change``, ``on_stream`` tell of news."""

    def __init__(
        self,
        exchange: Exchange,
        dialect: Dialect,
        *,
        limits: SessionLimits,
        flow: SessionFlowControl | None,
        on_change: Callable[[Session], None],
        on_stream: Callable[[SessionStream], None],
    ) -> None:
        self.exchange = exchange
        self.dialect = dialect
        self.limits = limits
        self.flow = flow
        self.state = SessionState.CONNECTING
        self.close_info: CloseInfo | None = None
        self.subprotocol: str | None = None
        self.deadline: float | None = None
        """When a CONNECT stream that the peer keeps open is reset."""
        self.face: Face | None = None
        self.stats = SessionStats()
        self.incoming: tuple[list[SessionStream], list[SessionStream]] = ([], [])
        """Streams not accepted yet, a few: bidirectional, unidirectional. Two empty deques would take 1.4 KiB more."""
        self.datagrams = DatagramQueue(limits.datagram_buffer)
        self.streams: dict[int, SessionStream] = {}
        self.was_established = False
        self._on_change = on_change
        self._on_stream = on_stream
        self._blocked: set[SessionStream] = set()
        self._ending: set[SessionStream] = set()
        self._received_at_close: int | None = None
        exchange.owner = self

    def __repr__(self) -> str:
        return f"<Session {self.session_id} {self.state.value}>"

    @property
    def session_id(self) -> int:
        """The id of the CONNECT stream (draft-16 §4)."""
        return self.exchange.stream_id

    @property
    def is_open(self) -> bool:
        return self.state in (SessionState.CONNECTED, SessionState.DRAINING)

    @property
    def is_over(self) -> bool:
        """Closed, and the CONNECT stream is over both ways too."""
        return self.state is SessionState.CLOSED and self.exchange.stream.finished

    @property
    def max_stream_error(self) -> int:
        return self.dialect.max_stream_error

    def let_go(self) -> None:
        """Nothing will happen to it any more: what it holds does not hold it, so that it goes when nobody wants it."""
        self.face = None
        self.exchange.owner = _OVER

    @property
    def is_forgotten(self) -> bool:
        """``let_go`` was called."""
        return self.exchange.owner is _OVER

    # Beginning

    def establish(self, subprotocol: str | None) -> None:
        """The 2xx was sent or received: the CONNECT stream carries capsules now (draft-16 §3.2)."""
        self.subprotocol = subprotocol
        self.was_established = True
        self.state = SessionState.CONNECTED
        self.exchange.upgrade(CAPSULE_LIMITS)
        self.send_flow_control()
        self._on_change(self)

    # Streams

    def receive_stream(self, stream: Stream) -> None:
        """A stream of the peer whose header named this session; too many unaccepted ones are turned away."""
        session_stream = SessionStream(self, stream, is_local=False)
        unidirectional = stream.is_unidirectional
        self.streams[stream.id] = session_stream
        try:
            if self.flow is not None:
                self.flow.stream_received(unidirectional=unidirectional)
            session_stream.observe()
        except CapsuleError as error:
            self.fail(error)
            return
        queue = self.incoming[unidirectional]
        if len(queue) >= self.limits.max_unaccepted_streams:
            self.stats.streams_rejected += 1
            session_stream.abandon(ErrorCode.WT_BUFFERED_STREAM_REJECTED)
            return
        queue.append(session_stream)
        self._on_change(self)

    def accept_stream(self, *, unidirectional: bool) -> SessionStream | None:
        """The oldest stream of the peer that nobody has accepted, None if there is none."""
        queue = self.incoming[unidirectional]
        if not queue:
            return None
        self.stats.streams_accepted += 1
        return queue.pop(0)

    def may_open_stream(self, *, unidirectional: bool) -> bool:
        """Whether the session's flow control allows another stream; QUIC's limit is another matter."""
        if self.close_info is not None:
            raise SessionClosed(self.close_info)
        if self.flow is None or self.flow.may_open(unidirectional=unidirectional):
            return True
        self.send_flow_control()
        return False

    def add_opened_stream(self, stream: Stream) -> SessionStream:
        """Own a stream that was just opened for this session."""
        session_stream = SessionStream(self, stream, is_local=True)
        self.streams[stream.id] = session_stream
        if self.flow is not None:
            self.flow.opened(unidirectional=stream.is_unidirectional)
        self.stats.streams_opened += 1
        return session_stream

    def stream_blocked(self, stream: SessionStream) -> None:
        """A stream waits for the peer's WT_MAX_DATA."""
        self._blocked.add(stream)
        self.send_flow_control()

    def stream_ending(self, stream: SessionStream) -> None:
        """A stream was reset by this side: its end will come without a word."""
        self._ending.add(stream)

    def stream_abandoned(self, stream: SessionStream) -> None:
        """A stream went with its session; whoever waits for it must hear of it."""
        self._on_stream(stream)

    def stream_settled(self, stream: SessionStream) -> None:
        """A stream is over both ways; the peer may open another one in its place."""
        self._ending.discard(stream)
        self._blocked.discard(stream)
        self.streams.pop(stream.stream_id, None)
        if self.flow is not None and not stream.is_local:
            self.flow.stream_released(unidirectional=stream.is_unidirectional)
            self.send_flow_control()

    @property
    def is_delivering(self) -> bool:
        """Streams that were ended here wait for the peer to acknowledge their last bytes."""
        return any(stream.is_ended and not stream.stream.send_done for stream in self.streams.values())

    def observe_stream(self, stream: SessionStream) -> None:
        """A stream of this session is ready for something."""
        try:
            stream.observe()
        except CapsuleError as error:
            self.fail(error)
        self._on_stream(stream)

    def sweep(self) -> None:
        """Forget streams that ended without a word: those whose reset was acknowledged."""
        for stream in list(self._ending):
            stream.check_settled()

    # Datagrams

    @property
    def max_datagram_size(self) -> int:
        """The longest datagram that fits into one packet; 0 if the peer takes none."""
        return max(0, self.exchange.max_datagram_payload)

    def send_datagram(self, data: bytes) -> bool:
        """Send one, unreliably (draft-16 §4.5). False if it was dropped because the queue is full."""
        if self.close_info is not None:
            raise SessionClosed(self.close_info)
        sent = self.exchange.send_quic_datagram(data)
        if sent is None:
            raise DatagramTooLarge(len(data), self.max_datagram_size)
        self.stats.datagrams_sent += sent
        return sent

    def _take_datagrams(self) -> None:
        datagrams = self.exchange.take_datagrams()
        if not datagrams or self.close_info is not None:
            return
        self.stats.datagrams_received += len(datagrams)
        self.datagrams.push_newest(datagrams)
        self.stats.datagrams_dropped_incoming = self.datagrams.dropped

    # The CONNECT stream

    def process(self, now: float) -> None:
        """Something happened on the CONNECT stream of a session that is established or closed."""
        exchange = self.exchange
        if self.state is SessionState.CLOSED:
            self._process_closed()
            return
        self._take_datagrams()
        while self.close_info is None and (capsules := exchange.take_capsules()):
            for index, (capsule_type, value) in enumerate(capsules):
                try:
                    self._receive_capsule(capsule_type, value, now)
                except CapsuleError as error:
                    self.fail(error)
                if self.close_info is not None:
                    if index + 1 < len(capsules):
                        exchange.cancel(ErrorCode.H3_MESSAGE_ERROR)
                    break
        if self.close_info is None:
            if exchange.error is not None or exchange.reset_code is not None:
                self.end(CloseInfo(by_peer=True, clean=False, cause=exchange.error))
                exchange.cancel(ErrorCode.WT_SESSION_GONE)
            elif exchange.at_end:
                # draft-16 §6: an end without a capsule says code 0 and nothing more
                self.end(CloseInfo(by_peer=True))
                exchange.finish()
            elif exchange.stop_code is not None:
                self.end(CloseInfo(by_peer=True, clean=False))
                exchange.stop(ErrorCode.WT_SESSION_GONE)
            else:
                self.send_flow_control()
        self._on_change(self)

    def _process_closed(self) -> None:
        """draft-16 §6: what follows WT_CLOSE_SESSION on its stream is an error."""
        exchange = self.exchange
        exchange.take_capsules()
        exchange.take_datagrams()
        received = exchange.stream.bytes_received
        if self._received_at_close is not None and received > self._received_at_close and exchange.reset_code is None:
            self._received_at_close = None
            exchange.cancel(ErrorCode.H3_MESSAGE_ERROR)
        if exchange.can_send and (exchange.at_end or exchange.reset_code is not None):
            exchange.finish()
        if self.is_over:
            self.deadline = None

    def _receive_capsule(self, capsule_type: int, value: bytes, now: float) -> None:
        if capsule_type == CapsuleType.WT_CLOSE_SESSION:
            code, reason = read_close(value)
            self.end(CloseInfo(code, reason, by_peer=True))
            self._received_at_close = self.exchange.stream.bytes_received
            self.exchange.finish()
            self.deadline = now + self.limits.close_timeout
        elif capsule_type == CapsuleType.WT_DRAIN_SESSION:
            self.set_draining()
        elif capsule_type in FLOW_CONTROL_CAPSULES:
            if self.flow is not None:  # draft-16 §5.1: without flow control they are ignored
                self.flow.receive_capsule(capsule_type, read_limit(capsule_type, value))
                if capsule_type == CapsuleType.WT_MAX_DATA:
                    blocked, self._blocked = self._blocked, set()
                    for stream in blocked:
                        self._on_stream(stream)
        elif capsule_type in (CapsuleType.WT_MAX_STREAM_DATA, CapsuleType.WT_STREAM_DATA_BLOCKED):
            raise CapsuleError(ErrorCode.H3_MESSAGE_ERROR, "stream flow control capsules belong to HTTP/2")

    def send_flow_control(self) -> None:
        """Queue the capsules that are due. A peer that reads none of them holds up none of ours: values are renewed."""
        if self.flow is None or not self.is_open or self.exchange.stream.send_buffered > _MAX_UNSENT_ON_CONNECT:
            return
        for capsule_type, limit in self.flow.take_capsules():
            self.exchange.send_capsule(capsule_type, encode_limit(limit))

    # The end

    def set_draining(self) -> None:
        """The peer, or its GOAWAY, asks to come to an end soon (draft-16 §4.7). Everything still works."""
        if self.state is SessionState.CONNECTED:
            self.state = SessionState.DRAINING
            self._on_change(self)

    def drain(self) -> None:
        """Ask the peer to come to an end soon. Drafts before -07 have no way to say so."""
        if self.is_open:
            if self.dialect.has_drain:
                self.exchange.send_capsule(CapsuleType.WT_DRAIN_SESSION)
            self.set_draining()

    def close(self, code: int, reason: str, now: float) -> None:
        """End the session with a code and a reason for the peer; nothing happens if it is over (draft-16 §6)."""
        value = encode_close(code, reason)
        if self.close_info is not None:
            return
        was_open = self.is_open
        self.end(CloseInfo(code, value[4:].decode()))
        if was_open and self.exchange.send_capsule(CapsuleType.WT_CLOSE_SESSION, value):
            self.exchange.finish()
            self.deadline = now + self.limits.close_timeout
        else:
            self.exchange.cancel(ErrorCode.H3_REQUEST_CANCELLED)

    def fail(self, error: CapsuleError) -> None:
        """The peer broke a rule of this session: reset its CONNECT stream."""
        self.abort(error.code, error.reason)

    def abort(self, code: int, reason: str) -> None:
        """End the session by a reset of its CONNECT stream with an HTTP/3 ``code``; ``reason`` is for this side."""
        if self.close_info is None:
            self.end(CloseInfo(reason=reason, clean=False))
        self.exchange.cancel(code)

    def lose(self, error: QuicstackError | None) -> None:
        """The connection is gone, and everything with it."""
        if self.close_info is None:
            self.end(CloseInfo(by_peer=bool(getattr(error, "by_peer", False)), clean=False, cause=error))
        self.deadline = None

    def end(self, info: CloseInfo) -> None:
        """Leave every stream: reset what is being sent, stop what is being received (draft-16 §6)."""
        self.close_info = info
        self.state = SessionState.CLOSED
        self.flow = None
        unaccepted = [stream for queue in self.incoming for stream in queue]
        for stream in unaccepted:
            stream.abandon(ErrorCode.WT_SESSION_GONE)
        for queue in self.incoming:
            queue.clear()
        for stream in list(self.streams.values()):
            stream.abandon(ErrorCode.WT_SESSION_GONE, keep_received=True)
        self._on_change(self)

    def discard(self) -> None:
        """Nobody will read what had arrived in full when the session ended."""
        self.datagrams.clear()
        for stream in list(self.streams.values()):
            stream.abandon(ErrorCode.WT_SESSION_GONE)

    def handle_timeout(self, now: float) -> None:
        """The peer did not end its side of the CONNECT stream in time."""
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self.exchange.cancel(ErrorCode.WT_SESSION_GONE)

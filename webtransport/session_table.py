"""The sessions of one HTTP/3 connection, without waiting: who is who, what may come, what overtook what.

Whoever drives the connection calls :meth:`SessionTable.process` with what ``Connection.take_ready`` returned and looks
at :meth:`SessionTable.take_ready`. :meth:`SessionTable.handle_timeout` is due at :meth:`SessionTable.next_timeout`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from h3.connection import H3Connection
from h3.exchange import Exchange
from quicstack.connection.connection import Ready
from quicstack.errors import QuicstackError
from quicstack.transport.stream import Stream
from webtransport.codes import ErrorCode
from webtransport.dialects import (
    DIALECTS,
    DRAFT02,
    DRAFT16,
    PROTOCOL_TOKENS,
    Dialect,
    FlowLimits,
    Setting,
    choose_for_client,
    choose_for_server,
    flow_control_agreed,
)
from webtransport.early_streams import EarlyStreams, turn_away
from webtransport.errors import CloseInfo, SessionRejected, WebTransportUnsupported
from webtransport.flow_control import SessionFlowControl
from webtransport.session_limits import SessionLimits, SessionState
from webtransport.session_state import Session
from webtransport.session_stream import SessionStream
from webtransport.subprotocols import answer_header, offer_header, read_answer, read_offer

__all__ = ["SessionTable", "TableReady"]

_REMEMBERED_ENDS = 1024

Header = tuple[bytes, bytes]


@dataclass(slots=True)
class TableReady:
    """What changed: sessions and streams, each once, and requests that are not WebTransport's."""

    sessions: list[Session] = field(default_factory=list)
    streams: list[SessionStream] = field(default_factory=list)
    requests: list[Exchange] = field(default_factory=list)


class SessionTable:
    """Sessions by the id of their CONNECT stream. ``settings`` are those that this side sent."""

    def __init__(
        self,
        h3: H3Connection,
        *,
        settings: Mapping[int, int],
        max_sessions: int,
        window: FlowLimits,
        limits: SessionLimits | None = None,
        dialects: tuple[Dialect, ...] = DIALECTS,
        require_reset_stream_at: bool = True,
    ) -> None:
        self.h3 = h3
        self.sessions: dict[int, Session] = {}
        self.failed: QuicstackError | None = None
        self._settings = dict(settings)
        self._max_sessions = max_sessions
        self._window = window
        self._limits = limits or SessionLimits()
        self._dialects = dialects
        self._require_reset_stream_at = require_reset_stream_at
        self._now = 0.0
        self._early = EarlyStreams()
        self._held: list[Exchange] = []
        self._ended: OrderedDict[int, None] = OrderedDict()
        self._changed: dict[int, Session] = {}
        self._changed_streams: dict[int, SessionStream] = {}
        self._requests: list[Exchange] = []

    # Driving

    def process(self, ready: Ready, now: float) -> None:
        """Take in what the connection has; the news are in :meth:`take_ready`."""
        self._now = now
        for stream in ready.streams:
            owner = stream.owner
            if isinstance(owner, SessionStream) and isinstance(owner.session, Session):
                owner.session.observe_stream(owner)
        h3_ready = self.h3.process(ready)
        if h3_ready.settings_received:
            self._check_settings()
        for exchange in h3_ready.exchanges:
            self._on_exchange(exchange)
        if h3_ready.settings_received:
            held, self._held = self._held, []
            for exchange in held:
                self._on_request(exchange)
        for session_id, stream in h3_ready.webtransport_streams:
            self._on_stream(session_id, stream)
        if h3_ready.goaway is not None:
            for session in self.sessions.values():
                session.set_draining()
        closed = self.h3.quic.closed
        if closed is not None and self.failed is None:
            self._lose(closed)
        self._forget_ended()

    def take_ready(self) -> TableReady:
        """What changed since the last call."""
        ready = TableReady(list(self._changed.values()), list(self._changed_streams.values()), self._requests)
        self._changed, self._changed_streams, self._requests = {}, {}, []
        return ready

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is due."""
        deadlines = [session.deadline for session in self.sessions.values() if session.deadline is not None]
        if self._early.deadline is not None:
            deadlines.append(self._early.deadline)
        return min(deadlines, default=None)

    def handle_timeout(self, now: float) -> None:
        """Something waited too long: an early stream for its session, a closed session for its peer."""
        self._now = now
        self._early.expire(now)
        for session in list(self.sessions.values()):
            session.handle_timeout(now)
        self._forget_ended()

    # Client

    @property
    def dialect(self) -> Dialect | None:
        """Client: the newest dialect that the server speaks; None while its SETTINGS are on their way, or if none."""
        settings = self.h3.peer_settings
        return None if settings is None else choose_for_client(settings, self._possible_dialects())

    @property
    def has_room(self) -> bool:
        """Client: another session may share this connection (draft-16 §5.1, §5.2; draft-14 §5.2)."""
        dialect, peer = self.dialect, self.h3.peer_settings
        if dialect is None or peer is None or self.h3.peer_goaway is not None or self.failed is not None:
            return False
        active = sum(session.state is not SessionState.CLOSED for session in self.sessions.values())
        if dialect.counts_sessions and active >= peer.get(dialect.support_setting, 0):
            return False
        return active == 0 or self._may_share(dialect)

    def connect(
        self,
        authority: str,
        path: str,
        *,
        headers: Sequence[Header] = (),
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
    ) -> Session:
        """Ask for a session. WebTransportUnsupported if the server offers no dialect; errors of h3 go through."""
        dialect = self.dialect
        if dialect is None or self.h3.quic.max_datagram_payload == 0:
            raise WebTransportUnsupported("the server offers no draft of WebTransport that this client speaks")
        fields = [
            (b":method", b"CONNECT"),
            (b":protocol", dialect.protocol.encode()),
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
        ]
        if dialect.request_version is not None:
            name, value = dialect.request_version
            fields.append((name.encode(), value.encode()))
        if origin is not None:
            fields.append((b"origin", origin.encode()))
        if subprotocols:
            fields.append(offer_header(dialect, subprotocols))
        exchange = self.h3.request([*fields, *headers])
        return self._add(exchange, dialect)

    def _on_response(self, session: Session) -> None:
        exchange = session.exchange
        if exchange.error is not None or exchange.reset_code is not None:
            code = exchange.reset_code if exchange.error is None else exchange.error.code
            self._reject(session, SessionRejected(0, code=code))
        elif exchange.status is not None and exchange.headers is not None:
            status = exchange.status
            if 200 <= status < 300:
                self._establish(session, read_answer(session.dialect, exchange.headers))
            else:
                shown = tuple(
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in exchange.headers
                    if not name.startswith(b":")
                )
                self._reject(session, SessionRejected(status, headers=shown))
                exchange.cancel(ErrorCode.H3_REQUEST_CANCELLED)

    def _reject(self, session: Session, error: SessionRejected) -> None:
        session.end(CloseInfo(by_peer=True, clean=False, cause=error))

    # Server

    def accept(self, session: Session, *, subprotocol: str | None = None, headers: Sequence[Header] = ()) -> None:
        """Answer a request with 200 (draft-16 §3.2); what had come early for the session is there from now on."""
        fields: list[Header] = [(b":status", b"200")]
        if session.dialect.response_version is not None:
            name, value = session.dialect.response_version
            fields.append((name.encode(), value.encode()))
        if subprotocol is not None:
            offer = read_offer(session.dialect, session.exchange.headers or [])
            if subprotocol not in offer:
                raise ValueError(f"the client does not offer the subprotocol {subprotocol!r}")
            fields.append(answer_header(offer, subprotocol))
        session.exchange.send_headers([*fields, *headers])
        self._establish(session, subprotocol)

    def reject(self, session: Session, status: int, *, headers: Sequence[Header] = ()) -> None:
        """Answer a request with a status that is not 2xx. What had come early for the session is turned away."""
        session.exchange.send_headers([(b":status", str(status).encode()), *headers], end_stream=True)
        session.exchange.stop(ErrorCode.H3_NO_ERROR)
        session.end(CloseInfo(clean=False, cause=SessionRejected(status)))
        for stream in self._early.take(session.session_id):
            turn_away(stream, ErrorCode.WT_BUFFERED_STREAM_REJECTED)

    def _on_request(self, exchange: Exchange) -> None:
        """An extended CONNECT whose header section is complete, and the client's SETTINGS are known."""
        request, settings = exchange.request, self.h3.peer_settings
        if request is None or request.protocol is None or settings is None:
            return
        if exchange.error is not None or exchange.reset_code is not None or not exchange.can_send:
            return
        dialect = choose_for_server(settings, request.protocol.decode("latin-1"), self._possible_dialects())
        if (
            dialect is None
            or self.h3.quic.max_datagram_payload == 0
            or (request.scheme or b"").lower() != b"https"
            or not request.authority
        ):
            exchange.cancel(ErrorCode.H3_MESSAGE_ERROR)  # draft-16 §3.1: such a request is malformed
            return
        active = sum(session.state is not SessionState.CLOSED for session in self.sessions.values())
        if active >= self._max_sessions or (active and not self._may_share(dialect)):
            exchange.cancel(ErrorCode.H3_REQUEST_REJECTED)  # draft-16 §5.1, §5.2
            return
        self._changed[exchange.stream_id] = self._add(exchange, dialect)

    # Both

    def _possible_dialects(self) -> tuple[Dialect, ...]:
        """Rows whose demands on transport parameters the peer meets (draft-16 §3.1)."""
        parameters = self.h3.quic.peer_transport_parameters
        if not self._require_reset_stream_at or (parameters is not None and parameters.reset_stream_at):
            return self._dialects
        return tuple(row for row in self._dialects if not row.needs_reset_stream_at)

    def _may_share(self, dialect: Dialect) -> bool:
        return not dialect.shares_connection_only_with_flow_control or self._has_flow_control(dialect)

    def _has_flow_control(self, dialect: Dialect) -> bool:
        return flow_control_agreed(dialect, self._settings, self.h3.peer_settings or {})

    def _add(self, exchange: Exchange, dialect: Dialect) -> Session:
        flow = None
        if self._has_flow_control(dialect):
            flow = SessionFlowControl(
                local=FlowLimits.from_settings(self._settings),
                peer=FlowLimits.from_settings(self.h3.peer_settings or {}),
                window=self._window,
                must_grow=dialect.limits_must_grow,
            )
        session = Session(
            exchange, dialect, limits=self._limits, flow=flow, on_change=self._note, on_stream=self._note_stream
        )
        self.sessions[session.session_id] = session
        return session

    def _note(self, session: Session) -> None:
        self._changed[session.session_id] = session

    def _note_stream(self, stream: SessionStream) -> None:
        self._changed_streams[stream.stream_id] = stream

    def _check_settings(self) -> None:
        """Values of support settings that the drafts forbid (draft-02 §3.1, draft-16 §3.1)."""
        settings = self.h3.peer_settings or {}
        forbidden = settings.get(Setting.ENABLE_WEBTRANSPORT, 0) > 1 and DRAFT02 in self._dialects
        if self.h3.is_client and DRAFT16 in self._dialects:
            forbidden = forbidden or settings.get(Setting.WT_ENABLED, 0) > 1
        if forbidden:
            self.h3.close(ErrorCode.H3_SETTINGS_ERROR, "a WebTransport setting is neither 0 nor 1")

    def _on_exchange(self, exchange: Exchange) -> None:
        session = exchange.owner
        if isinstance(session, Session):
            if session.state is not SessionState.CONNECTING:
                session.process(self._now)
            elif self.h3.is_client:
                self._on_response(session)
            elif exchange.error is not None or exchange.reset_code is not None:
                session.end(CloseInfo(by_peer=True, clean=False, cause=exchange.error))
                exchange.cancel(ErrorCode.H3_REQUEST_CANCELLED)
            return
        if exchange.owner is not None or exchange.request is None:
            if exchange.owner is None and exchange.error is not None:
                self._remember_end(exchange.stream_id)
            return
        protocol = exchange.request.protocol
        if protocol is None or protocol.decode("latin-1") not in PROTOCOL_TOKENS:
            self._remember_end(exchange.stream_id)
            self._requests.append(exchange)
            return
        exchange.owner = self
        if self.h3.peer_settings is None:
            # draft-16 §7.1: which draft is meant is not known before the client's SETTINGS
            self._held.append(exchange)
        else:
            self._on_request(exchange)

    def _on_stream(self, session_id: int, stream: Stream) -> None:
        session = self.sessions.get(session_id)
        if session is not None and session.state is SessionState.CLOSED:
            session = None
            self._remember_end(session_id)
        if session is not None and session.state is not SessionState.CONNECTING:
            session.receive_stream(stream)
        elif session_id in self._ended:
            stream.owner = self
            turn_away(stream, ErrorCode.WT_SESSION_GONE)  # draft-16 §4, §6
        else:
            self._early.add(session_id, stream, self._now)

    def _establish(self, session: Session, subprotocol: str | None) -> None:
        """From now on capsules count, and what overtook the answer is taken in."""
        session.establish(subprotocol)
        session.process(self._now)
        for stream in self._early.take(session.session_id):
            if session.is_open:
                session.receive_stream(stream)
            else:
                turn_away(stream, ErrorCode.WT_SESSION_GONE)

    def _lose(self, error: QuicstackError) -> None:
        self.failed = error
        for session in self.sessions.values():
            session.lose(error)
        self._changed.update(self.sessions)  # for the last time
        self.sessions.clear()

    def _remember_end(self, session_id: int) -> None:
        self._ended[session_id] = None
        if len(self._ended) > _REMEMBERED_ENDS:
            self._ended.popitem(last=False)

    def _forget_ended(self) -> None:
        for session_id, session in list(self.sessions.items()):
            session.sweep()
            if session.is_over:
                del self.sessions[session_id]
                self._remember_end(session_id)
                self._changed[session_id] = session  # for the last time

"""An HTTP/3 connection (RFC 9114) over a QUIC connection, without I/O.

Whoever drives it calls :meth:`H3Connection.process` with what ``Connection.take_ready`` returned. Every stream has one
owner: an :class:`~h3.exchange.Exchange`, one of the small stream classes below, or, after the header of a WebTransport
stream has been read, the layer above, which must set ``stream.owner`` before it returns to its driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from quicstack.connection.connection import Connection, Ready
from quicstack.errors import ConnectionClosed, StreamError
from quicstack.transport.stream import Stream
from quicstack.wire.varint import encode_varint

from .budget import Budget
from .critical_streams import CRITICAL_STREAM_TYPES, CriticalStreams, LocalStream
from .datagram import EarlyDatagrams, encode_datagram, quarter_id_size, read_datagrams
from .errors import ExtendedConnectUnavailable, GoingAway, H3ConnectionError, H3ErrorCode, H3StreamError, InvalidMessage
from .exchange import Exchange
from .fields import validate_request
from .frames import FrameType, StreamType, encode_frame, grease_identifier
from .message_reader import MessageReader
from .peer_stream import PeerStream, check_session_id
from .qpack import Fields
from .settings import H3Settings, Setting, takes_datagrams

__all__ = ["H3Connection", "H3Ready"]

_MAX_STREAM_ID = (1 << 62) - 4
_DISCARDED = object()
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class H3Ready:
    """What one call of :meth:`H3Connection.process` found: no bytes, only where to look.

    ``exchanges`` are new or changed, each once. ``webtransport_streams`` are handed over with their header consumed and
    their owner None. ``settings_received`` is true once, ``goaway`` is the identifier of a GOAWAY that just came.
    """

    exchanges: list[Exchange] = field(default_factory=list)
    webtransport_streams: list[tuple[int, Stream]] = field(default_factory=list)
    settings_received: bool = False
    goaway: int | None = None


class H3Connection:
    """One side of an HTTP/3 connection.

    ``settings`` are announced and kept; ``extra_settings`` are announced for an extension. ``enable_webtransport``
    makes streams that start with 0x41 or 0x54 come out of :meth:`process`. ``connect_protocol_implied_by`` names
    settings of the peer that allow extended CONNECT without 0x08 (an old draft of WebTransport). ``random`` varies the
    reserved identifiers that keep the protocol extensible (RFC 9114 §7.2.8); ``grease=False`` leaves them out.
    """

    def __init__(
        self,
        quic: Connection,
        *,
        settings: H3Settings | None = None,
        extra_settings: Mapping[int, int] | None = None,
        enable_webtransport: bool = False,
        connect_protocol_implied_by: Iterable[int] = (),
        random: Callable[[int], bytes] | None = None,
        grease: bool = True,
    ) -> None:
        self.quic = quic
        self.is_client = quic.is_client
        self.settings = settings or H3Settings()
        self.error: H3ConnectionError | None = None
        self.local_goaway: int | None = None
        self._webtransport, self._implied_by = enable_webtransport, frozenset(connect_protocol_implied_by)
        self._random = random or (lambda n: bytes(range(7, 7 + n)))
        self._grease_left = grease
        self._critical = CriticalStreams(
            quic,
            self.settings,
            extra_settings or {},
            webtransport=enable_webtransport,
            random=self._random,
            grease=grease,
        )
        self._exchanges: dict[int, Exchange] = {}
        self._changed: dict[int, Exchange] = {}
        self._early_datagrams = EarlyDatagrams()
        self._are_datagrams_agreed = False
        self._reset_budget = Budget(1024, "requests reset before they were answered")
        self._next_peer_id = 0  # the lowest request id the client has not used yet, as far as seen
        self._guarded(self._critical.open)

    # What the peer announced.

    @property
    def peer_settings(self) -> dict[int, int] | None:
        """The peer's SETTINGS; None until they have come."""
        return self._critical.control.settings

    @property
    def peer_goaway(self) -> int | None:
        """The identifier in the peer's newest GOAWAY."""
        return self._critical.control.goaway_id

    @property
    def exchanges(self) -> list[Exchange]:
        """Requests that are not over in both directions."""
        return list(self._exchanges.values())

    @property
    def is_extended_connect_allowed(self) -> bool:
        """Whether this client may send :protocol (RFC 9220 §3)."""
        settings = self.peer_settings or {}
        return settings.get(Setting.ENABLE_CONNECT_PROTOCOL) == 1 or any(settings.get(s) for s in self._implied_by)

    @property
    def can_send_quic_datagrams(self) -> bool:
        """Both sides announced H3_DATAGRAM (RFC 9297 §2.1.1); the transport may have a limit of 0 all the same."""
        if not self._are_datagrams_agreed and self.settings.h3_datagram:
            self._are_datagrams_agreed = takes_datagrams(self.peer_settings)  # which come once
        return self._are_datagrams_agreed

    # The application's verbs.

    def request(self, fields: Fields, *, end_stream: bool = False, hold: bool = False) -> Exchange:
        """Send a request; ``hold`` as in ``Exchange.send_headers``.

        Raises GoingAway, StreamLimitReached, ExtendedConnectUnavailable or InvalidMessage.
        """
        if not self.is_client:
            raise InvalidMessage("a server sends no requests")
        if self.peer_goaway is not None or self.local_goaway is not None:
            raise GoingAway("no new requests after GOAWAY")
        try:
            head = validate_request(fields, extended_connect=True)
        except H3StreamError as error:
            raise InvalidMessage(error.reason) from None
        if head.protocol is not None and not self.is_extended_connect_allowed:
            missing = "have not come yet" if self.peer_settings is None else "do not allow it"
            raise ExtendedConnectUnavailable(f"the server's SETTINGS {missing}")
        self._critical.check_section_size(fields)
        exchange = self._add_exchange(self.quic.open_stream(), head.method)
        exchange.send_checked(head, fields, end_stream=end_stream, hold=hold)
        if self._grease_left and not end_stream and not head.is_connect:
            self._grease_left = False
            exchange.send_frame(grease_identifier(self._random(1)[0]), self._random(5))
        return exchange

    def goaway(self, identifier: int | None = None) -> int:
        """Announce the end (RFC 9114 §5.2); returns the identifier sent.

        A server refuses requests from ``identifier`` on (by default: the first that it has not seen); it may first
        announce ``2**62 - 4`` and the real one a round trip later. A client only says that it takes no pushes.
        """
        if identifier is None:
            identifier = 0 if self.is_client else self._next_peer_id
        if self.local_goaway is not None and identifier > self.local_goaway:
            raise InvalidMessage("the identifier of GOAWAY must not go up")
        if not self.is_client and (identifier % 4 or not 0 <= identifier <= _MAX_STREAM_ID):
            raise InvalidMessage("a server's GOAWAY names a request stream")
        self.local_goaway = identifier
        frame = encode_frame(FrameType.GOAWAY, encode_varint(identifier))
        self._guarded(self._critical.write, StreamType.CONTROL, frame)
        return identifier

    def close(self, code: int = H3ErrorCode.H3_NO_ERROR, reason: str = "") -> None:
        """Close the QUIC connection with an application error code (RFC 9114 §5.3)."""
        self.quic.close(int(code), reason)

    def open_webtransport_stream(self, session_id: int, *, unidirectional: bool = False) -> Stream:
        """Open a stream that belongs to a session; its owner is the caller's to set. Raises StreamLimitReached."""
        stream = self.quic.open_stream(unidirectional=unidirectional)
        signal = StreamType.WT_STREAM if unidirectional else FrameType.WT_STREAM
        stream.write(encode_varint(signal) + encode_varint(session_id))
        return stream

    # The driver's verb.

    def process(self, ready: Ready) -> H3Ready:
        """Read what arrived. Errors of the peer end the stream or the connection here, they are not raised."""
        result = H3Ready()
        closed = self.quic.closed
        is_over = closed is not None and not (isinstance(closed, ConnectionClosed) and closed.by_peer)
        if self.error is not None or is_over:  # but what came before the peer's CONNECTION_CLOSE still counts
            return result
        had_settings, goaway_before = self.peer_settings is not None, self.peer_goaway
        self._guarded(self._process, ready, result)
        result.exchanges = list(self._changed.values())
        self._changed.clear()
        result.settings_received = self.peer_settings is not None and not had_settings
        if self.peer_goaway != goaway_before:
            result.goaway = self.peer_goaway
        return result

    def release(self) -> None:
        """The connection is closed, and whoever had a request on it knows: hold none of them any more."""
        self._exchanges.clear()

    def _process(self, ready: Ready, result: H3Ready) -> None:
        self._critical.open()
        for stream in ready.streams:
            owner = stream.owner
            if owner is None and not stream.is_local:
                owner = self._adopt(stream)
            if isinstance(owner, Exchange):
                self._on_exchange(owner, result)
            elif isinstance(owner, PeerStream):
                self._on_peer_stream(owner, result)
            elif isinstance(owner, LocalStream):
                owner.write()
        if ready.datagrams:
            self._receive_datagrams()

    # Streams.

    def _adopt(self, stream: Stream) -> object:
        """A new stream of the peer."""
        if not stream.is_unidirectional and self.is_client and not self._webtransport:  # RFC 9114 §6.1
            raise H3ConnectionError(H3ErrorCode.H3_STREAM_CREATION_ERROR, "a server opened a bidirectional stream")
        if stream.is_unidirectional or self.is_client:
            return PeerStream(stream)
        self._next_peer_id = max(self._next_peer_id, stream.id + 4)
        exchange = self._add_exchange(stream, None)
        exchange.priority_update = self._critical.control.priorities.pop(stream.id, None)
        return exchange

    def _add_exchange(self, stream: Stream, request_method: bytes | None) -> Exchange:
        decode, webtransport = self._critical.decoder.decode, self._webtransport
        reader = MessageReader(stream, self.settings, decode, request_method=request_method, webtransport=webtransport)
        exchange = Exchange(self, stream, reader)
        stream.owner = exchange
        self._exchanges[stream.id] = exchange
        self._critical.control.earn()
        if early := self._early_datagrams.take(stream.id):
            exchange.receive_datagrams(early)
        return exchange

    def _on_exchange(self, exchange: Exchange, result: H3Ready) -> None:
        stream = exchange.stream
        self.guard(exchange, exchange.on_stream_ready)
        if exchange.webtransport_session is not None:
            self._exchanges.pop(stream.id, None)
            self._changed.pop(stream.id, None)
            check_session_id(exchange.webtransport_session)
            self._hand_over(stream, exchange.webtransport_session, result)
            return
        if stream.reset_code is not None and not exchange.at_end and exchange.error is None:
            self._on_peer_reset(exchange, stream.reset_code)
        if exchange.is_known and not self._is_beyond_goaway(exchange):
            self._changed[stream.id] = exchange

    def _is_beyond_goaway(self, exchange: Exchange) -> bool:
        """RFC 9114 §5.2: a request above the identifier of our GOAWAY is refused, and nobody hears of it."""
        if self.is_client or self.local_goaway is None or exchange.stream_id < self.local_goaway:
            return False
        if exchange.headers is not None and exchange.error is None:
            exchange.fail(H3StreamError(H3ErrorCode.H3_REQUEST_REJECTED, "after GOAWAY"))
        return True

    def _on_peer_reset(self, exchange: Exchange, code: int) -> None:
        is_retriable = self.is_client and code == H3ErrorCode.H3_REQUEST_REJECTED
        exchange.error = H3StreamError(code, "reset by the peer", by_peer=True, is_retriable=is_retriable)
        self.abandon_section(exchange)
        if not self.is_client:
            self._reset_budget.spend(int(exchange.can_send))
            if exchange.headers is None:  # nobody above knows of it, so it ends here (RFC 9114 §4.1.1)
                exchange.cancel(H3ErrorCode.H3_REQUEST_REJECTED)

    def _forget_if_finished(self, exchange: Exchange) -> None:
        if exchange.stream.finished and self._exchanges.pop(exchange.stream_id, None) is not None:
            self._reset_budget.earn(0 if exchange.error else 4)

    def _on_peer_stream(self, peer: PeerStream, result: H3Ready) -> None:
        stream = peer.stream
        if peer.type not in CRITICAL_STREAM_TYPES and stream.reset_code is not None:
            peer.drop()
            return
        if peer.read_type(is_client=self.is_client):
            if peer.type in CRITICAL_STREAM_TYPES:
                self._critical.claim(peer.type, stream)
            elif not (peer.is_webtransport and self._webtransport):
                stream.owner = _DISCARDED
                stream.stop_sending(H3ErrorCode.H3_STREAM_CREATION_ERROR)
                return
        if peer.type in CRITICAL_STREAM_TYPES:
            self._receive_critical(peer.type)
        elif peer.type is not None and (session_id := peer.read_session_id()) is not None:
            self._hand_over(stream, session_id, result)
        elif stream.at_end:
            peer.drop()

    def _hand_over(self, stream: Stream, session_id: int, result: H3Ready) -> None:
        """From here on the stream belongs to the layer above."""
        stream.owner = None
        result.webtransport_streams.append((session_id, stream))

    def _receive_critical(self, stream_type: int) -> None:
        goaway_before = self.peer_goaway
        for stream_id in self._critical.receive(stream_type):
            exchange = self._exchanges.get(stream_id)
            if exchange is not None:
                self._resume(exchange)
        self._critical.flush_decoder()
        if self.is_client and self.peer_goaway is not None and self.peer_goaway != goaway_before:
            self._on_goaway(self.peer_goaway)
        priorities = self._critical.control.priorities
        for stream_id in priorities.keys() & self._exchanges.keys():
            self._exchanges[stream_id].priority_update = priorities.pop(stream_id)

    def _resume(self, exchange: Exchange) -> None:
        """The encoder stream brought what a blocked field section was waiting for."""
        fields = self.guard(exchange, self._critical.decoder.resume, exchange.stream_id)
        if fields is not None:
            self.guard(exchange, exchange.on_section_unblocked, fields)
        self._changed[exchange.stream_id] = exchange

    def _on_goaway(self, identifier: int) -> None:
        """RFC 9114 §5.2: requests from this id on were not and will not be processed."""
        for exchange in self.exchanges:
            if exchange.stream_id >= identifier:
                exchange.error = H3StreamError(
                    H3ErrorCode.H3_REQUEST_REJECTED, "the server is going away", by_peer=True, is_retriable=True
                )
                exchange.cancel()
                self._changed[exchange.stream_id] = exchange

    # Datagrams (RFC 9297 §2.1).

    def _receive_datagrams(self) -> None:
        for stream_id, payloads in read_datagrams(self.quic.receive_datagrams()):
            exchange = self._exchanges.get(stream_id)
            if exchange is not None:
                self._changed[stream_id] = exchange
                self.guard(exchange, exchange.receive_datagrams, payloads)
            elif not self.is_client and stream_id >= self._next_peer_id:
                self._early_datagrams.add(stream_id, *payloads)
            # else: the request is over, and so are its datagrams

    def quic_datagram_size(self, stream_id: int) -> int:
        """The longest payload a QUIC DATAGRAM can carry for this stream; -1 when they cannot be used."""
        size = self.quic.max_datagram_payload if self.can_send_quic_datagrams else 0
        return max(-1, size - quarter_id_size(stream_id))

    def send_quic_datagram(self, stream_id: int, payload: bytes) -> bool | None:
        """False when the queue was full; None when QUIC DATAGRAMs cannot be used, or not for so much."""
        data = encode_datagram(stream_id, payload)
        fits = self.can_send_quic_datagrams and self.quic.datagram_fits(len(data))
        return self.quic.send_datagram(data) if fits else None

    # Field sections, for exchanges.

    def encode_section(self, stream_id: int, fields: Fields) -> bytes:
        """A HEADERS frame; empty when the connection is over."""
        return self._guarded(self._critical.encode_section, stream_id, fields) or b""

    def abandon_section(self, exchange: Exchange) -> None:
        """The rest of the stream will not be read."""
        self._guarded(self._critical.cancel_section, exchange.stream_id)
        self._forget_if_finished(exchange)

    # Errors: the one place where they become something the peer sees.

    def guard(self, exchange: Exchange, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run code that reads what the peer sent on one request stream; None when it is no use any more."""
        result = None
        if self.error is None:
            try:
                try:
                    result = action(*args, **kwargs)
                except H3StreamError as error:
                    exchange.fail(error)
                    self._changed[exchange.stream_id] = exchange
                self._critical.flush_decoder()
            except (H3ConnectionError, StreamError) as error:
                self._fail(error)
        self._forget_if_finished(exchange)
        return result

    def _guarded(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run code that reads what the peer sent: what it raises closes the connection (RFC 9114 §8)."""
        if self.error is None:
            try:
                return action(*args, **kwargs)
            except (H3ConnectionError, StreamError) as error:
                self._fail(error)
        return None

    def _fail(self, error: H3ConnectionError | StreamError) -> None:
        if isinstance(error, StreamError):
            # a stream this layer reads or writes at once changed under its hands: only a bug of ours gets here
            error = H3ConnectionError(H3ErrorCode.H3_INTERNAL_ERROR, str(error))
        self.error = error
        self.quic.close(error.code, error.reason)

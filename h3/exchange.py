"""One request and its response, on one bidirectional stream (RFC 9114 §4); the same class for both roles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ParamSpec, Protocol, TypeVar

from quicstack.transport.datagram_queue import DatagramQueue
from quicstack.transport.stream import Stream

from .capsule import Capsule, CapsuleParser, CapsuleType, encode_capsule
from .errors import H3ErrorCode, H3StreamError, InvalidMessage
from .fields import RequestHead, ResponseHead, check_capsule_protocol
from .frames import FrameType, encode_frame
from .message_reader import MessageReader
from .message_writer import MessageWriter
from .priority import DEFAULT_PRIORITY, Priority, parse_priority
from .qpack import Fields

__all__ = ["Exchange", "ExchangeHost"]

_MAX_UNSENT = 1 << 16
_DATAGRAM_BUFFER = 1 << 20
_MAX_DATAGRAM_CAPSULE = 1 << 16
_MAX_CAPSULES = 256
_CAPSULE_CHUNK = 4096


P = ParamSpec("P")
T = TypeVar("T")


class ExchangeHost(Protocol):
    """What an exchange needs of its connection."""

    @property
    def is_client(self) -> bool: ...

    def encode_section(self, stream_id: int, fields: Fields) -> bytes:
        """A HEADERS frame."""

    def guard(self, exchange: Exchange, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run code that reads what the peer sent; errors end the exchange or the connection, and then it gives None."""

    def abandon_section(self, exchange: Exchange) -> None:
        """The rest of the stream will not be read (RFC 9204 §2.2.2.2)."""

    def quic_datagram_size(self, stream_id: int) -> int:
        """The longest payload a QUIC DATAGRAM can carry for this stream; -1 when they cannot be used."""

    def send_quic_datagram(self, stream_id: int, payload: bytes) -> bool | None:
        """False when the queue was full; None when QUIC DATAGRAMs cannot be used, or not for so much."""


class Exchange:
    """A request stream.

    ``headers`` (and ``request`` or ``response``, the control data in them) is None until the peer's final header
    section has come; ``informational`` lists interim responses before it, ``trailers`` what came behind the content.
    ``error`` says why the exchange failed, if it did. ``owner`` is free for the layer above.
    """

    __slots__ = (
        "_capsules",
        "_datagrams",
        "_host",
        "_is_abandoned",
        "_parser",
        "_reader",
        "_writer",
        "error",
        "owner",
        "priority_update",
        "stream",
    )

    def __init__(self, host: ExchangeHost, stream: Stream, reader: MessageReader) -> None:
        self.stream = stream
        self._host = host
        self._reader = reader
        self._writer = MessageWriter(stream, is_client=host.is_client)
        self._parser: CapsuleParser | None = None
        self._datagrams: DatagramQueue | None = None
        self._capsules: list[Capsule] = []
        self._is_abandoned = False
        self.priority_update: Priority | None = None
        self.error: H3StreamError | None = None
        self.owner: object | None = None

    # What the peer sent.

    @property
    def stream_id(self) -> int:
        """The id of the QUIC stream, and of a WebTransport session on it."""
        return self.stream.id

    @property
    def headers(self) -> Fields | None:
        """The peer's header section: of the request at a server, of the final response at a client."""
        return self._reader.fields

    @property
    def informational(self) -> list[tuple[int, Fields]]:
        """Interim responses so far, with their status codes."""
        return self._reader.informational

    @property
    def trailers(self) -> Fields | None:
        """The peer's trailer section; it can only be there once the content before it has been read."""
        return self._reader.trailers

    @property
    def request(self) -> RequestHead | None:
        """Control data of the request, whoever sent it."""
        head = self._writer.head if self._host.is_client else self._reader.request
        return head if isinstance(head, RequestHead) else None

    @property
    def response(self) -> ResponseHead | None:
        """Control data of the final response, whoever sent it."""
        head = self._reader.response if self._host.is_client else self._writer.head
        return head if isinstance(head, ResponseHead) else None

    @property
    def status(self) -> int | None:
        """The status code of the final response."""
        return None if self.response is None else self.response.status

    @property
    def is_connect(self) -> bool:
        """CONNECT, plain or extended."""
        return self.request is not None and self.request.is_connect

    @property
    def protocol(self) -> bytes | None:
        """The value of :protocol in an extended CONNECT (RFC 9220)."""
        return None if self.request is None else self.request.protocol

    @property
    def priority(self) -> Priority:
        """RFC 9218 §7: the newest PRIORITY_UPDATE, else the Priority field of the request."""
        if self.priority_update is not None:
            return self.priority_update
        for name, value in self.headers or ():
            if name == b"priority":
                return parse_priority(value)
        return DEFAULT_PRIORITY

    @property
    def body_readable(self) -> int:
        """Bytes of content that :meth:`read_body` returns at once."""
        return 0 if self._is_abandoned or self._parser else self._reader.body_readable

    @property
    def at_end(self) -> bool:
        """The peer's message is complete and all of its content has been read."""
        return self._reader.is_complete

    @property
    def reset_code(self) -> int | None:
        """The code of the peer's RESET_STREAM."""
        return self.stream.reset_code

    @property
    def stop_code(self) -> int | None:
        """The code of the peer's STOP_SENDING."""
        return self.stream.stop_code

    @property
    def can_receive(self) -> bool:
        """More may come from the peer on this stream."""
        return not (self._is_abandoned or self._reader.is_complete or self.stream.reset_code is not None)

    @property
    def can_send(self) -> bool:
        """This side of the stream is open."""
        return self._writer.is_open

    def read_body(self, n: int = -1) -> bytes:
        """Content that has arrived, at most ``n`` bytes; b"" when there is none now. Reading grants the peer credit."""
        if self._is_abandoned or self._parser is not None or self.stream.reset_code is not None:
            return b""
        return self._host.guard(self, self._reader.read_body, n) or b""

    # What this side sends.

    def send_headers(self, fields: Fields, *, end_stream: bool = False, hold: bool = False) -> None:
        """Send the next field section: a request; interim responses and the final one; or trailers, which end it.

        With ``hold`` it waits for the call of ``send_body`` that follows at once: one write to the stream instead of
        two. Raises InvalidMessage for fields that RFC 9114 calls malformed, and when a section is not due.
        """
        head = self._writer.check_section(fields, end_stream=end_stream)
        self.send_checked(head, fields, end_stream=end_stream, hold=hold)

    def send_checked(
        self, head: RequestHead | ResponseHead | None, fields: Fields, *, end_stream: bool, hold: bool = False
    ) -> None:
        """``send_headers`` for fields that were found to be valid and to say ``head``, and are due."""
        frame = self._host.encode_section(self.stream_id, fields)
        self._writer.send_section(head, frame, end_stream=end_stream, hold=hold)
        if isinstance(head, ResponseHead):  # RFC 9114 §4.4: a 2xx to CONNECT turns the stream into a tunnel
            self._writer.is_tunnel = self.is_connect and 200 <= head.status < 300

    @property
    def writable(self) -> int:
        """Bytes of content that :meth:`send_body` would take now."""
        return self._writer.writable

    def send_body(self, data: bytes, *, end_stream: bool = False) -> int:
        """Send content; returns how much was taken. The stream ends only when all of it was."""
        if self._parser is not None:
            raise InvalidMessage("this stream carries capsules")
        return self._writer.send_body(data, end_stream=end_stream)

    def finish(self) -> None:
        """End this side's message; what is queued is still sent."""
        self._writer.finish()

    def send_frame(self, frame_type: int, payload: bytes = b"") -> None:
        """Send a frame of an extension, or a reserved one that the peer ignores (RFC 9114 §9, §7.2.8)."""
        self._writer.queue(encode_frame(frame_type, payload))

    def reset(self, code: int = H3ErrorCode.H3_REQUEST_CANCELLED) -> None:
        """Abandon sending (RESET_STREAM)."""
        self._writer.reset(code)

    def stop(self, code: int = H3ErrorCode.H3_REQUEST_CANCELLED) -> None:
        """Abandon receiving (STOP_SENDING). What has arrived and was not read is discarded."""
        if self.can_receive:
            self.stream.stop_sending(code)
            self._host.abandon_section(self)
        self._is_abandoned = True

    def cancel(self, code: int = H3ErrorCode.H3_REQUEST_CANCELLED) -> None:
        """Abandon both directions (RFC 9114 §4.1.1)."""
        self.reset(code)
        self.stop(code)

    # Datagrams and capsules (RFC 9297).

    def upgrade(self, accept_capsules: Mapping[int, int] | None = None) -> None:
        """From here on the content of both messages is a stream of capsules (RFC 9297 §3.2).

        Called after the 2xx of an extended CONNECT has been sent or received. ``accept_capsules`` maps the types to be
        returned by :meth:`take_capsules` to their longest value; DATAGRAM is always known.
        """
        if self.protocol is None or self.status is None or self.status >= 300:
            raise InvalidMessage("capsules need an extended CONNECT that was accepted")
        if self._parser is None:
            self._parser = CapsuleParser({CapsuleType.DATAGRAM: _MAX_DATAGRAM_CAPSULE} | dict(accept_capsules or {}))
            self._host.guard(self, self._check_upgrade)
            self._host.guard(self, self._read_capsules)

    def _check_upgrade(self) -> None:
        check_capsule_protocol(self.headers or [])

    def take_capsules(self) -> list[Capsule]:
        """Capsules that have arrived, in order. Call it until it returns nothing: a flood comes in portions."""
        capsules, self._capsules = self._capsules, []
        if capsules:
            self._host.guard(self, self._read_capsules)
        return capsules

    def _read_capsules(self) -> None:
        """Take content into the parser at once, so that an idle application never blocks the stream."""
        parser = self._parser
        if parser is None or self._is_abandoned or self.stream.reset_code is not None:
            return
        while len(self._capsules) < _MAX_CAPSULES and (data := self._reader.read_body(_CAPSULE_CHUNK)):
            for capsule in parser.feed(data):
                if capsule.type == CapsuleType.DATAGRAM:
                    self.receive_datagrams([capsule.value])
                else:
                    self._capsules.append(capsule)
        if self._reader.is_complete and parser.is_mid_capsule:
            raise H3StreamError(H3ErrorCode.H3_MESSAGE_ERROR, "stream ends inside a capsule")  # RFC 9297 §3.3

    def send_capsule(self, capsule_type: int, value: bytes = b"") -> bool:
        """Queue a capsule. False, and nothing queued, when too much waits for the peer's credit already."""
        if self._parser is None:
            raise InvalidMessage("capsules need upgrade() first")
        if not self.can_send or self._writer.unsent > _MAX_UNSENT:
            return False
        self._writer.queue(encode_frame(FrameType.DATA, encode_capsule(capsule_type, value)))
        return True

    @property
    def max_datagram_payload(self) -> int:
        """The longest payload that travels as a QUIC DATAGRAM; -1 when only capsules carry datagrams."""
        return self._host.quic_datagram_size(self.stream_id)

    def send_datagram(self, payload: bytes) -> bool:
        """Send an HTTP Datagram, in a QUIC DATAGRAM if both sides take them and it fits, else in a capsule.

        False when it was dropped: the queue was full, or this side of the stream is closed (RFC 9297 §2.1).
        """
        sent = self.send_quic_datagram(payload)
        if sent is None:
            return self._parser is not None and self.send_capsule(CapsuleType.DATAGRAM, payload)
        return sent

    def send_quic_datagram(self, payload: bytes) -> bool | None:
        """The same in a QUIC DATAGRAM only: None when they cannot be used, or it does not fit into one."""
        if not self.can_send:
            return False
        return self._host.send_quic_datagram(self.stream_id, payload)

    def take_datagrams(self) -> list[bytes]:
        """Datagrams that have arrived, in order of arrival."""
        return self._datagrams.take(len(self._datagrams)) if self._datagrams is not None else []

    # For the connection.

    def receive_datagrams(self, payloads: list[bytes]) -> None:
        """Keep datagrams; when too many wait the oldest are dropped. One without a meaning ends the request (§2)."""
        if not self.can_receive:
            return
        if self.request is not None and self.protocol is None:
            raise H3StreamError(H3ErrorCode.H3_DATAGRAM_ERROR, "this request has no use for datagrams")
        if self._datagrams is None:
            self._datagrams = DatagramQueue(_DATAGRAM_BUFFER)
        self._datagrams.push_newest(payloads)

    def on_stream_ready(self) -> None:
        """The stream is readable, writable, or has changed state. Raises what the reader raises."""
        self._writer.flush()
        if self._is_abandoned:
            return
        self._reader.advance()
        self._read_capsules()

    def on_section_unblocked(self, fields: Fields) -> None:
        """The blocked field section has been decoded."""
        self._reader.resume(fields)
        self._read_capsules()

    def fail(self, error: H3StreamError) -> None:
        """What the peer sent makes this exchange fail: tell it, and keep the error for the application."""
        if self.error is None:
            self.error = error
        self.cancel(error.code)

    @property
    def is_known(self) -> bool:
        """There is something to tell the application: a request, or what was wrong with it."""
        is_refused = self.error is not None and not self.error.by_peer
        return self._host.is_client or self._reader.fields is not None or is_refused

    @property
    def webtransport_session(self) -> int | None:
        """Set when the stream turned out not to be a request, but one of WebTransport's."""
        return self._reader.webtransport_session

"""The sending half of a request stream: field sections, content and the end, in an order the peer accepts."""

from __future__ import annotations

from quicstack.errors import ConnectionClosed, StreamError
from quicstack.transport.stream import Stream
from quicstack.wire.varint import encode_varint

from .errors import H3StreamError, InvalidMessage
from .fields import RequestHead, ResponseHead, validate_request, validate_response, validate_trailers
from .qpack import Fields

__all__ = ["MessageWriter"]


def _data_header(length: int) -> bytes:
    return b"\x00" + encode_varint(length)


class MessageWriter:
    """Sends one message: a request (at a client) or interim responses and a final one (at a server).

    ``head`` is the control data of what was sent. Frames are queued whole: what the stream does not take at once waits
    here, and content is only accepted while nothing waits.
    """

    __slots__ = ("_fin_unsent", "_is_client", "_is_held", "_sent_fin", "_stream", "_unsent", "head", "is_tunnel")

    def __init__(self, stream: Stream, *, is_client: bool) -> None:
        self._stream = stream
        self._is_client = is_client
        self._unsent = b""
        self._is_held = False  # what is unsent waits for the content that follows at once
        self._fin_unsent = False
        self._sent_fin = False
        self.head: RequestHead | ResponseHead | None = None
        self.is_tunnel = False

    @property
    def is_open(self) -> bool:
        """More can be sent: this side has not ended its message, and the peer has not stopped reading."""
        return not self._sent_fin and self._stream.stop_code is None

    @property
    def unsent(self) -> int:
        """Bytes that wait here for room in the stream's buffer."""
        return len(self._unsent)

    @property
    def writable(self) -> int:
        """Bytes of content that :meth:`send_body` would take now."""
        if (self._unsent and not self._is_held) or not self.is_open:
            return 0
        return max(0, self._stream.writable - len(self._unsent))

    def check_section(self, fields: Fields, *, end_stream: bool) -> RequestHead | ResponseHead | None:
        """The head that a section would be sent as, None for trailers. Raises InvalidMessage when it is not due."""
        if self._sent_fin:
            raise InvalidMessage("the message has been ended")
        try:
            if self.head is not None:
                if self.is_tunnel:
                    raise InvalidMessage("a tunnel has no trailers")  # RFC 9114 §4.4
                validate_trailers(fields)
                return None
            if self._is_client:
                return validate_request(fields, extended_connect=True)
            head = validate_response(fields)
        except H3StreamError as error:
            raise InvalidMessage(error.reason) from None
        if head.is_informational and end_stream:
            raise InvalidMessage("an interim response does not end the stream")
        return head

    def send_section(
        self, head: RequestHead | ResponseHead | None, frame: bytes, *, end_stream: bool, hold: bool = False
    ) -> None:
        """Send the HEADERS frame of a checked section. Trailers end the message by themselves (RFC 9114 §4.1).

        ``hold``: content follows at once, and the stream gets both in one piece.
        """
        if isinstance(head, RequestHead):
            self.is_tunnel = head.is_connect
            self.head = head
        elif head is not None and not head.is_informational:
            self.head = head
        if hold and not self._unsent:
            self._unsent, self._is_held = frame, True
            return
        self.queue(frame)
        if end_stream or head is None:
            self.finish()

    def send_body(self, data: bytes, *, end_stream: bool) -> int:
        """Send content; returns how much was taken. The stream ends only when all of it was."""
        if self.head is None or self._sent_fin:
            raise InvalidMessage("content goes between the headers and the end of a message")
        accepted = min(len(data), self.writable)
        if not accepted and self._is_held:
            self.flush()
        is_end = end_stream and accepted == len(data)
        if is_end:
            self._sent_fin = self._fin_unsent = True
        if accepted:
            # When there is more than fits, the frame header makes this write fall short by a few bytes, which wait
            # here; a stream that has cut a write short reports when there is room again.
            self._hand_over(_data_header(accepted) + (data if accepted == len(data) else data[:accepted]))
        elif data and self.is_open and not self._unsent:
            self._stream.write(data[:1])  # no room, so nothing is taken; but now the stream knows that somebody waits
        elif is_end:
            self.flush()
        return accepted

    def finish(self) -> None:
        """End the message; what is queued is still sent."""
        if not self._sent_fin:
            self._sent_fin = True
            self._fin_unsent = True
            self.flush()

    def reset(self, code: int) -> None:
        """Abandon it (RESET_STREAM)."""
        self._sent_fin = True
        self._fin_unsent = False
        self._unsent = b""
        self._stream.reset(code)

    def queue(self, data: bytes) -> None:
        """Send a whole frame, or as much as the stream takes and the rest later."""
        self._unsent += data
        self._is_held = False
        self.flush()

    def flush(self) -> None:
        """Hand queued bytes to the stream, as far as it takes them.

        When the connection is over they go nowhere, and that is no error here: what arrived before its end is still
        worked on, and some of that is answered.
        """
        if not self._unsent and not self._fin_unsent:
            return
        try:
            self._hand_over()
        except ConnectionClosed:
            self._unsent = b""

    def _hand_over(self, data: bytes = b"") -> None:
        """What waits, then ``data``; what the stream does not take waits here."""
        if self._unsent:
            data = self._unsent + data
            self._unsent, self._is_held = b"", False
        if self._stream.stop_code is not None:
            return
        try:
            accepted = self._stream.write(data, self._fin_unsent)
        except StreamError:  # the peer stopped reading: stop_code says so
            return
        if accepted == len(data):
            self._fin_unsent = False
        else:
            self._unsent = data[accepted:]

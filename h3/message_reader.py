"""The receiving half of a request stream: which frames may follow which (RFC 9114 §4.1, §4.4).

Frame headers and field sections are taken off the stream as they arrive. The payload of DATA frames stays in the
stream until somebody asks for it, so flow control holds back a peer whose body nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable

from quicstack.transport.stream import Stream

from .errors import H3ConnectionError, H3ErrorCode, H3StreamError, malformed
from .fields import RequestHead, ResponseHead, validate_request, validate_response, validate_trailers
from .frames import RESERVED_FRAME_TYPES, FrameType, VarintReader
from .qpack import Fields
from .settings import H3Settings

__all__ = ["MessageReader"]

_MAX_INFORMATIONAL = 64
_MAX_IDLE_FRAMES = 1024
_MAX_IGNORED_BYTES = 1 << 20

_CONTROL_STREAM_FRAMES = RESERVED_FRAME_TYPES | {
    FrameType.CANCEL_PUSH,
    FrameType.SETTINGS,
    FrameType.GOAWAY,
    FrameType.MAX_PUSH_ID,
    FrameType.PRIORITY_UPDATE_REQUEST,
    FrameType.PRIORITY_UPDATE_PUSH,
}


class MessageReader:
    """Reads one message, a request (at a server) or the responses to one (at a client).

    ``request_method`` is given for responses: what it was decides whether the response has content.
    """

    __slots__ = (
        "_body_left",
        "_decode",
        "_idle_frames",
        "_ignored_bytes",
        "_is_first",
        "_length",
        "_payload",
        "_request_method",
        "_settings",
        "_stream",
        "_type",
        "_varints",
        "_webtransport",
        "content_length_left",
        "fields",
        "informational",
        "is_blocked",
        "is_complete",
        "is_tunnel",
        "request",
        "response",
        "trailers",
        "webtransport_session",
    )

    def __init__(
        self,
        stream: Stream,
        settings: H3Settings,
        decode: Callable[[int, bytes], Fields | None],
        *,
        request_method: bytes | None,
        webtransport: bool,
    ) -> None:
        self._stream = stream
        self._decode = decode
        self._settings = settings
        self._request_method = request_method
        self._webtransport = webtransport
        self._varints = VarintReader(stream)
        self._is_first = True
        self._type: int | None = None
        self._length: int | None = None  # of the frame's payload still to come; None inside a frame header
        self._payload = b""  # of a HEADERS frame that comes in pieces
        self._body_left = 0
        self._idle_frames = 0
        self._ignored_bytes = 0
        self.content_length_left: int | None = None
        self.fields: Fields | None = None
        self.request: RequestHead | None = None
        self.response: ResponseHead | None = None
        self.informational: list[tuple[int, Fields]] = []
        self.trailers: Fields | None = None
        self.is_tunnel = False
        self.is_blocked = False
        self.is_complete = False
        self.webtransport_session: int | None = None

    @property
    def body_readable(self) -> int:
        """Bytes that :meth:`read_body` can return now without looking behind the current DATA frame."""
        return min(self._body_left, self._stream.readable)

    def read_body(self, n: int = -1) -> bytes:
        """Up to ``n`` bytes of content, across DATA frames."""
        chunks = []
        while n and (available := self.body_readable):
            chunk = self._stream.read(available if n < 0 else min(n, available))
            chunks.append(chunk)
            self._body_left -= len(chunk)
            self._idle_frames = 0
            if n > 0:
                n -= len(chunk)
            if not self._body_left:
                self.advance()
        if self._body_left and self._stream.at_end:
            self.advance()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def advance(self) -> None:
        """Parse until content waits, the bytes run out, or the message ends.

        Raises H3StreamError or H3ConnectionError; after one of them the reader is not used any more.
        """
        stream = self._stream
        if stream.reset_code is not None or self.is_complete or self.webtransport_session is not None:
            return
        while not self.is_blocked and not self._body_left:
            if not (self._read_payload() if self._length is not None else self._read_frame_header()):
                break
        if stream.at_end and not self.is_blocked and self.webtransport_session is None:
            self._on_end()

    def resume(self, fields: Fields) -> None:
        """The field section that was blocked has been decoded."""
        self.is_blocked = False
        self._on_fields(fields)
        self.advance()

    def _read_frame_header(self) -> bool:
        """RFC 9114 §7.1. False when there is nothing more to do now."""
        if not self._stream.readable:
            return False
        value: int | None
        if self._type is None and (header := self._varints.peek_two()) is not None:
            self._type, value, size = header
            self._check_type(self._type)
            if self._type == FrameType.HEADERS and self._is_here(value, size):
                self._type = None
                self._on_section(self._stream.read(size + value)[size:])
                return True
            self._stream.read(size)
        else:  # it comes in pieces
            if self._type is None:
                self._type = self._varints.next()
                if self._type is None:
                    return False
                self._check_type(self._type)
            value = self._varints.next()
            if value is None:
                return False
        if self._type == FrameType.WT_STREAM and self._webtransport:
            self.webtransport_session = value  # no length follows: the rest of the stream is the session's
            return False
        self._begin_frame(self._type, value)
        return True

    def _is_here(self, length: int, header: int) -> bool:
        """A whole HEADERS frame is, of a size that is allowed: most are, and then they are read at once."""
        return 0 < length <= self._settings.max_field_section_size and header + length <= self._stream.readable

    def _check_type(self, frame_type: int) -> None:
        """Whether a frame may stand here (RFC 9114 §4.1, §4.4, §7 table 1)."""
        if frame_type == FrameType.DATA:
            is_unexpected = self.fields is None or self.trailers is not None
        elif frame_type == FrameType.HEADERS:
            is_unexpected = self.is_tunnel or self.trailers is not None
        elif frame_type == FrameType.PUSH_PROMISE:
            if self._request_method is not None:  # RFC 9114 §7.2.5: this client has never sent MAX_PUSH_ID
                raise H3ConnectionError(H3ErrorCode.H3_ID_ERROR, "PUSH_PROMISE, but no push is allowed")
            is_unexpected = True
        elif frame_type == FrameType.WT_STREAM and self._webtransport:
            # The signal counts as the first bytes of a stream that the peer opened, nowhere else.
            if not self._is_first or self._stream.is_local:
                raise H3ConnectionError(H3ErrorCode.H3_FRAME_ERROR, "WT_STREAM inside a request stream")
            is_unexpected = False
        else:
            is_unexpected = frame_type in _CONTROL_STREAM_FRAMES
        if is_unexpected:
            raise H3ConnectionError(H3ErrorCode.H3_FRAME_UNEXPECTED, f"frame {frame_type:#x} on a request stream")
        self._is_first = False

    def _begin_frame(self, frame_type: int, length: int) -> None:
        if frame_type == FrameType.DATA:
            self._type = None
            self._body_left = length
            if self.content_length_left is not None:
                self.content_length_left -= length
                if self.content_length_left < 0:
                    raise malformed("more content than content-length says")
            if not length:
                self._count_idle(1, 0)
            return
        if frame_type == FrameType.HEADERS:
            limit = self._settings.max_field_section_size
            if length > limit:
                raise H3StreamError(
                    H3ErrorCode.H3_EXCESSIVE_LOAD,
                    f"encoded field section has {length} bytes, {limit} are allowed",
                )
        else:
            self._count_idle(1, length)
        self._length = length

    def _count_idle(self, frames: int, ignored: int) -> None:
        """RFC 9114 §10.5: frames that carry nothing are legal, and also a way to keep a receiver busy."""
        self._idle_frames += frames
        self._ignored_bytes += ignored
        if self._idle_frames > _MAX_IDLE_FRAMES or self._ignored_bytes > _MAX_IGNORED_BYTES:
            raise H3ConnectionError(H3ErrorCode.H3_EXCESSIVE_LOAD, "too many frames without content")

    def _read_payload(self) -> bool:
        """Take payload of a frame other than DATA. False when bytes are missing."""
        assert self._length is not None
        chunk = self._stream.read(self._length) if self._length else b""
        self._length -= len(chunk)
        if self._type == FrameType.HEADERS and (self._length or self._payload):
            self._payload += chunk
        if self._length:
            return False
        frame_type, self._type, self._length = self._type, None, None
        if frame_type == FrameType.HEADERS:
            section, self._payload = self._payload or chunk, b""
            self._on_section(section)
        return True

    def _on_section(self, section: bytes) -> None:
        fields = self._decode(self._stream.id, section)
        if fields is None:
            self.is_blocked = True
        else:
            self._on_fields(fields)

    def _on_fields(self, fields: Fields) -> None:
        """One field section: interim response, header section or trailer section."""
        if self.fields is not None:
            validate_trailers(fields)
            self.trailers = fields
        elif self._request_method is None:
            self.request = validate_request(fields, extended_connect=self._settings.enable_connect_protocol)
            self.is_tunnel = self.request.is_connect
            self.content_length_left = None if self.is_tunnel else self.request.content_length
            self.fields = fields
        else:
            self._on_response(fields, self._request_method)

    def _on_response(self, fields: Fields, method: bytes) -> None:
        head = validate_response(fields)
        if head.is_informational:
            if len(self.informational) >= _MAX_INFORMATIONAL:
                raise H3StreamError(H3ErrorCode.H3_EXCESSIVE_LOAD, "too many interim responses")
            self.informational.append((head.status, fields))
            return
        self.response = head
        self.is_tunnel = method == b"CONNECT" and head.status < 300
        # RFC 9110 §8.6: in these responses Content-Length describes what another response would have had.
        if method != b"HEAD" and head.status not in (204, 304) and not self.is_tunnel:
            self.content_length_left = head.content_length
        self.fields = fields

    def _on_end(self) -> None:
        """The stream has ended cleanly: was that a place to end? (RFC 9114 §4.1, §7.1)"""
        if self._body_left or self._type is not None or self._varints.is_mid_integer:
            raise H3ConnectionError(H3ErrorCode.H3_FRAME_ERROR, "stream ends inside a frame")
        if self.fields is None:
            if self._request_method is None:
                raise H3StreamError(H3ErrorCode.H3_REQUEST_INCOMPLETE, "stream ends without a request")
            raise malformed("stream ends without a final response")
        if self.content_length_left:
            raise malformed(f"{self.content_length_left} bytes less content than content-length says")
        self.is_complete = True

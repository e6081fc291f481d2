"""Streams that the peer opens and that are not requests: what their first bytes say they are (RFC 9114 §6.2)."""

from __future__ import annotations

from quicstack.transport.stream import Stream

from .errors import H3ConnectionError, H3ErrorCode
from .frames import FrameType, StreamType, VarintReader

__all__ = ["PeerStream", "check_session_id"]

_MAX_STREAM_ID = (1 << 62) - 4


class PeerStream:
    """A stream whose header (type, and session id for WebTransport) may still be arriving.

    ``type`` is None until it is known.
    """

    __slots__ = ("_varints", "stream", "type")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.type: int | None = None
        self._varints = VarintReader(stream)
        stream.owner = self

    def read_type(self, *, is_client: bool) -> bool:
        """True when the type has just become known. Raises for streams that this endpoint does not allow."""
        if self.type is not None:
            return False
        self.type = self._varints.next()
        if self.type is None:
            return False
        if not self.stream.is_unidirectional and self.type != FrameType.WT_STREAM:
            # RFC 9114 §6.1: only an extension lets a server open a bidirectional stream
            raise H3ConnectionError(H3ErrorCode.H3_STREAM_CREATION_ERROR, "a server opened a request stream")
        if self.stream.is_unidirectional and self.type == StreamType.PUSH:
            # RFC 9114 §4.6, §6.2.2: only servers push, and this client has never sent MAX_PUSH_ID
            code = H3ErrorCode.H3_ID_ERROR if is_client else H3ErrorCode.H3_STREAM_CREATION_ERROR
            raise H3ConnectionError(code, "push stream")
        return True

    @property
    def is_webtransport(self) -> bool:
        """The type announces a session id."""
        return self.type == (StreamType.WT_STREAM if self.stream.is_unidirectional else FrameType.WT_STREAM)

    def drop(self) -> None:
        """RFC 9114 §6.2: a stream may end before its header is complete; then nothing happens, on our side either."""
        if self.stream.can_send:
            self.stream.reset(H3ErrorCode.H3_NO_ERROR)

    def read_session_id(self) -> int | None:
        """The id of the session that the stream belongs to, once it is there."""
        session_id = self._varints.next()
        if session_id is not None:
            check_session_id(session_id)
        return session_id


def check_session_id(session_id: int) -> None:
    """A session is named by its CONNECT request, so by a client's bidirectional stream; else H3_ID_ERROR."""
    if session_id % 4 or session_id > _MAX_STREAM_ID:
        raise H3ConnectionError(H3ErrorCode.H3_ID_ERROR, f"session id {session_id} is not a request stream")

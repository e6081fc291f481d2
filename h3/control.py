"""The peer's control stream (RFC 9114 §6.2.1): SETTINGS first, then the frames that concern the whole connection."""

from __future__ import annotations

from quicstack.errors import Truncated
from quicstack.wire.varint import read_varint

from .budget import Budget
from .errors import H3ConnectionError, H3ErrorCode
from .frames import RESERVED_FRAME_TYPES, FrameType, read_single_id
from .priority import Priority, read_priority_update
from .settings import read_settings

__all__ = ["PeerControlStream"]

_MAX_PAYLOAD = 16384
_MAX_PRIORITIES = 128

_REQUEST_STREAM_FRAMES = frozenset({FrameType.DATA, FrameType.HEADERS, FrameType.PUSH_PROMISE})
_PRIORITY_UPDATES = frozenset({FrameType.PRIORITY_UPDATE_REQUEST, FrameType.PRIORITY_UPDATE_PUSH})
_KNOWN = (
    frozenset({FrameType.SETTINGS, FrameType.GOAWAY, FrameType.CANCEL_PUSH, FrameType.MAX_PUSH_ID}) | _PRIORITY_UPDATES
)


class PeerControlStream:
    """Reads the control stream as it arrives and keeps what it said.

    ``settings``, ``goaway_id`` and ``max_push_id`` are None until the peer sends them. ``priorities`` holds the newest
    PRIORITY_UPDATE of request streams (RFC 9218 §7), for streams that may not be open yet.
    """

    __slots__ = (
        "_budget",
        "_buffer",
        "_is_client",
        "_skip",
        "_webtransport",
        "goaway_id",
        "max_push_id",
        "priorities",
        "settings",
    )

    def __init__(self, *, is_client: bool, webtransport: bool = False) -> None:
        self._is_client = is_client
        self._webtransport = webtransport
        self._buffer = b""
        self._skip = 0
        self._budget = Budget(1024, "frames on the control stream")
        self.settings: dict[int, int] | None = None
        self.goaway_id: int | None = None
        self.max_push_id: int | None = None
        self.priorities: dict[int, Priority] = {}

    def earn(self) -> None:
        """A request came: some more frames are all right."""
        self._budget.earn(64)

    def receive(self, data: bytes) -> None:
        """Take the next bytes of the stream. Raises H3ConnectionError."""
        if self._buffer:
            data = self._buffer + data
        position = 0
        while position < len(data):
            if self._skip:
                skipped = min(self._skip, len(data) - position)
                self._skip -= skipped
                position += skipped
                continue
            try:
                frame_type, end = read_varint(data, position)
                self._check_type(frame_type)
                length, end = read_varint(data, end)
            except Truncated:
                break
            if frame_type not in _KNOWN:
                self._budget.spend()
                self._skip, position = length, end
                continue
            if length > _MAX_PAYLOAD:
                raise H3ConnectionError(H3ErrorCode.H3_EXCESSIVE_LOAD, f"frame {frame_type:#x} of {length} bytes")
            if len(data) - end < length:
                break
            self._budget.spend()
            self._on_frame(frame_type, data[end : end + length])
            position = end + length
        self._buffer = data[position:]

    def _check_type(self, frame_type: int) -> None:
        """RFC 9114 §7, table 1, and §7.2.8."""
        if self.settings is None and frame_type != FrameType.SETTINGS:
            raise H3ConnectionError(H3ErrorCode.H3_MISSING_SETTINGS, f"first frame is {frame_type:#x}, not SETTINGS")
        if frame_type == FrameType.WT_STREAM and self._webtransport:
            raise H3ConnectionError(H3ErrorCode.H3_FRAME_ERROR, "WT_STREAM on the control stream")
        is_unexpected = (
            frame_type in _REQUEST_STREAM_FRAMES
            or frame_type in RESERVED_FRAME_TYPES
            or (frame_type == FrameType.SETTINGS and self.settings is not None)
            or (self._is_client and (frame_type == FrameType.MAX_PUSH_ID or frame_type in _PRIORITY_UPDATES))
        )
        if is_unexpected:
            raise H3ConnectionError(H3ErrorCode.H3_FRAME_UNEXPECTED, f"frame {frame_type:#x} on the control stream")

    def _on_frame(self, frame_type: int, payload: bytes) -> None:
        if frame_type == FrameType.SETTINGS:
            self.settings = read_settings(payload)
        elif frame_type == FrameType.GOAWAY:
            self._on_goaway(read_single_id(payload, "GOAWAY"))
        elif frame_type == FrameType.MAX_PUSH_ID:
            push_id = read_single_id(payload, "MAX_PUSH_ID")
            if self.max_push_id is not None and push_id < self.max_push_id:
                raise H3ConnectionError(H3ErrorCode.H3_ID_ERROR, "MAX_PUSH_ID went down")
            self.max_push_id = push_id
        elif frame_type == FrameType.CANCEL_PUSH:
            # RFC 9114 §7.2.3: this endpoint neither promises pushes nor allows them, so no push id is known to it.
            push_id = read_single_id(payload, "CANCEL_PUSH")
            raise H3ConnectionError(H3ErrorCode.H3_ID_ERROR, f"push {push_id} was never promised")
        else:
            self._on_priority_update(frame_type, payload)

    def _on_goaway(self, identifier: int) -> None:
        """RFC 9114 §5.2, §7.2.6: a server names a request stream, a client a push id; it never grows."""
        if self._is_client and identifier % 4:
            raise H3ConnectionError(H3ErrorCode.H3_ID_ERROR, f"GOAWAY names stream {identifier}, not a request")
        if self.goaway_id is not None and identifier > self.goaway_id:
            raise H3ConnectionError(H3ErrorCode.H3_ID_ERROR, "the identifier of GOAWAY went up")
        self.goaway_id = identifier

    def _on_priority_update(self, frame_type: int, payload: bytes) -> None:
        """RFC 9218 §7.2."""
        element_id, priority = read_priority_update(payload)
        if frame_type == FrameType.PRIORITY_UPDATE_PUSH:
            raise H3ConnectionError(H3ErrorCode.H3_ID_ERROR, f"priority of push {element_id}, never promised")
        if element_id % 4:
            raise H3ConnectionError(H3ErrorCode.H3_ID_ERROR, f"priority of stream {element_id}, not a request")
        self.priorities.pop(element_id, None)
        if len(self.priorities) >= _MAX_PRIORITIES:
            del self.priorities[next(iter(self.priorities))]
        self.priorities[element_id] = priority

"""The streams a connection cannot live without (RFC 9114 §6.2.1, RFC 9204 §4.2): control, QPACK encoder and decoder.

Three are ours and three the peer's. They are read as soon as bytes arrive, and what is written waits here, never in the
way of a request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quicstack.connection.connection import Connection
from quicstack.errors import ConnectionClosed
from quicstack.transport.stream import Stream
from quicstack.wire.varint import encode_varint

from .control import PeerControlStream
from .errors import H3ConnectionError, H3ErrorCode, InvalidMessage
from .frames import FrameType, StreamType, encode_frame, grease_identifier
from .qpack import FieldDecoder, FieldEncoder, Fields, field_section_size
from .settings import H3Settings, Setting, encode_settings

__all__ = ["CRITICAL_STREAM_TYPES", "CriticalStreams", "LocalStream"]

CRITICAL_STREAM_TYPES = (StreamType.CONTROL, StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER)

_MAX_WAITING = 1 << 20
_CONGESTED = 4096


class LocalStream:
    """A critical stream of ours: bytes queue here until the peer's credit takes them."""

    __slots__ = ("_stream", "_unsent")

    def __init__(self, stream: Stream, stream_type: int) -> None:
        self._stream = stream
        self._unsent = bytearray(encode_varint(stream_type))
        stream.owner = self

    @property
    def is_congested(self) -> bool:
        """More than a little waits for the peer: not the time to insert into its table (RFC 9204 §2.1.3)."""
        return len(self._unsent) + self._stream.send_buffered > _CONGESTED

    def write(self, data: bytes = b"") -> None:
        """Queue and send; nowhere once the connection is over. Raises when the peer closed it, or lets it starve."""
        if self._stream.stop_code is not None:
            # RFC 9114 §6.2.1: nobody may ask for this stream to be closed
            raise H3ConnectionError(H3ErrorCode.H3_CLOSED_CRITICAL_STREAM, "STOP_SENDING on a critical stream")
        self._unsent += data
        if self._unsent:
            try:
                del self._unsent[: self._stream.write(bytes(self._unsent))]
            except ConnectionClosed:  # by the peer, right behind what is being answered here
                self._unsent.clear()
        if len(self._unsent) + self._stream.send_buffered > _MAX_WAITING:
            raise H3ConnectionError(H3ErrorCode.H3_EXCESSIVE_LOAD, "no credit for a critical stream")


class CriticalStreams:
    """Opens ours, reads the peer's, and keeps what runs over them: settings, GOAWAY, and the two QPACK tables."""

    __slots__ = (
        "_grease",
        "_is_open",
        "_local",
        "_peer",
        "_quic",
        "_random",
        "_values",
        "control",
        "decoder",
        "encoder",
    )

    def __init__(
        self,
        quic: Connection,
        settings: H3Settings,
        extra_settings: Mapping[int, int],
        *,
        webtransport: bool,
        random: Callable[[int], bytes],
        grease: bool,
    ) -> None:
        self._quic = quic
        self._values = settings.values(is_client=quic.is_client) | dict(extra_settings)
        self._random = random
        self._grease = grease
        self._is_open = False
        self._local: dict[int, LocalStream] = {}
        self._peer: dict[int, Stream] = {}
        self.control = PeerControlStream(is_client=quic.is_client, webtransport=webtransport)
        self.encoder = FieldEncoder()
        self.decoder = FieldDecoder(
            capacity=settings.qpack_max_table_capacity,
            blocked_streams=settings.qpack_blocked_streams,
            max_section_size=settings.max_field_section_size,
            max_lines=settings.max_field_lines,
        )

    # Ours.

    def open(self) -> None:
        """Open what is not open yet, as far as the peer's limits allow; SETTINGS go out at once (RFC 9114 §7.2.4.2)."""
        if self._is_open:
            return
        for stream_type in CRITICAL_STREAM_TYPES:
            if stream_type in self._local:
                continue
            if not self._quic.can_open_stream(unidirectional=True):
                return
            local = self._local[stream_type] = LocalStream(self._quic.open_stream(unidirectional=True), stream_type)
            local.write(self._first_control_frames() if stream_type == StreamType.CONTROL else b"")
        self._is_open = True
        if self._grease and self._quic.can_open_stream(unidirectional=True):
            stream = self._quic.open_stream(unidirectional=True)
            stream.owner = self
            stream.write(encode_varint(grease_identifier(self._random(1)[0])) + self._random(4), fin=True)

    def _first_control_frames(self) -> bytes:
        if not self._grease:
            return encode_frame(FrameType.SETTINGS, encode_settings(self._values))
        random = self._random(7)
        values = self._values | {grease_identifier(random[0]): int.from_bytes(random[1:4], "big")}
        reserved_frame = encode_frame(grease_identifier(random[4]), random[5:])
        return encode_frame(FrameType.SETTINGS, encode_settings(values)) + reserved_frame

    def write(self, stream_type: int, data: bytes) -> None:
        """Queue bytes for a stream of ours; dropped while it cannot be opened, which only costs compression."""
        local = self._local.get(stream_type)
        if local is not None and data:
            local.write(data)

    # The peer's.

    def claim(self, stream_type: int, stream: Stream) -> None:
        """The peer opened one of its three."""
        if stream_type in self._peer:
            raise H3ConnectionError(H3ErrorCode.H3_STREAM_CREATION_ERROR, f"second stream of type {stream_type}")
        self._peer[stream_type] = stream

    def receive(self, stream_type: int) -> list[int]:
        """Read what arrived; returns the request streams whose field sections are blocked no more."""
        stream = self._peer[stream_type]
        unblocked: list[int] = []
        data = stream.read() if stream.reset_code is None else b""
        if data and stream_type == StreamType.CONTROL:
            self._receive_control(data)
        elif data and stream_type == StreamType.QPACK_ENCODER:
            unblocked = self.decoder.receive(data)
        elif data:
            self.encoder.receive(data)
        if stream.reset_code is not None or stream.at_end:
            raise H3ConnectionError(H3ErrorCode.H3_CLOSED_CRITICAL_STREAM, f"stream of type {stream_type} was closed")
        return unblocked

    def _receive_control(self, data: bytes) -> None:
        had_settings = self.control.settings is not None
        self.control.receive(data)
        if self.control.settings is not None and not had_settings:
            capacity = self.control.settings.get(Setting.QPACK_MAX_TABLE_CAPACITY, 0)
            self.write(StreamType.QPACK_ENCODER, self.encoder.apply_settings(capacity))

    # QPACK.

    def encode_section(self, stream_id: int, fields: Fields) -> bytes:
        """A HEADERS frame; what it inserts into the peer's table goes out first."""
        self.check_section_size(fields)
        local = self._local.get(StreamType.QPACK_ENCODER)
        can_instruct = local is not None and not local.is_congested
        instructions, section = self.encoder.encode(stream_id, fields, can_instruct=can_instruct)
        self.write(StreamType.QPACK_ENCODER, instructions)
        return encode_frame(FrameType.HEADERS, section)

    def check_section_size(self, fields: Fields) -> None:
        """RFC 9114 §4.2.2: the peer would refuse a larger section. Raises InvalidMessage."""
        limit = (self.control.settings or {}).get(Setting.MAX_FIELD_SECTION_SIZE)
        if limit is not None and field_section_size(fields) > limit:
            raise InvalidMessage(f"the peer takes field sections of at most {limit} bytes")

    def cancel_section(self, stream_id: int) -> None:
        """RFC 9204 §2.2.2.2: the peer's encoder must not wait for an acknowledgment that will not come."""
        self.decoder.cancel(stream_id)
        self.flush_decoder()

    def flush_decoder(self) -> None:
        """Send acknowledgments and cancellations, if there are any."""
        if self.decoder.has_output:
            self.write(StreamType.QPACK_DECODER, self.decoder.take_output())

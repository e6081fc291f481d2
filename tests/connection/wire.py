"""Reads all that one side of a connection puts on the wire, at every level, with that side's own sending keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from quicstack.connection.connection import Connection
from quicstack.train import Train
from quicstack.transport.packet_protection import PacketKeys
from quicstack.wire.frame_study import Frame, parse_frames
from quicstack.wire.packet import LONG_HEADER, read_long_header
from quicstack.wire.packet_number import decode_packet_number
from quicstack.wire.version import VERSIONS, PacketType

LEVELS = ("initial", "handshake", "1RTT")


class Packet(NamedTuple):
    """One packet as it was sent; ``header`` is without its protection, ``pn_length`` bytes of it are the number."""

    level: str
    number: int
    frames: list[Frame]
    header: bytes
    pn_length: int
    datagram: int

    def named(self, name: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.name == name]

    @property
    def acks(self) -> list[list[tuple[int, int]]]:
        """The ranges of each ACK frame, with ECN counts or without."""
        return [list(frame.ranges) for frame in self.frames if frame.frame_type in (0x02, 0x03)]  # type: ignore[call-overload]

    @property
    def closes(self) -> list[tuple[int, object, object]]:
        """(frame type, code, reason) of each CONNECTION_CLOSE."""
        return [
            (frame.frame_type, frame.fields["error_code"], frame.fields["reason"])
            for frame in self.frames
            if frame.frame_type in (0x1C, 0x1D)
        ]


class Listener:
    """Remembers the keys of ``speaker``, also those that it has thrown away since. Key updates are not followed."""

    def __init__(self, speaker: Connection) -> None:
        self.speaker = speaker
        self._keys: dict[int, PacketKeys] = {}
        self._largest = [-1, -1, -1]
        self.learn()

    def learn(self) -> None:
        for space in self.speaker._state.spaces:
            if space.seal_keys is not None:
                self._keys[space.index] = space.seal_keys

    def expects(self, number: int) -> None:
        """The next 1-RTT packet is numbered around ``number``."""
        self._largest[2] = number - 1

    def reads(self, trains: Iterable[Train]) -> list[Packet]:
        """Every packet of these trains."""
        self.learn()
        return [packet for train in trains for datagram in train.datagrams() for packet in self._packets(datagram)]

    def _packets(self, datagram: bytes) -> list[Packet]:
        found = []
        pos = 0
        while pos < len(datagram):
            if datagram[pos] & LONG_HEADER:
                header = read_long_header(datagram, pos, VERSIONS[self.speaker.version])
                index = 0 if header.packet_type == PacketType.INITIAL else 1
                pn_offset, end = header.pn_offset, header.end
            else:
                index, pn_offset, end = 2, pos + 1 + len(self.speaker._state.peer_cids.current.cid), len(datagram)
            keys = self._keys[index]
            plain, pn_length = keys.unmask(datagram, pos, pn_offset)
            truncated = int.from_bytes(plain[-pn_length:], "big")
            number = decode_packet_number(truncated, 8 * pn_length, self._largest[index])
            frames = parse_frames(keys.open(plain, number, datagram[pn_offset + pn_length : end]))
            self._largest[index] = max(self._largest[index], number)
            found.append(Packet(LEVELS[index], number, frames, plain, pn_length, len(datagram)))
            pos = end
        return found

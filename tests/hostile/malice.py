"""What a hostile peer says: frames, TLS messages, HTTP/3 frames and capsules, first well formed, then mutated.

Well formed is not the same as legal: numbers are often at the edges of what a varint holds, streams belong to the other
side, messages come in the wrong order. Everything is drawn from one ``Random``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

import pylsqpack

from quicstack.wire import frame as f
from quicstack.wire.varint import encode_varint

EDGES = (0, 1, 2, 3, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30, 1 << 60, (1 << 60) + 1, (1 << 62) - 1)
TLS_TYPES = (0, 1, 2, 4, 5, 8, 11, 13, 15, 20, 24, 254)
ON_REQUEST, ON_CONTROL = (0x00, 0x00, 0x00, 0x01, 0x21), (0x07, 0x0D, 0x21, 0xF0700)
H3_TYPES = (0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0D, 0x21, 0x41, 0xF0700, 0xF0701)
QPACK = {
    0x02: (
        b"\x3f\xe1\x1f",
        b"\x20",
        b"\x4ax-hostile1yes",
        b"\xc0\x02/a",
        b"\x00",
    ),  # RFC 9204 §4.3: capacities, inserts
    0x03: (b"\x40", b"\x44", b"\x80", b"\x01"),  # §4.4: cancellations, an acknowledgement, an increment
}
STREAM_TYPES = (0x00, 0x02, 0x03, 0x54, 0x21, 0x01, 0x4040)
CAPSULES = (
    0x00,
    0x2843,
    0x78AE,
    0x190B4D38,
    0x190B4D3C,
    0x190B4D3D,
    0x190B4D3E,
    0x190B4D3F,
    0x190B4D41,
    0x190B4D43,
    99,
)
SETTINGS = (0x01, 0x02, 0x06, 0x07, 0x08, 0x33, 0xFFD277, 0x2B60, 0xC671706A, 0x2B61, 0x2B64, 0x2B65)


def number(random: Random) -> int:
    """A number that fits a varint: an edge, or anything small."""
    return random.choice(EDGES) if random.random() < 0.3 else random.randrange(1 << random.choice((2, 6, 10, 20)))


def mutate(data: bytes, random: Random) -> bytes:
    """A few changes: bits flipped, bytes set, removed, repeated, inserted, the end cut off."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        at = random.randrange(len(out) + 1)
        match random.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << random.randrange(8)
            case 1 if at < len(out):
                out[at] = random.choice((0x00, 0x3F, 0x40, 0x80, 0xC0, 0xFF))
            case 2:
                del out[at : at + random.randrange(1, 20)]
            case 3:
                out[at:at] = out[at : at + random.randrange(1, 50)]
            case 4:
                out[at:at] = random.randbytes(random.randrange(1, 10))
            case _:
                del out[at:]
    return bytes(out)


def blob(random: Random, most: int = 300) -> bytes:
    return random.randbytes(random.randrange(most))


# -- TLS ---------------------------------------------------------------------------------------------------------------


def tls_bytes(genuine: bytes, random: Random) -> bytes:
    """Handshake messages: the genuine ones mutated or in another order, or inventions with the right frame."""
    messages = split_tls(genuine)
    match random.randrange(4):
        case 0:
            return mutate(genuine, random)
        case 1:
            random.shuffle(messages)
            return b"".join(messages)
        case 2 if messages:
            message = random.choice(messages)
            body = mutate(message[4:], random)
            return message[:1] + len(body).to_bytes(3) + body  # the length is right, what is inside is not
        case _:
            body = blob(random)
            length = random.choice((len(body), len(body), len(body) + 1, 0, 1 << 16, (1 << 24) - 1))
            return bytes((random.choice(TLS_TYPES),)) + length.to_bytes(3) + body


def split_tls(data: bytes) -> list[bytes]:
    messages = []
    while len(data) >= 4:
        length = 4 + int.from_bytes(data[1:4])
        messages.append(data[:length])
        data = data[length:]
    return messages


def crypto_frames(data: bytes, random: Random) -> list[bytes]:
    """CRYPTO frames that carry ``data``, perhaps in pieces, out of order, overlapping or far away."""
    if random.random() < 0.1:
        return [f.write_crypto(min(number(random), (1 << 62) - 400), blob(random))]
    pieces = []
    at = 0
    while at < len(data):
        length = random.choice((len(data), random.randrange(1, 200)))
        pieces.append(f.write_crypto(at, data[at : at + length]))
        at += max(1, length - random.choice((0, 0, 5)))
    if random.random() < 0.3:
        random.shuffle(pieces)
    return pieces


# -- HTTP/3 ------------------------------------------------------------------------------------------------------------


@cache
def field_sections() -> tuple[bytes, ...]:
    """QPACK field sections without the dynamic table: requests, responses, trailers."""
    authority = [(b":scheme", b"https"), (b":authority", b"server.test"), (b":path", b"/path")]
    lists = [
        [(b":method", b"GET"), *authority, (b"cookie", b"a=b")],
        [(b":method", b"POST"), *authority, (b"content-length", b"10")],
        [(b":method", b"CONNECT"), (b":protocol", b"webtransport"), *authority, (b"origin", b"https://server.test")],
        [(b":method", b"CONNECT"), (b":protocol", b"webtransport-h3"), *authority, (b"capsule-protocol", b"?1")],
        [(b":method", b"CONNECT"), (b":authority", b"server.test:443")],
        [(b":status", b"200"), (b"content-type", b"text/plain"), (b"priority", b"u=9, i")],
        [(b":status", b"100")],
        [(b"x-trailer", b"yes"), (b"connection", b"close")],
        [(b"X-Upper", b"\r\n\0"), (b":status", b"2000")],
    ]
    return tuple(pylsqpack.Encoder().encode(0, fields)[1] for fields in lists)


def framed(kind: int, body: bytes, random: Random) -> bytes:
    """Type, length, value; the length is now and then a lie."""
    length = len(body) if random.random() < 0.95 else number(random)
    return encode_varint(kind) + encode_varint(length) + body


def capsules(random: Random) -> bytes:
    out = b""
    for _ in range(random.randrange(1, 5)):
        body = encode_varint(number(random)) if random.random() < 0.6 else blob(random, 40)
        out += framed(random.choice(CAPSULES), body, random)
    return out


def h3_frame(random: Random, usual: tuple[int, ...]) -> bytes:
    """A frame, mostly one that may come where it comes."""
    kind = random.choice(usual if random.random() < 0.9 else H3_TYPES)
    match kind:
        case 0x00:
            return framed(kind, capsules(random) if random.random() < 0.7 else blob(random), random)
        case 0x01:
            section = random.choice(field_sections())
            return framed(kind, section if random.random() < 0.7 else mutate(section, random), random)
        case 0x04:
            return settings_frame(random)
        case 0x03 | 0x07 | 0x0D:
            return framed(kind, encode_varint(number(random)), random)
        case 0xF0700 | 0xF0701:
            return framed(kind, encode_varint(4 * random.randrange(10)) + b"u=1", random)
        case 0x41:
            return encode_varint(kind) + encode_varint(4 * random.randrange(4)) + blob(random)
        case _:
            return framed(kind, blob(random, 60), random)


def settings_frame(random: Random) -> bytes:
    chosen = random.sample(SETTINGS, random.randrange(len(SETTINGS)))
    values = b"".join(
        encode_varint(kind) + encode_varint(random.choice((0, 1, 100, number(random)))) for kind in chosen
    )
    return framed(0x04, values, random)


def h3_stream(stream_id: int, random: Random) -> bytes:
    """The whole content of a stream of the peer: a request or response, or what a unidirectional stream may be for."""
    if stream_id & 2:
        kind = STREAM_TYPES[stream_id >> 2] if stream_id < 16 and random.random() < 0.8 else random.choice(STREAM_TYPES)
        head = encode_varint(kind)
        if kind == 0:
            head += settings_frame(random) if random.random() < 0.9 else b""
            return head + b"".join(h3_frame(random, ON_CONTROL) for _ in range(random.randrange(4)))
        if kind == 0x54:
            head += encode_varint(random.choice((0, 4, number(random))))
        if kind in (0x02, 0x03) and random.random() < 0.8:
            return head + b"".join(random.choice(QPACK[kind]) for _ in range(random.randrange(5)))
        return head + blob(random, 80)
    head = framed(0x01, random.choice(field_sections()), random) if random.random() < 0.85 else b""
    if random.random() < 0.1:
        return encode_varint(0x41) + encode_varint(random.choice((0, 4, number(random)))) + blob(random)
    return head + b"".join(h3_frame(random, ON_REQUEST) for _ in range(random.randrange(5)))


# -- QUIC frames -------------------------------------------------------------------------------------------------------


class Script:
    """What one hostile connection says: keeps the streams it plays, so that some of them make sense for a while."""

    def __init__(
        self, random: Random, *, is_client: bool, genuine_tls: dict[int, bytes], largest_sent: Callable[[int], int]
    ) -> None:
        self.random = random
        self.mutation_rate = random.choice((0.0, 0.02, 0.2, 0.8))
        self._is_client = is_client
        self._genuine_tls = genuine_tls
        self._largest_sent = largest_sent
        """The largest packet number the victim has used in a space: an ACK beyond it is refused at once."""
        self._streams: dict[int, bytes] = {}
        self._offsets: dict[int, int] = {}
        self._cid_sequence = 4 if is_client else 3

    def payload(self, space: int) -> bytes:
        """The plaintext of one packet: frames in any number, mutated at this script's rate, at most a datagram."""
        random = self.random
        frames: list[bytes] = []
        for _ in range(random.choice((1, 1, 2, 3, 8))):
            frames += self._handshake_frames(space) if space < 2 else self._one_rtt_frames()
        if random.random() < 0.1:
            random.shuffle(frames)
        frames = [mutate(each, random) if random.random() < self.mutation_rate else each for each in frames]
        return b"".join(frames)[:1100] or b"\x01"

    def _handshake_frames(self, space: int) -> list[bytes]:
        random = self.random
        chance = random.random()
        if chance < 0.7:
            genuine = self._genuine_tls.get(space, b"")
            data = genuine if random.random() < 0.2 else tls_bytes(genuine, random)
            return crypto_frames(data, random)
        if chance < 0.8:
            return [self._ack(space)]
        if chance < 0.97:
            return [random.choice((b"\x01", bytes(random.randrange(1, 30)), f.write_connection_close(0, b"", 0)))]
        return self._one_rtt_frames()

    def _one_rtt_frames(self) -> list[bytes]:
        random = self.random
        chance = random.random()
        if chance < 0.45:
            return [self._stream_frame()]
        if chance < 0.55:
            return [self._ack(2)]
        if chance < 0.57:
            return crypto_frames(tls_bytes(self._genuine_tls.get(1, b""), random), random)
        if chance < 0.59:
            return [self._new_cid()]
        if chance < 0.99:
            return [random.choice(LEGAL)(random, self._stream_id())]
        return [random.choice(ILLEGAL)(random, self._stream_id())]

    def _stream_id(self) -> int:
        random = self.random
        if random.random() < 0.02:
            return number(random)
        if not self._is_client and random.random() < 0.6:
            return random.choice((0, 4, 8))  # what the victim asked
        kind = random.choice((0, 0, 2)) if self._is_client else random.choice((3, 3, 3, 3, 3, 1))
        return 4 * random.choice((0, 0, 1, 2, 3, random.randrange(100))) + kind

    def _stream_frame(self) -> bytes:
        """The next piece of a stream, mostly; or any bytes at any place."""
        random = self.random
        stream_id = self._stream_id()
        if random.random() < 0.05:
            offset, data = min(number(random), (1 << 62) - 1000), blob(random)
            return f.stream_header(stream_id, offset, len(data), random.random() < 0.3) + data
        if stream_id not in self._streams:
            content = h3_stream(stream_id, random)
            self._streams[stream_id] = mutate(content, random) if random.random() < self.mutation_rate else content
        content, offset = self._streams[stream_id], self._offsets.get(stream_id, 0)
        data = content[offset : offset + random.choice((1, 20, 300, 1000))]
        self._offsets[stream_id] = offset + len(data)
        fin = offset + len(data) == len(content) and random.random() < 0.7
        return f.stream_header(stream_id, offset, len(data), fin) + data

    def _new_cid(self) -> bytes:
        """The next connection ID, which retires older ones; or one again, perhaps with another content."""
        random = self.random
        sequence = self._cid_sequence if random.random() < 0.8 else random.randrange(self._cid_sequence + 1)
        self._cid_sequence = max(self._cid_sequence, sequence + 1)
        content = Random(sequence if random.random() < 0.99 else random.random())
        retire = random.randrange(max(0, sequence - 4), sequence + 1) if random.random() < 0.9 else max(0, sequence - 3)
        return f.write_new_connection_id(sequence, retire, content.randbytes(8), content.randbytes(16))

    def _ack(self, space: int) -> bytes:
        random = self.random
        largest = self._largest_sent(space)
        if random.random() < 0.05:
            largest = number(random)
        ranges = []
        while largest >= 0 and len(ranges) < random.choice((1, 2, 50)):
            smallest = max(0, largest - random.randrange(5))
            ranges.append((smallest, largest))
            largest = smallest - 2 - random.randrange(3)
        if not ranges:
            return b"\x01"
        ecn = (number(random), number(random), number(random)) if random.random() < 0.2 else None
        return f.write_ack(ranges, number(random), ecn)


def _any_cid(random: Random, stream_id: int) -> bytes:
    sequence = random.choice((1, 2, 3, 4, 5, random.randrange(100)))
    retire = random.choice((0, 0, sequence, random.randrange(10)))
    return f.write_new_connection_id(
        sequence, retire, random.randbytes(random.choice((8, 8, 1, 20))), random.randbytes(16)
    )


LEGAL: tuple[Callable[[Random, int], bytes], ...] = (
    lambda r, s: b"\x01",
    lambda r, s: bytes(r.randrange(1, 40)),
    lambda r, s: f.write_reset_stream(s, number(r), r.choice((0, 10, 1000, number(r)))),
    lambda r, s: f.write_stop_sending(s & ~2, number(r)),
    lambda r, s: f.write_limit(f.MAX_DATA, number(r)),
    lambda r, s: f.write_limit(f.MAX_STREAM_DATA, s & ~2, number(r)),
    lambda r, s: f.write_limit(f.MAX_STREAMS_BIDI, r.randrange(1000)),
    lambda r, s: f.write_limit(f.MAX_STREAMS_UNI, r.randrange(1000)),
    lambda r, s: f.write_limit(f.DATA_BLOCKED, number(r)),
    lambda r, s: f.write_limit(f.STREAM_DATA_BLOCKED, s, number(r)),
    lambda r, s: f.write_limit(f.STREAMS_BLOCKED_BIDI, r.randrange(1000)),
    lambda r, s: f.write_limit(f.RETIRE_CONNECTION_ID, r.randrange(6)),
    lambda r, s: bytes((f.PATH_CHALLENGE,)) + r.randbytes(8),
    lambda r, s: bytes((f.PATH_RESPONSE,)) + r.randbytes(8),
    lambda r, s: f.write_datagram(encode_varint(r.choice((0, 1, 2, number(r)))) + blob(r)),
)

ILLEGAL: tuple[Callable[[Random, int], bytes], ...] = (
    lambda r, s: f.write_connection_close(number(r), blob(r, 50), r.choice((None, 0, 8))),
    lambda r, s: f.write_new_token(blob(r)),
    lambda r, s: bytes((f.HANDSHAKE_DONE,)),
    lambda r, s: f.write_limit(f.MAX_STREAMS_BIDI, number(r)),
    lambda r, s: f.write_limit(f.RETIRE_CONNECTION_ID, number(r)),
    lambda r, s: encode_varint(number(r)) + blob(r),
    _any_cid,
    lambda r, s: encode_varint(f.RESET_STREAM_AT) + encode_varint(s) + b"\0\0\0",
)

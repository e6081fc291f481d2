"""Packet protection (RFC 9001 §5): AEAD over payloads, masks over headers, one direction and one level at a time.

The unit is a train: all header masks of a train come from one call of the cipher, because the call costs ten times as
much as the block.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from itertools import repeat
from struct import Struct, pack
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from quicstack.tls.key_schedule import (
    CIPHER_SUITES,
    TLS_AES_128_GCM_SHA256,
    TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite,
    hkdf_expand_label,
    hkdf_extract,
)
from quicstack.wire.version import Version

__all__ = [
    "AEAD_TAG_LENGTH",
    "SAMPLE_LENGTH",
    "BarePacket",
    "InvalidTag",
    "PacketKeys",
    "initial_secrets",
    "retry_integrity_tag",
]

AEAD_TAG_LENGTH = 16
SAMPLE_LENGTH = 16
_FULL_PN = 4  # RFC 9001 §5.4.2: the sample starts as if the packet number took four bytes

BarePacket = tuple[bytes, int, int, int]
"""A packet of a train: its header without protection, the length of its packet number, start and end of its body."""

_SHORT_HEADER_BITS = 0x1F
"""What a mask may change in the first byte of a short header (§5.4.1)."""
_PN_LENGTH_BITS = 0x03

_ECB = modes.ECB()
INITIAL_SUITE = CIPHER_SUITES[TLS_AES_128_GCM_SHA256]


def initial_secrets(version: Version, destination_cid: bytes) -> tuple[bytes, bytes]:
    """RFC 9001 §5.2: the Initial secrets of client and server, from the DCID of the client's first packet."""
    digest = INITIAL_SUITE.hash()
    initial = hkdf_extract(digest, version.initial_salt, destination_cid)
    client = hkdf_expand_label(digest, initial, b"client in", b"", 32)
    return client, hkdf_expand_label(digest, initial, b"server in", b"", 32)


def retry_integrity_tag(version: Version, original_dcid: bytes, retry: bytes) -> bytes:
    """RFC 9001 §5.8: the 16 bytes that end a Retry packet; ``retry`` is the packet without them."""
    pseudo_packet = bytes((len(original_dcid),)) + original_dcid + retry
    return AESGCM(version.retry_key).encrypt(version.retry_nonce, b"", pseudo_packet)


def _xor(a: bytes | bytearray, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")


def _unmasked(data: bytes, start: int, pn_offset: int, mask: bytes) -> tuple[bytes, int]:
    """The header that begins at ``start``, freed of its mask, and the length of its packet number (RFC 9001 §5.4.1)."""
    first = data[start]
    first ^= mask[0] & (0x0F if first & 0x80 else 0x1F)
    pn_length = (first & 3) + 1
    number = int.from_bytes(data[pn_offset : pn_offset + pn_length], "big")
    number ^= int.from_bytes(mask[1 : 1 + pn_length], "big")
    return b"%c%b%b" % (first, data[start + 1 : pn_offset], number.to_bytes(pn_length, "big")), pn_length


@lru_cache(maxsize=256)
def _bits(of: int) -> bytes:
    """A table for ``bytes.translate`` that keeps only these bits."""
    return bytes(byte & of for byte in range(256))


@lru_cache(maxsize=256)
def _records(layout: str, count: int) -> Struct:
    """What takes ``count`` records apart in one call: half the price of as many slices."""
    return Struct(layout * count)


def _number_columns(first: int, count: int, pn_length: int) -> list[bytes]:
    """Of consecutive packet numbers, cut to ``pn_length`` bytes: all first bytes, all second bytes and so on."""
    if first + count <= 1 << 32:
        packed = pack(f">{count}I", *range(first, first + count))
    else:
        packed = b"".join([(number & 0xFFFF_FFFF).to_bytes(4, "big") for number in range(first, first + count)])
    return [packed[at::4] for at in range(4 - pn_length, 4)]


def _aes_masks(key: bytes) -> Callable[[bytes], bytes]:
    """RFC 9001 §5.4.3."""
    return Cipher(algorithms.AES(key), _ECB).encryptor().update


def _chacha20_masks(key: bytes) -> Callable[[bytes], bytes]:
    def masks(samples: bytes) -> bytes:
        # RFC 9001 §5.4.4: the sample is the block counter and the nonce, in the order that the cipher takes them.
        return b"".join(
            [
                Cipher(algorithms.ChaCha20(key, samples[i : i + 16]), mode=None).encryptor().update(bytes(16))
                for i in range(0, len(samples), 16)
            ]
        )

    return masks


def _length_of_run(headers: list[bytes], pn_length: int, number: int, checked: int, expected: int) -> int:  # hot path
    """How many headers have numbers of that length that go on from ``number``, and first bytes as expected."""
    count, length = len(headers), len(headers[0])
    checked, expected = checked | _PN_LENGTH_BITS, expected | pn_length - 1
    plain = b"".join(headers)
    columns = _number_columns(number, count, pn_length)
    is_expected = plain[::length].translate(_bits(checked)) == bytes((expected,)) * count
    if is_expected and all(plain[at::length] == bytes_ for at, bytes_ in enumerate(columns, length - pn_length)):
        return count
    for index, header in enumerate(headers):
        number_here = bytes(column[index] for column in columns)
        if header[0] & checked != expected or header[-pn_length:] != number_here:
            return index
    return count


class PacketKeys:
    """The keys of one direction at one encryption level and, in 1-RTT, of one key phase.

    ``masks`` maps n samples of 16 bytes to n masks of 16 bytes, of which the first five count (RFC 9001 §5.4.1).

    The AEAD key is derived at once, the ciphers are made when they are first used. An AEAD takes 2.4 KiB and a header
    protection cipher 6 us and 1 KiB, and most connections never come to the keys of the next phase.
    """

    __slots__ = ("_key", "_open", "_seal", "iv", "masks", "packets", "secret", "suite", "version")

    _seal: Callable[[bytes, bytes, bytes], bytes]
    _open: Callable[[bytes, bytes, bytes], bytes]
    masks: Callable[[bytes], bytes]

    def __init__(
        self, suite: CipherSuite, secret: bytes, version: Version, masks: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.suite = suite
        self.secret = secret
        self.version = version
        self.packets = 0
        """Packets sealed, or packets that failed to open: what RFC 9001 §6.6 limits."""
        self._key = self._derive(b" key", suite.key_length)
        self.iv = int.from_bytes(self._derive(b" iv", 12), "big")
        if masks is not None:
            self.masks = masks

    def __getattr__(self, name: str) -> Any:
        """A cipher that was not needed before. Python asks here only for attributes that are not set yet."""
        is_chacha20 = self.suite.value == TLS_CHACHA20_POLY1305_SHA256
        if name == "masks":
            key = self._derive(b" hp", self.suite.key_length)
            self.masks = _chacha20_masks(key) if is_chacha20 else _aes_masks(key)
        elif name in ("_seal", "_open"):
            aead = ChaCha20Poly1305(self._key) if is_chacha20 else AESGCM(self._key)
            self._seal, self._open = aead.encrypt, aead.decrypt
        else:
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    def _derive(self, label: bytes, length: int) -> bytes:
        return hkdf_expand_label(self.suite.hash(), self.secret, self.version.label_prefix + label, b"", length)

    def next_phase(self) -> PacketKeys:
        """The keys after a key update (RFC 9001 §6.1); header protection stays."""
        secret = self._derive(b" ku", self.suite.hash_length)
        return PacketKeys(self.suite, secret, self.version, self.masks)

    def seal(self, header: bytes, pn_length: int, packet_number: int, payload: bytes) -> bytes:
        """One protected packet, long or short header. ``payload`` plus ``pn_length`` is at least 4 bytes long."""
        self.packets += 1
        body = self._seal((self.iv ^ packet_number).to_bytes(12, "big"), payload, header)
        offset = _FULL_PN - pn_length
        mask = int.from_bytes(self.masks(body[offset : offset + SAMPLE_LENGTH])[:5], "big")
        length = len(header)
        first = mask >> 32 & (0x0F if header[0] & 0x80 else 0x1F)
        protection = first << 8 * (length - 1) | (mask & 0xFFFF_FFFF) >> 8 * offset
        return (int.from_bytes(header, "big") ^ protection).to_bytes(length, "big") + body

    def seal_train(  # hot path: benchmarks/engine.py
        self, prefix: bytes, pn_length: int, packet_number: int, payloads: list[bytes]
    ) -> bytes:
        """1-RTT packets numbered from ``packet_number`` on; ``prefix`` is the first byte and the DCID of each.

        All but the last payload have the same length, as in every train. So what header protection touches, the first
        byte and the packet number, stands at the same place of each packet: five columns through the train.
        """
        count = len(payloads)
        if count == 1:
            header = prefix + (packet_number & (1 << 8 * pn_length) - 1).to_bytes(pn_length, "big")
            return self.seal(header, pn_length, packet_number, payloads[0])
        self.packets += count
        length = len(prefix) + pn_length
        headers = bytearray((prefix + bytes(pn_length)) * count)
        for at, numbers in enumerate(_number_columns(packet_number, count, pn_length), len(prefix)):
            headers[at::length] = numbers
        one_by_one = _records(f"{length}s", count).unpack
        bodies = list(map(self._seal, self._nonces(packet_number, count), payloads, one_by_one(headers)))
        offset = _FULL_PN - pn_length
        sample_end = offset + SAMPLE_LENGTH
        masks = self.masks(b"".join([body[offset:sample_end] for body in bodies]))
        headers[::length] = _xor(headers[::length], masks[::16].translate(_bits(_SHORT_HEADER_BITS)))
        for column in range(pn_length):
            at = len(prefix) + column
            headers[at::length] = _xor(headers[at::length], masks[column + 1 :: 16])
        packets = [b""] * (2 * count)
        packets[::2], packets[1::2] = one_by_one(headers), bodies
        return b"".join(packets)

    def _nonces(self, first: int, count: int) -> list[bytes]:
        """RFC 9001 §5.3, of consecutive packet numbers."""
        iv = self.iv
        return [(iv ^ number).to_bytes(12, "big") for number in range(first, first + count)]

    def unmask(self, data: bytes, start: int, pn_offset: int) -> tuple[bytes, int]:
        """Header of one packet with its protection removed, and the length of its packet number.

        The caller has checked that 20 bytes follow ``pn_offset``.
        """
        sample = pn_offset + _FULL_PN
        mask = self.masks(data[sample : sample + SAMPLE_LENGTH])
        return _unmasked(data, start, pn_offset, mask)

    def unmask_train(  # hot path: benchmarks/engine.py
        self, data: bytes, segment_size: int, cid_length: int
    ) -> list[BarePacket]:
        """The 1-RTT packets of a train with bare headers.

        Segments too short to carry a sample are left out (RFC 9001 §5.4.2: they are discarded). This works on columns,
        as ``seal_train``; packets whose numbers are not equally long (few senders do that in one train) go one by one.
        """
        sample = 1 + cid_length + _FULL_PN
        total = len(data)
        starts = range(0, total - sample - SAMPLE_LENGTH + 1, segment_size)
        count = len(starts)
        if not count or segment_size < sample + SAMPLE_LENGTH:
            return []
        if count == 1:
            header, pn_length = _unmasked(data, 0, 1 + cid_length, self.masks(data[sample : sample + SAMPLE_LENGTH]))
            return [(header, pn_length, 1 + cid_length + pn_length, min(segment_size, total))]
        rest = segment_size - sample - SAMPLE_LENGTH
        samples = _records(f"{sample}x{SAMPLE_LENGTH}s{rest}x", count - 1).unpack_from(data)
        masks = self.masks(b"".join(samples) + data[starts[-1] + sample : starts[-1] + sample + SAMPLE_LENGTH])
        firsts = _xor(data[::segment_size][:count], masks[::16].translate(_bits(_SHORT_HEADER_BITS)))
        pn_length = (firsts[0] & 3) + 1
        length = 1 + cid_length + pn_length
        if firsts.translate(_bits(_PN_LENGTH_BITS)) != bytes((firsts[0] & 3,)) * count:
            unlike = [_unmasked(data, i, i + 1 + cid_length, masks[16 * n :]) for n, i in enumerate(starts)]
            return [
                (header, pn_length, i + 1 + cid_length + pn_length, min(i + segment_size, total))
                for i, (header, pn_length) in zip(starts, unlike, strict=True)
            ]
        headers = bytearray(data[:length] * count)
        headers[::length] = firsts
        for column in range(pn_length):
            at = 1 + cid_length + column
            headers[at::length] = _xor(data[at::segment_size][:count], masks[column + 1 :: 16])
        bodies = range(length, length + total, segment_size)
        ends = range(segment_size, segment_size + total, segment_size)
        out = list(zip(_records(f"{length}s", count).unpack(headers), repeat(pn_length), bodies, ends, strict=False))
        if out[-1][3] > total:
            out[-1] = (*out[-1][:3], total)
        return out

    def open_run(  # hot path: benchmarks/engine.py
        self, data: bytes, packets: list[BarePacket], number: int, checked: int, expected: int
    ) -> list[bytes]:
        """Payloads of the first of ``packets`` (as ``unmask_train`` gives them), while their numbers go on from
        ``number`` and ``checked`` bits of their first bytes are ``expected``. What stops the run is for :meth:`open`.
        """
        payloads: list[bytes] = []
        if not packets:
            return payloads
        headers = [packet[0] for packet in packets]
        first, pn_length, start, end = packets[0]
        count = _length_of_run(headers, pn_length, number, checked, expected)
        if count:
            size = end - start
            _, _, last_start, last_end = packets[count - 1]
            alike = count if last_end - last_start == size else count - 1  # the last one of a train may be shorter
            cut = _records(f"{len(first)}x{size}s", alike).unpack_from
            bodies: tuple[bytes, ...] = cut(data, start - len(first))
            if alike < count:
                bodies += (data[last_start:last_end],)
            with suppress(InvalidTag):  # what was opened before is kept
                payloads.extend(map(self._open, self._nonces(number, count), bodies, headers))
        return payloads

    def open(self, header: bytes, packet_number: int, body: bytes) -> bytes:  # hot path
        """The payload. Raises ``InvalidTag`` when the packet was not sealed with these keys."""
        return self._open((self.iv ^ packet_number).to_bytes(12, "big"), body, header)

"""Packet protection (RFC 9001 §5): AEAD over payloads, masks over headers, one direction and one level at a time.

The unit is a train: all header masks of a train come from one call of the cipher, because the call costs ten times as
much as the block.
"""

from __future__ import annotations

from collections.abc import Callable

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
    "InvalidTag",
    "PacketKeys",
    "initial_secrets",
    "retry_integrity_tag",
]

AEAD_TAG_LENGTH = 16
SAMPLE_LENGTH = 16
_FULL_PN = 4  # RFC 9001 §5.4.2: the sample starts as if the packet number took four bytes

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


class PacketKeys:
    """The keys of one direction at one encryption level and, in 1-RTT, of one key phase.

    ``masks`` maps n samples of 16 bytes to n masks of 16 bytes, of which the first five count (RFC 9001 §5.4.1).
    """

    __slots__ = ("_open", "_seal", "iv", "masks", "packets", "secret", "suite", "version")

    def __init__(
        self, suite: CipherSuite, secret: bytes, version: Version, masks: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.suite = suite
        self.secret = secret
        self.version = version
        self.packets = 0
        """Packets sealed, or packets that failed to open: what RFC 9001 §6.6 limits."""
        key = self._derive(b" key", suite.key_length)
        self.iv = int.from_bytes(self._derive(b" iv", 12), "big")
        if masks is None:
            masks = self._header_protection(self._derive(b" hp", suite.key_length))
        self.masks = masks
        aead = ChaCha20Poly1305(key) if suite.value == TLS_CHACHA20_POLY1305_SHA256 else AESGCM(key)
        self._seal = aead.encrypt
        self._open = aead.decrypt

    def _derive(self, label: bytes, length: int) -> bytes:
        return hkdf_expand_label(self.suite.hash(), self.secret, self.version.label_prefix + label, b"", length)

    def _header_protection(self, key: bytes) -> Callable[[bytes], bytes]:
        if self.suite.value == TLS_CHACHA20_POLY1305_SHA256:
            return _chacha20_masks(key)
        return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update

    def next_phase(self) -> PacketKeys:
        """The keys after a key update (RFC 9001 §6.1); header protection stays."""
        secret = self._derive(b" ku", self.suite.hash_length)
        return PacketKeys(self.suite, secret, self.version, self.masks)

    def seal(self, header: bytes, pn_length: int, packet_number: int, payload: bytes) -> bytes:
        """One protected packet, long or short header. ``payload`` plus ``pn_length`` is at least 4 bytes long."""
        self.packets += 1
        body = self._seal((self.iv ^ packet_number).to_bytes(12, "big"), payload, header)
        offset = _FULL_PN - pn_length
        mask = self.masks(body[offset : offset + SAMPLE_LENGTH])
        first = header[0] ^ (mask[0] & (0x0F if header[0] & 0x80 else 0x1F))
        pn_offset = len(header) - pn_length
        number = bytes(a ^ b for a, b in zip(header[pn_offset:], mask[1:], strict=False))
        return bytes((first,)) + header[1:pn_offset] + number + body

    def seal_train(  # hot path
        self, prefix: bytes, pn_length: int, packet_number: int, payloads: list[bytes]
    ) -> bytes:
        """1-RTT packets numbered from ``packet_number`` on; ``prefix`` is the first byte and the DCID of each."""
        seal = self._seal
        iv = self.iv
        self.packets += len(payloads)
        pn_mask = (1 << 8 * pn_length) - 1
        offset = _FULL_PN - pn_length
        sample_end = offset + SAMPLE_LENGTH
        headers, bodies, samples = [], [], []
        for payload in payloads:
            header = prefix + (packet_number & pn_mask).to_bytes(pn_length, "big")
            body = seal((iv ^ packet_number).to_bytes(12, "big"), payload, header)
            headers.append(header)
            bodies.append(body)
            samples.append(body[offset:sample_end])
            packet_number += 1
        masks = self.masks(b"".join(samples))
        length = len(prefix) + pn_length
        first_shift = 8 * (length - 1)
        drop = 8 * offset
        out = []
        at = 0
        for header, body in zip(headers, bodies, strict=True):
            mask = int.from_bytes(masks[at : at + 5], "big")
            at += 16
            protected = (
                int.from_bytes(header, "big") ^ ((mask >> 32 & 0x1F) << first_shift) ^ ((mask & 0xFFFFFFFF) >> drop)
            )
            out.append(protected.to_bytes(length, "big"))
            out.append(body)
        return b"".join(out)

    def unmask(self, data: bytes, start: int, pn_offset: int) -> tuple[bytes, int]:
        """Header of one packet with its protection removed, and the length of its packet number.

        The caller has checked that 20 bytes follow ``pn_offset``.
        """
        sample = pn_offset + _FULL_PN
        mask = self.masks(data[sample : sample + SAMPLE_LENGTH])
        first = data[start] ^ (mask[0] & (0x0F if data[start] & 0x80 else 0x1F))
        pn_length = (first & 3) + 1
        number = bytes(a ^ b for a, b in zip(data[pn_offset : pn_offset + pn_length], mask[1:], strict=False))
        return bytes((first,)) + data[start + 1 : pn_offset] + number, pn_length

    def unmask_train(  # hot path
        self, data: bytes, segment_size: int, cid_length: int
    ) -> list[tuple[bytes, int, int, int]]:
        """For each 1-RTT packet of a train: header without protection, packet number length, start and end of its body.

        Segments too short to carry a sample are left out (RFC 9001 §5.4.2: they are discarded).
        """
        header_length = 1 + cid_length + _FULL_PN
        total = len(data)
        if segment_size < header_length + SAMPLE_LENGTH:
            return []
        starts = range(0, total - header_length - SAMPLE_LENGTH + 1, segment_size)
        masks = self.masks(b"".join([data[i + header_length : i + header_length + SAMPLE_LENGTH] for i in starts]))
        first_shift = 8 * (header_length - 1)
        out = []
        at = 0
        for start in starts:
            mask = int.from_bytes(masks[at : at + 5], "big")
            at += 16
            plain = (
                int.from_bytes(data[start : start + header_length], "big")
                ^ ((mask >> 32 & 0x1F) << first_shift)
                ^ (mask & 0xFFFFFFFF)
            )
            pn_length = (plain >> first_shift & 3) + 1
            length = header_length - _FULL_PN + pn_length
            header = (plain >> 8 * (_FULL_PN - pn_length)).to_bytes(length, "big")
            end = start + segment_size
            out.append((header, pn_length, start + length, end if end < total else total))
        return out

    def open(self, header: bytes, packet_number: int, body: bytes) -> bytes:  # hot path
        """The payload. Raises ``InvalidTag`` when the packet was not sealed with these keys."""
        return self._open((self.iv ^ packet_number).to_bytes(12, "big"), body, header)

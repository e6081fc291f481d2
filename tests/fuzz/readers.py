"""Targets for the readers of QUIC and TLS: any bytes give a value or TransportError, and nothing else.

A target is a function of bytes. What it lets through, any exception at all, is a finding.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random

from quicstack.errors import TransportError, Truncated
from quicstack.simulator import VIRTUAL_EPOCH
from quicstack.tls import extensions, messages
from quicstack.tls.authentication import read_certificate, read_certificate_request
from quicstack.tls.compression import available_compression, decompress
from quicstack.tls.ech import read_confirmation
from quicstack.tls.ech_config import read_ech_config_list
from quicstack.tls.extensions import ExtensionType
from quicstack.tls.handshake import Message
from quicstack.tls.messages import HandshakeType
from quicstack.tls.presentation import Reader
from quicstack.transport.address_tokens import AddressTokens
from quicstack.wire import frame
from quicstack.wire.frame_study import parse_frames
from quicstack.wire.packet import read_cids, read_long_header, read_version_negotiation
from quicstack.wire.packet_number import decode_packet_number
from quicstack.wire.ranges import RangeSet
from quicstack.wire.transport_parameters import read_transport_parameters
from quicstack.wire.varint import encode_varint, read_varint
from quicstack.wire.version import VERSIONS

__all__ = ["READERS"]

REMOTE = ("192.0.2.7", 4433)


def varint(data: bytes) -> None:
    with suppress(Truncated):
        value, end = read_varint(data, 0)
        assert read_varint(encode_varint(value), 0)[0] == value and len(encode_varint(value)) <= end


def packet_number(data: bytes) -> None:
    data = data.ljust(16, b"\x00")
    size = 1 + data[0] % 4
    largest = int.from_bytes(data[1:9]) % (1 << 62)
    number = decode_packet_number(int.from_bytes(data[9 : 9 + size]), 8 * size, largest)
    assert number >= 0 and number & ((1 << 8 * size) - 1) == int.from_bytes(data[9 : 9 + size])


def frames(data: bytes) -> None:
    with suppress(TransportError):
        parse_frames(data)


def single_frame(data: bytes) -> None:
    """Each reader by itself: the first byte chooses, so mutation does not have to find the type."""
    one_argument = (
        frame.read_ack, frame.read_reset_stream, frame.read_reset_stream_at, frame.read_stop_sending, frame.read_crypto,
        frame.read_new_token, frame.read_limit, frame.read_stream_limit, frame.read_new_connection_id,
        frame.read_path_data, frame.read_ack_frequency, frame.read_frame_type,
    )  # fmt: skip
    typed: tuple[Callable[[bytes, int, int], object], ...] = (
        frame.read_stream, frame.read_datagram, frame.read_connection_close, frame.read_streams_limit,
    )  # fmt: skip
    if len(data) < 2:
        return
    with suppress(TransportError):
        choice = data[0] % (len(one_argument) + len(typed))
        if choice < len(one_argument):
            reader = one_argument[choice]
            reader(data, 1, 2) if reader is frame.read_ack else reader(data, 1)  # type: ignore[operator, call-arg]
        else:
            typed[choice - len(one_argument)](data, 2, data[1])


def packet(data: bytes) -> None:
    position = 0
    with suppress(TransportError):
        while position < len(data):
            version, dcid, scid, end = read_cids(data, position)
            assert len(dcid) <= 255 and len(scid) <= 255 and end <= len(data)
            if version not in VERSIONS:
                return
            header = read_long_header(data, position, VERSIONS[version])
            assert position < header.end <= len(data)
            position = header.end


def version_negotiation(data: bytes) -> None:
    with suppress(TransportError):
        read_version_negotiation(data, 0)


def transport_parameters(data: bytes) -> None:
    for from_server in (False, True):
        with suppress(TransportError):
            read_transport_parameters(data, from_server=from_server)


def ranges(data: bytes) -> None:
    """Additions and subtractions, against a set of integers."""
    found, model = RangeSet(), set[int]()
    for position in range(0, len(data) - 2, 3):
        begin, length = data[position + 1], data[position + 2] % 32
        if data[position] & 1:
            found.subtract(begin, begin + length)
            model -= set(range(begin, begin + length))
        else:
            found.add(begin, begin + length)
            model |= set(range(begin, begin + length))
    assert {number for begin, end in found for number in range(begin, end)} == model


def tls_message(data: bytes) -> None:
    """The first byte is the type."""
    readers = {
        HandshakeType.CLIENT_HELLO: messages.ClientHello.read,
        HandshakeType.SERVER_HELLO: messages.ServerHello.read,
        HandshakeType.ENCRYPTED_EXTENSIONS: messages.EncryptedExtensions.read,
        HandshakeType.CERTIFICATE: messages.Certificate.read,
        HandshakeType.COMPRESSED_CERTIFICATE: messages.CompressedCertificate.read,
        HandshakeType.CERTIFICATE_REQUEST: messages.CertificateRequest.read,
        HandshakeType.CERTIFICATE_VERIFY: messages.CertificateVerify.read,
        HandshakeType.FINISHED: messages.Finished.read,
        HandshakeType.NEW_SESSION_TICKET: messages.NewSessionTicket.read,
    }
    reader = readers.get(HandshakeType(data[0])) if data and data[0] in set(HandshakeType) else None
    if reader is not None:
        with suppress(TransportError):
            reader(data[1:])


def tls_extension(data: bytes) -> None:
    """The first byte chooses the extension."""
    readers: tuple[Callable[[bytes], object], ...] = (
        extensions.read_supported_versions, extensions.read_compression_algorithms, extensions.read_server_name,
        extensions.read_alpn, extensions.read_cookie, extensions.read_key_share_entries,
        extensions.read_key_share_entry, extensions.read_pre_shared_key, read_confirmation, read_ech_config_list,
        lambda body: extensions.read_code_points(body, ExtensionType.SUPPORTED_GROUPS),
        lambda body: extensions.read_number(body, 4, ExtensionType.EARLY_DATA),
        lambda body: messages.read_extensions(Reader(body, "a target")),
    )  # fmt: skip
    if data:
        with suppress(TransportError):
            readers[data[0] % len(readers)](data[1:])


def certificate(data: bytes) -> None:
    """A chain, plain and compressed, and what asks for one."""
    if not data:
        return
    with suppress(TransportError):
        if data[0] % 3 == 0:
            message = Message(HandshakeType.CERTIFICATE, data[1:], b"")
            read_certificate(message, "server's", compression=(), offered=())
        elif data[0] % 3 == 1:
            message = Message(HandshakeType.COMPRESSED_CERTIFICATE, data[1:], b"")
            read_certificate(message, "server's", compression=available_compression(), offered=())
        else:
            read_certificate_request(data[1:])


def compressed(data: bytes) -> None:
    """A body of at most 64 KiB comes out, or an alert."""
    with suppress(TransportError):
        assert len(decompress(data, available_compression(), 1 << 16)) <= 1 << 16


def address_token(data: bytes) -> None:
    """Nobody but us makes a token that is taken."""
    tokens = AddressTokens(bytes(32), Random(0).randbytes, lambda: VIRTUAL_EPOCH)
    assert tokens.open_retry(data, REMOTE, 1, b"scid") is None or data == tokens_made()[0]
    assert not tokens.accept_new_token(data, REMOTE, 1) or data == tokens_made()[1]


def tokens_made() -> tuple[bytes, bytes]:
    """The two genuine ones, among the seeds."""
    tokens = AddressTokens(bytes(32), Random(0).randbytes, lambda: VIRTUAL_EPOCH)
    return tokens.seal_retry(REMOTE, 1, b"scid", b"original"), tokens.seal_new_token(REMOTE, 1)


_ALL: tuple[Callable[[bytes], None], ...] = (
    varint,
    packet_number,
    frames,
    single_frame,
    packet,
    version_negotiation,
    transport_parameters,
    ranges,
    tls_message,
    tls_extension,
    certificate,
    compressed,
    address_token,
)
READERS = {target.__name__: target for target in _ALL}

"""Handshake messages (RFC 8446 §4, §B.3): one dataclass each, with its one reader and its one writer.

``read`` takes the body, which :mod:`quicstack.tls.handshake` has cut out by the four bytes of header; ``write`` gives
the whole message. Extensions are kept as an ordered mapping from type to body, for :mod:`quicstack.tls.extensions`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.presentation import Reader, number, numbers, vector

__all__ = [
    "HELLO_RETRY_REQUEST_RANDOM",
    "LEGACY_VERSION",
    "Certificate",
    "CertificateEntry",
    "CertificateRequest",
    "CertificateVerify",
    "ClientHello",
    "CompressedCertificate",
    "EncryptedExtensions",
    "Extensions",
    "Finished",
    "HandshakeType",
    "NewSessionTicket",
    "ServerHello",
    "handshake_message",
    "message_name",
]

Extensions = dict[int, bytes]

LEGACY_VERSION = 0x0303
HELLO_RETRY_REQUEST_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""SHA-256 of "HelloRetryRequest": a ServerHello with this random is one (RFC 8446 §4.1.3)."""


class HandshakeType(IntEnum):
    """RFC 8446 §B.3, and 25 of RFC 8879."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    NEW_SESSION_TICKET = 4
    END_OF_EARLY_DATA = 5
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    CERTIFICATE_VERIFY = 15
    FINISHED = 20
    KEY_UPDATE = 24
    COMPRESSED_CERTIFICATE = 25
    MESSAGE_HASH = 254


def message_name(message_type: int) -> str:
    """As in the RFC: ``ClientHello``."""
    try:
        return HandshakeType(message_type).name.title().replace("_", "")
    except ValueError:
        return f"handshake message of type {message_type}"


def handshake_message(message_type: int, body: bytes) -> bytes:
    return number(message_type, 1) + vector(3, body)


def read_extensions(reader: Reader, minimum: int = 0) -> Extensions:
    """RFC 8446 §4.2: no type twice in one block."""
    extensions: Extensions = {}
    for item in reader.items(2, minimum):
        extension_type = item.number(2)
        if extension_type in extensions:
            raise tls_error(
                Alert.ILLEGAL_PARAMETER,
                f"{reader.what} has extension {extension_type:#06x} twice, each type may come once",
            )
        extensions[extension_type] = item.vector(2)
    return extensions


def write_extensions(extensions: Extensions) -> bytes:
    return vector(2, b"".join(number(key, 2) + vector(2, body) for key, body in extensions.items()))


@dataclass(slots=True)
class ClientHello:
    """RFC 8446 §4.1.2."""

    random: bytes
    cipher_suites: tuple[int, ...]
    extensions: Extensions
    legacy_session_id: bytes = b""
    legacy_compression_methods: bytes = b"\x00"
    legacy_version: int = LEGACY_VERSION

    @classmethod
    def read(cls, body: bytes) -> ClientHello:
        reader = Reader(body, "ClientHello")
        legacy_version = reader.number(2)
        random = reader.take(32)
        session_id = reader.vector(1, 0, 32)
        cipher_suites = reader.numbers(2)
        compression = reader.vector(1, 1)
        # Before TLS 1.3 a ClientHello could end here; the missing supported_versions is then what is reported.
        extensions = read_extensions(reader) if reader.pos < len(body) else {}
        reader.finish()
        return cls(random, cipher_suites, extensions, session_id, compression, legacy_version)

    def write(self) -> bytes:
        body = (
            number(self.legacy_version, 2)
            + self.random
            + vector(1, self.legacy_session_id)
            + numbers(2, self.cipher_suites)
            + vector(1, self.legacy_compression_methods)
            + write_extensions(self.extensions)
        )
        return handshake_message(HandshakeType.CLIENT_HELLO, body)


@dataclass(slots=True)
class ServerHello:
    """RFC 8446 §4.1.3; also HelloRetryRequest, §4.1.4."""

    random: bytes
    cipher_suite: int
    extensions: Extensions
    legacy_session_id_echo: bytes = b""
    legacy_compression_method: int = 0
    legacy_version: int = LEGACY_VERSION

    @property
    def is_hello_retry_request(self) -> bool:
        return self.random == HELLO_RETRY_REQUEST_RANDOM

    @classmethod
    def read(cls, body: bytes) -> ServerHello:
        reader = Reader(body, "ServerHello")
        legacy_version = reader.number(2)
        random = reader.take(32)
        session_id = reader.vector(1, 0, 32)
        cipher_suite = reader.number(2)
        compression = reader.number(1)
        extensions = read_extensions(reader) if reader.pos < len(body) else {}
        reader.finish()
        return cls(random, cipher_suite, extensions, session_id, compression, legacy_version)

    def write(self) -> bytes:
        body = (
            number(self.legacy_version, 2)
            + self.random
            + vector(1, self.legacy_session_id_echo)
            + number(self.cipher_suite, 2)
            + number(self.legacy_compression_method, 1)
            + write_extensions(self.extensions)
        )
        return handshake_message(HandshakeType.SERVER_HELLO, body)


@dataclass(slots=True)
class EncryptedExtensions:
    """RFC 8446 §4.3.1."""

    extensions: Extensions

    @classmethod
    def read(cls, body: bytes) -> EncryptedExtensions:
        reader = Reader(body, "EncryptedExtensions")
        extensions = read_extensions(reader)
        reader.finish()
        return cls(extensions)

    def write(self) -> bytes:
        return handshake_message(HandshakeType.ENCRYPTED_EXTENSIONS, write_extensions(self.extensions))


@dataclass(slots=True)
class CertificateRequest:
    """RFC 8446 §4.3.2."""

    context: bytes
    extensions: Extensions

    @classmethod
    def read(cls, body: bytes) -> CertificateRequest:
        reader = Reader(body, "CertificateRequest")
        context = reader.vector(1)
        extensions = read_extensions(reader, minimum=2)
        reader.finish()
        return cls(context, extensions)

    def write(self) -> bytes:
        body = vector(1, self.context) + write_extensions(self.extensions)
        return handshake_message(HandshakeType.CERTIFICATE_REQUEST, body)


@dataclass(slots=True)
class CertificateEntry:
    """One X.509 certificate in DER form, with what was sent about it."""

    data: bytes
    extensions: Extensions = field(default_factory=dict)


@dataclass(slots=True)
class Certificate:
    """RFC 8446 §4.4.2. ``context`` is empty in a handshake, except in the answer to a CertificateRequest."""

    entries: tuple[CertificateEntry, ...]
    context: bytes = b""

    @classmethod
    def read(cls, body: bytes) -> Certificate:
        reader = Reader(body, "Certificate")
        context = reader.vector(1)
        entries = tuple(CertificateEntry(item.vector(3, 1), read_extensions(item)) for item in reader.items(3))
        reader.finish()
        return cls(entries, context)

    def write(self) -> bytes:
        entries = b"".join(vector(3, entry.data) + write_extensions(entry.extensions) for entry in self.entries)
        return handshake_message(HandshakeType.CERTIFICATE, vector(1, self.context) + vector(3, entries))


@dataclass(slots=True)
class CompressedCertificate:
    """RFC 8879 §4: ``data`` is the body of a Certificate message, compressed."""

    algorithm: int
    uncompressed_length: int
    data: bytes

    @classmethod
    def read(cls, body: bytes) -> CompressedCertificate:
        reader = Reader(body, "CompressedCertificate")
        message = cls(reader.number(2), reader.number(3), reader.vector(3, 1))
        reader.finish()
        return message

    def write(self) -> bytes:
        body = number(self.algorithm, 2) + number(self.uncompressed_length, 3) + vector(3, self.data)
        return handshake_message(HandshakeType.COMPRESSED_CERTIFICATE, body)


@dataclass(slots=True)
class CertificateVerify:
    """RFC 8446 §4.4.3."""

    scheme: int
    signature: bytes

    @classmethod
    def read(cls, body: bytes) -> CertificateVerify:
        reader = Reader(body, "CertificateVerify")
        message = cls(reader.number(2), reader.vector(2))
        reader.finish()
        return message

    def write(self) -> bytes:
        return handshake_message(HandshakeType.CERTIFICATE_VERIFY, number(self.scheme, 2) + vector(2, self.signature))


@dataclass(slots=True)
class Finished:
    """RFC 8446 §4.4.4: as long as the hash, without a length of its own."""

    verify_data: bytes

    @classmethod
    def read(cls, body: bytes) -> Finished:
        return cls(body)

    def write(self) -> bytes:
        return handshake_message(HandshakeType.FINISHED, self.verify_data)


@dataclass(slots=True)
class NewSessionTicket:
    """RFC 8446 §4.6.1."""

    lifetime: int
    age_add: int
    nonce: bytes
    ticket: bytes
    extensions: Extensions

    @classmethod
    def read(cls, body: bytes) -> NewSessionTicket:
        reader = Reader(body, "NewSessionTicket")
        message = cls(
            lifetime=reader.number(4),
            age_add=reader.number(4),
            nonce=reader.vector(1),
            ticket=reader.vector(2, 1),
            extensions=read_extensions(reader),
        )
        reader.finish()
        return message

    def write(self) -> bytes:
        body = (
            number(self.lifetime, 4)
            + number(self.age_add, 4)
            + vector(1, self.nonce)
            + vector(2, self.ticket)
            + write_extensions(self.extensions)
        )
        return handshake_message(HandshakeType.NEW_SESSION_TICKET, body)

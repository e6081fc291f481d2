"""Encrypted ClientHello, the client's side (RFC 9849 §5, §6): one ClientHello inside another.

The inner one is what we want to say; the outer one names only the public name of the server and carries the inner one
encrypted. Extensions that both have, all but the names, are sent once: in the outer one, with a reference in the inner.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import lru_cache

from quicstack.errors import EchRejected, TransportError
from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.ech_config import EchConfig, read_ech_config_list
from quicstack.tls.extensions import ExtensionType, OfferedPsks, read_pre_shared_key, write_server_name
from quicstack.tls.groups import X25519, generate
from quicstack.tls.hpke import AEADS, HKDF_SHA256, TAG_LENGTH, Sender
from quicstack.tls.key_schedule import CipherSuite, Transcript, hkdf_expand_label, hkdf_extract
from quicstack.tls.messages import ClientHello, Extensions, ServerHello
from quicstack.tls.presentation import number, numbers, vector

__all__ = ["EchOffer", "choose_ech_config", "grease_ech", "read_retry_configs"]

OUTER, INNER = b"\x00", b"\x01"
ECH_OUTER_EXTENSIONS = 0xFD00
CONFIRMATION_LENGTH = 8
E = ExtensionType
NOT_SHARED = frozenset({E.SERVER_NAME, E.ENCRYPTED_CLIENT_HELLO, E.PRE_SHARED_KEY, E.COOKIE})
"""Extensions whose inner body is not the outer one, or has no outer one."""


def choose_ech_config(data: bytes | None) -> EchConfig | None:
    """The first configuration of a list that we can use (§6.1)."""
    configs = read_ech_config_list(data) if data else ()
    return configs[0] if configs else None


class EchOffer:
    """An offer of ECH over one handshake. :meth:`seal` makes the outer ClientHello; the server's answer decides.

    ``accepted`` is None until the server has answered. ``outer`` is the last outer ClientHello.
    """

    def __init__(self, config: EchConfig, random: Callable[[int], bytes]) -> None:
        self.config = config
        self.accepted: bool | None = None
        self.outer_transcript = Transcript()
        self.outer: ClientHello
        self._random = random
        self._outer_random = random(32)
        self._inner_random = b""
        self._sender = Sender(config.kem, config.aead, config.public_key, b"tls ech\x00" + config.data, random)
        self._enc = self._sender.enc

    def seal(self, inner: ClientHello) -> bytes:
        """The outer ClientHello around ``inner``, a message (§6.1.1); the second time for a HelloRetryRequest."""
        self._inner_random = inner.random
        encoded = encode_inner(inner, self.config.maximum_name_length)
        outer = ClientHello(self._outer_random, inner.cipher_suites, self._outer_extensions(inner))
        size = len(encoded) + TAG_LENGTH
        outer.extensions[E.ENCRYPTED_CLIENT_HELLO] = self._extension(bytes(size))
        payload = self._sender.seal(outer.write()[4:], encoded)
        outer.extensions[E.ENCRYPTED_CLIENT_HELLO] = self._extension(payload)
        self._enc = b""  # the second ClientHello uses the same context (§6.1.5)
        self.outer = outer
        message = outer.write()
        self.outer_transcript.add(message)
        return message

    def _outer_extensions(self, inner: ClientHello) -> Extensions:
        extensions: Extensions = {E.SERVER_NAME: write_server_name(self.config.public_name)}
        extensions |= {key: body for key, body in inner.extensions.items() if key not in NOT_SHARED}
        extensions[E.ENCRYPTED_CLIENT_HELLO] = b""  # keeps its place before pre_shared_key, which is the last
        if E.PRE_SHARED_KEY in inner.extensions:
            extensions[E.PRE_SHARED_KEY] = _grease_psk(inner.extensions[E.PRE_SHARED_KEY], self._random)
        return extensions

    def _extension(self, payload: bytes) -> bytes:
        config = self.config
        return write_outer_extension(config.aead, config.config_id, self._enc, payload)

    def judge(self, server_hello: ServerHello, message: bytes, transcript: Transcript, suite: CipherSuite) -> bool:
        """§6.1.4: whether the server took the inner ClientHello. ``transcript`` is of the inner ones so far."""
        is_retry = server_hello.is_hello_retry_request
        if is_retry and E.ENCRYPTED_CLIENT_HELLO not in server_hello.extensions:
            self.accepted = False
            return False
        if is_retry:
            confirmation = read_confirmation(server_hello.extensions[E.ENCRYPTED_CLIENT_HELLO])
            bare = message.replace(_confirmation_extension(confirmation), _confirmation_extension(bytes(8)))
        else:
            confirmation = server_hello.random[-CONFIRMATION_LENGTH:]
            end = 4 + 2 + 32  # header, legacy_version, random
            bare = message[: end - CONFIRMATION_LENGTH] + bytes(CONFIRMATION_LENGTH) + message[end:]
        copy = transcript.copy()
        copy.choose_hash(suite.hash())
        if is_retry:
            copy.replace_by_message_hash()
        copy.add(bare)
        label = b"hrr ech accept confirmation" if is_retry else b"ech accept confirmation"
        secret = hkdf_extract(suite.hash(), bytes(suite.hash_length), self._inner_random)
        expected = hkdf_expand_label(suite.hash(), secret, label, copy.digest(), CONFIRMATION_LENGTH)
        matches = hmac.compare_digest(confirmation, expected)
        if self.accepted and not matches:
            raise tls_error(
                Alert.ILLEGAL_PARAMETER,
                "ServerHello does not confirm Encrypted ClientHello, expected it as HelloRetryRequest did",
            )
        # a server that refused in its HelloRetryRequest has decided
        self.accepted = matches if self.accepted is None else self.accepted
        if not self.accepted and E.PRE_SHARED_KEY in server_hello.extensions:  # §6.1.2
            raise tls_error(
                Alert.ILLEGAL_PARAMETER,
                "ServerHello chose a pre_shared_key without Encrypted ClientHello, for which we offered none",
            )
        return self.accepted

    def rejection(self, retry_configs: bytes | None) -> TransportError:
        """§6.1.6: how a handshake ends that the server completed as its public name."""
        name = self.config.public_name
        usable = retry_configs is not None and bool(read_ech_config_list(retry_configs))
        what = "and sent other configurations" if usable else "and sent no configuration that we can use"
        cause = EchRejected(
            f"{name} refused Encrypted ClientHello {what}",
            public_name=name,
            retry_configs=retry_configs if usable else None,
        )
        return tls_error(Alert.ECH_REQUIRED, f"{cause}, expected it to be accepted", cause)


def write_outer_extension(aead: int, config_id: int, enc: bytes, payload: bytes) -> bytes:
    """ECHClientHello, the outer variant (§5)."""
    suite = number(HKDF_SHA256, 2) + number(aead, 2)
    return OUTER + suite + number(config_id, 1) + vector(2, enc) + vector(2, payload)


def encode_inner(inner: ClientHello, maximum_name_length: int) -> bytes:
    """EncodedClientHelloInner: compressed as §5.1 says, padded as §6.1.3 recommends."""
    shared = [key for key in inner.extensions if key not in NOT_SHARED]
    compressed: Extensions = {}
    for key, body in inner.extensions.items():
        if key not in NOT_SHARED:
            compressed[ECH_OUTER_EXTENSIONS] = numbers(1, shared)
        else:
            compressed[key] = body
    encoded = ClientHello(inner.random, inner.cipher_suites, compressed).write()[4:]
    if E.SERVER_NAME in inner.extensions:
        padding = max(0, maximum_name_length - (len(inner.extensions[E.SERVER_NAME]) - 5))
    else:
        padding = maximum_name_length + 9
    padding += 31 - (len(encoded) + padding - 1) % 32
    return encoded + bytes(padding)


def in_order_for_ech(extensions: Extensions) -> Extensions:
    """Extensions of an inner ClientHello: those that are sent once stand together, as §6.1 demands."""
    first = {key: body for key, body in extensions.items() if key == E.SERVER_NAME}
    middle = {key: body for key, body in extensions.items() if key not in NOT_SHARED}
    last = {key: body for key, body in extensions.items() if key == E.PRE_SHARED_KEY}
    return first | middle | {E.ENCRYPTED_CLIENT_HELLO: INNER} | last


@lru_cache(maxsize=64)
def _encoded_size(cipher_suites: tuple[int, ...], extensions: tuple[tuple[int, int], ...]) -> int:
    """Of a ClientHello with extensions of these types and lengths. The next one mostly has the same (12 us)."""
    hello = ClientHello(bytes(32), cipher_suites, {key: bytes(length) for key, length in extensions})
    return len(encode_inner(hello, 0))


def grease_ech(hello: ClientHello, random: Callable[[int], bytes]) -> bytes:
    """§6.2.1: an extension like a real one, with random bytes for the encrypted ClientHello."""
    choice = random(2)
    aead = tuple(AEADS)[choice[1] % len(AEADS)]
    lengths = tuple((key, len(body)) for key, body in hello.extensions.items())
    size = _encoded_size(tuple(hello.cipher_suites), lengths) + TAG_LENGTH
    return write_outer_extension(aead, choice[0], generate(X25519, random).share, random(size))


def read_confirmation(body: bytes) -> bytes:
    """ECHHelloRetryRequest (§5)."""
    if len(body) != CONFIRMATION_LENGTH:
        raise tls_error(
            Alert.DECODE_ERROR,
            f"HelloRetryRequest has encrypted_client_hello of {len(body)} bytes, expected {CONFIRMATION_LENGTH}",
        )
    return body


def _confirmation_extension(confirmation: bytes) -> bytes:
    return number(E.ENCRYPTED_CLIENT_HELLO, 2) + vector(2, confirmation)


def read_retry_configs(extensions: Extensions, offer: EchOffer | None) -> bytes | None:
    """The extension of EncryptedExtensions (§5): checked always, of use only where a real offer was refused."""
    body = extensions.get(E.ENCRYPTED_CLIENT_HELLO)
    if body is None:
        return None
    if offer is not None and offer.accepted:
        raise tls_error(
            Alert.UNSUPPORTED_EXTENSION,
            "EncryptedExtensions has encrypted_client_hello though the server accepted it, expected none",
        )
    read_ech_config_list(body)
    return body


def _grease_psk(body: bytes, random: Callable[[int], bytes]) -> bytes:
    """§6.1.2: as long as the real one, and all random."""
    psks: OfferedPsks = read_pre_shared_key(body)
    identities = b"".join(vector(2, random(len(identity))) + random(4) for identity, _ in psks.identities)
    binders = b"".join(vector(1, random(len(binder))) for binder in psks.binders)
    return vector(2, identities) + vector(2, binders)

"""Session tickets of a server (RFC 8446 §4.6.1, RFC 5077 §4): all it has to remember, sealed, in the client's keeping.

Keys are derived from one secret and the day, as for address validation tokens: a key seals for a day and opens what it
sealed for as long as that lives. The secret is random for each process unless a configuration gives one; then tickets
survive a restart, and servers that share it take each other's clients.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from quicstack.errors import TransportError
from quicstack.tls.certificate import parse_certificate
from quicstack.tls.key_schedule import CIPHER_SUITES, TLS_AES_256_GCM_SHA384, hkdf_expand_label
from quicstack.tls.presentation import Reader, number, vector

__all__ = ["Ticket", "TicketKeys"]

KIND = b"\x9b\x54"
KEY_PERIOD = 86_400
NONCE = 12
ID_LENGTH = 16
HEAD = len(KIND) + 8
MAX_TICKET = 8192
"""Larger tickets, of clients with long chains of certificates, are not worth their bytes in every ClientHello."""
CLOCK_SKEW = 5.0
"""How far the clocks of servers with one key may differ."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a server knows of a connection that is resumed. ``id`` tells tickets apart, for those used once."""

    id: bytes
    cipher_suite: int
    psk: bytes
    age_add: int
    issued_at: float
    early_data: bool
    alpn_protocol: str
    server_name: str
    chain: tuple[bytes, ...]
    """The client's certificates, if it showed any."""
    context: bytes
    """What the transport wants back: the limits that the client will remember."""

    def certificates(self) -> tuple[x509.Certificate, ...]:
        return tuple(map(parse_certificate, self.chain))

    def age_error(self, obfuscated_age: int, now: float) -> float:
        """RFC 8446 §8.3: how much older, or younger, the ticket is than the client says, in seconds."""
        claimed = ((obfuscated_age - self.age_add) % (1 << 32)) / 1000
        return abs(now - self.issued_at - claimed)


def _write(ticket: Ticket) -> bytes:
    return b"".join(
        (
            ticket.id,
            number(ticket.cipher_suite, 2),
            vector(1, ticket.psk),
            number(ticket.age_add, 4),
            number(ticket.early_data, 1),
            vector(1, ticket.alpn_protocol.encode()),
            vector(2, ticket.server_name.encode()),
            vector(3, b"".join(vector(3, certificate) for certificate in ticket.chain)),
            vector(2, ticket.context),
        )
    )


def _read(data: bytes, issued_at: float) -> Ticket:
    reader = Reader(data, "the ticket")
    return Ticket(
        id=reader.take(ID_LENGTH),
        cipher_suite=reader.number(2),
        psk=reader.vector(1),
        age_add=reader.number(4),
        issued_at=issued_at,
        early_data=bool(reader.number(1)),
        alpn_protocol=reader.vector(1).decode(),
        server_name=reader.vector(2).decode(),
        chain=tuple(item.vector(3, 1) for item in reader.items(3)),
        context=reader.vector(2),
    )


class TicketKeys:
    """Seals and opens tickets. ``lifetime`` is how long one is good, in seconds."""

    __slots__ = ("_keys", "_random", "_secret", "_wall_time", "lifetime")

    def __init__(
        self, secret: bytes, random: Callable[[int], bytes], wall_time: Callable[[], float], lifetime: float
    ) -> None:
        self.lifetime = lifetime
        self._secret = secret
        self._random = random
        self._wall_time = wall_time
        self._keys: OrderedDict[int, AESGCM] = OrderedDict()

    def seal(self, ticket: Ticket) -> bytes | None:
        """None if it would be too large to be of use."""
        content = _write(ticket)
        if len(content) > MAX_TICKET:
            return None
        head = KIND + int(ticket.issued_at * 1000).to_bytes(8, "big")
        nonce = self._random(NONCE)
        return head + nonce + self._key(int(ticket.issued_at // KEY_PERIOD)).encrypt(nonce, content, head)

    def open(self, data: bytes) -> Ticket | None:
        """None for what is not ours, was changed, or is too old."""
        head, nonce, sealed = data[:HEAD], data[HEAD : HEAD + NONCE], data[HEAD + NONCE :]
        if head[: len(KIND)] != KIND or len(sealed) < 16:
            return None
        issued_at = int.from_bytes(head[len(KIND) :], "big") / 1000
        if not issued_at - CLOCK_SKEW <= self._wall_time() < issued_at + self.lifetime:
            return None
        try:
            return _read(self._key(int(issued_at // KEY_PERIOD)).decrypt(nonce, sealed, head), issued_at)
        except (InvalidTag, TransportError, ValueError):
            return None

    def _key(self, day: int) -> AESGCM:
        key = self._keys.get(day)
        if key is None:
            digest = CIPHER_SUITES[TLS_AES_256_GCM_SHA384].hash()
            key = AESGCM(hkdf_expand_label(digest, self._secret, b"session ticket", day.to_bytes(4, "big"), 32))
            self._keys[day] = key
            if len(self._keys) > self.lifetime // KEY_PERIOD + 2:
                self._keys.popitem(last=False)
        return key

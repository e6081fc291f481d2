"""Resumption on the server (RFC 8446 §2.2, §4.2.10, §8): which ticket is taken, whether with 0-RTT, and new tickets.

A ticket is taken only by a server that would act alike without it: for the same name and application protocol, with the
cipher suite it was made under, and if the client showed a certificate, then one that is believed now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from quicstack.errors import CertificateError
from quicstack.tls.extensions import ExtensionType
from quicstack.tls.key_schedule import CIPHER_SUITES, CipherSuite, KeySchedule
from quicstack.tls.messages import Extensions, NewSessionTicket
from quicstack.tls.offer import Offer
from quicstack.tls.presentation import number
from quicstack.tls.psk import MAX_EARLY_DATA, PSK_DHE_KE, resumption_psk
from quicstack.tls.session import chain_of
from quicstack.tls.settings import TlsSettings
from quicstack.tls.tickets import ID_LENGTH, Ticket, TicketKeys

__all__ = ["Resumed", "Resumption", "TransportPolicy"]

MAX_TRIED = 4
"""Tickets of one ClientHello that are opened."""
AGE_TOLERANCE = 10.0
"""RFC 8446 §8.3: seconds between a ticket's age and what the client says; a replay has to come within them."""


class TransportPolicy(Protocol):
    """What the transport has to say about tickets."""

    def may_resume(self, context: bytes) -> bool:
        """Whether the connection that the ticket is from was one like this."""
        ...

    def may_take_early_data(self, ticket: Ticket) -> bool:
        """Whether 0-RTT is switched on, within our limits, and this is the first time for this ticket (§8.1)."""
        ...

    def new_context(self) -> bytes:
        """What to remember of this connection in its tickets."""
        ...


@dataclass(frozen=True, slots=True)
class Resumed:
    """The PSK that was chosen: its place in the offer, what it says, and the key schedule that begins with it."""

    index: int
    ticket: Ticket
    schedule: KeySchedule
    suite: CipherSuite


class Resumption:
    """The tickets of one handshake. Without ``keys`` there are none."""

    def __init__(
        self,
        settings: TlsSettings,
        keys: TicketKeys | None,
        policy: TransportPolicy | None,
        random: Callable[[int], bytes],
        wall_time: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._policy = policy
        self._random = random
        self._wall_time = wall_time

    def find(self, offer: Offer, alpn_protocol: str, suite: CipherSuite | None = None) -> Resumed | None:
        """The first ticket of the offer that we take. A HelloRetryRequest has settled ``suite``."""
        if offer.psks is None or self._keys is None or PSK_DHE_KE not in offer.psk_modes:
            return None
        for index, (identity, _) in enumerate(offer.psks.identities[:MAX_TRIED]):
            ticket = self._keys.open(identity)
            if ticket is not None and self._takes(ticket, offer, alpn_protocol):
                chosen = CIPHER_SUITES[ticket.cipher_suite]
                if suite is None or suite is chosen:
                    return Resumed(index, ticket, KeySchedule(chosen, ticket.psk), chosen)
        return None

    def _takes(self, ticket: Ticket, offer: Offer, alpn_protocol: str) -> bool:
        return (
            ticket.cipher_suite in offer.hello.cipher_suites
            and ticket.cipher_suite in self._settings.cipher_suites
            and ticket.alpn_protocol == alpn_protocol
            and ticket.server_name == (offer.server_name or "")
            and self._believes(ticket)
            and (self._policy is None or self._policy.may_resume(ticket.context))
        )

    def _believes(self, ticket: Ticket) -> bool:
        """A client that showed a certificate has to pass today's check, and one that showed none is asked again."""
        trust = self._settings.client_trust
        if trust is None or not ticket.chain:
            return trust is None and not ticket.chain
        try:
            trust.verify_client(ticket.certificates(), self._wall_time())
        except (CertificateError, ValueError):
            return False
        return True

    def takes_early_data(self, offer: Offer, resumed: Resumed | None) -> bool:
        """§4.2.10: only with the first PSK, freshly sent, and once."""
        if resumed is None or resumed.index or offer.psks is None or not offer.early_data:
            return False
        ticket = resumed.ticket
        age_error = ticket.age_error(offer.psks.identities[0][1], self._wall_time())
        if not (ticket.early_data and self._settings.early_data and age_error <= AGE_TOLERANCE):
            return False
        return self._policy is not None and self._policy.may_take_early_data(ticket)

    def new_tickets(
        self,
        offer: Offer,
        suite: CipherSuite,
        resumption_secret: bytes,
        alpn_protocol: str,
        chain: tuple[x509.Certificate, ...],
    ) -> list[bytes]:
        """NewSessionTicket messages for a client that can use them."""
        if self._keys is None or PSK_DHE_KE not in offer.psk_modes:
            return []
        early_data = self._settings.early_data
        extensions: Extensions = {ExtensionType.EARLY_DATA: number(MAX_EARLY_DATA, 4)} if early_data else {}
        messages = []
        for index in range(self._settings.session_tickets):
            nonce = bytes((index,))
            ticket = Ticket(
                id=self._random(ID_LENGTH),
                cipher_suite=suite.value,
                psk=resumption_psk(suite, resumption_secret, nonce),
                age_add=int.from_bytes(self._random(4), "big"),
                issued_at=self._wall_time(),
                early_data=early_data,
                alpn_protocol=alpn_protocol,
                server_name=offer.server_name or "",
                chain=chain_of(chain),
                context=b"" if self._policy is None else self._policy.new_context(),
            )
            sealed = self._keys.seal(ticket)
            if sealed is not None:
                lifetime = int(self._keys.lifetime)
                messages.append(NewSessionTicket(lifetime, ticket.age_add, nonce, sealed, extensions).write())
        return messages

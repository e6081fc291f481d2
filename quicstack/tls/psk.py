"""Pre-shared keys in a ClientHello (RFC 8446 §4.2.9-§4.2.11): modes, identities and binders; and what answers them.

A binder proves that who offers a ticket has its key: a MAC over the ClientHello up to the binders themselves, which
therefore stand at its very end.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from quicstack.errors import TransportError, TransportErrorCode
from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.extensions import ExtensionType, OfferedPsks, check_extensions, read_number
from quicstack.tls.key_schedule import CipherSuite, KeySchedule, Transcript, hash_of, hkdf_expand_label
from quicstack.tls.messages import ClientHello, NewSessionTicket
from quicstack.tls.presentation import Reader, number, vector
from quicstack.tls.session import Session

__all__ = [
    "MAX_EARLY_DATA",
    "PSK_DHE_KE",
    "PskOffer",
    "check_binder",
    "check_early_data",
    "chosen_psk",
    "early_secrets",
    "read_psk_modes",
    "read_ticket",
    "resumption_psk",
    "write_pre_shared_key",
    "write_psk_modes",
]

PSK_DHE_KE = 1
"""RFC 8446 §4.2.9: a PSK together with (EC)DHE. Without that the traffic would lie open with the ticket key."""

MAX_EARLY_DATA = 0xFFFFFFFF
"""RFC 9001 §4.6.1: the only max_early_data_size; what limits 0-RTT is flow control."""


def read_psk_modes(body: bytes) -> bytes:
    """psk_key_exchange_modes: one byte each."""
    reader = Reader(body, "psk_key_exchange_modes")
    modes = reader.vector(1, 1)
    reader.finish()
    return modes


def write_psk_modes(modes: Sequence[int]) -> bytes:
    return vector(1, bytes(modes))


def write_pre_shared_key(psks: OfferedPsks) -> bytes:
    identities = b"".join(vector(2, identity) + number(age, 4) for identity, age in psks.identities)
    return vector(2, identities) + _write_binders(psks.binders)


def _write_binders(binders: Sequence[bytes]) -> bytes:
    return vector(2, b"".join(vector(1, binder) for binder in binders))


def _binder(schedule: KeySchedule, transcript: Transcript, truncated: bytes) -> bytes:
    """§4.2.11.2: a Finished under the binder key, over everything up to the list of binders."""
    copy = transcript.copy()
    copy.choose_hash(schedule.hash)
    copy.add(truncated)
    binder_key = schedule.derive(b"res binder", hash_of(schedule.hash, b""))
    return schedule.finished(binder_key, copy.digest())


def check_binder(schedule: KeySchedule, transcript: Transcript, hello: bytes, psks: OfferedPsks, index: int) -> None:
    """``hello`` is the whole message, ``transcript`` what came before it; ``index`` is the PSK that we choose."""
    truncated = hello[: -len(_write_binders(psks.binders))]
    if not hmac.compare_digest(psks.binders[index], _binder(schedule, transcript, truncated)):
        raise tls_error(Alert.DECRYPT_ERROR, f"the binder of PSK {index} does not fit the ClientHello and its key")


def early_secrets(schedule: KeySchedule, transcript: Transcript) -> tuple[bytes, bytes]:
    """(``c e traffic``, ``e exp master``) of §7.1, over the ClientHello at the end of ``transcript``."""
    copy = transcript.copy()
    copy.choose_hash(schedule.hash)
    transcript_hash = copy.digest()
    return schedule.derive(b"c e traffic", transcript_hash), schedule.derive(b"e exp master", transcript_hash)


class PskOffer:
    """The one session that a client offers, over one handshake."""

    def __init__(self, session: Session, suite: CipherSuite, *, early_data: bool) -> None:
        self.session = session
        self.suite = suite
        self.early_data = early_data
        self.schedule = KeySchedule(suite, session.psk)

    def seal(self, hello: ClientHello, transcript: Transcript, now: float) -> None:
        """Put the extension at the end of ``hello``, with the age and the binder of this moment."""
        extensions = hello.extensions
        extensions.pop(ExtensionType.PRE_SHARED_KEY, None)
        identities = ((self.session.ticket, self.session.obfuscated_age(now)),)
        unbound = OfferedPsks(identities, (bytes(self.suite.hash_length),))
        extensions[ExtensionType.PRE_SHARED_KEY] = write_pre_shared_key(unbound)
        truncated = hello.write()[: -len(_write_binders(unbound.binders))]
        bound = OfferedPsks(identities, (_binder(self.schedule, transcript, truncated),))
        extensions[ExtensionType.PRE_SHARED_KEY] = write_pre_shared_key(bound)


def chosen_psk(offer: PskOffer | None, body: bytes, suite: CipherSuite) -> PskOffer:
    """§4.2.11: the pre_shared_key of ServerHello names the one that we offered, and ``suite`` has its hash."""
    selected = read_number(body, 2, ExtensionType.PRE_SHARED_KEY)
    if offer is None or selected:
        offered = "none" if offer is None else "0, the only one"
        raise tls_error(Alert.ILLEGAL_PARAMETER, f"ServerHello has selected_identity {selected}, expected {offered}")
    if suite.hash_length != offer.suite.hash_length:
        raise tls_error(
            Alert.ILLEGAL_PARAMETER,
            f"ServerHello chose {suite.name} with a PSK of {offer.suite.name}, expected one of the same hash",
        )
    return offer


def check_early_data(offer: PskOffer | None, suite: CipherSuite | None, alpn_protocol: str | None) -> None:
    """§4.2.10: 0-RTT that the server takes was protected, and spoken, as the connection is."""
    if offer is None or not offer.early_data:
        raise tls_error(Alert.ILLEGAL_PARAMETER, "EncryptedExtensions accepts early_data without the PSK of it")
    if suite is not offer.suite or alpn_protocol != offer.session.alpn_protocol:
        raise tls_error(
            Alert.ILLEGAL_PARAMETER,
            f"EncryptedExtensions accepts early_data with {suite and suite.name} and ALPN {alpn_protocol}, expected "
            f"{offer.suite.name} and {offer.session.alpn_protocol} of the session",
        )


def read_ticket(body: bytes) -> NewSessionTicket:
    """§4.6.1, with what RFC 9001 §4.6.1 asks of early_data."""
    ticket = NewSessionTicket.read(body)
    check_extensions("NST", ticket.extensions)
    if ExtensionType.EARLY_DATA in ticket.extensions:
        size = read_number(ticket.extensions[ExtensionType.EARLY_DATA], 4, ExtensionType.EARLY_DATA)
        if size != MAX_EARLY_DATA:
            raise TransportError(
                TransportErrorCode.PROTOCOL_VIOLATION,
                f"NewSessionTicket has max_early_data_size {size:#x}, expected {MAX_EARLY_DATA:#x}",
            )
    return ticket


def resumption_psk(suite: CipherSuite, resumption_secret: bytes, nonce: bytes) -> bytes:
    """§4.6.1: the PSK of one ticket."""
    return hkdf_expand_label(suite.hash(), resumption_secret, b"resumption", nonce, suite.hash_length)

"""What each case demands of the packets, checked on what tshark read. A verdict is a list of complaints; empty is good.

The captures are taken at both ends of the link: what a client sent is in its own capture whole, what a server sent in
the server's, before the network did anything to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from interop.capture import Datagram, PacketType, read_capture
from interop.cases import Case

__all__ = ["Evidence", "judge", "read_evidence"]

VERSION_NEGOTIATION: Final = 0
VERSION_1: Final = 0x00000001
VERSION_2: Final = 0x6B3343CF
CHACHA20: Final = 0x1303
PATH_CHALLENGE: Final = 0x1A
CLIENT_HELLO, CERTIFICATE, COMPRESSED_CERTIFICATE = 1, 11, 25
NOT_ECT, CE = 0, 3
MOST_STREAMS: Final = 1000
LEAST_CHAIN: Final = 7500
TOLERATED_AMPLIFICATION: Final = 4
ZERO_RTT_SHARE: Final = 0.5


@dataclass(slots=True)
class Evidence:
    """``client`` is the capture beside the client, ``server`` the one beside the server."""

    case: Case
    client: list[Datagram] = field(default_factory=list)
    server: list[Datagram] = field(default_factory=list)

    @property
    def from_client(self) -> list[Datagram]:
        """As the client sent them."""
        servers = _servers(self.client)
        return [datagram for datagram in self.client if datagram.path[2:] in servers]

    @property
    def from_server(self) -> list[Datagram]:
        """As the server sent them."""
        servers = _servers(self.server)
        return [datagram for datagram in self.server if datagram.path[:2] in servers]

    @property
    def at_server(self) -> list[Datagram]:
        """Of the client, as they arrived."""
        servers = _servers(self.server)
        return [datagram for datagram in self.server if datagram.path[2:] in servers]


def _servers(datagrams: list[Datagram]) -> set[tuple[str, str]]:
    """Addresses of the server: where the first datagram went, and those that answer to or are spoken to by the same
    client. Nobody but the client opens a conversation."""
    servers: set[tuple[str, str]] = set()
    clients: set[tuple[str, str]] = set()
    for datagram in datagrams:
        source, destination = datagram.path[:2], datagram.path[2:]
        if source in servers:
            clients.add(destination)
        else:
            clients.add(source)
            servers.add(destination)
    return servers


def read_evidence(
    case: Case, client_capture: Path, server_capture: Path, key_log: Path, ports: Iterable[int] = ()
) -> Evidence:
    ports = list(ports)
    return Evidence(case, read_capture(client_capture, key_log, ports), read_capture(server_capture, key_log, ports))


Rule = Callable[[Evidence], Iterable[str]]


def judge(evidence: Evidence) -> list[str]:
    """Everything that is wrong."""
    rules: list[Rule] = [_handshakes, _version, *_RULES.get(evidence.case.name, ())]
    return [complaint for rule in rules for complaint in rule(evidence)]


# -- every case --------------------------------------------------------------------------------------------------------


def _handshakes(evidence: Evidence) -> Iterable[str]:
    """A connection is known by the ID that the server chose in its Initial packets (RFC 9000 §7.2)."""
    chosen = {
        datagram.texts("quic.scid")[0] for datagram in evidence.from_server if PacketType.INITIAL in datagram.types
    }
    if len(chosen) != evidence.case.handshakes:
        yield f"{len(chosen)} handshakes, expected {evidence.case.handshakes}"


def _version(evidence: Evidence) -> Iterable[str]:
    if evidence.case.name == "v2":
        return
    versions = {version for datagram in evidence.from_server for version in datagram.versions}
    versions.discard(VERSION_NEGOTIATION)  # what a server answers to a version that was corrupted
    if versions != {VERSION_1}:
        yield f"the server spoke version {sorted(map(hex, versions))}, expected 0x1"


# -- handshakes --------------------------------------------------------------------------------------------------------


def _no_retry(evidence: Evidence) -> Iterable[str]:
    if any(PacketType.RETRY in datagram.types for datagram in evidence.from_server):
        yield "the server sent a Retry"


def _client_hello_repeated(evidence: Evidence) -> Iterable[str]:
    """Each copy of the first byte of the CRYPTO stream is a ClientHello, also where that is cut into two packets."""
    count = sum(
        datagram.texts("quic.crypto.offset").count("0")
        for datagram in evidence.from_client
        if set(datagram.types) == {PacketType.INITIAL}
    )
    if count < 2:
        yield f"{count} ClientHello, expected 2 or more"


def _only_chacha20(evidence: Evidence) -> Iterable[str]:
    hellos = [datagram for datagram in evidence.from_client if CLIENT_HELLO in datagram.messages]
    if not hellos:
        yield "no ClientHello was seen"
    offered = {suite for datagram in hellos for suite in datagram.cipher_suites}
    if hellos and offered != {CHACHA20}:
        yield f"the client offered {sorted(map(hex, offered))}, expected 0x1303 alone"


def _retry(evidence: Evidence) -> Iterable[str]:
    retries = [datagram for datagram in evidence.from_server if PacketType.RETRY in datagram.types]
    tokens = {token for datagram in retries for token in datagram.texts("quic.retry_token")}
    if not tokens:
        yield "no Retry with a token was seen"
        return
    highest = -1
    used = False
    for datagram in evidence.from_client:
        if PacketType.INITIAL not in datagram.types:
            continue
        number = datagram.numbers("quic.packet_number")[0] if datagram.texts("quic.packet_number") else None
        has_token = bool(tokens & set(datagram.texts("quic.token")))
        if number is None:
            yield "an Initial of the client could not be decrypted"
            return
        if has_token and not used and number <= highest:
            yield f"the client began again with packet number {number} after {highest} (RFC 9000 §17.2.5.3)"
        used = used or has_token
        highest = max(highest, number)
    if not used:
        yield "no Initial of the client carried the token of the Retry"


def _certificates(evidence: Evidence) -> Iterable[str]:
    """The first handshake shows a certificate, the second does not need one."""
    shown: dict[str, bool] = {}
    for datagram in evidence.from_server:
        for connection in datagram.texts("quic.connection.number"):
            has_certificate = bool({CERTIFICATE, COMPRESSED_CERTIFICATE} & set(datagram.messages))
            shown[connection] = shown.get(connection, False) or has_certificate
    if list(shown.values()) != [True, False]:
        yield f"certificates in the handshakes: {list(shown.values())}, expected one in the first alone"


def _zero_rtt(evidence: Evidence) -> Iterable[str]:
    """Requests travel in 0-RTT packets, and few of them in 1-RTT ones."""
    early = late = 0
    for datagram in evidence.from_client:
        if PacketType.ZERO_RTT in datagram.types:
            early += sum(length for length, kind in _lengths(datagram) if kind == PacketType.ZERO_RTT)
        if not datagram.types:
            late += datagram.size
    limit = ZERO_RTT_SHARE * evidence.case.name_length * len(evidence.case.files)
    if not early:
        yield "the client sent no 0-RTT data"
    if late > limit:
        yield f"the client sent {late} bytes in 1-RTT packets, expected {limit:.0f} at most"


def _lengths(datagram: Datagram) -> list[tuple[int, str]]:
    """The Length field and the type of each long packet (a Retry has no length)."""
    return list(zip(datagram.numbers("quic.length"), datagram.types, strict=False))


def _amplification(evidence: Evidence) -> Iterable[str]:
    """RFC 9000 §8.1, until the server has a Handshake packet of the client in hand, or the token of its Retry."""
    crypto = 0
    for datagram in evidence.from_server:
        if datagram.types and set(datagram.types) == {PacketType.HANDSHAKE}:
            ends = zip(datagram.numbers("quic.crypto.offset"), datagram.numbers("quic.crypto.length"), strict=True)
            crypto = max(crypto, *(offset + length for offset, length in ends), 0)
    if crypto < LEAST_CHAIN:
        yield f"{crypto} bytes of CRYPTO in Handshake packets: the chain is too short for this case"
    received = sent = 0
    tokens: set[str] = set()
    servers = _servers(evidence.server)
    for datagram in evidence.server:
        if datagram.path[:2] in servers:
            sent += datagram.size
            tokens.update(datagram.texts("quic.retry_token"))
            if sent >= TOLERATED_AMPLIFICATION * received:
                yield f"the server sent {sent} bytes for {received} of a client that had proven nothing"
                return
        elif PacketType.HANDSHAKE in datagram.types or tokens & set(datagram.texts("quic.token")):
            return
        else:
            received += datagram.size
    yield "no Handshake packet of the client reached the server"


def _v2(evidence: Evidence) -> Iterable[str]:
    """RFC 9368 §2.3: the client begins in version 1, the server goes over to version 2, and so does everything then."""
    first = [packet for datagram in evidence.from_client[:1] for packet in datagram.long_packets]
    if not first or first[0] != (VERSION_1, PacketType.INITIAL):
        yield f"the client began with {first}, expected an Initial of version 1"
    kinds = (
        ("an Initial of the server", evidence.from_server, PacketType.INITIAL),
        ("a Handshake packet of the server", evidence.from_server, PacketType.HANDSHAKE),
        ("a Handshake packet of the client", evidence.from_client, PacketType.HANDSHAKE),
    )
    for what, datagrams, kind in kinds:
        versions = {version for datagram in datagrams for version, one in datagram.long_packets if one == kind}
        if versions != {VERSION_2}:
            seen = sorted(map(hex, versions)) or "unknown, for there was none"
            yield f"{what} had version {seen}, expected 0x6b3343cf"


# -- data --------------------------------------------------------------------------------------------------------------


def _few_streams(evidence: Evidence) -> Iterable[str]:
    name = "tls.quic.parameter.initial_max_streams_bidi"
    limits = [limit for datagram in evidence.from_server for limit in datagram.numbers(name)]
    if not limits:
        yield "the server did not state initial_max_streams_bidi where tshark could read it"
    elif limits[0] > MOST_STREAMS:
        yield f"the server allows {limits[0]} streams at once, so MAX_STREAMS is never needed"


def _key_update(evidence: Evidence) -> Iterable[str]:
    for who, datagrams in (("client", evidence.from_client), ("server", evidence.from_server)):
        phases = {phase.lower() for datagram in datagrams for phase in datagram.texts("quic.key_phase")}
        if not phases & {"1", "true"}:
            yield f"the {who} sent no packet with key phase 1"


def _ecn(evidence: Evidence) -> Iterable[str]:
    for who, datagrams in (("client", evidence.from_client), ("server", evidence.from_server)):
        marks = [datagram.ecn for datagram in datagrams]
        if marks.count(NOT_ECT):
            yield f"the {who} left {marks.count(NOT_ECT)} of {len(marks)} packets unmarked"
        if marks.count(CE):
            yield f"the {who} marked {marks.count(CE)} packets CE"
        if not any(datagram.texts("quic.ack.ect0_count") for datagram in datagrams):
            yield f"the {who} sent no ECN counts in its ACK frames"


# -- addresses ---------------------------------------------------------------------------------------------------------


def _ipv6(evidence: Evidence) -> Iterable[str]:
    if any(datagram.texts("ip.src") for datagram in (*evidence.client, *evidence.server)):
        yield "a QUIC packet travelled over IPv4"


def _challenges(evidence: Evidence) -> Iterable[str]:
    """RFC 9000 §9.3: the server's first packet to a new address asks whether the client is there, and it is."""
    paths: list[tuple[str, str, str, str]] = []
    challenges: set[str] = set()
    for datagram in evidence.from_server:
        if datagram.path in paths:
            continue
        paths.append(datagram.path)
        if len(paths) == 1:
            continue
        if not datagram.texts("quic.path_challenge.data"):
            yield f"the server's first packet to {':'.join(datagram.path[2:])} has no PATH_CHALLENGE"
        challenges.update(datagram.texts("quic.path_challenge.data"))
    if len(paths) < 2:
        yield "the server used one path only"
    answered = {data for datagram in evidence.from_client for data in datagram.texts("quic.path_response.data")}
    if challenges - answered:
        yield f"{len(challenges - answered)} of {len(challenges)} challenges were not answered"


def _migration(evidence: Evidence) -> Iterable[str]:
    """RFC 9000 §9.5: a client that moves on purpose takes another connection ID along."""
    datagrams = evidence.from_client
    first = datagrams[0].path if datagrams else None
    for number, datagram in enumerate(datagrams):
        if datagram.path != first:
            before = {cid for earlier in datagrams[:number] for cid in earlier.texts("quic.dcid")}
            if not set(datagram.texts("quic.dcid")) or before & set(datagram.texts("quic.dcid")):
                yield "the client's first packet on the new path bears a connection ID that it used before"
            return
    yield "the client did not migrate"


_RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "handshake": (_no_retry,),
    "longrtt": (_client_hello_repeated,),
    "chacha20": (_only_chacha20,),
    "multiplexing": (_few_streams,),
    "retry": (_retry,),
    "resumption": (_certificates,),
    "zerortt": (_zero_rtt,),
    "keyupdate": (_key_update,),
    "ecn": (_ecn,),
    "amplificationlimit": (_amplification,),
    "ipv6": (_ipv6,),
    "v2": (_v2,),
    "rebind-port": (_challenges,),
    "rebind-addr": (_challenges,),
    "connectionmigration": (_challenges, _migration),
}

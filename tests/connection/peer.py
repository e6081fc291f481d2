"""A scripted peer: it shakes hands like anybody, and then sends exactly the frames a test wants, under the right keys.

``peer.sends(...)`` puts frames (bytes) into one packet for the engine under test, ``peer.hears()`` returns the
frames of everything the engine sends meanwhile. The handshake is run by a second engine, whose keys the script then
borrows.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from quicstack.config import Configuration
from quicstack.connection.connection import Connection
from quicstack.endpoint import Endpoint
from quicstack.environment import Environment
from quicstack.errors import ConnectionClosed
from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.trust import Trust
from quicstack.train import Path, Train
from quicstack.wire.frame_study import Frame, parse_frames
from quicstack.wire.packet import LONG_HEADER, read_long_header, write_long_header
from quicstack.wire.packet_number import decode_packet_number
from quicstack.wire.version import VERSIONS, PacketType

EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
TO_SERVER = Path(("192.0.2.1", 443))
TO_CLIENT = Path(("198.51.100.2", 50000))
INITIAL, HANDSHAKE, ONE_RTT = 0, 1, 2


@cache
def certificate() -> CertificateKey:
    """Self-signed for ``localhost``, with Ed25519 so that signatures are deterministic."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(EPOCH - datetime.timedelta(days=1))
        .not_valid_after(EPOCH + datetime.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    return CertificateKey((builder.sign(key, None),), key)


def environment(seed: int) -> Environment:
    return Environment(random.Random(seed).randbytes, EPOCH.timestamp, simulation=True)


def server_configuration(**settings: object) -> Configuration:
    settings = {"path_mtu_discovery": False, **settings}
    return Configuration(alpn_protocols=("test",), certificates=CertificateStore(certificate()), **settings)  # type: ignore[arg-type]


def client_configuration(**settings: object) -> Configuration:
    settings = {"path_mtu_discovery": False, **settings}
    return Configuration(alpn_protocols=("test",), trust=Trust.insecure(), server_name="localhost", **settings)  # type: ignore[arg-type]


class Pair:
    """Two endpoints, and datagrams that a test can carry, drop, keep and change."""

    def __init__(
        self, client: dict[str, object] | None = None, server: dict[str, object] | None = None, seed: int = 1
    ) -> None:
        self.now = 100.0
        client_settings = {"groups": (0x1D,), **(client or {})}
        self.client_endpoint = Endpoint(
            client_configuration(**client_settings), environment=environment(seed), server=False
        )
        self.server_endpoint = Endpoint(
            server_configuration(**(server or {})), environment=environment(seed + 1), server=True
        )
        self.client = self.client_endpoint.connect(TO_SERVER, self.now)

    @property
    def server(self) -> Connection:
        return next(iter(self.server_endpoint.connections))

    def from_client(self) -> list[Train]:
        return list(_pull(self.client_endpoint, self.now))

    def from_server(self) -> list[Train]:
        return list(_pull(self.server_endpoint, self.now))

    def to_server(self, trains: list[Train], path: Path = TO_CLIENT) -> None:
        for train in trains:
            self.server_endpoint.receive(Train(train.data, train.segment_size, path, train.ecn), self.now)

    def to_client(self, trains: list[Train]) -> None:
        for train in trains:
            self.client_endpoint.receive(Train(train.data, train.segment_size, TO_SERVER, train.ecn), self.now)

    def exchange(self, rounds: int = 20, delay: float = 0.01) -> None:
        """Carry everything both ways until nobody has anything to say, delayed acknowledgements included."""
        silent = 0
        for _ in range(rounds):
            to_server, to_client = self.from_client(), self.from_server()
            silent = 0 if to_server or to_client else silent + 1
            if silent > 3:
                return
            self.now += delay
            self.client_endpoint.handle_timeout(self.now)
            self.server_endpoint.handle_timeout(self.now)
            self.to_server(to_server)
            self.to_client(to_client)

    def advance(self, seconds: float) -> None:
        """Let time pass; deadlines fire when they are due, and what is sent then is lost unless it is pulled after."""
        end = self.now + seconds
        for endpoint in (self.client_endpoint, self.server_endpoint):
            for _ in range(1000):
                deadline = endpoint.next_timeout()
                if deadline is None or deadline > end:
                    break
                self.now = max(self.now, deadline)
                endpoint.handle_timeout(self.now)
                list(_pull(endpoint, self.now))
        self.now = end


def _pull(endpoint: Endpoint, now: float) -> Iterator[Train]:
    while (train := endpoint.next_train(now)) is not None:
        yield train


class Peer:
    """The engine under test is the server (or the client, with ``plays="server"``); the script plays the other side."""

    def __init__(self, plays: str = "client", theirs: dict[str, object] | None = None, **settings: object) -> None:
        """``settings`` are of the engine under test, ``theirs`` of the peer: what it announces in the handshake."""
        under_test = "server" if plays == "client" else "client"
        self.pair = Pair(**{under_test: settings, plays: theirs or {}})
        self.pair.exchange()
        self.is_client = plays == "client"
        puppet = self.pair.client if self.is_client else self.pair.server
        self.engine = self.pair.server if self.is_client else self.pair.client
        self.endpoint = self.pair.server_endpoint if self.is_client else self.pair.client_endpoint
        assert self.engine.handshake_confirmed
        self.state = puppet._state
        self.path = TO_CLIENT if self.is_client else TO_SERVER
        self.received: set[int] = set()
        self.auto_ack = True

    @property
    def now(self) -> float:
        return self.pair.now

    def sends(self, *frames: bytes, number: int | None = None, path: Path | None = None, ecn: int = 0) -> int:
        """One 1-RTT packet with these frames. Returns its packet number."""
        datagram, number = self.packet(*frames, number=number)
        self.delivers(datagram, path, ecn)
        return number

    def packet(self, *frames: bytes, number: int | None = None, first_byte: int = 0x40) -> tuple[bytes, int]:
        space = self.state.spaces[ONE_RTT]
        if number is None:
            number = space.next_packet_number
        space.next_packet_number = max(space.next_packet_number, number + 1)
        header = bytes((first_byte | self.state.key_phase.send_bit << 2 | 3,)) + self.state.peer_cids.current.cid
        payload = b"".join(frames)
        assert space.seal_keys is not None
        payload += bytes(max(0, 4 - len(payload))) if payload else b""
        return space.seal_keys.seal(header + number.to_bytes(4, "big"), 4, number, payload), number

    def delivers(self, datagram: bytes, path: Path | None = None, ecn: int = 0) -> None:
        self.endpoint.receive(Train(datagram, len(datagram), path or self.path, ecn), self.now)

    def hears(self, *, ack: bool = False) -> list[Frame]:
        """The frames of all 1-RTT packets that the engine sends now; with ``ack`` they are acknowledged at once."""
        frames: list[Frame] = []
        numbers = []
        for _ in range(3):
            self.pair.now += 0.002  # lets the pacer send
            self.endpoint.handle_timeout(self.now)
            for train in _pull(self.endpoint, self.now):
                for datagram in train.datagrams():
                    number, found = self.opens(datagram)
                    numbers.append(number)
                    frames += found
        self.received.update(numbers)
        if ack and numbers:
            self.acknowledges(*numbers)
        return frames

    def opens(self, datagram: bytes) -> tuple[int, list[Frame]]:
        """Number and frames of one short header packet."""
        return opens_short(self.state, datagram, max(self.received, default=-1))

    def retirements(self) -> list[Frame]:
        """The RETIRE_CONNECTION_ID frames among what the engine sends now."""
        return [frame for frame in self.hears() if frame.name == "RETIRE_CONNECTION_ID"]

    def acknowledges(self, *numbers: int) -> None:
        from quicstack.wire.frame import write_ack
        from quicstack.wire.ranges import RangeSet

        ranges = RangeSet()
        for number in numbers:
            ranges.add(number, number + 1)
        self.sends(write_ack([(start, stop - 1) for start, stop in reversed(list(ranges))], 0))

    def advance(self, seconds: float) -> list[Frame]:
        """Time passes for the engine; the frames it sends meanwhile."""
        end = self.pair.now + seconds
        frames = []
        while (deadline := self.endpoint.next_timeout()) is not None and deadline <= end:
            self.pair.now = max(self.pair.now, deadline)
            self.endpoint.handle_timeout(self.pair.now)
            frames += self.hears()
        self.pair.now = end
        return frames

    def closed_with(self) -> int | None:
        """The code of the engine's CONNECTION_CLOSE as it stands on the wire; None when it has not closed."""
        for frame in self.hears():
            if frame.name == "CONNECTION_CLOSE":
                code = frame.fields["error_code"]
                assert isinstance(code, int)
                error = self.engine.closed
                assert error is not None
                if isinstance(error, ConnectionClosed):
                    assert not error.by_peer and error.code == code
                return code
        return None


def long_packet(
    state: object, space: int, *frames: bytes, number: int = 0, token: bytes = b"", pad_to: int = 0
) -> bytes:
    """An Initial or Handshake packet under the keys of a connection's state."""
    keys = state.spaces[space].seal_keys  # type: ignore[attr-defined]
    kind = (PacketType.INITIAL, PacketType.HANDSHAKE)[space]
    payload = b"".join(frames)
    cids = state.peer_cids.current.cid, state.local_cids.first  # type: ignore[attr-defined]

    def header(length: int) -> bytes:
        return write_long_header(state.version, kind, *cids, token, length, number, 4)  # type: ignore[attr-defined]

    payload += bytes(max(0, pad_to - len(header(0)) - 16 - len(payload)))
    return bytes(keys.seal(header(len(payload) + 16), 4, number, payload))


def opens_short(state: object, datagram: bytes, largest: int = -1) -> tuple[int, list[Frame]]:
    """Number and frames of a short header packet that the given side can read; ``largest`` is its newest so far."""
    space = state.spaces[ONE_RTT]  # type: ignore[attr-defined]
    keys = space.open_keys
    assert keys is not None and not datagram[0] & LONG_HEADER
    header, pn_length = keys.unmask(datagram, 0, 1 + state.local_cids.length)  # type: ignore[attr-defined]
    largest = space.acks.largest if largest < 0 else largest
    number = decode_packet_number(int.from_bytes(header[-pn_length:], "big"), 8 * pn_length, largest)
    phase = state.key_phase  # type: ignore[attr-defined]
    if header[0] >> 2 & 1 != phase.receive_bit:
        assert phase.next_open is not None
        keys = phase.next_open
    return number, parse_frames(keys.open(header, number, datagram[len(header) :]))


def opens_long(state: object, datagram: bytes) -> list[tuple[int, list[Frame]]]:
    """(packet type, frames) of the long header packets of a datagram that the given side can read."""
    found = []
    pos = 0
    while pos < len(datagram) and datagram[pos] & LONG_HEADER:
        header = read_long_header(datagram, pos, VERSIONS[1])
        space = state.spaces[0 if header.packet_type == PacketType.INITIAL else 1]  # type: ignore[attr-defined]
        if space.open_keys is not None:
            plain, length = space.open_keys.unmask(datagram, header.start, header.pn_offset)
            number = decode_packet_number(int.from_bytes(plain[-length:], "big"), 8 * length, space.acks.largest)
            body = datagram[header.pn_offset + length : header.end]
            found.append((header.packet_type, parse_frames(space.open_keys.open(plain, number, body))))
        pos = header.end
    return found

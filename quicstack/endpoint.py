"""Many connections on one or more sockets (RFC 9000 §5.2): routing by connection ID, and answers without a connection.

A driver feeds trains in, pulls trains out and calls back at deadlines; see ``docs/architecture.md``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from quicstack.config import Configuration
from quicstack.connection.connection import Connection
from quicstack.connection.setup import Identity, server_tickets
from quicstack.deadlines import Deadlines
from quicstack.environment import Environment
from quicstack.errors import ConfigurationError, TransportError, TransportErrorCode
from quicstack.stateless import StatelessAnswers
from quicstack.train import Path, SendError, Train
from quicstack.transport.address_tokens import AddressTokens
from quicstack.transport.flow_control import MemoryBudget
from quicstack.wire.packet import FIXED_BIT, LONG_HEADER, MIN_INITIAL_DATAGRAM, LongHeader, read_cids, read_long_header
from quicstack.wire.version import NEGOTIATION, VERSIONS, PacketType

__all__ = ["Endpoint", "EndpointCounters"]

MIN_INITIAL_DCID = 8
"""RFC 9000 §7.2: the client's first Destination Connection ID has at least eight bytes."""
MAX_CID_ATTEMPTS = 100


@dataclass(slots=True)
class EndpointCounters:
    """What happened outside of connections."""

    datagrams_dropped: int = 0
    connections_accepted: int = 0
    connections_refused: int = 0
    version_negotiations_sent: int = 0
    stateless_resets_sent: int = 0
    retries_sent: int = 0
    tokens_refused: int = 0
    """Initials with a Retry token that is not, or no longer, valid for their address."""
    send_errors: int = 0
    initials_refused: int = 0
    """Initials that no key opens: they left no connection behind."""


class _ShortQueue(list[Connection]):
    """A queue of the few connections that a client's endpoint has: an empty deque would take 700 bytes of each."""

    __slots__ = ()

    def popleft(self) -> Connection:
        return self.pop(0)


class Endpoint:
    """The engine as a driver sees it. ``server`` says whether it accepts connections; any endpoint may make them."""

    def __init__(self, configuration: Configuration, *, environment: Environment, server: bool) -> None:
        if server and configuration.certificates is None:
            raise ConfigurationError("a server needs certificates: set Configuration.certificates")
        if server and configuration.connection_id_length == 0:
            raise ConfigurationError("connection_id_length is 0: a server tells its connections apart by their IDs")
        self.configuration = configuration
        self.counters = EndpointCounters()
        self._environment = environment
        self._server = server
        self._reset_key = configuration.stateless_reset_key or environment.random(32)
        self._budget = MemoryBudget(configuration.memory_budget)
        self._by_cid: dict[bytes, Connection] = {}
        self._fresh_cids: dict[bytes, None] = {}  # made, and not yet in the table
        self._by_token: dict[bytes, Connection] = {}
        self._connections: dict[Connection, list[bytes]] = {}  # with the reset tokens registered for each
        self._cid_length = configuration.connection_id_length
        self._bell: deque[Connection] | _ShortQueue = deque() if server else _ShortQueue()
        self._stateless = StatelessAnswers(environment.random)
        self._tokens = AddressTokens(
            configuration.token_key or environment.random(32), environment.random, environment.wall_time
        )
        self._tickets = server_tickets(configuration, environment)
        self._deadlines: Deadlines[Connection] = Deadlines()
        self._handshakes: dict[Connection, None] = {}  # of clients, not complete
        self._last_sent: tuple[Train, Connection] | None = None
        self._ready: dict[Connection, None] = {}
        self._closing = False

    @property
    def connections(self) -> Collection[Connection]:
        return self._connections.keys()

    # -- making connections ------------------------------------------------------------------------------------------

    def connect(self, path: Path, now: float, *, configuration: Configuration | None = None) -> Connection:
        """A client connection to ``path.remote``. Its first datagram is the next train."""
        configuration = configuration or self.configuration
        if configuration.connection_id_length != self._cid_length:
            raise ConfigurationError("connection_id_length must be the same for all connections of an endpoint")
        if not self._cid_length and self._connections:
            # RFC 9000 §5.1: without IDs it is the socket that tells connections apart
            raise ConfigurationError("connection_id_length is 0: an endpoint takes one connection at a time")
        dcid = self._environment.random(MIN_INITIAL_DCID)
        identity = Identity(
            original_dcid=dcid,
            peer_cid=dcid,
            local_cid=self._new_cid(configuration),
            reset_key=self._reset_key,
            version=configuration.first_version,
            budget=self._budget,
            new_cid=partial(self._new_cid, configuration),
        )
        return self._add(configuration, path, now, identity, is_client=True)

    def _new_cid(self, configuration: Configuration) -> bytes:
        """A connection ID that no connection here uses; short ones may need a few attempts."""
        for _ in range(MAX_CID_ATTEMPTS):
            cid = configuration.generate_connection_id(self._environment.random, self._cid_length)
            if cid not in self._by_cid and cid not in self._fresh_cids:
                self._fresh_cids[cid] = None
                return cid
        raise ConfigurationError(f"generate_connection_id repeats itself: {MAX_CID_ATTEMPTS} IDs are all in use")

    def _add(
        self, configuration: Configuration, path: Path, now: float, identity: Identity, *, is_client: bool
    ) -> Connection:
        connection = Connection(
            configuration, self._environment, path, now, identity, is_client=is_client, bell=self._bell
        )
        self._connections[connection] = []
        self._after(connection)
        return connection

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive(self, train: Train, now: float) -> None:  # hot path
        """Give the datagrams of a train to their connections. One GRO read may mix connections of one peer."""
        data, size = train.data, train.segment_size
        if not data:
            return
        if len(data) <= size:
            self._receive_one(train, now)
            return
        count = (len(data) + size - 1) // size
        # One column of the train after the other: the first bytes, then those of the connection IDs.
        if max(data[::size]) < LONG_HEADER and all(
            data[at::size].count(data[at]) == count for at in range(1, 1 + self._cid_length)
        ):
            self._receive_one(train, now)
            return
        for datagram in train.datagrams():
            self._receive_one(Train(datagram, len(datagram), train.path, train.ecn), now)

    def _receive_one(self, train: Train, now: float) -> None:
        """A train whose datagrams all begin with the same connection ID."""
        data = train.data
        if not data[0] & LONG_HEADER:
            connection = self._by_cid.get(data[1 : 1 + self._cid_length])
            if connection is None:
                self._on_unknown_short(train, now)
                return
        else:
            try:
                version, dcid, scid, _ = read_cids(data, 0)
            except TransportError:
                if not self._is_reset(train, now):
                    self.counters.datagrams_dropped += 1
                return
            connection = self._by_cid.get(dcid)
            if connection is None:
                if not self._is_reset(train, now):
                    self._accept(train, version, dcid, scid, now)
                return
        connection.receive(train, now)
        self._after(connection)

    def _accept(self, train: Train, version: int, dcid: bytes, scid: bytes, now: float) -> None:
        """RFC 9000 §5.2.2, §6.1: an Initial makes a connection, an unknown version an answer, the rest nothing."""
        data = train.data
        if not self._server or self._closing or len(data) < MIN_INITIAL_DATAGRAM or version == NEGOTIATION:
            self.counters.datagrams_dropped += 1
            return
        if version not in self.configuration.versions:
            offered, grease = self.configuration.versions, self.configuration.grease
            if self._stateless.negotiate_version(train.path, dcid, scid, offered, grease=grease):
                self.counters.version_negotiations_sent += 1
            return
        try:
            header = read_long_header(data, 0, VERSIONS[version])
        except TransportError:
            header = None
        if header is None or header.packet_type != PacketType.INITIAL:
            self.counters.datagrams_dropped += 1
            return
        identity = self._identify(train.path, header)
        if identity is None:
            return
        connection = self._add(self.configuration, train.path, now, identity, is_client=False)
        self._by_cid[dcid] = connection  # the client uses it until it has learned our own connection ID
        self._handshakes[connection] = None
        connection.receive(train, now)
        if connection.is_unused:
            self.counters.initials_refused += 1
            connection.abandon(now)
        else:
            self.counters.connections_accepted += 1
        self._after(connection)
        if connection.terminated:
            self._ready.pop(connection, None)

    def _identify(self, path: Path, header: LongHeader) -> Identity | None:
        """RFC 9000 §8.1: who a client is by its token; None when it is answered, or dropped, without a connection."""
        limits = self.configuration
        original_dcid, retry_scid, validated = header.dcid, None, False
        if AddressTokens.is_retry(header.token):
            opened = self._tokens.open_retry(header.token, path.remote, header.version, header.dcid)
            if opened is None:
                self.counters.tokens_refused += 1
                if len(header.dcid) >= MIN_INITIAL_DCID:
                    self._stateless.refuse(path, header, TransportErrorCode.INVALID_TOKEN, b"the token is not valid")
                return None
            original_dcid, retry_scid, validated = opened.original_dcid, header.dcid, True
        elif len(header.dcid) < MIN_INITIAL_DCID:
            self.counters.datagrams_dropped += 1
            return None
        busy = len(self._handshakes)
        if len(self._connections) >= limits.max_connections or busy >= limits.max_handshakes:
            self.counters.connections_refused += 1
            return None
        if not validated and header.token:  # one that is not ours, or not good, is as none (§8.1.3)
            validated = self._tokens.accept_new_token(header.token, path.remote, header.version)
        if not validated and (limits.retry == "always" or (limits.retry == "auto" and busy >= limits.retry_threshold)):
            self._retry(path, header)
            return None
        return Identity(
            original_dcid=original_dcid,
            peer_cid=header.scid,
            local_cid=self._new_cid(limits),
            reset_key=self._reset_key,
            version=header.version,
            retry_scid=retry_scid,
            address_validated=validated,
            new_token=self._new_token,
            tickets=self._tickets,
            budget=self._budget,
            new_cid=partial(self._new_cid, limits),
        )

    def _new_token(self, path: Path, version: int) -> bytes:
        return self._tokens.seal_new_token(path.remote, version)

    def _retry(self, path: Path, header: LongHeader) -> None:
        """§8.1.2: send the client away with a token; nothing of it stays here."""
        scid = self.configuration.generate_connection_id(self._environment.random, self._cid_length)
        token = self._tokens.seal_retry(path.remote, header.version, scid, header.dcid)
        if self._stateless.retry(path, header, scid, token):
            self.counters.retries_sent += 1

    def _on_unknown_short(self, train: Train, now: float) -> None:
        """A packet for no connection here: a stateless reset of one of ours, or somebody who deserves one (§10.3)."""
        if self._is_reset(train, now):
            return
        self.counters.datagrams_dropped += 1
        # §17.3.1: without the fixed bit this is no packet of QUIC, unless we told peers to leave it out (RFC 9287 §3)
        head = train.data[: 1 + self._cid_length]
        may_be_packet = any(head) and bool(head[0] & FIXED_BIT or self.configuration.grease)
        if self._server and may_be_packet and self._stateless.reset(train, head[1:], self._reset_key):
            self.counters.stateless_resets_sent += 1

    def _is_reset(self, train: Train, now: float) -> bool:
        """§10.3.1: a datagram of no connection may be a stateless reset, with any first byte."""
        for datagram in train.datagrams() if self._by_token else ():
            connection = self._by_token.get(datagram[-16:])
            if connection is not None:
                connection.receive_reset(Train(datagram, len(datagram), train.path, train.ecn), now)
                self._after(connection)
                return True
        return False

    # -- sending -----------------------------------------------------------------------------------------------------

    def next_train(self, now: float) -> Train | None:
        """The next datagrams to send: round robin over connections with work, one train each. None: nothing (now)."""
        if self._stateless.queue:
            return self._stateless.queue.popleft()
        bell = self._bell
        while bell:
            connection = bell.popleft()
            train = connection.next_train(now) if connection in self._connections else None
            if train is not None:
                if not connection.ring():
                    self._after(connection)
                self._last_sent = train, connection
                return train
            self._after(connection)
        return None

    def send_failed(self, train: Train, error: SendError, now: float) -> None:
        """The network refused a train: counted, and otherwise lost like any other (RFC 9000 §14.2.1)."""
        self.counters.send_errors += 1
        if self._last_sent is not None and self._last_sent[0] is train:
            self._last_sent[1].send_failed(error, train.segment_size, now)
        elif not self._server:  # told late, by the socket; a server has too many connections to look for the one
            for connection in self._connections:
                if connection.path == train.path:
                    connection.send_failed(error)
                    break

    # -- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called."""
        for connection in self._deadlines.settle():
            self._forget(connection)
        return self._deadlines.earliest()

    def handle_timeout(self, now: float) -> None:
        """Let every connection act whose deadline has passed."""
        for connection in self._deadlines.settle():
            self._forget(connection)
        # Once each: a pacing deadline stays in the past until next_train is called.
        for connection in self._deadlines.take_due(now):
            actual = connection.next_timeout()
            if actual is not None and actual <= now:
                connection.handle_timeout(now)
            self._after(connection)

    # -- what changed ------------------------------------------------------------------------------------------------

    def take_ready(self) -> list[Connection]:
        """Connections that are new, changed or closed since the last call, each once."""
        ready = list(self._ready)
        self._ready.clear()
        return ready

    def close(self, now: float, code: int = 0, reason: str = "") -> None:
        """Close all connections and accept no more."""
        self._closing = True
        for connection in list(self._connections):
            connection.close(code, reason, now=now)
            self._after(connection)

    def _after(self, connection: Connection) -> None:
        """A connection was touched: bring the ready list and the routing tables up to date."""
        if connection.has_news:
            if connection.has_ready:
                self._ready[connection] = None
                if self._handshakes and connection.handshake_complete:
                    self._handshakes.pop(connection, None)
            if connection.has_new_cids:
                self._route(connection)
            if connection.terminated:
                self._forget(connection)
                return
        self._deadlines.touch(connection)

    def _route(self, connection: Connection) -> None:
        added, removed = connection.take_cid_changes()
        self._by_cid.update(dict.fromkeys(added, connection))
        for cid in added:
            self._fresh_cids.pop(cid, None)
        for cid in removed:
            self._by_cid.pop(cid, None)
        tokens = connection.take_reset_tokens()
        if tokens is not None:
            self._set_tokens(connection, tokens)

    def _set_tokens(self, connection: Connection, tokens: list[bytes]) -> None:
        for token in self._connections.get(connection, ()):
            self._by_token.pop(token, None)
        for token in tokens:
            self._by_token[token] = connection
        self._connections[connection] = tokens

    def _forget(self, connection: Connection) -> None:
        """Closing and draining are over (§10.2): nothing of the connection stays."""
        for token in self._connections.pop(connection, ()):
            self._by_token.pop(token, None)
        self._deadlines.discard(connection)
        self._handshakes.pop(connection, None)
        if self._last_sent is not None and self._last_sent[1] is connection:
            self._last_sent = None
        for cid in (*connection.local_cids, connection.initial_dcid):
            if self._by_cid.get(cid) is connection:
                del self._by_cid[cid]

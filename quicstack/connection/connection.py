"""The public face of a connection: the verbs a driver uses, and what applications do with streams and datagrams."""

from __future__ import annotations

from typing import NamedTuple

from cryptography import x509

from quicstack.config import AckFrequency, Configuration
from quicstack.connection import (
    ack_frequency,
    handshake,
    key_update,
    lifecycle,
    paths,
    receive,
    send,
    stateless_reset,
    statistics,
    timers,
)
from quicstack.connection.setup import Identity, new_state
from quicstack.connection.state import Phase
from quicstack.environment import Environment
from quicstack.errors import ConfigurationError, QuicstackError, TransportErrorCode, once_more
from quicstack.observe.stats import ConnectionStats
from quicstack.train import Path, SendError, Train
from quicstack.transport.outbox import Bell
from quicstack.transport.packet_protection import AEAD_TAG_LENGTH
from quicstack.transport.path import Migration
from quicstack.transport.path_mtu import BASE
from quicstack.transport.stream import Stream
from quicstack.wire.packet import MAX_CID_LENGTH
from quicstack.wire.transport_parameters import TransportParameters
from quicstack.wire.varint import MAX_VARINT, varint_size

__all__ = ["Connection", "Identity", "Ready"]


class Ready(NamedTuple):
    """What changed since the last look. A stream appears at most once; its own properties say what is new."""

    streams: list[Stream]
    datagrams: bool
    streams_allowed: bool
    state_changed: bool


class Connection:
    """A QUIC connection without I/O. Times are seconds on the caller's clock, which never runs backwards.

    The driver's side: ``receive``, ``next_train``, ``next_timeout``, ``handle_timeout``, ``take_ready``. The
    application's side: ``open_stream``, ``send_datagram``, ``close`` and what the streams offer. Nothing here blocks.
    """

    def __init__(
        self,
        configuration: Configuration,
        environment: Environment,
        path: Path,
        now: float,
        identity: Identity,
        *,
        is_client: bool,
        bell: Bell | None = None,
    ) -> None:
        self._state = state = new_state(configuration, environment, path, identity, is_client, bell, self)
        lifecycle.restart_idle_timer(state, now)
        state.trace.connection_started(
            now, is_client, path, identity.original_dcid, identity.local_cid, identity.peer_cid, identity.version
        )
        state.outbox.now = now
        handshake.start(state, now)

    def __repr__(self) -> str:
        state = self._state
        role = "client" if state.is_client else "server"
        return f"<Connection {role} {state.original_dcid.hex()} {state.phase.value}>"

    # -- the driver's verbs ------------------------------------------------------------------------------------------

    def receive(self, train: Train, now: float) -> None:
        """Datagrams arrived. Never raises for what a peer sent."""
        try:
            receive.receive(self._state, train, now)
        except Exception as error:
            lifecycle.internal_error(self._state, now, error)

    def next_train(self, now: float) -> Train | None:
        """The next datagrams to send, or None. Whoever has something after that rings for itself again."""
        self._state.outbox.rung = False
        try:
            return send.next_train(self._state, now)
        except Exception as error:
            lifecycle.internal_error(self._state, now, error)  # rings: CONNECTION_CLOSE goes with the next call
            return None

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called; None when the connection can be forgotten."""
        return timers.next_timeout(self._state)

    def handle_timeout(self, now: float) -> None:
        try:
            timers.handle_timeout(self._state, now)
        except Exception as error:
            lifecycle.internal_error(self._state, now, error)

    def receive_reset(self, train: Train, now: float) -> None:
        """A datagram that belongs to no connection, but ends in a token that the peer gave this one (§10.3.1)."""
        stateless_reset.on_stateless_reset(self._state, train, now)

    def abandon(self, now: float) -> None:
        """Over at once, in silence and without a trace on the wire."""
        lifecycle.discard(self._state, now)

    def send_failed(self, error: SendError, size: int = 0, now: float | None = None) -> None:
        """A train of datagrams of ``size`` bytes did not leave the host: to the peer that is loss (RFC 9000 §14.2.1).

        Only the host itself says that a datagram is too big, and only that they are smaller follows from it.
        """
        state = self._state
        state.counters.send_errors += 1
        if error is not SendError.TOO_BIG or not size:
            return
        mtu = state.path.mtu
        if size > state.max_datagram_size:
            mtu.on_probe_refused(size)
        elif size > BASE:
            paths.lower_size(state)
        elif size == BASE and state.handshake_complete:
            # §14.2: a path that does not carry the smallest full datagram carries CONNECTION_CLOSE at most
            code, reason = TransportErrorCode.NO_VIABLE_PATH, "the path does not carry datagrams of 1200 bytes"
            lifecycle.close(state, state.outbox.now if now is None else now, code, reason, fault=0)
            state.outbox.ring()

    def migrate(self, path: Path, now: float) -> Migration:
        """Client: prove ``path`` and move there (RFC 9000 §9.2). The answer tells how it goes; ``take_ready`` says when
        it has changed. Raises MigrationRefused where that is forbidden or not possible now.
        """
        self._check_open()
        return paths.migrate(self._state, path, now)

    def take_ready(self) -> Ready:
        """What the application should look at. Edge-triggered: a change is reported once."""
        outbox = self._state.outbox
        streams = outbox.ready
        outbox.ready = []
        for stream in streams:
            stream.is_ready = False
            if stream.finished:
                outbox.touched.append(stream)
                outbox.ring()
        ready = Ready(streams, outbox.datagrams, outbox.streams_allowed, outbox.state_changed)
        outbox.datagrams = outbox.streams_allowed = outbox.state_changed = False
        return ready

    @property
    def has_ready(self) -> bool:
        """``take_ready`` would return something."""
        outbox = self._state.outbox
        return bool(outbox.ready) or outbox.datagrams or outbox.streams_allowed or outbox.state_changed

    @property
    def has_news(self) -> bool:
        """One of ``has_ready``, ``has_new_cids`` and ``terminated``, or the connection is about to end."""
        state = self._state
        outbox = state.outbox
        return bool(
            outbox.ready
            or outbox.datagrams
            or outbox.state_changed
            or outbox.streams_allowed
            or state.local_cids.have_changed
            or state.peer_cids.tokens_changed
            or state.phase.is_over
        )

    def ring(self) -> bool:
        """Ask to be served again. False if there is nothing to ask for, as far as the last train can tell."""
        outbox = self._state.outbox
        if outbox.drained and not outbox.rung:
            return False
        outbox.ring()
        return True

    @property
    def local_cids(self) -> list[bytes]:
        """Connection IDs that the peer may use now."""
        return list(self._state.local_cids.active.values())

    @property
    def has_new_cids(self) -> bool:
        """``take_cid_changes`` or ``take_reset_tokens`` would return something."""
        state = self._state
        return state.local_cids.have_changed or state.peer_cids.tokens_changed

    def take_cid_changes(self) -> tuple[list[bytes], list[bytes]]:
        """Connection IDs issued and retired since the last call, for the routing table."""
        return self._state.local_cids.take_changes()

    def take_reset_tokens(self) -> list[bytes] | None:
        """The tokens of the peer's stateless resets, if they changed since the last call."""
        cids = self._state.peer_cids
        if not cids.tokens_changed:
            return None
        cids.tokens_changed = False
        return cids.reset_tokens

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        return self._state.configuration

    @property
    def is_client(self) -> bool:
        return self._state.is_client

    @property
    def original_dcid(self) -> bytes:
        """The client's first Destination Connection ID: names the connection in logs on both sides."""
        return self._state.original_dcid

    @property
    def initial_dcid(self) -> bytes:
        """The Destination Connection ID of the client's Initials until it knows ours: another one after a Retry."""
        return self._state.retry_scid or self._state.original_dcid

    @property
    def path(self) -> Path:
        """The path in use. After the peer has moved, its new address is still to be proven."""
        return self._state.path.address

    @property
    def proven_path(self) -> Path:
        """The same, but the path before as long as a new address of the peer is not proven (RFC 9000 §9.3.1): decide by
        this one what the peer may do. On a server nothing is proven before the handshake is complete or a token came.
        """
        state = self._state
        return state.path.address if state.path.validated or state.fallback is None else state.fallback.address

    @property
    def version(self) -> int:
        return self._state.version.value

    @property
    def handshake_complete(self) -> bool:
        """RFC 9001 §4.1.1: application data may be sent."""
        return self._state.handshake_complete

    @property
    def handshake_confirmed(self) -> bool:
        """RFC 9001 §4.1.2."""
        return self._state.handshake_confirmed

    @property
    def session_resumed(self) -> bool:
        """A session of an earlier connection was taken up (RFC 8446 §2.2), so no certificate was shown in this one."""
        return self._state.tls is not None and self._state.tls.session_resumed

    @property
    def sends_early_data(self) -> bool:
        """Client: what is written now goes out in 0-RTT packets, which the server may reject or get twice."""
        return self._state.early.seal_keys is not None

    @property
    def early_data_accepted(self) -> bool | None:
        """Whether the server took 0-RTT; None where it was not offered, or is not decided yet (RFC 9001 §4.6.2)."""
        return self._state.tls.early_data_accepted if self._state.tls else None

    @property
    def may_be_a_replay(self) -> bool:
        """Server: 0-RTT was taken, and the client has not shown yet that it is there now (RFC 8446 §8). What has been
        read so far may have been sent before, from another address (see ``address_validated``)."""
        return not self._state.is_client and bool(self.early_data_accepted) and not self._state.handshake_complete

    @property
    def address_validated(self) -> bool:
        """The peer has shown that it receives at ``path.remote`` (RFC 9000 §8.1). Decide by an address only then."""
        return self._state.path.validated

    @property
    def closed(self) -> QuicstackError | None:
        """Why the connection is over, from the moment that it is."""
        return self._state.closed

    @property
    def terminated(self) -> bool:
        """Closing and draining are done too: the connection can be forgotten."""
        return self._state.phase is Phase.CLOSED

    @property
    def is_unused(self) -> bool:
        """Nothing has come that could be opened: whoever made us accept it has shown no key."""
        return not self._state.counters.packets_received and self._state.closed is None

    @property
    def internal_error(self) -> BaseException | None:
        """A defect of this library that closed the connection, if one did; worth a line in a log."""
        return self._state.internal_error

    @property
    def alpn_protocol(self) -> str | None:
        return self._state.tls.alpn_protocol if self._state.tls else None

    @property
    def server_name(self) -> str | None:
        return self._state.tls.server_name if self._state.tls else None

    @property
    def cipher_suite_name(self) -> str | None:
        suite = self._state.tls.cipher_suite if self._state.tls else None
        return suite.name if suite else None

    @property
    def group_name(self) -> str | None:
        return self._state.tls.group_name if self._state.tls else None

    @property
    def peer_certificates(self) -> tuple[x509.Certificate, ...]:
        return self._state.tls.peer_certificates if self._state.tls else ()

    def export_keying_material(self, label: str, context: bytes, length: int) -> bytes:
        """Secret bytes that only the two ends of this connection can compute (RFC 8446 §7.5, RFC 5705 §4).

        ``label`` keeps uses apart, ``context`` binds them to something. Raises ConfigurationError before the handshake
        is complete.
        """
        if self._state.tls is None:
            raise ConfigurationError("keying material can be exported only when the handshake is complete")
        return self._state.tls.export(label, context, length)

    @property
    def peer_transport_parameters(self) -> TransportParameters | None:
        return self._state.peer_parameters

    def stats(self) -> ConnectionStats:
        """A snapshot of counters, recovery, and what was negotiated."""
        return statistics.snapshot(self._state)

    # -- streams -----------------------------------------------------------------------------------------------------

    def open_stream(self, *, unidirectional: bool = False) -> Stream:
        """A new stream. Raises StreamLimitReached, or what closed the connection."""
        self._check_open()
        return self._state.streams.open(unidirectional)

    def can_open_stream(self, unidirectional: bool = False) -> bool:
        return self._state.closed is None and self._state.streams.can_open(unidirectional)

    def stream(self, stream_id: int) -> Stream | None:
        """A stream that is not finished yet, by its ID."""
        return self._state.streams.streams.get(stream_id)

    def disown_streams(self) -> None:
        """The application has learned of the end: it is not held any longer by the streams that it owned."""
        for stream in self._state.streams:
            stream.owner = None

    # -- datagrams (RFC 9221) ----------------------------------------------------------------------------------------

    @property
    def max_datagram_payload(self) -> int:
        """Bytes that one DATAGRAM frame carries on this path; 0 when the peer takes none, or is not known yet."""
        state = self._state
        parameters = self._parameters
        if parameters is None:
            return 0
        limit = parameters.max_datagram_frame_size
        if limit == 0:
            return 0
        # Header: first byte, DCID and at most four bytes of packet number; frame: type and a length of two bytes.
        room = state.max_datagram_size - 5 - len(state.peer_cids.current.cid) - AEAD_TAG_LENGTH
        return max(0, min(room - 3, limit - 1 - varint_size(limit)))

    @property
    def _parameters(self) -> TransportParameters | None:
        """The peer's, or those that 0-RTT is sent under."""
        return self._state.peer_parameters or self._state.early.remembered

    @property
    def _takes_datagrams(self) -> bool:
        """RFC 9221 §3: the smallest DATAGRAM frame has two bytes as we write it."""
        parameters = self._parameters
        return parameters is not None and parameters.max_datagram_frame_size >= 2

    def datagram_fits(self, size: int) -> bool:
        """A datagram of so many bytes can be sent. Cheaper than to look at ``max_datagram_payload`` each time."""
        if size > self._state.datagrams_out.known_to_fit:
            return size <= self.max_datagram_payload
        return True

    def send_datagram(self, data: bytes) -> bool:
        """Queue a datagram. False when the queue is full and it was dropped; ConfigurationError when it never fits."""
        state = self._state
        queue, outbox = state.datagrams_out, state.outbox
        if len(data) > queue.known_to_fit:
            self._check_datagram(len(data))
        accepted = queue.push(data if type(data) is bytes else bytes(data))
        if not outbox.rung:
            outbox.ring()
        return accepted

    def _check_datagram(self, size: int) -> None:
        self._check_open()
        limit = self.max_datagram_payload
        if size > limit or (not limit and not self._takes_datagrams):
            what = f"it takes at most {limit} bytes" if self._takes_datagrams else "it takes no datagrams"
            raise ConfigurationError(f"a datagram of {size} bytes cannot be sent to this peer: {what}")
        if self._state.peer_parameters is not None:  # and not those of an earlier session
            # Another connection ID of the peer may be longer; a smaller path or the end makes this unknown again.
            longer = MAX_CID_LENGTH - len(self._state.peer_cids.current.cid)
            self._state.datagrams_out.known_to_fit = limit - longer

    def receive_datagram(self) -> bytes | None:
        """The oldest datagram that waits, or None. When the queue is full the oldest are dropped and counted."""
        return self._state.datagrams_in.pop()

    def receive_datagrams(self) -> list[bytes]:
        """All datagrams that wait, in the order in which they came."""
        queue = self._state.datagrams_in
        return queue.take(len(queue))

    # -- the rest ----------------------------------------------------------------------------------------------------

    def ask_for_acks(self, wanted: AckFrequency) -> bool:
        """Tell the peer how often to acknowledge, from now on (draft-ietf-quic-ack-frequency §4).

        False when it has not announced that it listens to that, or the handshake has not come so far.
        """
        self._check_open()
        return ack_frequency.ask(self._state, wanted)

    def ping(self) -> None:
        """Make the peer acknowledge something."""
        self._check_open()
        if self._state.ping is not None:
            self._state.ping.acked = False
            self._state.outbox.push(self._state.ping)

    def update_keys(self, now: float) -> bool:
        """Start a key update (RFC 9001 §6). False when one is not possible yet."""
        if self._state.closed is not None or not key_update.can_update(self._state):
            return False
        key_update.update_send_keys(self._state, now)
        self.ping()
        return True

    def close(self, code: int = 0, reason: str = "", *, now: float | None = None, transport: bool = False) -> None:
        """Close at once (RFC 9000 §10.2). ``code`` is the application's unless ``transport``. Repeating is harmless.

        Without ``now`` the time of the last datagram or timer counts: layers above have no clock.
        """
        state = self._state
        if not 0 <= code <= MAX_VARINT:
            raise ValueError(f"an error code is between 0 and 2^62-1: {code}")
        lifecycle.close(state, state.outbox.now if now is None else now, code, reason, fault=0 if transport else None)
        state.outbox.ring()

    def _check_open(self) -> None:
        if self._state.closed is not None:
            raise once_more(self._state.closed)

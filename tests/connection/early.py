"""A client that comes a second time, with a session of the first: 0-RTT as it is sent, altered and answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from peer import TO_CLIENT, TO_SERVER, Pair, environment, server_configuration

from quicstack.connection.connection import Connection
from quicstack.endpoint import Endpoint
from quicstack.session_store import MemorySessionStore
from quicstack.tls.session import Session
from quicstack.train import Train
from quicstack.transport.packet_protection import AEAD_TAG_LENGTH
from quicstack.wire.packet import LONG_HEADER, read_long_header, write_long_header
from quicstack.wire.version import VERSIONS, PacketType

TICKET_KEY = bytes(range(32))


class Again(Pair):
    """The first connection is done when this is made; :meth:`resume` begins the second."""

    def __init__(
        self, client: dict[str, object] | None = None, server: dict[str, object] | None = None, seed: int = 1
    ) -> None:
        self.store = MemorySessionStore()
        client = {"session_store": self.store, "early_data": True, **(client or {})}
        self.server_settings = {"early_data": True, "ticket_key": TICKET_KEY, **(server or {})}
        super().__init__(client, self.server_settings, seed)
        self.exchange()
        assert self.client.handshake_confirmed
        self.server_endpoint.close(self.now)

    def alter_session(self, change: Callable[[Session], Session]) -> None:
        """Put the sessions back into the store in another form."""
        (key,) = self.store._tokens
        data = self.store.take(key)
        assert data is not None
        self.store.put(key, change(Session.read(data)).write())

    def restart_server(self, **settings: object) -> None:
        """Another process with the same ticket key."""
        settings = {**self.server_settings, **settings}
        self.server_endpoint = Endpoint(server_configuration(**settings), environment=environment(7), server=True)

    def resume(self, data: bytes = b"early", **settings: object) -> Connection:
        """The second connection, with ``data`` written to its first stream before anything is sent."""
        self.restart_server(**settings)
        self.client = self.client_endpoint.connect(TO_SERVER, self.now)
        if data:
            self.client.open_stream().write(data, fin=True)
        return self.client

    def early_packet(self, *frames: bytes, number: int | None = None, first_byte: int = 0) -> bytes:
        """A 0-RTT packet of the client with these frames; ``first_byte`` is added to the protected header."""
        state = self.client._state
        keys = state.early.seal_keys
        assert keys is not None
        space = state.spaces[2]
        if number is None:
            number = space.next_packet_number
            space.next_packet_number += 1
        payload = b"".join(frames)
        payload += bytes(max(0, 4 - len(payload)))
        length = len(payload) + AEAD_TAG_LENGTH
        cids = state.peer_cids.current.cid, state.local_cids.first
        header = write_long_header(state.version, PacketType.ZERO_RTT, *cids, b"", length, number, 4)
        return keys.seal(bytes((header[0] | first_byte,)) + header[1:], 4, number, payload)

    def delivers_early(self, *frames: bytes) -> None:
        """One 0-RTT packet with these frames, to the server."""
        self.delivers(self.early_packet(*frames))

    def delivers(self, datagram: bytes) -> None:
        """To the server."""
        self.to_server([Train(datagram, len(datagram), TO_CLIENT)])


def packet_types(trains: list[Train]) -> list[tuple[int, int]]:
    """(version, type) of every packet in these datagrams, in their order; ONE_RTT for short headers."""
    found = []
    for train in trains:
        for datagram in train.datagrams():
            pos = 0
            while pos < len(datagram):
                if not datagram[pos] & LONG_HEADER:
                    found.append((0, PacketType.ONE_RTT))
                    break
                version = int.from_bytes(datagram[pos + 1 : pos + 5], "big")
                header = read_long_header(datagram, pos, VERSIONS[version])
                found.append((version, header.packet_type))
                pos = header.end
    return found


def with_context(session: Session, context: bytes) -> Session:
    return replace(session, context=context)

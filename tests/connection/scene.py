"""One side in the middle of a handshake, and a script that says anything to it under the keys of that moment."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, INITIAL, TO_CLIENT, TO_SERVER, Pair
from wire import Listener

from quicstack.connection.connection import Connection
from quicstack.connection.state import ConnectionState
from quicstack.endpoint import Endpoint
from quicstack.train import Train
from quicstack.wire import frame as f
from quicstack.wire.packet import write_long_header
from quicstack.wire.version import PacketType

CLOSE = f.write_connection_close(2, b"", 0)


class Scene:
    """One side under test in the middle of a handshake, with keys for ``space``; a script has those of the other."""

    def __init__(self, to: str, space: int, **settings: object) -> None:
        self.pair = pair = Pair(settings, settings)
        pair.to_server(pair.from_client())
        flight = pair.from_server()
        self.path = TO_CLIENT if to == "server" else TO_SERVER
        if space == HANDSHAKE:
            pair.to_client(flight)
            if to == "client":
                pair.from_client()
        self.target: Connection = pair.server if to == "server" else pair.client
        self.endpoint: Endpoint = pair.server_endpoint if to == "server" else pair.client_endpoint
        self.script: ConnectionState = (pair.client if to == "server" else pair.server)._state
        self.space = space
        self.listener = Listener(self.target)

    def sealed(
        self, payload: bytes, *, bits: int = 0, dcid: bytes | None = None, longer: int = 0, token: bytes = b""
    ) -> bytes:
        """A long header packet of 1200 bytes; ``bits`` of its first byte are flipped before it is sealed, and its
        Length is ``longer`` than it is."""
        script = self.script
        keys = script.spaces[self.space].seal_keys
        assert keys is not None
        payload += bytes(1120 - len(payload)) if payload else b""
        header = write_long_header(
            script.version,
            (PacketType.INITIAL, PacketType.HANDSHAKE)[self.space],
            script.peer_cids.current.cid if dcid is None else dcid,
            script.local_cids.first,
            token,
            len(payload) + 16 + longer,
            40,
            4,
        )
        return bytes(keys.seal(bytes((header[0] ^ bits,)) + header[1:], 4, 40, payload))

    def delivers(self, datagram: bytes) -> None:
        datagram += bytes(max(0, 1200 - len(datagram)))  # §14.1; what follows a packet and is none is dropped
        self.endpoint.receive(Train(datagram, len(datagram), self.path), self.pair.now)

    def answer(self) -> list[tuple[int, object]]:
        """Type and code of the CONNECTION_CLOSE frames that the side under test sends now; not its other frames."""
        trains = []
        for _ in range(20):
            if (train := self.endpoint.next_train(self.pair.now)) is not None:
                trains.append(train)
        return sorted({close[:2] for packet in self.listener.reads(trains) for close in packet.closes})

    def still_works(self) -> None:
        """A well-formed CONNECTION_CLOSE under the same number is taken: what came before it was not."""
        assert self.target.closed is None
        self.delivers(self.sealed(CLOSE))
        assert self.target.closed is not None and self.answer() == []


SCENES = pytest.mark.parametrize(
    ("to", "space"),
    [("server", INITIAL), ("client", INITIAL), ("server", HANDSHAKE), ("client", HANDSHAKE)],
    ids=["server-Initial", "client-Initial", "server-Handshake", "client-Handshake"],
)

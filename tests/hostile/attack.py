"""An endpoint under attack, and a well-behaved connection of it that must not notice.

``Attack`` feeds one endpoint datagrams: a third of them noise (random bytes, or datagrams seen before with bits
flipped, cut or glued), two thirds sealed with the right keys, in Initial, Handshake and 1-RTT packets, with what
``malice`` makes up. The keys are those of a second engine, which shakes hands as far as wanted and is then put aside.
When the endpoint closes the connection, or the script is at its end, the next one begins. Time is virtual, so that
timeouts come and go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from malice import Script

from quicstack.config import Configuration
from quicstack.connection.connection import Connection
from quicstack.connection.state import ConnectionState
from quicstack.endpoint import Endpoint
from quicstack.environment import Environment
from quicstack.simulator import VIRTUAL_EPOCH
from quicstack.train import Path, Train
from quicstack.wire.packet import MIN_INITIAL_DATAGRAM, write_long_header
from quicstack.wire.version import PacketType

VICTIM, FRIEND = ("192.0.2.1", 443), ("192.0.2.2", 50000)
STEP = 0.01
INITIAL, HANDSHAKE, ONE_RTT = 0, 1, 2


class Application(Protocol):
    """What runs on the endpoint under attack, and on its friend (see ``served``)."""

    def ready(self, connection: Connection) -> None: ...

    def ask(self, connection: Connection) -> Callable[[], bool]: ...


class Attack:
    """``victim`` is an endpoint whose connections ``application`` serves; ``strangers`` configures the attacker."""

    def __init__(
        self, victim: Configuration, strangers: Configuration, application: Application, *, server: bool, seed: int = 0
    ) -> None:
        self.seed = seed
        self.random = Random(f"attack {seed}")
        self.now = 1000.0
        self.victim_is_server = server
        self.victim = Endpoint(victim, environment=self._environment("victim"), server=server)
        self.friend = Endpoint(strangers, environment=self._environment("friend"), server=not server)
        self.application = application
        self.strangers = strangers
        self.episodes = 0
        self.closed_by_victim = 0
        self._asked_at = self.now
        self._seen: deque[bytes] = deque([b"\x40" + bytes(40)], maxlen=32)
        self._episode: _Episode | None = None
        caller, path = (self.friend, Path(VICTIM, FRIEND)) if server else (self.victim, Path(FRIEND, VICTIM))
        self.friendship = caller.connect(path, self.now)
        self.advance(1.0)
        assert self.friendship.handshake_confirmed

    def _environment(self, name: str) -> Environment:
        random = Random(f"{name} {self.seed}")
        return Environment(random.randbytes, lambda: VIRTUAL_EPOCH + self.now, simulation=True)

    # -- the attack ----------------------------------------------------------------------------------------------------

    def run(self, datagrams: int) -> None:
        """Send so many hostile datagrams, and look after the victim's well-behaved connection now and then."""
        for _ in range(datagrams):
            noise = self.random.random() < 1 / 3
            datagram, source = self._noise() if noise else self._sealed()
            self._seen.append(datagram)
            self.victim.receive(
                Train(datagram, len(datagram), Path(source, VICTIM), self.random.choice((0, 2, 3))), self.now
            )
            self._settle()
            self.advance(STEP)
            if self.now > self._asked_at + 2.0:
                self.ask()

    def _noise(self) -> tuple[bytes, tuple[str, int]]:
        random = self.random
        episode = self._episode
        source = (
            episode.source if episode is not None and random.random() < 0.8 else ("203.0.113.9", random.randrange(9))
        )
        data = bytearray(random.choice(self._seen))
        match random.randrange(5):
            case 0:
                data = bytearray(random.randbytes(random.randrange(1, 1500)))
            case 1:
                for _ in range(random.choice((1, 1, 8))):
                    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            case 2:
                del data[random.randrange(1, len(data) + 1) :]
            case 3:
                data += random.choice(self._seen)
            case _:
                data[: min(len(data), 7)] = bytes((random.choice((0xC0, 0xE0, 0xF0, 0x80, 0x40)), *random.randbytes(6)))
                data += bytes(random.choice((0, 1200)))
        return bytes(data[:2000]), source

    def _sealed(self) -> tuple[bytes, tuple[str, int]]:
        while self._episode is None or self._episode.is_over:
            if self._episode is not None and self._episode.victim_closed:
                self.closed_by_victim += 1
            self._episode = _Episode(self, self.episodes)
            self.episodes += 1
        return self._episode.datagram(), self._episode.source

    # -- the well-behaved connection -----------------------------------------------------------------------------------

    def ask(self) -> None:
        """A question on the connection that is not hostile; its answer must come at once."""
        assert self.friendship.closed is None, self.friendship.closed
        self._asked_at = self.now
        is_answered = self.application.ask(self.friendship)
        for _ in range(20):
            self.advance(STEP)
        assert is_answered()

    # -- the world -----------------------------------------------------------------------------------------------------

    @property
    def victim_friendship(self) -> Connection:
        """The victim's side of the well-behaved connection."""
        (connection,) = (
            each for each in self.victim.connections if each.original_dcid == self.friendship.original_dcid
        )
        return connection

    def advance(self, seconds: float) -> None:
        """Let time pass in steps, and let everyone do what is due."""
        for _ in range(max(1, round(seconds / STEP))):
            self.now += STEP
            for endpoint in (self.victim, self.friend):
                due = endpoint.next_timeout()
                if due is not None and due <= self.now:
                    endpoint.handle_timeout(self.now)
            self._settle()

    def rest(self) -> None:
        """Let every hostile connection run into its timeouts; the other one is kept alive."""
        self._episode = None
        for _ in range(20):
            self.advance(1.0)
            self.ask()

    def _settle(self) -> None:
        """Applications act and datagrams travel until there is nothing left to do at this instant."""
        busy = True
        while busy:
            busy = False
            for connection in [*self.victim.take_ready(), *self.friend.take_ready()]:
                if connection.internal_error is not None:
                    raise AssertionError(f"episode {self.episodes}: {connection!r}") from connection.internal_error
                self.application.ready(connection)
            while (train := self.victim.next_train(self.now)) is not None:
                busy = True
                if train.path.remote == FRIEND:
                    self.friend.receive(
                        Train(train.data, train.segment_size, Path(VICTIM, FRIEND), train.ecn), self.now
                    )
                else:
                    self._seen.append(train.datagrams()[0])
                    if self._episode is not None:
                        self._episode.hear(train)
            while (train := self.friend.next_train(self.now)) is not None:
                busy = True
                self.victim.receive(Train(train.data, train.segment_size, Path(FRIEND, VICTIM), train.ecn), self.now)


class _Episode:
    """One hostile connection: how far its handshake goes, and how many datagrams it has to say."""

    def __init__(self, attack: Attack, number: int) -> None:
        random = self.random = Random(f"{attack.seed} {number}")
        self.source = (f"198.51.100.{random.randrange(1, 250)}", random.randrange(1024, 60000))
        self.level = random.choice((INITIAL, HANDSHAKE, ONE_RTT, ONE_RTT))
        self.left = (random.randrange(1, 5), random.randrange(1, 9), random.choice((5, 30, 300)))[self.level]
        self._attack = attack
        self._listening = True
        environment = Environment(random.randbytes, lambda: VIRTUAL_EPOCH + attack.now, simulation=True)
        self._puppet = Endpoint(attack.strangers, environment=environment, server=not attack.victim_is_server)
        self._heard: list[Train] = []
        self._shake_hands()
        state = self._state
        self._listening = False
        self._script = Script(random, is_client=state.is_client, genuine_tls=self._tls, largest_sent=self._largest_sent)

    def _shake_hands(self) -> None:
        """As far as the level needs: nothing is sent, up to Handshake keys, or all the way."""
        attack = self._attack
        self._tls: dict[int, bytes] = {}
        if attack.victim_is_server:
            puppet = self._puppet.connect(Path(VICTIM, self.source), attack.now)
        else:
            attack.victim.connect(Path(self.source, VICTIM), attack.now)
            attack._episode = self
            attack._settle()
            self._deliver()
            (puppet,) = self._puppet.connections
        self._state: ConnectionState = puppet._state
        self._remember_tls()
        if self.level == INITIAL:
            return
        attack._episode = self
        for _ in range(1 if self.level == HANDSHAKE else 8):
            for train in self._pull():
                attack.victim.receive(Train(train.data, train.segment_size, Path(self.source, VICTIM), 0), attack.now)
            attack.advance(STEP)
            self._deliver()
            self._remember_tls()
        if self.level == ONE_RTT:
            assert puppet.handshake_confirmed, (puppet, puppet.closed)

    def _remember_tls(self) -> None:
        """The genuine handshake bytes, to be mutated, before they are acknowledged and forgotten."""
        for space in self._state.spaces[:2]:
            buffer = space.crypto.outgoing
            if buffer.end and not buffer.acked_to:
                self._tls[space.index] = bytes(buffer.get(0, buffer.end))

    def _pull(self) -> list[Train]:
        trains = []
        while (train := self._puppet.next_train(self._attack.now)) is not None:
            trains.append(train)
        return trains

    def hear(self, train: Train) -> None:
        if self._listening:
            self._heard.append(train)

    def _deliver(self) -> None:
        heard, self._heard = self._heard, []
        for train in heard:
            self._puppet.receive(Train(train.data, train.segment_size, Path(VICTIM, self.source), 0), self._attack.now)

    # -- the victim's side of it ---------------------------------------------------------------------------------------

    @property
    def _victim(self) -> Connection | None:
        for connection in self._attack.victim.connections:
            if connection.original_dcid == self._state.original_dcid:
                return connection
        return None

    @property
    def victim_closed(self) -> bool:
        victim = self._victim
        return victim is not None and victim.closed is not None

    @property
    def is_over(self) -> bool:
        return self.left <= 0 or self.victim_closed

    def _largest_sent(self, space: int) -> int:
        victim = self._victim
        return -1 if victim is None else victim._state.spaces[space].next_packet_number - 1

    # -- packets -------------------------------------------------------------------------------------------------------

    def datagram(self) -> bytes:
        """The next datagram: one packet, or several in one."""
        self.left -= 1
        random = self.random
        spaces = [self.level]
        if random.random() < 0.15:
            spaces = [space for space in range(3) if random.random() < 0.7] or spaces
        packets = [self._packet(space) for space in spaces if self._state.spaces[space].seal_keys is not None]
        return b"".join(packets) or b"\x40"

    def _packet(self, index: int) -> bytes:
        random, state = self.random, self._state
        space = state.spaces[index]
        keys = space.seal_keys
        assert keys is not None
        number = space.next_packet_number
        if random.random() < 0.03:
            number = max(0, number + random.choice((-5, -1, 1, 100, 1 << 20)))
        space.next_packet_number = max(space.next_packet_number, number + 1)
        payload = self._script.payload(index)
        payload += bytes(max(0, 4 - len(payload)))
        tail = (number & 0xFFFFFFFF).to_bytes(4)
        if index == ONE_RTT:
            reserved = 0x18 if random.random() < 0.005 else 0
            first = 0x43 | state.key_phase.send_bit << 2 | reserved
            return keys.seal(bytes((first,)) + state.peer_cids.current.cid + tail, 4, number, payload)
        kind = PacketType.INITIAL if index == INITIAL else PacketType.HANDSHAKE
        token = random.randbytes(10) if index == INITIAL and random.random() < 0.03 else b""
        cids = state.peer_cids.current.cid, state.local_cids.first
        if index == INITIAL and random.random() < 0.95:
            payload += bytes(max(0, MIN_INITIAL_DATAGRAM - len(payload)))
        header = write_long_header(state.version, kind, *cids, token, len(payload) + 16, number, 4)
        return keys.seal(header, 4, number, payload)

"""A NAT that forgets: rebinding, the reason why QUIC connections are not named by addresses (RFC 9000 §9)."""

from __future__ import annotations

from collections.abc import Iterable

from quicstack.simulator.datagram import Datagram, Direction
from quicstack.simulator.node import Node
from quicstack.train import Address

__all__ = ["Nat"]


class Nat(Node):
    """Hides what is on its left behind ``addresses``, and forgets its mappings at times or after idleness.

    Each private address and port gets a public port when it first sends. At each moment of ``rebind_at``, and when a
    mapping has carried nothing outwards for ``idle_timeout`` seconds, it is forgotten: the next datagram out gets a new
    port, and what comes in for the old one is lost. Each rebinding of ``rebind_at`` also moves on to the next of
    ``addresses`` (round and round), so one address means a change of port only.
    """

    def __init__(
        self,
        addresses: str | Iterable[str] = "203.0.113.1",
        *,
        rebind_at: Iterable[float] = (),
        idle_timeout: float | None = None,
        first_port: int = 61000,
    ) -> None:
        super().__init__()
        self._table = _Table([addresses] if isinstance(addresses, str) else list(addresses), first_port)
        self._rebind_at = sorted(rebind_at)
        self._idle_timeout = idle_timeout

    def start(self) -> None:
        if self.direction is Direction.FORWARD:
            for time in self._rebind_at:
                self.clock.at(time, self._table.rebind)

    @property
    def rebindings(self) -> int:
        """How many public bindings were given out beyond the first of each private address."""
        return self._table.rebindings

    def rebind(self) -> None:
        """Forget every mapping now."""
        self._table.rebind()

    def receive(self, datagram: Datagram) -> None:
        now, table = self.clock.now, self._table
        if self.direction is Direction.FORWARD:
            self.forward(datagram._replace(source=table.outward(datagram.source, now, self._idle_timeout)))
            return
        private = table.inward(datagram.destination, now, self._idle_timeout)
        if private is None:
            self.drop(datagram)
        else:
            self.forward(datagram._replace(destination=private))


class _Table:
    """The mappings; one table for both directions."""

    def __init__(self, hosts: list[str], first_port: int) -> None:
        self.rebindings = 0
        self._hosts = hosts
        self._next_port = first_port
        self._public: dict[Address, Address] = {}
        self._private: dict[Address, Address] = {}
        self._last_used: dict[Address, float] = {}
        self._known: set[Address] = set()

    def rebind(self) -> None:
        self._hosts.append(self._hosts.pop(0))
        self._public.clear()
        self._private.clear()

    def outward(self, private: Address, now: float, idle_timeout: float | None) -> Address:
        public = self._public.get(private)
        if public is not None and self._idle(private, now, idle_timeout):
            del self._private[public]
            public = None
        if public is None:
            public = (self._hosts[0], self._next_port)
            self._next_port += 1
            self._public[private] = public
            self._private[public] = private
            self.rebindings += private in self._known
            self._known.add(private)
        self._last_used[private] = now
        return public

    def inward(self, public: Address, now: float, idle_timeout: float | None) -> Address | None:
        private = self._private.get(public)
        if private is None or self._idle(private, now, idle_timeout):
            return None
        return private

    def _idle(self, private: Address, now: float, idle_timeout: float | None) -> bool:
        return idle_timeout is not None and now - self._last_used[private] > idle_timeout

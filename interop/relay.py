"""The network as a process: forwards UDP between clients and a server over two links, and captures at both ends.

It behaves as a NAT does: the server sees each client at an address of the relay, and another one after a rebinding.
ECN marks pass through. What it is to do comes as one line of JSON on the command line (:class:`Plan`); it prints the
ports that clients shall use, and ends when its standard input does.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from interop.link import Faults, Link
from interop.pcap import Address, PcapWriter, header_size

__all__ = ["CLIENT_CAPTURE", "SERVER_CAPTURE", "Plan", "main"]

CLIENT_CAPTURE: Final = "client.pcap"
SERVER_CAPTURE: Final = "server.pcap"
_SO_TIMESTAMPNS: Final = 35
_IP_RECVTOS: Final = 13
_IPV6_RECVTCLASS: Final = 66
_ECN_MASK: Final = 3


@dataclasses.dataclass(slots=True)
class Plan:
    """``fronts`` are where clients come, each with the server's address behind it.

    A server's port of 0 means the same address as the front's: a server that listens itself where it asks clients to
    go. Both sockets are bound there, and that of the relay is connected to the client, so it hears the client alone
    and the server everybody else.
    """

    fronts: list[tuple[Address, Address]]
    folder: str
    seed: int
    delay: float
    faults: Faults

    def to_json(self) -> str:
        facts = dataclasses.asdict(self)
        facts["faults"]["drops_to_server"] = sorted(self.faults.drops_to_server)
        return json.dumps(facts)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        facts: dict[str, Any] = json.loads(text)
        faults = dict(facts.pop("faults"))
        faults["drops_to_server"] = frozenset(faults["drops_to_server"])
        fronts = [(tuple(front), tuple(server)) for front, server in facts.pop("fronts")]
        return cls(fronts=fronts, faults=Faults(**faults), **facts)


class Port:
    """A UDP socket that reads and writes ECN marks."""

    def __init__(self, address: Address, *, is_shared: bool = False) -> None:
        self.is_ipv6 = ":" in address[0]
        self.is_shared = is_shared
        self.socket = socket.socket(socket.AF_INET6 if self.is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.socket.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        if self.is_ipv6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVTCLASS, 1)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)
        if is_shared:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.address: Address = self.socket.getsockname()[:2]

    def fileno(self) -> int:
        return self.socket.fileno()

    def receive(self) -> Iterator[tuple[float, bytes, int, Address]]:
        """All that waits, each with the time at which the kernel got it, and its ECN mark."""
        while True:
            try:
                data, ancillary, _, source = self.socket.recvmsg(65535, 256)
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # an ICMP message about something sent earlier
            arrived, ecn = time.time(), 0
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                    seconds, nanoseconds = struct.unpack("@ll", value[:16])
                    arrived = seconds + nanoseconds * 1e-9
                elif (level, kind) in ((socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)):
                    ecn = value[0] & _ECN_MASK
            yield arrived, data, ecn, source[:2]

    def send(self, data: bytes, ecn: int, destination: Address) -> None:
        level, kind = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if self.is_ipv6 else (socket.IPPROTO_IP, socket.IP_TOS)
        with suppress(OSError):  # nobody listens there (yet, or any more): lost, as on any network
            self.socket.sendmsg([data], [(level, kind, struct.pack("@i", ecn))], 0, destination)


class Nat:
    """Which port of the relay stands for which client, until it is forgotten."""

    def __init__(self, host: str, *, changes_address: bool) -> None:
        self.host = host
        self.changes_address = changes_address
        self.ports: dict[Address, Port] = {}
        self.clients: dict[int, Address] = {}
        self.forgotten: list[Port] = []
        """Still open, so that what the server sends there is lost in silence."""

    def port_of(self, client: Address) -> Port:
        port = self.ports.get(client)
        if port is None:
            port = self.ports[client] = Port((self.host, 0))
            self.clients[port.fileno()] = client
        return port

    def client_of(self, port: Port) -> Address | None:
        return self.clients.get(port.fileno())

    def rebind(self) -> None:
        """Forget all mappings; the next ones are at another address of 127/8 if that is to change."""
        self.forgotten += self.ports.values()
        self.ports.clear()
        self.clients.clear()
        if self.changes_address:
            start, _, last = self.host.rpartition(".")
            self.host = f"{start}.{int(last) + 1}"


class Relay:
    """One run. Times are those of the wall clock, as the kernel's are."""

    def __init__(self, plan: Plan, client_capture: PcapWriter, server_capture: PcapWriter) -> None:
        chance = random.Random(plan.seed)
        self.faults = plan.faults
        self.fronts = [_front(front, server) for front, server in plan.fronts]
        self.nat = Nat(self.fronts[0][0].address[0], changes_address=plan.faults.rebinds_address)
        self.up = Link(chance, plan.faults, delay=plan.delay, drops=plan.faults.drops_to_server)
        self.down = Link(chance, plan.faults, delay=plan.delay)
        self.client_capture = client_capture
        self.server_capture = server_capture
        self.started: float | None = None
        self.next_rebind = 0.0
        self._leaving: list[tuple[float, int, bool, bytes, int, Port, Address]] = []
        self._count = 0

    def run(self) -> None:
        """Until standard input ends."""
        while True:
            deadlines = [self._leaving[0][0]] if self._leaving else []
            if self.next_rebind:
                deadlines.append(self.next_rebind)
            wait = max(0.0, min(deadlines) - time.time()) if deadlines else None
            backs = [*self.nat.ports.values(), *self.nat.forgotten]
            ready, _, _ = select.select([sys.stdin, *(port for port, _ in self.fronts), *backs], [], [], wait)
            if sys.stdin in ready:
                return
            self._rebind_if_due(time.time())
            for front, server in self.fronts:
                if front in ready:
                    self._from_client(front, server)
            for back in backs:
                if back in ready:
                    self._from_server(back)
            self._deliver(time.time())

    def _rebind_if_due(self, now: float) -> None:
        if self.next_rebind and now >= self.next_rebind:
            self.nat.rebind()
            self.next_rebind += self.faults.rebind_every

    def _from_client(self, front: Port, server: Address) -> None:
        for arrived, data, ecn, client in front.receive():
            if self.started is None:
                self.started = arrived
                for port, _ in self.fronts:
                    if port.is_shared:
                        port.socket.connect(client)
                self.next_rebind = arrived + self.faults.first_rebind if self.faults.rebind_every else 0.0
            self.client_capture.add(arrived, client, front.address, ecn, data)
            at = self.up.enter(arrived, len(data) + header_size(client[0]))
            if at is not None:
                self._count += 1
                heapq.heappush(self._leaving, (at, self._count, True, data, ecn, front, client))

    def _from_server(self, back: Port) -> None:
        for arrived, data, ecn, server in back.receive():
            self.server_capture.add(arrived, server, back.address, ecn, data)
            at = self.down.enter(arrived, len(data) + header_size(server[0]))
            if at is not None:
                self._count += 1
                heapq.heappush(self._leaving, (at, self._count, False, data, ecn, back, server))

    def _deliver(self, now: float) -> None:
        while self._leaving and self._leaving[0][0] <= now:
            at, _, is_up, data, ecn, port, source = heapq.heappop(self._leaving)
            arriving = (self.up if is_up else self.down).leave(at - (self.started or at), data)
            if arriving is not None:
                (self._to_server if is_up else self._to_client)(arriving, ecn, port, source)

    def _to_server(self, data: bytes, ecn: int, front: Port, client: Address) -> None:
        server = next(server for port, server in self.fronts if port is front)
        back = self.nat.port_of(client)
        self.server_capture.add(time.time(), back.address, server, ecn, data)
        back.send(data, ecn, server)

    def _to_client(self, data: bytes, ecn: int, back: Port, source: Address) -> None:
        client = self.nat.client_of(back)
        front = next((port for port, server in self.fronts if server == source), None)
        if client is not None and front is not None:
            self.client_capture.add(time.time(), front.address, client, ecn, data)
            front.send(data, ecn, client)


def _front(address: Address, server: Address) -> tuple[Port, Address]:
    port = Port(address, is_shared=not server[1])
    return port, server if server[1] else port.address


def main() -> None:
    plan = Plan.from_json(sys.argv[1])
    folder = Path(plan.folder)
    with ExitStack() as stack:
        captures = [stack.enter_context(PcapWriter(folder / name)) for name in (CLIENT_CAPTURE, SERVER_CAPTURE)]
        relay = Relay(plan, *captures)
        print(json.dumps([port.address[1] for port, _ in relay.fronts]), flush=True)
        relay.run()


if __name__ == "__main__":
    main()

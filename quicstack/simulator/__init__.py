"""A network in virtual time, for experiments with QUIC that take no longer than their arithmetic.

A network is a list. Datagrams pass its nodes from left to right and back::

    from quicstack.simulator import BulkTransfer, Delay, Host, Loss, Queue, Simulation, configurations

    for_client, for_server = configurations()
    server = Host(for_server, server=True, application=BulkTransfer(bytes(1_000_000)))
    client = Host(for_client, application=(transfer := BulkTransfer(bytes(1_000_000), to=server)))
    simulation = Simulation([client, Delay(0.05), Loss(0.01), Queue(64, rate=10e6), server], seed=1)
    print(simulation.run(until=lambda: transfer.finished), "seconds")

Hosts: `host` (an endpoint, with `applications` and `configurations`), `datagram_host` (a script). Nodes: `delay`,
`loss`, `alter`, `queue`, `nat`, `capture`; a new one is a small class (`node`). The rest: `clock`, `network` (the
wiring), `simulation` (the run).
"""

from quicstack.simulator.alter import Corrupt, Duplicate, EcnBleach, EcnMark, Rewrite
from quicstack.simulator.applications import BulkTransfer, Transfer
from quicstack.simulator.capture import Capture, Passage
from quicstack.simulator.clock import Clock, Timer
from quicstack.simulator.configurations import configurations, identity
from quicstack.simulator.datagram import IP_UDP_HEADER, Datagram, Direction
from quicstack.simulator.datagram_host import DatagramHost
from quicstack.simulator.delay import Delay, Jitter, Reorder
from quicstack.simulator.host import Application, Host
from quicstack.simulator.loss import BlackHole, BurstLoss, Loss, LossAt, LossEvery, MtuLimit
from quicstack.simulator.nat import Nat
from quicstack.simulator.network import Network
from quicstack.simulator.node import Asymmetric, Node
from quicstack.simulator.queue import Discipline, DropTail, Queue, QueueContext
from quicstack.simulator.simulation import VIRTUAL_EPOCH, LimitReached, Simulation

__all__ = [
    "IP_UDP_HEADER",
    "VIRTUAL_EPOCH",
    "Application",
    "Asymmetric",
    "BlackHole",
    "BulkTransfer",
    "BurstLoss",
    "Capture",
    "Clock",
    "Corrupt",
    "Datagram",
    "DatagramHost",
    "Delay",
    "Direction",
    "Discipline",
    "DropTail",
    "Duplicate",
    "EcnBleach",
    "EcnMark",
    "Host",
    "Jitter",
    "LimitReached",
    "Loss",
    "LossAt",
    "LossEvery",
    "MtuLimit",
    "Nat",
    "Network",
    "Node",
    "Passage",
    "Queue",
    "QueueContext",
    "Reorder",
    "Rewrite",
    "Simulation",
    "Timer",
    "Transfer",
    "configurations",
    "identity",
]

"""A network in virtual time, for experiments with QUIC that take no longer than their arithmetic.

A network is a list. Datagrams pass its nodes from left to right and back::

    from quicstack.simulator import Delay, Host, Loss, Queue, Simulation

    client, server = Host(client_configuration), Host(server_configuration, server=True)
    simulation = Simulation([client, Delay(0.05), Loss(0.01), Queue(64, rate=10e6), server], seed=1)
    connection = client.connect(server)
    simulation.run(until=lambda: connection.handshake_complete)

Hosts: `host` (an endpoint), `datagram_host` (a script). Nodes: `delay`, `loss`, `alter`, `queue`, `nat`, `capture`; a
new one is a small class (`node`). The rest: `clock`, `network` (the wiring), `simulation` (the run).
"""

from quicstack.simulator.alter import Corrupt, Duplicate, EcnBleach, EcnMark, Rewrite
from quicstack.simulator.capture import Capture, Passage
from quicstack.simulator.clock import Clock, Timer
from quicstack.simulator.datagram import IP_UDP_HEADER, Datagram, Direction
from quicstack.simulator.datagram_host import DatagramHost
from quicstack.simulator.delay import Delay, Jitter, Reorder
from quicstack.simulator.loss import BlackHole, BurstLoss, Loss, LossAt, LossEvery, MtuLimit
from quicstack.simulator.nat import Nat
from quicstack.simulator.network import Network
from quicstack.simulator.node import Asymmetric, Node
from quicstack.simulator.queue import Discipline, DropTail, Queue, QueueContext
from quicstack.simulator.simulation import VIRTUAL_EPOCH, LimitReached, Simulation

__all__ = [
    "IP_UDP_HEADER",
    "VIRTUAL_EPOCH",
    "Asymmetric",
    "BlackHole",
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
]

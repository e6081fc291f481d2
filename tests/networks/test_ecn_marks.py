"""On a path that carries ECN every packet bears a mark, MTU probes and the last word too (RFC 9000 §13.4)."""

from __future__ import annotations

from quicstack.recovery.ecn import ECT0
from quicstack.simulator import BulkTransfer, Capture, Delay, Host, Simulation, configurations
from quicstack.wire.packet import MIN_INITIAL_DATAGRAM


def test_every_packet_is_marked() -> None:
    """From the first one to CONNECTION_CLOSE, also beyond the ten packets of the test (RFC 9000 §A.4)."""
    for_client, for_server = configurations(path_mtu_discovery=True)
    server = Host(for_server, server=True, application=BulkTransfer(bytes(100_000)))
    client = Host(for_client, application=(transfer := BulkTransfer(b"", to=server)))
    capture = Capture()
    simulation = Simulation([client, capture, Delay(0.05), server], seed=1)
    simulation.run(until=lambda: transfer.finished)
    (connection,) = client.endpoint.connections
    connection.close(now=simulation.clock.now)
    client.wake()
    simulation.run(until=lambda: connection.terminated)
    sizes = {len(passage.datagram.data) for passage in capture.passages}
    assert max(sizes) > MIN_INITIAL_DATAGRAM, "no probe of the MTU was sent"
    marks = [passage.datagram.ecn for passage in capture.passages]
    assert marks.count(ECT0) == len(marks) > 80

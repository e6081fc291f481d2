"""The tap."""

from __future__ import annotations

from quicstack.simulator import Capture, DatagramHost, Delay, Direction, Loss, Simulation


def run(seed: int, payload: bytes = b"question") -> tuple[Capture, Capture]:
    before, after = Capture(), Capture()
    client = DatagramHost()
    server = DatagramHost(lambda host, datagram: host.send(b"answer", datagram.source))
    simulation = Simulation([client, before, Delay(0.5), Loss(0.5), after, server], seed=seed)
    for _ in range(100):
        client.send(payload, server.address)
    simulation.run()
    return before, after


def test_it_sees_both_directions_at_its_place() -> None:
    before, after = run(1)
    assert before.count(Direction.FORWARD) == 100
    assert 30 < after.count(Direction.FORWARD) < 70
    assert after.count(Direction.BACKWARD) == after.count(Direction.FORWARD)
    assert before.count(Direction.BACKWARD) < after.count(Direction.BACKWARD)
    assert after.size(Direction.FORWARD) == 8 * after.count(Direction.FORWARD)
    assert after.size(Direction.BACKWARD) == 6 * after.count(Direction.BACKWARD)
    assert {passage.time for passage in before.passages if passage.direction is Direction.FORWARD} == {0.0}
    assert {passage.time for passage in before.passages if passage.direction is Direction.BACKWARD} == {1.0}


def test_the_digest_tells_runs_apart() -> None:
    assert run(1)[0].digest() == run(1)[0].digest()
    assert run(1)[0].digest() != run(2)[0].digest()
    assert run(1)[0].digest() != run(1, b"Question")[0].digest()

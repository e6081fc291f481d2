"""What every node does."""

from __future__ import annotations

import pytest

from quicstack.errors import ConfigurationError
from quicstack.simulator import Asymmetric, DatagramHost, Delay, Direction, Loss, Node, Simulation


def test_the_plain_node_is_a_wire_that_counts() -> None:
    left, wire, right = DatagramHost(), Node(), DatagramHost()
    simulation = Simulation([left, wire, right])
    left.send(b"a", right.address)
    left.send(b"b", right.address)
    right.send(b"c", left.address)
    simulation.run()
    assert [datagram.data for datagram in right.received] == [b"a", b"b"]
    assert [datagram.data for datagram in left.received] == [b"c"]
    assert wire.lanes[Direction.FORWARD].forwarded == 2
    assert wire.lanes[Direction.BACKWARD].forwarded == 1


def test_a_node_stands_in_one_place() -> None:
    loss = Loss(0.5)
    with pytest.raises(ConfigurationError, match="one place"):
        Simulation([DatagramHost(), loss, loss, DatagramHost()])
    with pytest.raises(ConfigurationError, match="one place"):
        Simulation([DatagramHost(), loss, DatagramHost()])


def test_asymmetric_uses_each_node_in_one_direction() -> None:
    left, right = DatagramHost(), DatagramHost()
    both = Asymmetric(forward=Loss(1.0), backward=Delay(2.0))
    simulation = Simulation([left, both, right])
    left.send(b"lost", right.address)
    right.send(b"late", left.address)
    simulation.run()
    assert not right.received
    assert len(left.received) == 1
    assert simulation.now == 2.0
    assert both.lanes[Direction.FORWARD].dropped == 1


def test_one_side_of_asymmetric_may_be_left_out() -> None:
    left, right = DatagramHost(), DatagramHost()
    simulation = Simulation([left, Asymmetric(backward=Loss(1.0)), right])
    left.send(b"through", right.address)
    right.send(b"lost", left.address)
    simulation.run()
    assert (len(left.received), len(right.received)) == (0, 1)

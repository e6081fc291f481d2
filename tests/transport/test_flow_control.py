"""RFC 9000 §4.1, §4.2: what the peer may send, when it is told more, and how far windows grow."""

from __future__ import annotations

import pytest

from quicstack.errors import TransportError, TransportErrorCode
from quicstack.transport.flow_control import MemoryBudget, ReceiveWindow, SendWindow
from quicstack.wire import frame


def test_a_budget_is_given_out_once() -> None:
    budget = MemoryBudget(100)
    assert budget.take(60)
    assert not budget.take(41)
    assert budget.take(40)
    assert not budget.take(1)
    budget.give(30)
    assert not budget.take(31)
    assert budget.take(30)
    assert budget.used == 100


def test_the_limit_is_the_last_byte_allowed() -> None:
    window = ReceiveWindow(1000, 4000)
    window.receive(400, frame.STREAM)
    window.receive(600, frame.STREAM)
    assert window.received == 1000
    with pytest.raises(TransportError) as caught:
        window.receive(1, frame.STREAM)
    assert caught.value.code == TransportErrorCode.FLOW_CONTROL_ERROR
    assert caught.value.frame_type == frame.STREAM
    assert "1001 bytes sent, 1000 were allowed" in caught.value.reason


@pytest.mark.parametrize(("read", "told"), [(499, False), (500, True), (501, True)])
def test_half_a_window_read_is_worth_an_update(read: int, told: bool) -> None:
    window = ReceiveWindow(1000, 1000)
    window.receive(read, frame.STREAM)
    assert window.consume(read) == told


@pytest.mark.parametrize(
    ("received", "read", "told"),
    [(876, 70, True), (875, 70, False), (900, 63, True), (900, 62, False), (900, 0, False)],
)
def test_near_the_limit_a_sixteenth_is(received: int, read: int, told: bool) -> None:
    """An eighth of the window is left to the peer: the rest of what arrived may never be read. 1000 / 16 = 62.5."""
    window = ReceiveWindow(1000, 1000)
    window.receive(received, frame.STREAM)
    assert window.consume(read) == told


def test_the_exact_eighth_and_sixteenth() -> None:
    window = ReceiveWindow(1600, 1600)
    window.receive(1400, frame.STREAM)  # an eighth is left
    assert not window.consume(100)
    window = ReceiveWindow(1600, 1600)
    window.receive(1401, frame.STREAM)
    assert window.consume(100)  # a sixteenth
    window = ReceiveWindow(1600, 1600)
    window.receive(1401, frame.STREAM)
    assert not window.consume(99)


def reads(window: ReceiveWindow, amount: int, now: float, rtt: float = 0.1) -> int:
    """The peer sends and the application reads ``amount``; the limit that is announced then."""
    window.receive(amount, frame.STREAM)
    window.consume(amount)
    return window.raise_limit(now, rtt)


def test_the_limit_follows_the_reader() -> None:
    window = ReceiveWindow(1000, 1000)
    assert window.raise_limit(5.0, 0.1) == 1000
    assert reads(window, 600, 6.0) == 1600
    assert reads(window, 1000, 7.0) == 2600
    assert window.size == 1000


def test_a_limit_is_never_taken_back() -> None:
    """§4.1: also when the window were to shrink."""
    window = ReceiveWindow(1000, 1000)
    assert reads(window, 600, 1.0) == 1600
    window.size = 100
    assert window.raise_limit(2.0, 0.1) == 1600


@pytest.mark.parametrize(("seconds", "grows"), [(0.19, True), (0.21, False), (1.0, False)])
def test_a_window_read_within_two_round_trips_doubles(seconds: float, grows: bool) -> None:
    window = ReceiveWindow(1000, 8000)
    reads(window, 500, 10.0)
    assert window.size == 1000  # nothing to compare with yet
    limit = reads(window, 1000, 10.0 + seconds)
    assert window.size == (2000 if grows else 1000)
    assert limit == 1500 + window.size


def test_only_what_was_read_since_the_last_update_counts() -> None:
    window = ReceiveWindow(1000, 8000)
    reads(window, 800, 10.0)
    reads(window, 400, 10.1)  # 400 in half of two round trips
    assert window.size == 1000
    reads(window, 600, 10.2)
    assert window.size == 2000
    reads(window, 1001, 10.3)
    assert window.size == 4000


def test_growth_ends_at_the_largest_size() -> None:
    window = ReceiveWindow(1000, 2500)
    now = 10.0
    sizes = []
    for _ in range(4):
        reads(window, window.size, now)
        sizes.append(window.size)
        now += 0.01
    assert sizes == [1000, 2000, 2500, 2500]


def test_growth_takes_from_the_budget_and_gives_it_back() -> None:
    budget = MemoryBudget(2500)
    first, second = ReceiveWindow(1000, 9000, budget), ReceiveWindow(1000, 9000, budget)
    assert first.grow(1000) and first.grow(500)
    assert second.grow(1000)
    assert budget.used == 2500 and (first.size, second.size) == (2500, 2000)
    assert not second.grow(1)
    assert second.size == 2000
    first.release()
    assert budget.used == 1000
    first.release()
    assert budget.used == 1000
    assert second.grow(1) and budget.used == 1001


@pytest.mark.parametrize("budget", [None, MemoryBudget(1 << 30)])
def test_a_window_without_growth(budget: MemoryBudget | None) -> None:
    window = ReceiveWindow(1000, 9000, budget)
    assert not window.grow(0) and not window.grow(-5)
    assert window.size == 1000
    assert window.grow(1) and window.size == 1001
    window.release()
    assert budget is None or budget.used == 0


def test_a_released_window_is_nobodys() -> None:
    """A stream that is gone may still be asked; it takes nothing any more."""
    budget = MemoryBudget(100)
    window = ReceiveWindow(10, 1000, budget)
    window.grow(50)
    window.release()
    assert window.grow(500)
    window.release()
    assert budget.used == 0


def test_a_send_limit_only_rises() -> None:
    window = SendWindow()
    assert not window.raise_limit(0)
    assert window.raise_limit(10)
    assert not window.raise_limit(10) and not window.raise_limit(9)
    assert window.limit == 10 and window.used == 0
    assert window.blocked_at != 0  # blocked at 0 is news

"""Virtual time."""

from __future__ import annotations

from quicstack.simulator import Clock, Timer


def drain(clock: Clock, limit: int = 10_000) -> None:
    while clock.next_time() is not None:
        limit -= 1
        assert limit, "virtual time does not end"
        clock.step()


def test_time_leaps_and_ties_keep_their_order() -> None:
    clock = Clock()
    seen: list[tuple[str, float]] = []
    note = lambda name: seen.append((name, clock.now))  # noqa: E731
    clock.at(3_600_000.0, note, "late")
    clock.at(5.0, note, "first")
    clock.at(5.0, note, "second")
    clock.after(1.0, note, "early")
    drain(clock)
    assert seen == [("early", 1.0), ("first", 5.0), ("second", 5.0), ("late", 3_600_000.0)]


def test_an_event_in_the_past_is_the_last_of_this_instant() -> None:
    clock = Clock(10.0)
    seen: list[str] = []
    clock.at(10.0, seen.append, "now")
    clock.at(2.0, seen.append, "past")
    drain(clock)
    assert seen == ["now", "past"]
    assert clock.now == 10.0


def test_a_timer_fires_once_at_its_last_deadline() -> None:
    clock = Clock()
    fired: list[float] = []
    timer = Timer(clock, lambda: fired.append(clock.now))
    for deadline in (5.0, 9.0, 2.0, 7.0):
        timer.set(deadline)
    drain(clock)
    assert fired == [7.0]
    timer.set(8.0)
    timer.set(None)
    drain(clock)
    assert fired == [7.0]


def test_a_timer_set_from_its_own_callback() -> None:
    clock = Clock()
    fired: list[float] = []

    def fire() -> None:
        fired.append(clock.now)
        if len(fired) < 4:
            timer.set(clock.now + 0.5)

    timer = Timer(clock, fire)
    timer.set(1.0)
    drain(clock)
    assert fired == [1.0, 1.5, 2.0, 2.5]


def test_near_and_far_deadlines_in_turn_do_not_pile_up() -> None:
    clock = Clock()
    timer = Timer(clock, lambda: None)
    for step in range(10_000):
        timer.set(clock.now + 30.0)
        timer.set(clock.now + 0.001)
        clock.step()
        assert len(clock) <= 2, step

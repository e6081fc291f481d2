"""Tasks go on within the turn that woke them, and a cancelled one loses nothing and takes nothing."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from quicstack.drivers.gate import Gate
from quicstack.drivers.wakeups import Waiter, Wakeups, wakeups_of

Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def waiting(wakeups: Wakeups, said: list[str], name: str, then: Callable[[], object] | None = None) -> Any:
    waiter = Waiter(wakeups)

    async def task() -> None:
        try:
            await waiter
        except asyncio.CancelledError:
            said.append(f"{name} cancelled")
            raise
        said.append(name)
        if then is not None:
            then()

    started = asyncio.ensure_future(task())
    await asyncio.sleep(0)
    return waiter, started


def in_a_turn(work: Callable[[], None]) -> asyncio.Future[None]:
    """Run ``work`` as the loop runs a driver: outside of any task."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def turn() -> None:
        try:
            work()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    asyncio.get_running_loop().call_soon(turn)
    return done


def test_who_is_collected_goes_on_before_the_turn_ends(run: Run) -> None:
    async def scenario() -> None:
        wakeups = wakeups_of(asyncio.get_running_loop())
        said: list[str] = []
        (first, a), (second, b) = [await waiting(wakeups, said, name) for name in "ab"]

        def turn() -> None:
            wakeups.are_collected = True
            second.wake()
            first.wake()
            first.wake()
            assert said == []
            wakeups.step_all()
            assert said == ["b", "a"]

        await in_a_turn(turn)
        await asyncio.gather(a, b)
        assert said == ["b", "a"]

    run(scenario())


def test_what_a_woken_task_wakes_waits_for_the_loop(run: Run) -> None:
    async def scenario() -> None:
        wakeups = wakeups_of(asyncio.get_running_loop())
        said: list[str] = []
        late, b = await waiting(wakeups, said, "b")
        early, a = await waiting(wakeups, said, "a", then=late.wake)

        def turn() -> None:
            wakeups.are_collected = True
            early.wake()
            wakeups.step_all()
            assert said == ["a"]

        await in_a_turn(turn)
        await asyncio.gather(a, b)
        assert said == ["a", "b"]

    run(scenario())


def test_tasks_do_not_run_inside_each_other(run: Run) -> None:
    async def scenario() -> None:
        wakeups = wakeups_of(asyncio.get_running_loop())
        said: list[str] = []
        waiter, task = await waiting(wakeups, said, "a")
        wakeups.are_collected = True
        waiter.wake()
        wakeups.step_all()
        assert said == []  # this is a task
        await task
        assert said == ["a"]

    run(scenario())


def test_cancelled_while_waiting_and_between_waking_and_going_on(run: Run) -> None:
    async def scenario() -> None:
        wakeups = wakeups_of(asyncio.get_running_loop())
        said: list[str] = []
        _, alone = await waiting(wakeups, said, "alone")
        alone.cancel()
        await asyncio.wait([alone])
        assert alone.cancelled() and said == ["alone cancelled"]
        said.clear()
        late, b = await waiting(wakeups, said, "b")
        early, a = await waiting(wakeups, said, "a", then=b.cancel)

        def turn() -> None:
            wakeups.are_collected = True
            early.wake()
            late.wake()
            wakeups.step_all()

        await in_a_turn(turn)
        await asyncio.wait([a, b])
        assert b.cancelled() and said == ["a", "b cancelled"]

    run(scenario())


def test_a_task_that_ends_the_program_leaves_the_others_their_turn(run: Run) -> None:
    async def scenario() -> None:
        wakeups = wakeups_of(asyncio.get_running_loop())
        said: list[str] = []

        def leave() -> None:
            raise SystemExit

        first, a = await waiting(wakeups, said, "a", then=leave)
        second, b = await waiting(wakeups, said, "b")

        def turn() -> None:
            wakeups.are_collected = True
            first.wake()
            second.wake()
            with pytest.raises(SystemExit):
                wakeups.step_all()
            assert said == ["a"]

        await in_a_turn(turn)
        await asyncio.wait([a, b])
        assert isinstance(a.exception(), SystemExit) and said == ["a", "b"]

    run(scenario())


def test_a_task_keeps_its_context(run: Run) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    async def scenario() -> None:
        gate = Gate(wakeups_of(asyncio.get_running_loop()))
        seen: list[str] = []

        async def task(own: str) -> None:
            name.set(own)
            await gate.wait()
            seen.append(name.get())

        tasks = [asyncio.ensure_future(task(own)) for own in "ab"]
        await asyncio.sleep(0)
        wakeups = wakeups_of(asyncio.get_running_loop())

        def turn() -> None:
            wakeups.are_collected = True
            gate.open()
            wakeups.step_all()
            assert seen == ["a", "b"] and name.get() == "nobody"

        await in_a_turn(turn)
        await asyncio.gather(*tasks)

    run(scenario())


def test_loops_are_not_kept(run: Run) -> None:
    loop = asyncio.new_event_loop()
    wakeups = wakeups_of(loop)
    assert wakeups_of(loop) is wakeups
    loop.close()
    del loop
    with pytest.raises(RuntimeError, match="gone"):
        _ = wakeups.loop

from __future__ import annotations

import asyncio
from typing import Any

from quicstack.drivers.gate import Gate
from quicstack.drivers.wakeups import wakeups_of


def test_everybody_is_woken_and_the_cancelled_are_forgotten(run: Any) -> None:
    async def scenario() -> None:
        gate = Gate(wakeups_of(asyncio.get_running_loop()))
        woken: list[int] = []

        async def wait(number: int) -> None:
            await gate.wait()
            woken.append(number)

        tasks = [asyncio.ensure_future(wait(number)) for number in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        gate.open()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert woken == [0, 2]
        gate.open()  # nobody waits: nothing is kept for the next
        late = asyncio.ensure_future(wait(3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not late.done()
        gate.open()
        await late

    run(scenario())

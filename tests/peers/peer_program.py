"""A peer in a process of its own that prints one JSON object a line, each with an ``event``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

PATIENCE = 40.0


class PeerProgram:
    """What a running peer says, in order. ``log`` keeps all of it for the message of a failed assertion."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[str] = []

    async def event(self, name: str) -> dict[str, Any]:
        """The next event; it has to have this name."""
        async with asyncio.timeout(PATIENCE):
            assert self.process.stdout is not None
            while line := (await self.process.stdout.readline()).decode():
                self.log.append(line)
                if line.startswith("{"):
                    facts: dict[str, Any] = json.loads(line)
                    assert facts["event"] == name, f"expected {name}, the peer said: {''.join(self.log)}"
                    return facts
        raise AssertionError(f"the peer ended before {name}. It said: {''.join(self.log)}{await self._errors()}")

    async def events(self) -> dict[str, dict[str, Any]]:
        """All events until it ends, by name. It has to end well."""
        async with asyncio.timeout(PATIENCE):
            output, errors = await self.process.communicate()
        assert self.process.returncode == 0, (output + errors).decode()
        return {facts["event"]: facts for facts in map(json.loads, output.decode().splitlines())}

    async def _errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()


@asynccontextmanager
async def run(*command: str, **environment: str) -> AsyncIterator[PeerProgram]:
    """Start a peer. Closing its input asks it to end; it is killed when it does not."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment or None
    )
    try:
        yield PeerProgram(process)
    finally:
        if process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(5):
                    await process.communicate()
            except TimeoutError:
                process.kill()
                await process.communicate()
        process._transport.close()  # type: ignore[attr-defined]  # else its pipes are closed by the garbage collector

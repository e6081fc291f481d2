from __future__ import annotations

import asyncio
from typing import Any

import pytest

from quicstack.drivers.resolve import resolve, wildcards


def test_numbers_need_no_thread(run: Any) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert await resolve("192.0.2.1", 1, loop) == [("192.0.2.1", 1)]
        assert await resolve("2001:db8::1", 2, loop) == [("2001:db8::1", 2, 0, 0)]

    run(scenario())


def test_each_address_of_a_name_comes_once(run: Any) -> None:
    async def scenario() -> None:
        found = await resolve("localhost", 443, asyncio.get_running_loop())
        assert len(found) == len(set(found)) > 0
        assert {address[1] for address in found} == {443}

    run(scenario())


@pytest.mark.parametrize(
    ("given", "meant"),
    [(None, ["::"]), ("", ["::"]), ("example.org", ["example.org"]), (["", "127.0.0.1"], ["::", "127.0.0.1"])],
)
def test_wildcards(given: Any, meant: list[str]) -> None:
    assert wildcards(given) == meant

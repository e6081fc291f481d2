"""Datagrams of a session: small, unordered, and lost without a word (draft-16 §4.5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any

from quicstack.drivers.gate import Gate
from webtransport.errors import SessionClosed
from webtransport.link import Link
from webtransport.session_state import Session

__all__ = ["WebTransportDatagrams"]


class WebTransportDatagrams:
    """``session.datagrams``, and ``await session.datagrams`` is the same object. Iterating yields what arrives."""

    __slots__ = ("_changed", "_core", "_link")

    def __init__(self, core: Session, link: Link, changed: Gate) -> None:
        self._core = core
        self._link = link
        self._changed = changed

    def __await__(self) -> Generator[Any, None, WebTransportDatagrams]:
        return self
        yield  # makes this a generator: there is nothing to wait for

    @property
    def max_size(self) -> int:
        """The longest datagram that fits into a packet now; 0 if the peer takes none."""
        return self._core.max_datagram_size

    async def send(self, data: bytes) -> bool:
        """Send ``data``. False if it was dropped here because packets do not leave as fast as datagrams come.

        DatagramTooLarge if it does not fit into a packet, SessionClosed if the session has ended.
        """
        core, link = self._core, self._link
        payload = bytes(data)
        sent = core.send_datagram(payload)
        link.connection.flush()
        if not sent:
            await asyncio.sleep(0)  # the loop may have packets to move
            sent = core.send_datagram(payload)
            link.connection.flush()
            core.stats.datagrams_dropped_outgoing += not sent
        return sent

    async def receive(self) -> bytes:
        """The oldest datagram that has arrived, once there is one. SessionClosed when no more can come."""
        while True:
            data = self.receive_nowait()
            if data is not None:
                return data
            if self._core.close_info is not None:
                raise SessionClosed(self._core.close_info)
            await self._changed.wait()

    def receive_nowait(self) -> bytes | None:
        """The oldest datagram that has arrived, None if there is none."""
        return self._core.datagrams.pop()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                data = await self.receive()
            except SessionClosed:
                return
            yield data

"""The same engine over ``asyncio.DatagramProtocol``, for loops that cannot watch a socket of ours.

Each datagram is a train of one: no GSO, GRO, ECN or local addresses. That is the price of the Proactor loop of Windows;
elsewhere it is there to be compared with.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, cast

from quicstack.drivers.loop import LoopDriver
from quicstack.drivers.udp import SEND_ERRORS, UdpSocket
from quicstack.train import Address, SendError, Train

__all__ = ["DatagramCarrier", "open_datagram_endpoint"]

MAX_RECEIVED: Final = 4096
"""Datagrams that may wait for their turn; more are dropped, as the kernel would drop them."""


class DatagramCarrier(asyncio.DatagramProtocol):
    """Carries trains for a :class:`LoopDriver` by a datagram transport."""

    def __init__(self, driver: LoopDriver, udp: UdpSocket) -> None:
        self.refused: list[Train] = []
        self._driver = driver
        self._udp = udp  # for its addresses; the transport owns the socket
        self._address = udp.address
        self._received: deque[Train] = deque()
        self._is_turn_due = False
        self._is_full = False
        self._is_closed = False
        self._error: OSError | None = None
        self._transport: asyncio.DatagramTransport | None = None

    # -- from the transport --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        if self._is_closed:
            self._transport.abort()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if len(self._received) < MAX_RECEIVED:
            self._received.append(Train(data, len(data), self._udp.path_to(addr)))
        self._request_turn()

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, OSError):
            self._error = exc
        self._udp.stats.receive_errors += 1

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._driver.writable()

    def _request_turn(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            self._driver.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_turn_due = False
        self._driver.readable(self)
        if self._received:
            self._request_turn()

    # -- for the pump --------------------------------------------------------------------------------------------

    def receive(self) -> Train | None:
        return self._received.popleft() if self._received else None

    def send(self, train: Train) -> Train | SendError | None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return SendError.UNREACHABLE
        datagrams = train.datagrams()
        for index, datagram in enumerate(datagrams):
            if self._is_full:
                left = b"".join(datagrams[index:])
                return Train(left, train.segment_size, train.path)
            self._error = None
            try:
                transport.sendto(datagram, train.path.remote)
            except OSError as error:
                self._error = error
            if self._error is not None:
                return SEND_ERRORS.get(self._error.errno or 0, SendError.UNREACHABLE)
        self._udp.stats.trains_sent += len(datagrams)
        self._udp.stats.bytes_sent += len(train.data)
        return None

    def close(self) -> None:
        """Close the transport, as soon as there is one."""
        self._is_closed = True
        self._received.clear()
        if self._transport is not None and not self._driver.loop.is_closed():
            self._transport.abort()


async def open_datagram_endpoint(driver: LoopDriver, udp: UdpSocket) -> None:
    """Hand the socket of ``udp`` to a datagram transport of the loop, and carry the trains of ``driver`` by it."""
    address: Address = udp.address
    udp.make_plain()
    carrier = DatagramCarrier(driver, udp)
    try:
        await driver.loop.create_datagram_endpoint(lambda: carrier, sock=udp.socket)
    except asyncio.CancelledError:
        carrier.close()  # the transport exists and owns the socket, though nobody has it yet
        raise
    except BaseException:
        udp.close()
        raise
    driver.note_socket(udp)
    driver.add_carrier(carrier, address, carrier.close)

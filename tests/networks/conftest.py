"""Strangers on the simulated network: aioquic's engine as a host, doing the same bulk transfer as ours."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from quicstack.simulator import Datagram, DatagramHost, Timer
from quicstack.simulator.clock import Clock
from quicstack.simulator.configurations import identity

CID_LENGTH = 8
LATENESS = 0.001
"""aioquic computes when a packet is lost in two ways that round differently: a timer that fires exactly on time finds
nothing to do and is set to the same time, for ever. Timers of an event loop are late, and so are these."""


class AioquicHost(DatagramHost):
    """One connection of aioquic, client (with ``to``) or server: ``payload`` on a stream, and that of the other."""

    def __init__(self, payload: bytes, *, to: DatagramHost | None = None, alpn: str = "simulation") -> None:
        super().__init__()
        self.payload = payload
        self.to = to
        self.alpn = alpn
        self.quic: Any = None
        self.received = bytearray()
        self.got_all = False
        self.handshake_complete = False
        self.terminated: Any = None

    @property
    def finished(self) -> bool:
        return self.got_all

    def attach(
        self, clock: Clock, random: Random, wall_time: Callable[[], float], network: Callable[[Datagram], None]
    ) -> None:
        super().attach(clock, random, wall_time, network)
        self.timer = Timer(clock, self.expired)

    def start(self) -> None:
        if self.to is not None:
            self.quic = self.new_connection(None)
            self.quic.connect(self.to.address, now=self.clock.now)
            self.pump()

    def new_connection(self, original_dcid: bytes | None) -> Any:
        import ssl

        from aioquic.quic.configuration import QuicConfiguration
        from aioquic.quic.connection import QuicConnection

        shown = identity()
        configuration = QuicConfiguration(
            is_client=original_dcid is None,
            alpn_protocols=[self.alpn],
            server_name="server.test",
            verify_mode=ssl.CERT_NONE,
            certificate=shown.certificates[0],
            private_key=shown.private_key,
            connection_id_length=CID_LENGTH,
            max_datagram_size=1200,
        )
        if original_dcid is None:
            return QuicConnection(configuration=configuration)
        return QuicConnection(configuration=configuration, original_destination_connection_id=original_dcid)

    def receive(self, datagram: Datagram) -> None:
        if self.quic is None:
            from aioquic.buffer import Buffer
            from aioquic.quic.packet import QuicPacketType, pull_quic_header

            try:
                header = pull_quic_header(Buffer(data=datagram.data), host_cid_length=CID_LENGTH)
            except ValueError:
                return
            if header.packet_type is not QuicPacketType.INITIAL:
                return
            self.quic = self.new_connection(header.destination_cid)
        self.quic.receive_datagram(datagram.data, datagram.source, now=self.clock.now)
        self.pump()

    def expired(self) -> None:
        self.quic.handle_timer(now=self.clock.now)
        self.pump()

    def pump(self) -> None:
        from aioquic.quic import events

        while (event := self.quic.next_event()) is not None:
            if isinstance(event, events.HandshakeCompleted):
                self.handshake_complete = True
                if self.to is not None:
                    self.quic.send_stream_data(self.quic.get_next_available_stream_id(), self.payload, end_stream=True)
            elif isinstance(event, events.StreamDataReceived):
                if self.to is None and not self.received:
                    self.quic.send_stream_data(event.stream_id, self.payload, end_stream=True)
                self.received += event.data
                self.got_all = self.got_all or event.end_stream
            elif isinstance(event, events.ConnectionTerminated):
                self.terminated = event
        for data, address in self.quic.datagrams_to_send(now=self.clock.now):
            self.send(data, address)
        deadline = self.quic.get_timer()
        self.timer.set(None if deadline is None else deadline + LATENESS)


@pytest.fixture
def aioquic_host() -> type[AioquicHost]:
    pytest.importorskip("aioquic")
    return AioquicHost

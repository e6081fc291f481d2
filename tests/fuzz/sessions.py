"""Targets with a WebTransport session: its peer sends capsules, streams and datagrams that nobody meant."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from connections import Web, sound
from upper import pieces

from h3.connection import H3Connection
from h3.frames import FrameType, encode_frame
from quicstack.connection.connection import Connection
from quicstack.errors import QuicstackError
from quicstack.wire.varint import encode_varint
from webtransport.dialects import DIALECTS, Dialect, FlowLimits, settings_to_send
from webtransport.errors import WebTransportError
from webtransport.session_table import SessionTable

__all__ = ["SESSIONS"]

UNIDIRECTIONAL, BIDIRECTIONAL = 0x54, 0x41


class Tables:
    """Either side: takes every session and every stream, and reads what comes."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialects = (dialect,)
        self.tables: dict[Connection, SessionTable] = {}
        self.now = 1000.0

    def ready(self, connection: Connection) -> None:
        table = self.tables.get(connection)
        if table is None and connection.handshake_complete and connection.closed is None:
            limits = FlowLimits(1 << 14, 4, 4)
            settings = settings_to_send(
                server=not connection.is_client, max_sessions=2, limits=limits, dialects=self.dialects
            )
            layer = H3Connection(connection, extra_settings=settings, enable_webtransport=True)
            table = self.tables[connection] = SessionTable(
                layer, settings=settings, dialects=self.dialects, max_sessions=2, window=FlowLimits(1 << 16, 8, 8)
            )
        changes = connection.take_ready()
        if table is None:
            return
        self.now += 0.01
        table.process(changes, self.now)
        table.handle_timeout(self.now)
        for session in table.take_ready().sessions:
            with suppress(WebTransportError, QuicstackError):
                if not connection.is_client and not session.is_open and not session.is_over:
                    table.accept(session)
            for unidirectional in (False, True):
                while (stream := session.accept_stream(unidirectional=unidirectional)) is not None:
                    with suppress(WebTransportError, QuicstackError):
                        stream.read()


def session(data: bytes, *, server: bool) -> None:
    """The first byte chooses the dialect; the session is made as it should be, and the rest is not."""
    dialect = DIALECTS[data[0] % len(DIALECTS)] if data else DIALECTS[0]
    ours, puppets = Tables(dialect), Tables(dialect)
    web = Web(server=server, application=ours, opposite=puppets)
    client = puppets if server else ours
    connection = web.puppet if server else web.ours
    with suppress(WebTransportError):
        made = client.tables[connection].connect("server.test", "/")
        web.exchange()
        assert made.is_open, f"no session in {dialect.name}"
    for number, payload in pieces(data[1:])[:12]:
        with suppress(QuicstackError):
            speak(web.puppet, number, payload)
        web.exchange(4)
        sound(web.ours, web.puppet)


def speak(puppet: Connection, number: int, payload: bytes) -> None:
    """One thing that the peer does, all of it on the session of stream 0."""
    connect = puppet.stream(0)
    match number % 8:
        case 0 | 1 | 2:
            if connect is not None:
                connect.write(encode_frame(FrameType.DATA, payload), fin=number >= 240)
        case 3:
            stream = puppet.open_stream(unidirectional=True)
            stream.write(encode_varint(UNIDIRECTIONAL) + b"\x00" + payload, fin=bool(number & 8))
            if number & 16:
                stream.reset(len(payload), number % 4)
        case 4:
            stream = puppet.open_stream()
            stream.write(encode_varint(BIDIRECTIONAL) + b"\x00" + payload, fin=bool(number & 8))
            if number & 16:
                stream.stop_sending(len(payload))
        case 5:
            puppet.send_datagram(b"\x00" + payload[:900])
        case 6:
            if connect is not None:
                connect.reset(number)
        case 7:
            for stream in list(puppet._state.streams.streams.values()):
                if stream.can_send and stream is not connect:
                    stream.write(payload, fin=bool(number & 8))


def wt_server(data: bytes) -> None:
    session(data, server=True)


def wt_client(data: bytes) -> None:
    session(data, server=False)


SESSIONS: dict[str, Callable[[bytes], None]] = {"wt_server": wt_server, "wt_client": wt_client}

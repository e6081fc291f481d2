"""Applications under attack: an echo on plain QUIC, and HTTP/3 with WebTransport's streams, datagrams and capsules.

Both run on the endpoint under attack and on its friend. ``ask`` starts a question on a well-behaved connection and
returns a function that says whether the answer has come.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

from h3.connection import H3Connection
from h3.exchange import Exchange
from quicstack.connection.connection import Connection
from quicstack.errors import QuicstackError
from quicstack.transport.stream import Stream

CAPSULES = {0x2843: 1028, 0x78AE: 0, 0x190B4D3D: 8, 0x190B4D3E: 8, 0x190B4D3F: 8}
HEAD = [(b":scheme", b"https"), (b":authority", b"server.test"), (b":path", b"/")]


class Echo:
    """Says everything back, on every stream that has two ways."""

    alpn = "simulation"

    def __init__(self) -> None:
        self._greeted: WeakSet[Connection] = WeakSet()

    def ready(self, connection: Connection) -> None:
        if connection.is_client and connection.handshake_complete and connection not in self._greeted:
            self._greeted.add(connection)
            while connection.can_open_stream() and connection.open_stream().id < 8:
                pass
        for stream in connection.take_ready().streams:
            if not stream.can_receive or stream.reset_code is not None:
                continue
            data = stream.read()
            if isinstance(stream.owner, bytearray):
                stream.owner += data
            elif stream.can_send:
                _quietly(lambda stream=stream, data=data: stream.write(data, fin=stream.at_end))
        while connection.receive_datagram() is not None:
            pass

    def ask(self, connection: Connection) -> Callable[[], bool]:
        stream = connection.open_stream()
        stream.owner = answer = bytearray()
        stream.write(b"?", fin=True)
        return lambda: stream.at_end and answer == b"?"


class Http3:
    """A server says the request's content back and takes every tunnel; a client asks thrice and opens one."""

    alpn = "h3"

    def __init__(self) -> None:
        self.layers: dict[Connection, H3Connection] = {}

    def ready(self, connection: Connection) -> None:
        layer = self.layers.get(connection)
        if layer is None and connection.handshake_complete and connection.closed is None:
            layer = self.layers[connection] = H3Connection(connection, enable_webtransport=True)
            if connection.is_client:
                for method in (b"POST", b"PUT", b"DELETE"):
                    layer.request([(b":method", method), *HEAD])
        ready = connection.take_ready()
        if layer is None:
            return
        found = layer.process(ready)
        if found.settings_received and connection.is_client:
            tunnel = [(b":method", b"CONNECT"), (b":protocol", b"webtransport"), *HEAD]
            _quietly(lambda: layer.request(tunnel))
        for _, stream in found.webtransport_streams:
            self._claim(stream)
        for stream in ready.streams:
            if stream.owner is self and stream.can_receive and stream.reset_code is None:
                stream.read()
        for exchange in found.exchanges:
            _quietly(lambda exchange=exchange: self._serve(exchange))
        if connection.closed is not None:
            self.layers.pop(connection, None)

    def _claim(self, stream: Stream) -> None:
        """A stream of a session: read a while, or refused."""
        stream.owner = self
        if stream.id % 3 == 0:
            stream.stop_sending(0x3994BD84)
            if stream.can_send:
                stream.reset(0x3994BD84)

    def _serve(self, exchange: Exchange) -> None:
        if exchange.is_connect and exchange.status is None and exchange.headers is not None:
            exchange.send_headers([(b":status", b"200")])
        if exchange.is_connect and exchange.status == 200 and exchange.protocol is not None:
            exchange.upgrade(CAPSULES)
            while exchange.take_capsules():
                exchange.send_capsule(0x190B4D3D, b"\x05")
            for payload in exchange.take_datagrams():
                exchange.send_datagram(payload[:100])
            return
        content = exchange.read_body()
        if exchange.owner is not None:
            assert isinstance(exchange.owner, bytearray)
            exchange.owner += content
        elif exchange.headers is not None and exchange.response is None:
            exchange.send_headers([(b":status", b"200"), (b"server", b"under attack")])
            exchange.send_body(b"!" + content, end_stream=True)

    def ask(self, connection: Connection) -> Callable[[], bool]:
        exchange = self.layers[connection].request([(b":method", b"GET"), *HEAD], end_stream=True)
        exchange.owner = answer = bytearray()
        return lambda: exchange.at_end and exchange.status == 200 and answer == b"!"


def _quietly(action: Callable[[], object]) -> None:
    """The application's own calls may fail on a connection like that, with our errors and no others."""
    try:
        action()
    except QuicstackError:
        pass

"""Applications for hosts: what is sent in an experiment."""

from __future__ import annotations

from quicstack.connection.connection import Connection
from quicstack.simulator.datagram_host import DatagramHost
from quicstack.simulator.host import Host
from quicstack.transport.stream import Stream

__all__ = ["BulkTransfer", "Transfer"]


class Transfer:
    """One stream: writes ``payload`` as the stream takes it, and keeps what arrives in ``received``."""

    def __init__(self, stream: Stream, payload: bytes) -> None:
        self.stream = stream
        self.received = bytearray()
        self._payload = payload
        self._sent = 0
        self._fin_sent = False

    @property
    def finished(self) -> bool:
        """Everything arrived here, and everything sent is known to have arrived there."""
        return self.stream.at_end and self.stream.send_done

    def take_in(self) -> None:
        """Read all there is."""
        self.received += self.stream.read()

    def put_out(self) -> None:
        """Write all that fits."""
        if self._fin_sent:
            return
        # One byte more than fits, if there is one: who was refused is told when there is room again.
        offered = self._payload[self._sent : self._sent + self.stream.writable + 1]
        self._sent += self.stream.write(offered)
        if self._sent == len(self._payload):
            self._fin_sent = True
            self.stream.finish()


class BulkTransfer:
    """A client that opens a stream to the host ``to``, or a server that answers every stream; both send ``payload``.

    ``streams`` is how many the client opens at once; the server has to allow as many.
    """

    def __init__(self, payload: bytes, *, to: DatagramHost | None = None, streams: int = 1) -> None:
        self.transfers: list[Transfer] = []
        self.connection: Connection | None = None
        self._payload = payload
        self._to = to
        self._streams = streams

    @property
    def finished(self) -> bool:
        """All streams so far are through, in both directions."""
        return bool(self.transfers) and all(transfer.finished for transfer in self.transfers)

    def start(self, host: Host) -> None:
        if self._to is not None:
            self.connection = host.connect(self._to)

    def ready(self, host: Host, connection: Connection) -> None:
        streams = connection.take_ready().streams
        if (
            connection is self.connection
            and connection.handshake_complete
            and not (self.transfers or connection.closed)
        ):
            streams += [connection.open_stream() for _ in range(self._streams)]
        for stream in streams:
            if stream.owner is None:
                stream.owner = transfer = Transfer(stream, self._payload)
                self.transfers.append(transfer)
            if isinstance(stream.owner, Transfer):
                stream.owner.take_in()
                if connection.closed is None:
                    stream.owner.put_out()

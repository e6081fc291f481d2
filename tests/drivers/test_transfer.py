"""One step of reading and of writing, on streams of two connections that talk in memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from quicstack.drivers.system import real_environment
from quicstack.drivers.transfer import give, take
from quicstack.endpoint import Endpoint
from quicstack.errors import ConnectionClosed, StreamError
from quicstack.train import Path
from quicstack.transport.stream import Stream

SIZE = 1000
CLOSED = ConnectionClosed(7, "gone")


class Link:
    """A client and a server without a network between them."""

    def __init__(self, pair: Any) -> None:
        small = dataclasses.replace(pair.client, send_buffer=SIZE, server_name="localhost")
        self.client = Endpoint(small, environment=real_environment(), server=False)
        self.server = Endpoint(pair.server, environment=real_environment(), server=True)
        self.now = 0.0
        self.connection = self.client.connect(Path(("192.0.2.1", 1)), self.now)
        self.exchange()
        assert self.connection.handshake_complete

    def exchange(self) -> None:
        """Whatever both have to say within a quarter of a second."""
        for _ in range(25):
            for sender, receiver in ((self.client, self.server), (self.server, self.client)):
                sender.handle_timeout(self.now)
                while (train := sender.next_train(self.now)) is not None:
                    receiver.receive(train, self.now)
            self.now += 0.01

    def stream(self) -> Stream:
        """The server's side of a stream of the client, whose bytes are on their way."""
        [connection] = self.server.connections
        stream = connection.stream(0)
        assert stream is not None
        return stream


@pytest.fixture
def link(pair: Any) -> Link:
    return Link(pair)


def test_reading(link: Link) -> None:
    ours = link.connection.open_stream()
    assert take(ours, -1, None) is None
    assert take(ours, 0, None) == b""
    ours.write(b"abc", fin=True)
    link.exchange()
    theirs = link.stream()
    assert take(theirs, 2, None) == b"ab"
    assert take(theirs, -1, CLOSED) == b"c"
    assert take(theirs, -1, None) == take(theirs, -1, CLOSED) == b""


def test_reading_when_there_is_nothing_to_wait_for(link: Link) -> None:
    ours = link.connection.open_stream()
    with pytest.raises(ConnectionClosed, match="gone"):
        take(ours, -1, CLOSED)
    ours.stop_sending(1)
    with pytest.raises(StreamError, match="told to stop"):
        take(ours, -1, None)


def test_writing_takes_what_fits_and_ends_with_the_last_of_it(link: Link) -> None:
    data = bytes(range(250)) * 10
    ours = link.connection.open_stream()
    accepted = give(ours, data, 0, True, None)
    assert accepted == SIZE
    assert give(ours, data, accepted, True, None) == accepted
    received = b""
    while accepted < len(data):
        link.exchange()
        received += take(link.stream(), -1, None) or b""
        accepted = give(ours, data, accepted, True, None)
    link.exchange()
    stream = link.stream()
    received += take(stream, -1, None) or b""
    assert received == data
    assert stream.at_end


def test_a_full_stream_is_ready_again_when_there_is_room(link: Link) -> None:
    ours = link.connection.open_stream()
    give(ours, bytes(SIZE + 1), 0, False, None)
    link.connection.take_ready()
    link.exchange()
    assert ours in link.connection.take_ready().streams


def test_nothing_is_given_to_a_connection_that_is_over(link: Link) -> None:
    ours = link.connection.open_stream()
    with pytest.raises(ConnectionClosed, match="gone"):
        give(ours, b"x", 0, False, CLOSED)
    assert ours.send_buffered == 0


def test_an_empty_write_may_end_the_stream(link: Link) -> None:
    ours = link.connection.open_stream()
    assert give(ours, b"", 0, True, None) == 0
    link.exchange()
    assert take(link.stream(), -1, None) == b""

"""What a server sends to an address that nobody has proven, and what proves one (RFC 9000 §8, §14.1)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from peer import HANDSHAKE, INITIAL, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet, opens_long

from quicstack.train import Path, Train
from quicstack.wire import frame as f
from quicstack.wire.packet import read_long_header
from quicstack.wire.version import VERSIONS

ELSEWHERE = Path(("203.0.113.9", 50000))
REBOUND = Path((TO_CLIENT.remote[0], 61000))


def train(datagram: bytes, path: Path = TO_CLIENT) -> Train:
    return Train(datagram, len(datagram), path)


class Server:
    """A server with a client's first flight and no more, and how many bytes went each way."""

    def __init__(self) -> None:
        self.pair = Pair()
        self.received = 0
        self.sent = 0
        self.gets(*[one.data for one in self.pair.from_client()])

    def gets(self, *datagrams: bytes) -> None:
        self.received += sum(map(len, datagrams))
        self.pair.to_server([train(datagram) for datagram in datagrams])
        self.speaks()

    def speaks(self) -> list[Train]:
        trains = self.pair.from_server()
        for one in trains:
            self.sent += len(one.data)
            if not self.pair.server._state.path.validated:
                assert self.sent <= 3 * self.received
        return trains

    def waits(self, seconds: float) -> list[Train]:
        """Every probe timeout in that time, and what it sends."""
        end = self.pair.now + seconds
        trains = []
        while (deadline := self.pair.server_endpoint.next_timeout()) is not None and deadline <= end:
            self.pair.now = max(self.pair.now, deadline)
            self.pair.server_endpoint.handle_timeout(self.pair.now)
            trains += self.speaks()
        self.pair.now = end
        return trains


@pytest.mark.conformance("T45")
def test_three_times_what_came() -> None:
    """§8.1: at no moment more, however often the probe timer fires; nearly all of it is used."""
    server = Server()
    server.waits(8)
    assert 2 * server.received < server.sent <= 3 * server.received


@pytest.mark.conformance("T45")
@pytest.mark.parametrize("kind", ["an Initial that does not open", "a Handshake packet that does not open"])
def test_what_cannot_be_opened_counts_too(kind: str) -> None:
    """§8.1: it is the bytes of the datagrams that count."""
    server = Server()
    server.waits(4)
    before = server.received
    state = server.pair.client._state
    level = INITIAL if "Initial" in kind else HANDSHAKE
    head = b"\xc3" if level == INITIAL else b"\xe3"
    cids = b"\x08" + server.pair.server._state.local_cids.first + b"\x08" + state.local_cids.first
    body = b"\x00" if level == INITIAL else b""
    noise = head + b"\x00\x00\x00\x01" + cids + body + b"\x44\xb0"
    server.gets(noise + bytes(0x4B0))
    server.waits(5.5)
    assert server.sent > 3 * before
    assert server.pair.server_endpoint.connections


@pytest.mark.conformance("T45")
def test_a_client_that_says_nothing_more_gets_nothing_more() -> None:
    """§8.1: once the limit is reached, no timer sends a byte."""
    server = Server()
    server.waits(6)
    room = 3 * server.received - server.sent
    assert room < 1200
    assert sum(len(one.data) for one in server.waits(3)) <= room


@pytest.mark.conformance("T46")
def test_a_handshake_packet_proves_the_address() -> None:
    """§8.1: with it the limit is gone, though the handshake is not complete."""
    server = Server()
    server.waits(4)
    limit = 3 * server.received
    assert limit - server.sent < 1200
    (first, *_) = server.pair.from_client() or [None]
    assert first is None
    keyed = Pair()  # the same random numbers, so the same keys: it plays the client that has heard the server
    keyed.to_server(keyed.from_client())
    keyed.to_client(keyed.from_server())
    server.gets(long_packet(keyed.client._state, HANDSHAKE, b"\x01", number=0))
    assert not server.pair.server.handshake_complete
    server.waits(4)
    assert server.sent > limit + 3 * 100


@pytest.mark.conformance("T47")
@pytest.mark.parametrize("after", ["nothing", "a lost flight", "the server's Initial", "closing"])
def test_every_initial_of_a_client_is_padded(after: str) -> None:
    """§14.1: to 1200 bytes, whether it begins, repeats, acknowledges or closes, and coalesced ones as a whole."""
    pair = Pair()
    sent = pair.from_client()
    datagrams = [one.data for one in sent]
    if after == "a lost flight":
        for _ in range(3):
            deadline = pair.client_endpoint.next_timeout()
            assert deadline is not None
            pair.now = max(pair.now, deadline)
            pair.client_endpoint.handle_timeout(pair.now)
            datagrams += [one.data for one in pair.from_client()]
        assert len(datagrams) > len(sent)
    if after == "the server's Initial":
        pair.to_server(sent)
        answers = pair.from_server()
        pair.to_client([train(answers[0].data, TO_SERVER)])
        heard = pair.from_client()
        assert heard
        datagrams += [one.data for one in heard]
    if after == "closing":
        pair.client.close(1, now=pair.now)
        closing = pair.from_client()
        assert closing
        datagrams += [one.data for one in closing]
    for data in datagrams:
        if data[0] & 0x80 and read_long_header(data, 0, VERSIONS[1]).packet_type == INITIAL:
            assert len(data) >= 1200


@pytest.mark.conformance("T48")
@pytest.mark.parametrize("keys", [INITIAL, HANDSHAKE], ids=["without Handshake keys", "with Handshake keys"])
def test_a_client_breaks_the_silence(keys: int) -> None:
    """§8.1: nothing is in flight, but the server may have run into its limit, so the timer sends all the same."""
    pair = Pair()
    pair.to_server(pair.from_client())
    state = pair.server._state
    if keys == INITIAL:
        pair.from_server()
        ack = long_packet(state, INITIAL, f.write_ack([(0, pair.client._state.spaces[0].next_packet_number - 1)], 0))
        pair.to_client([train(ack, TO_SERVER)])
    else:
        answers = pair.from_server()
        end = read_long_header(answers[0].data, 0, VERSIONS[1]).end
        pair.to_client([train(answers[0].data[:end], TO_SERVER)])
    while pair.from_client():
        pass
    sent: list[Train] = []
    end = pair.now + 8
    while (deadline := pair.client_endpoint.next_timeout()) is not None and deadline < end:
        pair.now = max(pair.now, deadline)
        pair.client_endpoint.handle_timeout(pair.now)
        sent += pair.from_client()
    assert len(sent) >= 3
    for one in sent:
        ((kind, frames),) = opens_long(state, one.data)
        assert kind == (2 if keys == HANDSHAKE else 0)
        assert {frame.name for frame in frames} & {"PING", "CRYPTO"}
        assert kind == 2 or len(one.data) >= 1200


# -- validation of a path that proves nothing ----------------------------------------------------------------------


@pytest.mark.conformance("T59")
@pytest.mark.parametrize("path", [ELSEWHERE, REBOUND], ids=["address", "port"])
def test_validation_is_given_up_after_three_probe_timeouts(path: Path) -> None:
    """§8.2.4: of the present path or, if that is more, of one of unknown delay: 3 x 999 ms. Then the old path again."""
    peer = Peer()
    began = peer.now
    peer.sends(b"\x01", path=path)
    peer.engine.open_stream().write(bytes(100_000))
    used: dict[Path, list[float]] = {path: [], TO_CLIENT: []}
    while peer.now < began + 8:
        peer.pair.now += 0.01
        peer.endpoint.handle_timeout(peer.now)
        while (sent := peer.endpoint.next_train(peer.now)) is not None:
            if [frame for frame in peer.opens(sent.data[: sent.segment_size])[1] if frame.name == "STREAM"]:
                used[sent.path].append(peer.now - began)
    assert used[path] and used[TO_CLIENT]
    assert min(used[TO_CLIENT]) >= 2.99
    assert max(used[path]) < min(used[TO_CLIENT]) < 6
    assert peer.engine.path == TO_CLIENT


def challenges(peer: Peer, path: Path, seconds: float) -> list[tuple[float, bytes, int]]:
    """When PATH_CHALLENGE goes to an address in that time, its data, and the size of the datagram around it."""
    began = peer.now
    found = []
    while peer.now < began + seconds:
        peer.pair.now += 0.01
        peer.endpoint.handle_timeout(peer.now)
        while (sent := peer.endpoint.next_train(peer.now)) is not None:
            for frame in peer.opens(sent.data[: sent.segment_size])[1]:
                if frame.name == "PATH_CHALLENGE" and sent.path == path:
                    data = frame.fields["data"]
                    assert isinstance(data, bytes | bytearray)
                    found.append((peer.now - began, bytes(data), len(sent.data)))
    return found


@pytest.mark.conformance("T59", "T55")
@pytest.mark.parametrize("path", [ELSEWHERE, REBOUND], ids=["address", "port"])
def test_challenges_are_as_rare_as_initials(path: Path) -> None:
    """§8.2.1: three, one in 999 ms, each with data of its own, in full datagrams where the limit allows that."""
    peer = Peer()
    peer.sends(b"\x01" + bytes(1300), path=path)
    found = challenges(peer, path, 8)
    assert len(found) == len({data for _, data, _ in found}) == 3
    assert all(later[0] - earlier[0] >= 0.99 for earlier, later in pairwise(found))
    assert all(len(data) == 8 and size >= 1200 for _, data, size in found)


@pytest.mark.conformance("T58")
def test_a_late_response_still_proves_the_path() -> None:
    """§8.2.3: to whichever of the challenges it is."""
    peer = Peer()
    peer.sends(b"\x01" + bytes(1300), path=ELSEWHERE)
    (_, first, _), _ = challenges(peer, ELSEWHERE, 1.5)
    peer.sends(b"\x1b" + first, path=ELSEWHERE)
    assert not challenges(peer, ELSEWHERE, 5)
    assert peer.engine.path == ELSEWHERE


@pytest.mark.conformance("T56b")
def test_the_response_to_a_small_challenge_proves_no_size() -> None:
    """§8.2.1: also when a large one went out in the meantime."""
    peer = Peer()
    peer.sends(b"\x01", path=ELSEWHERE)
    ((_, first, size),) = challenges(peer, ELSEWHERE, 0.5)
    assert size < 1200
    peer.sends(b"\x01" + bytes(1300), path=ELSEWHERE)
    ((_, second, size),) = challenges(peer, ELSEWHERE, 1.0)
    assert size >= 1200 and second != first
    peer.sends(b"\x1b" + first, path=ELSEWHERE)
    ((_, third, size),) = challenges(peer, ELSEWHERE, 0.5)
    assert size >= 1200 and third != first
    peer.sends(b"\x1b" + third, path=ELSEWHERE)
    assert not challenges(peer, ELSEWHERE, 5)
    assert peer.engine.path == ELSEWHERE


@pytest.mark.conformance("T57")
def test_a_response_that_answers_nothing() -> None:
    """§8.2.3: wrong data, or right data of a path that is proven already, changes nothing and breaks nothing."""
    peer = Peer()
    peer.sends(b"\x1b" + bytes(8))
    peer.sends(b"\x01" + bytes(1300), path=ELSEWHERE)
    peer.sends(b"\x1b" + bytes(8), b"\x1b" + b"whatever", path=ELSEWHERE)
    assert len(challenges(peer, ELSEWHERE, 8)) == 3
    assert peer.engine.closed is None and peer.engine.path == TO_CLIENT

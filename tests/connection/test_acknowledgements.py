"""When packets are acknowledged, in which packets, and what must not be (RFC 9000 §13.1, §13.2)."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, ONE_RTT, Pair, Peer
from scene import SCENES, Scene
from wire import LEVELS, Listener

from quicstack.errors import TransportErrorCode
from quicstack.train import Train
from quicstack.wire import frame as f
from quicstack.wire.frame_study import Frame
from quicstack.wire.packet import read_long_header
from quicstack.wire.version import VERSIONS

E = TransportErrorCode


def acks(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.frame_type in (f.ACK, f.ACK_ECN)]


def now(peer: Peer) -> list[Frame]:
    """The frames of what the engine sends at this moment, while no time passes."""
    frames: list[Frame] = []
    for _ in range(10):
        if (train := peer.endpoint.next_train(peer.now)) is not None:
            frames += [frame for datagram in train.datagrams() for frame in peer.opens(datagram)[1]]
    return frames


# -- what must not be acknowledged (§13.1, §21.4) ------------------------------------------------------------------


@pytest.mark.conformance("T94")
@pytest.mark.parametrize("beyond", [1, 1000, (1 << 62) - 1])
def test_packets_that_were_never_sent(beyond: int) -> None:
    """§13.1: one more than the last is enough."""
    peer = Peer()
    peer.hears(ack=True)
    last = peer.engine._state.spaces[ONE_RTT].next_packet_number - 1
    peer.sends(f.write_ack([(last, last)], 0))
    assert peer.hears() == [] and peer.engine.closed is None
    number = min(last + beyond, (1 << 62) - 1)
    peer.sends(f.write_ack([(number, number)], 0))
    assert peer.closed_with() == E.PROTOCOL_VIOLATION


@pytest.mark.conformance("T94")
@SCENES
def test_packets_that_were_never_sent_in_the_handshake(to: str, space: int) -> None:
    """§13.1."""
    scene = Scene(to, space)
    sent = scene.target._state.spaces[space].next_packet_number
    scene.delivers(scene.sealed(f.write_ack([(sent, sent)], 0)))
    assert scene.answer() == [(0x1C, E.PROTOCOL_VIOLATION)]


@pytest.mark.conformance("T94")
def test_a_packet_number_that_was_left_out_on_purpose() -> None:
    """§21.4: who acknowledges packets without having read them is found out; who has read them is not."""
    for optimist in (False, True):
        peer = Peer()
        for _ in range(400):
            peer.engine.ping()
            peer.hears(ack=True)
        largest = max(peer.received)
        missing = set(range(min(peer.received), largest)) - peer.received
        assert missing and peer.engine.closed is None
        number = max(missing)
        ranges = [(number, largest)] if optimist else [(number + 1, largest), (number - 5, number - 1)]
        peer.sends(f.write_ack(ranges, 0))
        assert peer.closed_with() == (E.PROTOCOL_VIOLATION if optimist else None)


# -- who is answered (§13.2.1) -------------------------------------------------------------------------------------


@pytest.mark.conformance("T95")
def test_packets_that_ask_for_nothing_get_nothing() -> None:
    """§13.2.1: PADDING, ACK frames, and gaps between them."""
    peer = Peer()
    peer.engine.ping()
    peer.hears(ack=True)
    for gap in range(10):
        for _ in range(gap % 3):
            peer.packet(b"\x00")
        peer.sends(b"\x00" * 20)
        peer.acknowledges(max(peer.received))
    assert now(peer) == [] and peer.advance(5) == []


@pytest.mark.conformance("T95")
def test_two_peers_go_quiet() -> None:
    """§13.2.1: no acknowledgement of an acknowledgement."""
    pair = Pair()
    pair.exchange(rounds=50)
    pair.client.open_stream().write(bytes(20_000))
    count = 0
    for _ in range(400):
        to_server, to_client = pair.from_client(), pair.from_server()
        count = 0 if to_server or to_client else count + 1
        pair.to_server(to_server)
        pair.to_client(to_client)
        pair.now += 0.005
        pair.client_endpoint.handle_timeout(pair.now)
        pair.server_endpoint.handle_timeout(pair.now)
    assert count > 200


@pytest.mark.conformance("T95a")
def test_no_more_acknowledgements_than_packets_that_ask_for_them() -> None:
    """§13.2.1: during an upload; and what is added now and then to be acknowledged oneself is the exception."""
    peer = Peer()
    peer.hears(ack=True)
    sent = pings = answers = offset = 0
    for _ in range(400):
        peer.sends(f.stream_header(0, offset, 1000, False) + bytes(1000))
        offset += 1000
        sent += 1
        stream = peer.engine.stream(0)
        assert stream is not None
        stream.read()
        frames = peer.hears()
        answers += len(acks(frames))
        pings += sum(frame.name == "PING" for frame in frames)
        if any(frame.name not in ("ACK", "ACK_ECN") for frame in frames):
            peer.acknowledges(max(peer.received))
    assert 0 < answers <= sent
    assert pings <= sent // 20
    peer.hears(ack=True)
    peer.advance(1)
    peer.acknowledges(*peer.received)
    assert peer.advance(20) == []


@pytest.mark.conformance("T95a")
def test_an_endpoint_that_only_acknowledges_asks_now_and_then() -> None:
    """§13.2.1, §13.2.4: a PING with some of its ACKs, so that they are acknowledged, and not with all of them."""
    peer = Peer()
    peer.hears(ack=True)
    pings, answers = 0, 0
    for _ in range(400):
        peer.sends(b"\x01")
        peer.sends(b"\x01")
        frames = now(peer)
        answers += len(acks(frames))
        pings += sum(frame.name == "PING" for frame in frames)
        peer.pair.now += 0.001
    assert answers == 400 and 1 <= pings <= 20


# -- when (§13.2.1, §13.2.2) ---------------------------------------------------------------------------------------


@pytest.mark.conformance("T96")
@SCENES
def test_the_handshake_is_acknowledged_at_once(to: str, space: int) -> None:
    """§13.2.1: one packet, while no time passes."""
    scene = Scene(to, space)
    while scene.endpoint.next_train(scene.pair.now) is not None:
        pass
    scene.delivers(scene.sealed(b"\x01"))
    sent = scene.endpoint.next_train(scene.pair.now)
    assert sent is not None
    (packet,) = [packet for packet in scene.listener.reads([sent]) if packet.level == LEVELS[space]]
    assert packet.acks[0][0] == (40, 40)


@pytest.mark.conformance("T96")
@pytest.mark.parametrize("delay", [0.005, 0.025, 0.1])
def test_one_packet_is_acknowledged_within_max_ack_delay(delay: float) -> None:
    """§13.2.1: the delay that was promised, and no longer."""
    peer = Peer(max_ack_delay=delay, min_ack_delay=None)
    peer.hears(ack=True)
    number = peer.sends(b"\x01")
    assert now(peer) == []
    deadline = peer.endpoint.next_timeout()
    assert deadline is not None and deadline <= peer.now + delay
    peer.pair.now = deadline
    peer.endpoint.handle_timeout(peer.now)
    (ack,) = acks(now(peer))
    assert ack.ranges[0][1] == number  # type: ignore[index]


@pytest.mark.conformance("T96")
def test_two_packets_are_acknowledged_at_once() -> None:
    """§13.2.2: read one by one, or together."""
    peer = Peer()
    peer.hears(ack=True)
    for _ in range(5):
        peer.sends(b"\x01")
        assert now(peer) == []
        number = peer.sends(b"\x01")
        (ack,) = acks(now(peer))
        assert ack.ranges[0][1] == number  # type: ignore[index]
    together = [peer.packet(b"\x01")[0] for _ in range(2)]
    peer.endpoint.receive(Train(b"".join(together), len(together[0]), peer.path), peer.now)
    assert len(acks(now(peer))) == 1


@pytest.mark.conformance("T97")
@pytest.mark.parametrize("what", ["a gap before it", "late", "CE"])
def test_signs_of_loss_and_congestion_are_reported_at_once(what: str) -> None:
    """§13.2.1."""
    peer = Peer()
    peer.hears(ack=True)
    if what == "late":
        late, first = peer.packet(b"\x01")
        largest = peer.sends(b"\x00")
        assert now(peer) == []
        peer.delivers(late)
    elif what == "CE":
        first = largest = peer.sends(b"\x01", ecn=3)
    else:
        peer.packet(b"\x01")
        first = largest = peer.sends(b"\x01")
    (ack,) = acks(now(peer))
    (smallest, end), *others = ack.ranges  # type: ignore[misc]
    assert smallest <= first and end == largest
    assert bool(others) == (what == "a gap before it")


# -- how much is remembered and said (§13.2.3, §13.2.5, §13.2.6) ---------------------------------------------------


@pytest.mark.conformance("T98")
def test_every_second_packet_number() -> None:
    """§13.2.3: the newest ranges, in a frame that fits its packet, however many there are; what is forgotten counts as
    received."""
    peer = Peer()
    peer.hears(ack=True)
    first, ranges = peer.packet(f.write_datagram(b"first"))[0], 0
    for _ in range(600):
        peer.packet(b"\x01")
        number = peer.sends(b"\x01")
        for ack in acks(now(peer)):
            found = ack.ranges
            assert isinstance(found, list) and found[0] == (number, number)
            ranges = max(ranges, len(found))
        peer.pair.now += 0.0001
    assert 16 <= ranges <= 64
    assert len(peer.engine._state.spaces[ONE_RTT].acks._ranges) <= 256
    peer.delivers(first)
    assert peer.engine.receive_datagram() is None and peer.engine.closed is None


@pytest.mark.conformance("T99")
@pytest.mark.parametrize(("exponent", "waited"), [(3, 0.003), (0, 0.01), (3, 0.4), (10, 0.4)])
def test_the_ack_delay_is_the_time_that_passed(exponent: int, waited: float) -> None:
    """§13.2.5: in units of the exponent that was announced, and also above max_ack_delay."""
    peer = Peer(ack_delay_exponent=exponent)
    peer.hears(ack=True)
    peer.sends(b"\x01")
    peer.pair.now += waited
    peer.endpoint.handle_timeout(peer.now)
    peer.engine.ping()
    (ack,) = acks(now(peer))
    delay = ack.ack_delay
    assert isinstance(delay, int) and abs(delay * 2**exponent * 1e-6 - waited) <= 2**exponent * 1e-6


@pytest.mark.conformance("T99")
def test_the_wait_for_handshake_keys_is_part_of_the_ack_delay() -> None:
    """§13.2.5: in Handshake packets, with an exponent of 3 whatever was announced."""
    pair = Pair(client={"ack_delay_exponent": 7})
    pair.to_server(pair.from_client())
    listener = Listener(pair.client)
    (flight,) = pair.from_server()
    end = read_long_header(flight.data, 0, VERSIONS[1]).end
    pair.to_client([Train(flight.data[end:], len(flight.data) - end, flight.path)])
    pair.now += 0.2
    pair.to_client([Train(flight.data[:end], end, flight.path)])
    (ack,) = [ack for packet in listener.reads(pair.from_client()) if packet.level == "handshake"
              for ack in acks(packet.frames)]  # fmt: skip
    delay = ack.ack_delay
    assert isinstance(delay, int) and abs(delay * 8e-6 - 0.2) <= 8e-6


@pytest.mark.conformance("T100")
def test_each_space_acknowledges_its_own_packets() -> None:
    """§13.2.6: seen at packet numbers that are far apart."""
    pair = Pair()
    pair.client._state.spaces[HANDSHAKE].next_packet_number = 1000
    pair.client._state.spaces[ONE_RTT].next_packet_number = 5000
    sent = pair.from_client()
    pair.to_server(sent)
    pair.server._state.spaces[ONE_RTT].next_packet_number = 7000
    listeners = {"client": Listener(pair.client), "server": Listener(pair.server)}
    listeners["client"].expects(5000)
    listeners["server"].expects(7000)
    first = {"client": {"initial": 0, "handshake": 1000, "1RTT": 5000}, "server": {"1RTT": 7000}}
    heard = set()
    for _ in range(12):
        both = {"server": pair.from_server(), "client": pair.from_client()}
        for who, other in (("server", "client"), ("client", "server")):
            for packet in listeners[who].reads(both[who]):
                low = first[other].get(packet.level, 0)
                for ranges in packet.acks:
                    heard.add((who, packet.level))
                    assert all(low <= smallest <= largest < low + 900 for smallest, largest in ranges)
        pair.to_client(both["server"])
        pair.to_server(both["client"])
        pair.now += 0.03
        pair.client_endpoint.handle_timeout(pair.now)
        pair.server_endpoint.handle_timeout(pair.now)
    assert heard >= {("client", "initial"), ("client", "handshake"), ("client", "1RTT"), ("server", "1RTT")}

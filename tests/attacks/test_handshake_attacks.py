"""Attacks before anybody has proven anything: floods, forgeries and nonsense in Initial and Handshake packets."""

from __future__ import annotations

import random

import pytest
from measure import calls, size_of
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet, opens_long

from quicstack.connection import handshake
from quicstack.connection.paths import lower_size
from quicstack.connection.state import ConnectionState
from quicstack.endpoint import Endpoint
from quicstack.errors import TransportErrorCode
from quicstack.tls.groups import available_groups
from quicstack.train import Path, Train
from quicstack.transport.packet_protection import INITIAL_SUITE, PacketKeys, initial_secrets
from quicstack.wire import frame as f
from quicstack.wire.packet import write_long_header
from quicstack.wire.transport_parameters import write_transport_parameters
from quicstack.wire.varint import encode_varint
from quicstack.wire.version import VERSIONS, PacketType

E = TransportErrorCode
VICTIM = Path(("203.0.113.9", 50000))


def train(datagram: bytes, path: Path = TO_CLIENT) -> Train:
    return Train(datagram, len(datagram), path)


def code(error: object) -> int | None:
    return getattr(error, "code", None)


def client_hello(pair: Pair) -> bytes:
    outgoing = pair.client._state.spaces[INITIAL].crypto.outgoing
    return bytes(outgoing.get(0, outgoing.end))


def initials(state: ConnectionState, frames: list[bytes], first: int = 10) -> list[Train]:
    """Each of the frames in a full datagram of its own."""
    return [train(long_packet(state, INITIAL, frame, number=first + n, pad_to=1200)) for n, frame in enumerate(frames)]


@pytest.mark.attack("c: amplification")
@pytest.mark.parametrize("then", ["silence", "garbage", "a close", "many coalesced", "a wrong version", "a bad token"])
def test_a_victim_hears_three_times_what_was_said_in_its_name(then: str) -> None:
    """RFC 9000 §8.1: whatever the answer is, a flight, probes, CONNECTION_CLOSE, Version Negotiation or a refusal."""
    pair = Pair(server={"retry": "never"})
    (first,) = pair.from_client()
    state = pair.client._state
    data = {
        "a wrong version": first.data[:1] + b"\x5a\x5a\x5a\x5a" + first.data[5:],
        "a bad token": long_with_token(state, b"\x9b\x52" + bytes(40)),
    }.get(then, first.data)
    received = sent = 0

    def say(datagram: bytes) -> None:
        nonlocal received
        received += len(datagram)
        pair.to_server([train(datagram, VICTIM)], VICTIM)

    say(data)
    for step in range(300):
        pair.now += 0.05
        pair.server_endpoint.handle_timeout(pair.now)
        while (answer := pair.server_endpoint.next_train(pair.now)) is not None:
            assert answer.path.remote == VICTIM.remote
            sent += len(answer.data)
            assert sent <= 3 * received
        if step in (3, 30) and then == "garbage":
            say(bytes((0xE0,)) + first.data[1 : 7 + first.data[5]] + bytes(100))
        if step == 3 and then == "a close":
            say(long_packet(state, INITIAL, encode_varint(0x3F), number=77, pad_to=1200))
        if step > 3 and then == "a close":
            say(first.data[:60])
        if step == 3 and then == "many coalesced":
            say(b"".join(long_packet(state, INITIAL, b"\x01", number=20 + n) for n in range(20)).ljust(1200, b"\0"))
    assert sent > 0


def long_with_token(state: ConnectionState, token: bytes) -> bytes:
    return long_packet(state, INITIAL, b"\x01", token=token, pad_to=1200)


@pytest.mark.attack("c: multi-packet CH abuse")
def test_a_client_hello_that_is_never_complete() -> None:
    """RFC 9000 §7.5, §8.1: pieces in any number take one buffer, get no flight, and are forgotten after ten seconds."""
    pair = Pair()
    hello = client_hello(pair)
    state = pair.client._state
    pieces = [f.write_crypto(0, hello[:50]), *[f.write_crypto(60 + 150 * n, bytes(140)) for n in range(400)]]
    pair.to_server(initials(state, pieces))
    server = pair.server
    assert server.closed is None and size_of(server._state) < 200_000
    answers = pair.from_server()
    assert sum(len(answer.data) for answer in answers) < 1200
    heard = [frame.name for answer in answers for _, frames in opens_long(state, answer.data) for frame in frames]
    assert set(heard) <= {"ACK", "ACK_ECN", "PADDING"}
    pair.now += 9
    pair.to_server(initials(state, [f.write_crypto(60, b"again")], first=900))  # does not prolong it
    pair.advance(1.5)
    assert not pair.server_endpoint.connections and not pair.server_endpoint._handshakes


@pytest.mark.attack("commit 8e16fd2c")
@pytest.mark.parametrize("tail", [b"\x40", b"\x80\x00", b"\x80\x00\x00", b"\xc0" + bytes(6), b"\x7f"], ids=bytes.hex)
@pytest.mark.parametrize("space", [INITIAL, ONE_RTT])
def test_a_frame_type_that_ends_with_the_packet(tail: bytes, space: int) -> None:
    """RFC 9000 §12.4: half a type is neither PADDING nor a reason to read on for ever."""
    if space == ONE_RTT:
        peer = Peer()
        datagram, _ = peer.packet(b"\x01\x01\x01" + tail)
        assert calls(lambda: peer.delivers(datagram)) < 2000
        assert peer.closed_with() == E.FRAME_ENCODING_ERROR
        return
    pair = Pair()
    state = pair.client._state
    packet = long_packet(state, INITIAL, b"\x01" * 1170 + tail, number=50)
    pair.to_server([train(packet)])
    assert code(pair.server.closed) == E.FRAME_ENCODING_ERROR


BAD_PARAMETERS = {
    "max_udp_payload_size of 1199": b"\x03\x02\x44\xaf",
    "ack_delay_exponent of 21": b"\x0a\x01\x15",
    "max_ack_delay of 2^14": b"\x0b\x04\x80\x00\x40\x00",
    "active_connection_id_limit of 1": b"\x0e\x01\x01",
    "initial_max_streams_bidi above 2^60": b"\x08\x08\xd0\x00\x00\x00\x00\x00\x00\x01",
    "an integer that is cut short": b"\x04\x01\x80",
    "an integer with a tail": b"\x04\x02\x05\x05",
    "a length beyond the end": b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
    "no length": b"\x7f",
    "a connection ID of 21 bytes": b"\x0f\x15" + bytes(21),
    "no version": b"\x11\x00",
    "the same twice": b"\x04\x01\x05\x04\x01\x05",
    "what only servers send": b"\x02\x10" + bytes(16),
}


@pytest.mark.attack("CVE-2026-31812")
@pytest.mark.parametrize("case", BAD_PARAMETERS)
def test_transport_parameters_that_are_none(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9000 §7.4, §18.2: an error of the peer's, told to it on the wire; never one of ours."""
    monkeypatch.setattr(
        handshake, "write_transport_parameters", lambda value: write_transport_parameters(value) + BAD_PARAMETERS[case]
    )
    pair = Pair()
    monkeypatch.undo()
    pair.to_server(pair.from_client())
    assert pair.server.internal_error is None
    assert told(pair) == E.TRANSPORT_PARAMETER_ERROR


def told(pair: Pair) -> int | None:
    """The code of the CONNECTION_CLOSE that the server sends, in an Initial."""
    for answer in pair.from_server():
        for _, frames in opens_long(pair.client._state, answer.data):
            for frame in frames:
                if frame.name == "CONNECTION_CLOSE":
                    found = frame.fields["error_code"]
                    assert isinstance(found, int)
                    return found
    return None


@pytest.mark.attack("CVE-2023-42805")
@pytest.mark.parametrize("frame_type", [0x20, 0x2F, 0x3F, 0x40, 0xAE, 0x4000, 0x40000000, (1 << 62) - 1], ids=hex)
def test_frames_that_nobody_knows(frame_type: int) -> None:
    """RFC 9000 §12.4."""
    peer = Peer()
    peer.sends(b"\x01" + encode_varint(frame_type) + bytes(20))
    assert peer.closed_with() == E.FRAME_ENCODING_ERROR
    pair = Pair()
    pair.to_server(initials(pair.client._state, [encode_varint(frame_type) + bytes(20)]))
    assert told(pair) == E.FRAME_ENCODING_ERROR


@pytest.mark.attack("CVE-2023-46239")
@pytest.mark.parametrize("seed", range(8))
def test_any_frames_in_any_order_while_shaking_hands(seed: int) -> None:
    """Rules are broken, and that is the peer's fault: no assertion of ours is reached."""
    rng = random.Random(seed)
    for _ in range(25):
        pair = Pair(seed=rng.randrange(1 << 30))
        hello = client_hello(pair)
        state = pair.client._state
        first = pair.from_client()
        if rng.random() < 0.7:
            pair.to_server(first)
            pair.to_client(pair.from_server())
        for number in range(40, 46):
            frames = [
                rng.choice([
                    b"\x01", bytes(rng.randrange(1, 9)), f.write_ack([(0, 0)], 0), f.write_crypto(0, hello),
                    f.write_crypto(rng.randrange(0, 600), hello[: rng.randrange(300)]), f.write_crypto(7, b""),
                    f.write_connection_close(rng.randrange(400), b"", 6), b"\x1e", f.write_limit(f.MAX_DATA, 9),
                    f.write_crypto(len(hello), b"\x14\x00\x00\x20" + bytes(32)), f.write_crypto(0, bytes(40)),
                ])
                for _ in range(rng.randrange(1, 5))
            ]  # fmt: skip
            space = rng.choice((INITIAL, HANDSHAKE))
            if state.spaces[space].seal_keys is not None:
                pair.to_server([train(long_packet(state, space, *frames, number=number, pad_to=1200))])
            pair.from_server()
        for connection in pair.server_endpoint.connections:
            assert connection.internal_error is None
            assert code(connection.closed) != E.INTERNAL_ERROR


@pytest.mark.attack("CVE-2025-59530")
@pytest.mark.parametrize("how", ["in an Initial", "in a Handshake packet", "in 1-RTT, first of all", "to a server"])
def test_handshake_done_before_its_time(how: str) -> None:
    """RFC 9000 §19.20, RFC 9001 §4.1.2: from a server, in 1-RTT, and processed when the handshake is complete."""
    if how == "to a server":
        peer = Peer()
        peer.sends(b"\x1e")
        assert peer.closed_with() == E.PROTOCOL_VIOLATION
        return
    pair = Pair()
    pair.to_server(pair.from_client())
    flight = pair.from_server()
    state = pair.server._state
    if how == "in 1-RTT, first of all":
        space = state.spaces[ONE_RTT]
        assert space.seal_keys is not None
        header = b"\x43" + pair.client._state.local_cids.first + (0).to_bytes(4, "big")
        early = space.seal_keys.seal(header, 4, 0, b"\x1e\x01\x01\x01")
        space.next_packet_number = 1
        pair.to_client([train(early, TO_SERVER)])
        assert not pair.client.handshake_confirmed and pair.client.closed is None
        pair.to_client(flight)
        assert pair.client.handshake_confirmed and pair.client.internal_error is None
        return
    space_index = INITIAL if how == "in an Initial" else HANDSHAKE
    if space_index == HANDSHAKE:
        pair.to_client(flight[:1])
    pair.to_client([train(long_packet(state, space_index, b"\x1e", number=30, pad_to=1200), TO_SERVER)])
    assert code(pair.client.closed) == E.PROTOCOL_VIOLATION and not pair.client.handshake_confirmed


@pytest.mark.attack("CVE-2022-30591")
def test_slow_handshakes_and_searches_for_the_mtu_end() -> None:
    """RFC 9002 §6.2, RFC 8899 §5.1: a peer that says nothing, or that swallows every probe, costs a few datagrams."""
    pair = Pair(server={"handshake_timeout": 10.0})
    pair.to_server(pair.from_client())
    sent = 0
    for _ in range(220):
        pair.now += 0.05
        pair.server_endpoint.handle_timeout(pair.now)
        sent += len(pair.from_server())
    assert sent <= 40 and not pair.server_endpoint.connections
    peer = Peer(path_mtu_discovery=True, max_idle_timeout=0)
    lower_size(peer.engine._state)
    probes = 0
    for _ in range(900):
        peer.engine.ping()
        peer.pair.now += 4.0
        peer.endpoint.handle_timeout(peer.now)
        numbers = []
        while (found := peer.endpoint.next_train(peer.now)) is not None:
            number, _ = peer.opens(found.data)
            if len(found.data) > 1200:
                probes += 1
            else:
                numbers.append(number)
            peer.received.add(number)
        if numbers:
            peer.acknowledges(*numbers)
    assert peer.engine.closed is None
    assert 3 <= probes <= 7 * 30


def forged_initial(dcid: bytes, scid: bytes, odcid: bytes, frames: bytes, *, from_server: bool) -> bytes:
    """What anybody can seal who knows the client's first Destination Connection ID."""
    secrets = initial_secrets(VERSIONS[1], odcid)
    keys = PacketKeys(INITIAL_SUITE, secrets[from_server], VERSIONS[1])
    frames = frames.ljust(1170, b"\0")
    head = write_long_header(VERSIONS[1], PacketType.INITIAL, dcid, scid, b"", len(frames) + 16, 60, 4)
    return keys.seal(head, 4, 60, frames)


FORGED = {
    "close": f.write_connection_close(0, b"", 0),
    "bad ACK": f.write_ack([(500, 500)], 0),
    "bad CRYPTO": f.write_crypto(0, bytes(100)),
}


@pytest.mark.attack("c: Initial injection")
@pytest.mark.parametrize("frames", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("knows", ["no ID of ours", "the server's ID is wrong", "too late", "wrong keys"])
def test_initials_that_somebody_else_has_sealed(frames: bytes, knows: str) -> None:
    """RFC 9000 §21.2, §7.2, RFC 9001 §4.9.1: whoever is not on the path knows too little, and the time is short."""
    pair = Pair()
    flight = pair.from_client()
    local, odcid = pair.client._state.local_cids.first, pair.client.original_dcid
    pair.to_server(flight)
    answer = pair.from_server()
    server_cid = pair.server.local_cids[0]
    if knows in ("the server's ID is wrong", "too late"):
        pair.to_client(answer)
    if knows == "too late":
        pair.to_server(pair.from_client())
    to_client, to_server = {
        "no ID of ours": ((b"whatever", server_cid, odcid), (b"whatever", local, odcid)),
        "the server's ID is wrong": ((local, b"another!", odcid), (server_cid, b"another!", odcid)),
        "too late": ((local, server_cid, odcid), (server_cid, local, odcid)),
        "wrong keys": ((local, server_cid, b"a guess!"), (server_cid, local, b"a guess!")),
    }[knows]
    pair.to_client([train(forged_initial(*to_client, frames, from_server=True), TO_SERVER)])
    pair.to_server([train(forged_initial(*to_server, frames, from_server=False))])
    assert pair.client.closed is None and pair.server.closed is None
    if knows not in ("the server's ID is wrong", "too late"):
        pair.to_client(answer)
    pair.exchange()
    assert pair.client.handshake_confirmed and pair.server.handshake_confirmed


@pytest.mark.attack("c: PQ ClientHello split")
@pytest.mark.parametrize("piece", [1, 7, 500])
def test_a_large_client_hello_in_shuffled_pieces(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9000 §7.5: as browsers send it with ML-KEM, over several datagrams, in frames of a byte, in any order."""
    if 0x11EC in available_groups():
        pair = Pair(client={"groups": (0x11EC, 0x1D)})
    else:  # as large, without the group
        unknown = b"\x3b\x44\xb0" + bytes(1200)
        monkeypatch.setattr(handshake, "write_transport_parameters", lambda v: write_transport_parameters(v) + unknown)
        pair = Pair()
        monkeypatch.undo()
    hello = client_hello(pair)
    assert len(hello) > 1200
    frames = [f.write_crypto(start, hello[start : start + piece]) for start in range(0, len(hello), piece)]
    random.Random(piece).shuffle(frames)
    datagrams = [b""]
    for frame in frames:
        if len(datagrams[-1]) + len(frame) > 1100:
            datagrams.append(b"")
        datagrams[-1] += frame
    pair.to_server(initials(pair.client._state, datagrams))
    pair.client._state.spaces[INITIAL].next_packet_number = 100
    pair.client._state.spaces[INITIAL].crypto.outgoing.next = len(hello)
    pair.exchange()
    assert pair.client.handshake_confirmed and pair.server.handshake_confirmed


@pytest.mark.attack("fuzz-zero-datagrams")
@pytest.mark.parametrize("size", [1, 21, 22, 43, 1200, 1500, 9000])
def test_datagrams_of_zeros(size: int) -> None:
    """RFC 9000 §17.3: without the fixed bit it is no packet, and gets neither an answer nor a stateless reset."""
    pair = Pair()
    pair.exchange()
    for to, from_ in ((pair.to_server, pair.from_server), (pair.to_client, pair.from_client)):
        to([Train(bytes(size), size, TO_CLIENT)])
        assert from_() == []
    pair.to_server([Train(bytes(4 * size), size, TO_CLIENT)])
    assert pair.from_server() == [] and len(pair.server_endpoint.connections) == 1
    assert pair.server_endpoint.counters.stateless_resets_sent == 0


LENGTHS = {
    "a token longer than the datagram": b"\x50\x00" + bytes(1200),
    "a token length of 2^62-1": b"\xff" * 8 + bytes(1200),
    "a length that is cut": b"\x44\x9a" + bytes(1178) + b"\x40",
    "no length": b"\x44\x9a" + bytes(1178),
    "a length beyond the datagram": b"\x00\x7f\xff" + bytes(1200),
    "a length of 2^62-1": b"\x00" + b"\xff" * 8 + bytes(1200),
    "a length of 0": b"\x00\x00" + bytes(1200),
    "a length of 3": b"\x00\x03" + bytes(1200),
    "a connection ID beyond the datagram": b"",
}


@pytest.mark.attack("CVE-2026-26081")
@pytest.mark.parametrize("case", LENGTHS)
@pytest.mark.parametrize("retry", ["never", "always"])
def test_initials_whose_lengths_lie(case: str, retry: str) -> None:
    """RFC 9000 §17.2.2: dropped before anything is taken from them, and the next client is served."""
    pair = Pair(server={"retry": retry})
    head = b"\xc0\x00\x00\x00\x01\x08" + bytes(8) + b"\x08" + bytes(8)
    if case == "a connection ID beyond the datagram":
        head = (b"\xc0\x00\x00\x00\x01\x08" + bytes(8) + b"\xff").ljust(1200, b"\0")
    endpoint: Endpoint = pair.server_endpoint
    datagram = head + LENGTHS[case]
    for data in (datagram[:1100], datagram):
        pair.to_server([train(data)])
    assert not endpoint.connections
    if case not in ("a length of 0", "a length of 3"):  # which is well-formed, and opened by no key
        assert endpoint.counters.datagrams_dropped == 2
        assert endpoint.counters.initials_refused == endpoint.counters.retries_sent == 0
    assert all(len(answer.data) <= 1200 for answer in pair.from_server())
    pair.exchange()
    assert pair.client.handshake_confirmed

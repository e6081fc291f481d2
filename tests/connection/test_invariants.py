"""What holds before a version is known, and how a version is refused (RFC 8999; RFC 9000 §5.2, §6, §17.2)."""

from __future__ import annotations

import random

import pytest
from peer import HANDSHAKE, INITIAL, TO_CLIENT, TO_SERVER, Pair

from quicstack.errors import ConnectionClosed
from quicstack.train import Path, Train
from quicstack.transport.packet_protection import INITIAL_SUITE, PacketKeys, initial_secrets
from quicstack.wire import frame as f
from quicstack.wire.packet import read_cids, read_long_header, write_long_header, write_version_negotiation
from quicstack.wire.version import QUIC_V1, QUIC_V2, VERSIONS, PacketType

UNKNOWN = 0x1A2A3A4A
CLOSE = f.write_connection_close(0x0A, b"not heard", 0)


def train(datagram: bytes, path: Path = TO_CLIENT) -> Train:
    return Train(datagram, len(datagram), path)


def long_header(version: int, dcid: bytes, scid: bytes, first: int = 0xC0, size: int = 1200) -> bytes:
    """A datagram of ``size`` bytes of which nothing but the invariant part means anything."""
    head = bytes((first,)) + version.to_bytes(4, "big")
    return (head + bytes((len(dcid),)) + dcid + bytes((len(scid),)) + scid).ljust(size, b"\0")


def initial(dcid: bytes, scid: bytes) -> bytes:
    """A client's Initial of version 1 with a PING, under the right keys, whatever its connection IDs are."""
    keys = PacketKeys(INITIAL_SUITE, initial_secrets(VERSIONS[QUIC_V1], dcid)[0], VERSIONS[QUIC_V1])
    payload = b"\x01" + bytes(1190)
    header = write_long_header(VERSIONS[QUIC_V1], PacketType.INITIAL, dcid, scid, b"", len(payload) + 16, 0, 4)
    return bytes(keys.seal(header, 4, 0, payload))


def versions_of(pair: Pair) -> list[int]:
    """The versions of the long headers that a server sends now."""
    return [int.from_bytes(sent.data[1:5], "big") for sent in pair.from_server() if sent.data[0] & 0x80]


# -- connection IDs ------------------------------------------------------------------------------------------------


@pytest.mark.conformance("I01", "I03", "T29", "T34")
@pytest.mark.parametrize(("dcid", "scid"), [(255, 8), (255, 255), (21, 20), (20, 21), (0, 0), (8, 8)])
@pytest.mark.parametrize("first", [0x80, 0xFF])
def test_any_connection_ids_of_another_version(dcid: int, scid: int, first: int) -> None:
    """RFC 8999 §5.1, §6: they come back byte for byte and swapped, and no rule of ours about lengths counts."""
    pair = Pair()
    theirs, ours = bytes(range(dcid)), bytes(range(255, 255 - scid, -1))
    pair.to_server([train(long_header(UNKNOWN, theirs, ours, first))])
    (answer,) = pair.from_server()
    version, to, source, end = read_cids(answer.data, 0)
    assert (answer.data[0] & 0x80, version, to, source) == (0x80, 0, ours, theirs)
    listed = [answer.data[i : i + 4] for i in range(end, len(answer.data), 4)]
    assert len(listed) >= 1 and QUIC_V1.to_bytes(4, "big") in listed
    assert UNKNOWN.to_bytes(4, "big") not in listed
    assert not pair.server_endpoint.connections


@pytest.mark.conformance("T34")
@pytest.mark.parametrize(("dcid", "scid", "answered"), [(20, 20, True), (21, 8, False), (8, 21, False)])
def test_long_connection_ids_of_version_1(dcid: int, scid: int, answered: bool) -> None:
    """§17.2: more than 20 bytes, and the packet is dropped although its keys are right."""
    pair = Pair()
    pair.to_server([train(initial(bytes(range(dcid)), bytes(range(scid))))])
    assert bool(pair.from_server()) == answered
    assert bool(pair.server_endpoint.connections) == answered


@pytest.mark.conformance("T33")
@pytest.mark.parametrize("length", range(9))
def test_a_first_destination_that_is_too_short(length: int) -> None:
    """§7.2, §5.2.2: eight bytes at least, or the Initial is dropped although its keys are right."""
    pair = Pair()
    pair.to_server([train(initial(bytes(range(length)), b"client's"))])
    assert bool(pair.from_server()) == bool(pair.server_endpoint.connections) == (length >= 8)


@pytest.mark.conformance("T33", "T36")
def test_how_a_client_begins() -> None:
    """§7.2: eight unpredictable bytes or more, and the same two connection IDs until the server has spoken."""
    first = set()
    for seed in range(5):
        pair = Pair(seed=seed)
        headers = []
        for _ in range(4):
            headers += [read_long_header(sent.data, 0, VERSIONS[QUIC_V1]) for sent in pair.from_client()]
            deadline = pair.client_endpoint.next_timeout()
            assert deadline is not None
            pair.now = max(pair.now, deadline)
            pair.client_endpoint.handle_timeout(pair.now)
        assert len(headers) >= 4
        ((dcid, scid),) = {(header.dcid, header.scid) for header in headers}
        assert len(dcid) >= 8 and dcid != scid
        first.add(dcid)
    assert len(first) == 5


@pytest.mark.conformance("I02", "T28")
@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
def test_short_headers_for_nobody(server: bool) -> None:
    """RFC 8999 §5.2, RFC 9000 §5.2: any first byte, any size; dropped or answered by a reset, and nothing is kept."""
    pair = Pair()
    pair.from_client()
    endpoint = pair.server_endpoint if server else pair.client_endpoint
    connections = list(endpoint.connections)
    chance = random.Random(1)
    answers = 0
    for n in range(600):
        size = chance.randrange(1, 1500)
        data = bytes((n & 0x7F,)) + chance.randbytes(size - 1)
        endpoint.receive(train(data), pair.now)
        while (answer := endpoint.next_train(pair.now)) is not None:
            answers += 1
            assert answer.data[0] & 0xC0 == 0x40 and 21 <= len(answer.data) < size
            assert answer.path == TO_CLIENT
    assert bool(answers) == server
    assert list(endpoint.connections) == connections
    assert len(endpoint._by_cid) == len(connections)
    assert not endpoint._stateless.queue and len(endpoint._deadlines._heap) <= 2


# -- Version Negotiation, as a server sends it ---------------------------------------------------------------------


@pytest.mark.conformance("T29", "T30")
@pytest.mark.parametrize(("size", "answered"), [(100, False), (1199, False), (1200, True), (1400, True)])
def test_the_size_that_is_worth_an_answer(size: int, answered: bool) -> None:
    """§5.2.2, §14.1: what could not begin a connection in any version of ours gets nothing."""
    pair = Pair()
    pair.to_server([train(long_header(UNKNOWN, b"a" * 8, b"b" * 8, size=size))])
    assert versions_of(pair) == ([0] if answered else [])


@pytest.mark.conformance("I04")
@pytest.mark.parametrize("moment", ["before a connection", "in the handshake", "in a connection"])
@pytest.mark.parametrize("listed", [[QUIC_V1], [UNKNOWN], []])
def test_a_server_ignores_version_negotiation(moment: str, listed: list[int]) -> None:
    """§6.1: no answer of any kind, although the datagram is large enough for one."""
    pair = Pair()
    dcid, scid = b"a" * 8, b"b" * 8
    if moment != "before a connection":
        pair.to_server(pair.from_client())
        pair.from_server()
        dcid, scid = pair.server._state.local_cids.first, pair.client._state.local_cids.first
    if moment == "in a connection":
        pair.exchange()
    data = write_version_negotiation(dcid, scid, listed * 300 if listed else [])
    pair.to_server([train(data), train(data.ljust(1200, b"\0")), train(long_header(0, dcid, scid))])
    assert not pair.from_server()
    assert [connection.closed for connection in pair.server_endpoint.connections] == [None] * (dcid != b"a" * 8)


def test_a_client_answers_no_version_negotiation() -> None:
    """§6.1: neither one for its connection nor one for nobody's."""
    pair = Pair()
    pair.from_client()
    state = pair.client._state
    for cids in [(state.local_cids.first, b"wrong id"), (b"wrong id", state.original_dcid)]:
        data = write_version_negotiation(*cids, [UNKNOWN] * 300)
        pair.to_client([train(data, TO_SERVER)])
        assert not pair.from_client()


@pytest.mark.conformance("T31")
def test_a_version_that_we_speak_is_not_negotiated() -> None:
    """§17.2.1: neither in a handshake that goes well, nor for packets of that version that mean nothing."""
    pair = Pair()
    versions = []
    for kind in range(4):
        pair.to_server([train(long_header(QUIC_V1, b"a" * 8, b"b" * 8, 0xC0 | kind << 4))])
        versions += versions_of(pair)
    pair.to_server([train(long_header(QUIC_V1, b"short", b"b" * 8))])
    versions += versions_of(pair)
    for _ in range(8):
        sent = pair.from_client()
        pair.to_server(sent)
        answers = pair.from_server()
        versions += [int.from_bytes(one.data[1:5], "big") for one in answers if one.data[0] & 0x80]
        pair.to_client(answers)
        pair.now += 0.01
    assert pair.client.handshake_confirmed and pair.server.handshake_confirmed
    assert set(versions) == {QUIC_V1}


# -- Version Negotiation, as a client takes it ---------------------------------------------------------------------


@pytest.mark.conformance("I06")
@pytest.mark.parametrize("length", [0, 3, 7])
def test_a_list_that_ends_too_soon(length: int) -> None:
    """RFC 8999 §6: with the right connection IDs, and nothing in it but versions that we do not speak."""
    pair = Pair()
    sent = pair.from_client()
    state = pair.client._state
    data = write_version_negotiation(state.local_cids.first, state.original_dcid, [])
    assert len(data) == 7 + 16
    pair.to_client([train(data + (UNKNOWN.to_bytes(4, "big") * 2)[:length], TO_SERVER)])
    assert pair.client.closed is None
    pair.to_server(sent)
    pair.exchange()
    assert pair.client.handshake_confirmed
    assert pair.client.version == QUIC_V1


@pytest.mark.conformance("T32")
@pytest.mark.parametrize("listed", [[UNKNOWN], [QUIC_V2]])
@pytest.mark.parametrize("after", ["Initial", "Retry"])
def test_version_negotiation_comes_first_or_not_at_all(after: str, listed: list[int]) -> None:
    """§6.2: any packet of the server's that was processed settles it, even one that says next to nothing."""
    pair = Pair(client={"versions": (QUIC_V1, QUIC_V2)}, server={"retry": "always" if after == "Retry" else "never"})
    sent = pair.from_client()
    pair.to_server(sent)
    answers = pair.from_server()
    state = pair.client._state
    if after == "Initial":
        server = pair.server._state
        keys = server.spaces[INITIAL].seal_keys
        assert keys is not None
        header = write_long_header(
            VERSIONS[QUIC_V1], PacketType.INITIAL, state.local_cids.first, server.local_cids.first, b"", 20, 50, 4
        )
        answers = [train(bytes(keys.seal(header, 4, 50, b"\x01\x00\x00\x00")))]
    pair.to_client(answers)
    negotiation = write_version_negotiation(state.local_cids.first, state.original_dcid, listed)
    pair.to_client([train(negotiation, TO_SERVER)])
    assert pair.client.closed is None and pair.client.version == QUIC_V1
    assert {int.from_bytes(one.data[1:5], "big") for one in pair.from_client()} <= {QUIC_V1}


# -- packets of another version in a connection --------------------------------------------------------------------


@pytest.mark.conformance("T32a")
@pytest.mark.parametrize("level", [INITIAL, HANDSHAKE], ids=["Initial", "Handshake"])
@pytest.mark.parametrize("version", [QUIC_V1, QUIC_V2, UNKNOWN])
def test_another_version_under_the_right_keys(level: int, version: int) -> None:
    """§5.2.1: a packet that nothing but its version speaks against is dropped."""
    pair = Pair(client={"versions": (QUIC_V1,)})
    pair.to_server(pair.from_client())
    answers = pair.from_server()
    if level == HANDSHAKE:
        pair.to_client(answers)
        pair.from_client()
    state = pair.server._state
    keys = state.spaces[level].seal_keys
    assert keys is not None
    kind = (PacketType.INITIAL, PacketType.HANDSHAKE)[level]
    spoken = VERSIONS[version] if version in VERSIONS else VERSIONS[QUIC_V1]
    cids = state.peer_cids.current.cid, state.local_cids.first
    header = bytearray(write_long_header(spoken, kind, *cids, b"", len(CLOSE) + 16, 60, 4))
    header[1:5] = version.to_bytes(4, "big")
    pair.to_client([train(bytes(keys.seal(bytes(header), 4, 60, CLOSE)), TO_SERVER)])
    error = pair.client.closed
    if version == QUIC_V1:  # the packet is what it should be otherwise
        assert isinstance(error, ConnectionClosed) and error.by_peer
    else:
        assert error is None and not pair.from_client()


@pytest.mark.conformance("T32a")
def test_another_version_that_we_speak_and_did_not_offer() -> None:
    """RFC 9368 §4: under the keys of that version too."""
    pair = Pair(client={"versions": (QUIC_V1,)})
    pair.from_client()
    state = pair.client._state
    keys = PacketKeys(INITIAL_SUITE, initial_secrets(VERSIONS[QUIC_V2], state.original_dcid)[1], VERSIONS[QUIC_V2])
    header = write_long_header(
        VERSIONS[QUIC_V2], PacketType.INITIAL, state.local_cids.first, b"server's", b"", len(CLOSE) + 16, 0, 4
    )
    pair.to_client([train(bytes(keys.seal(header, 4, 0, CLOSE)), TO_SERVER)])
    assert pair.client.closed is None and not pair.from_client()


@pytest.mark.conformance("T35")
@pytest.mark.parametrize("level", [INITIAL, HANDSHAKE], ids=["Initial", "Handshake"])
@pytest.mark.parametrize("same", [True, False], ids=["the same ID", "another ID"])
def test_the_server_keeps_its_connection_id(level: int, same: bool) -> None:
    """§7.2: a packet with another Source Connection ID than the first one is discarded, whatever is in it."""
    pair = Pair()
    pair.to_server(pair.from_client())
    answers = pair.from_server()
    end = read_long_header(answers[0].data, 0, VERSIONS[QUIC_V1]).end
    pair.to_client([train(answers[0].data[: end if level == INITIAL else None], TO_SERVER)])
    state = pair.server._state
    keys = state.spaces[level].seal_keys
    assert keys is not None
    kind = (PacketType.INITIAL, PacketType.HANDSHAKE)[level]
    scid = state.local_cids.first if same else b"impostor"
    header = write_long_header(VERSIONS[QUIC_V1], kind, state.peer_cids.current.cid, scid, b"", len(CLOSE) + 16, 60, 4)
    pair.to_client([train(bytes(keys.seal(header, 4, 60, CLOSE)), TO_SERVER)])
    assert (pair.client.closed is not None) == same
    if not same:
        for sent in pair.from_client():
            assert read_long_header(sent.data, 0, VERSIONS[QUIC_V1]).dcid == state.local_cids.first


@pytest.mark.conformance("T35")
def test_the_connection_id_after_a_retry_and_after_that() -> None:
    """§7.2: the Retry's first, then that of the server's first Initial, which is another one."""
    pair = Pair(server={"retry": "always"})
    dcids = []
    sources = []
    for _ in range(3):
        sent = pair.from_client()
        dcids.append(read_long_header(sent[0].data, 0, VERSIONS[QUIC_V1]).dcid)
        pair.to_server(sent)
        answers = pair.from_server()
        if answers and answers[0].data[0] & 0x80:
            sources.append(read_long_header(answers[0].data, 0, VERSIONS[QUIC_V1]).scid)
        pair.to_client(answers)
        pair.now += 0.01
    assert dcids[0] == pair.client.original_dcid
    assert dcids[1:] == sources[:2] and len(set(dcids)) == 3
    pair.exchange()
    assert pair.client.handshake_confirmed and pair.server.handshake_confirmed

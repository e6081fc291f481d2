"""Packet protection against RFC 9001 Appendix A and RFC 9369 Appendix A."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quicstack.tls.key_schedule import CIPHER_SUITES
from quicstack.transport.packet_protection import (
    INITIAL_SUITE,
    InvalidTag,
    PacketKeys,
    initial_secrets,
    retry_integrity_tag,
)
from quicstack.wire.packet import read_long_header
from quicstack.wire.version import QUIC_V1, QUIC_V2, VERSIONS

FILES = {QUIC_V1: "rfc9001_appendix_a.json", QUIC_V2: "rfc9369_appendix_a.json"}
VECTORS: dict[int, Any] = {
    version: json.loads((Path(__file__).parents[1] / "vectors" / name).read_text()) for version, name in FILES.items()
}
both = pytest.mark.parametrize("version", [QUIC_V1, QUIC_V2], ids=["v1", "v2"])


def initial_keys(version: int) -> tuple[PacketKeys, PacketKeys]:
    dcid = bytes.fromhex(VECTORS[version]["client_dcid"])
    client, server = initial_secrets(VERSIONS[version], dcid)
    return tuple(PacketKeys(INITIAL_SUITE, secret, VERSIONS[version]) for secret in (client, server))  # type: ignore[return-value]


@pytest.mark.conformance("C14", "V2-03")
@both
def test_initial_secrets(version: int) -> None:
    vector = VECTORS[version]
    client, server = initial_secrets(VERSIONS[version], bytes.fromhex(vector["client_dcid"]))
    assert client.hex() == vector["client"]["secret"]
    assert server.hex() == vector["server"]["secret"]
    for keys, side in zip(initial_keys(version), ("client", "server"), strict=True):
        assert keys.iv.to_bytes(12, "big").hex() == vector[side]["iv"]


@pytest.mark.conformance("C15", "V2-03")
@both
def test_client_initial(version: int) -> None:
    vector = VECTORS[version]["client_initial"]
    keys, _ = initial_keys(version)
    payload = bytes.fromhex(vector["crypto_frame"])
    payload += bytes(vector["payload_len"] - len(payload))
    packet = keys.seal(bytes.fromhex(vector["unprotected_header"]), 4, vector["packet_number"], payload)
    assert packet.hex() == vector["packet"]
    header = read_long_header(packet, 0, VERSIONS[version])
    plain, pn_length = keys.unmask(packet, 0, header.pn_offset)
    assert plain.hex() == vector["unprotected_header"]
    assert keys.open(plain, 2, packet[header.pn_offset + pn_length :]) == payload


@both
def test_server_initial(version: int) -> None:
    vector = VECTORS[version]["server_initial"]
    _, keys = initial_keys(version)
    payload = bytes.fromhex(vector["payload"])
    packet = keys.seal(bytes.fromhex(vector["unprotected_header"]), 2, vector["packet_number"], payload)
    assert packet.hex() == vector["packet"]


@pytest.mark.conformance("C19", "V2-03")
@both
def test_retry(version: int) -> None:
    vector = VECTORS[version]["retry"]
    packet = bytes.fromhex(vector["packet"])
    tag = retry_integrity_tag(VERSIONS[version], bytes.fromhex(vector["odcid"]), packet[:-16])
    assert tag.hex() == vector["integrity_tag"]


@pytest.mark.conformance("C15", "V2-03")
@both
def test_chacha20_short_header(version: int) -> None:
    vector = VECTORS[version]["chacha20_short_header"]
    keys = PacketKeys(CIPHER_SUITES[0x1303], bytes.fromhex(vector["secret"]), VERSIONS[version])
    header = bytes.fromhex(vector["unprotected_header"])
    packet = keys.seal(header, 3, vector["packet_number"], bytes.fromhex(vector["payload_plaintext"]))
    assert packet.hex() == vector["packet"]
    assert keys.next_phase().secret.hex() == vector["ku"]


SECRET = bytes(range(48))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(CIPHER_SUITES)),
    st.integers(1, 4),
    st.integers(0, 1 << 50),
    st.integers(0, 20),
    st.integers(1, 6),
    st.integers(4, 60),
    st.integers(4, 60),
)
def test_a_train_is_its_packets(
    suite: int, pn_length: int, number: int, cid_length: int, count: int, size: int, last: int
) -> None:
    """Sealed together or one by one: the same bytes; and the train opens again."""
    row = CIPHER_SUITES[suite]
    keys = PacketKeys(row, SECRET[: row.hash_length], VERSIONS[QUIC_V1])
    prefix = bytes((0x40 | pn_length - 1,)) + bytes(cid_length)
    payloads = [bytes([i]) * size for i in range(count - 1)] + [b"z" * min(size, last)]
    train = keys.seal_train(prefix, pn_length, number, payloads)
    mask = (1 << 8 * pn_length) - 1
    single = [
        keys.seal(prefix + (number + i & mask).to_bytes(pn_length, "big"), pn_length, number + i, payload)
        for i, payload in enumerate(payloads)
    ]
    assert train == b"".join(single)
    segment = len(single[0])
    opened = keys.unmask_train(train, segment, cid_length)
    assert len(opened) == count
    for i, (header, length, start, end) in enumerate(opened):
        assert length == pn_length
        assert keys.open(header, number + i, train[start:end]) == payloads[i]


def test_segments_without_a_sample_are_left_out() -> None:
    """RFC 9001 §5.4.2."""
    keys = PacketKeys(INITIAL_SUITE, SECRET[:32], VERSIONS[QUIC_V1])
    good = keys.seal_train(b"\x40" + bytes(8), 1, 0, [b"1234", b"5678"])
    size = len(good) // 2
    assert len(keys.unmask_train(good + good[: size - 2], size, 8)) == 2
    assert keys.unmask_train(bytes(40), 20, 8) == []
    assert keys.unmask_train(bytes(20), 20, 8) == []


def test_other_keys_do_not_open() -> None:
    keys = PacketKeys(INITIAL_SUITE, SECRET[:32], VERSIONS[QUIC_V1])
    packet = keys.seal(b"\x40" + bytes(8) + b"\x00", 1, 0, b"1234")
    header, length = keys.unmask(packet, 0, 9)
    with pytest.raises(InvalidTag):
        keys.next_phase().open(header, 0, packet[9 + length :])


@pytest.mark.parametrize("last", [40, 31])
def test_a_train_of_packets_with_numbers_of_different_lengths(last: int) -> None:
    """Nobody who sends in one go makes them so, but datagrams of one size may be received together."""
    keys = PacketKeys(INITIAL_SUITE, SECRET[:32], VERSIONS[QUIC_V1])
    cid, packets, payloads = b"cid" * 3, [], []
    lengths = (2, 1, 4, 3, 1)
    for number, pn_length in enumerate(lengths):
        size = last if number == len(lengths) - 1 else 40
        payloads.append(bytes([number]) * (size - len(cid) - pn_length))
        header = bytes((0x40 | pn_length - 1,)) + cid + number.to_bytes(pn_length, "big")
        packets.append(keys.seal(header, pn_length, number, payloads[-1]))
    data = b"".join(packets)
    opened = keys.unmask_train(data, len(packets[0]), len(cid))
    assert [length for _, length, _, _ in opened] == list(lengths)
    for number, (header, length, start, end) in enumerate(opened):
        assert header[1:-length] == cid and int.from_bytes(header[-length:], "big") == number
        assert keys.open(header, number, data[start:end]) == payloads[number]


def test_every_packet_that_is_sealed_counts() -> None:
    """RFC 9001 §6.6."""
    keys = PacketKeys(INITIAL_SUITE, SECRET[:32], VERSIONS[QUIC_V1])
    assert keys.packets == 0
    keys.seal(b"\x40" + bytes(9), 1, 0, b"1234")
    keys.seal_train(b"\x40" + bytes(8), 1, 1, [b"1234"])
    keys.seal_train(b"\x40" + bytes(8), 1, 2, [b"1234", b"5678", b"90"])
    keys.seal_train(b"\x40" + bytes(8), 1, 5, [b"1234", b"5678"])
    assert keys.packets == 7
    assert keys.next_phase().packets == 0


@pytest.mark.parametrize(
    "spoiled", ["nothing", "gap", "body", "key phase", "reserved bit", "fixed bit", "longer number"]
)
def test_a_run_is_opened_up_to_what_stops_it(spoiled: str) -> None:
    """Numbers that go on, bits that are as expected, bodies that are authentic: the rest is looked at one by one."""
    keys = PacketKeys(INITIAL_SUITE, SECRET[:32], VERSIONS[QUIC_V1])
    first, spoil, number = 0x41, 3, 0x1_FFFE  # the low bytes of the numbers wrap within the run
    packets = []
    for at in range(6):
        is_spoiled = at == spoil
        byte = first ^ {"key phase": 4, "reserved bit": 8, "fixed bit": 0x40}.get(spoiled if is_spoiled else "", 0)
        this = number + at + (is_spoiled and spoiled == "gap")
        pn_length = 3 if is_spoiled and spoiled == "longer number" else 2
        byte = byte & ~3 | pn_length - 1
        header = bytes((byte,)) + b"cid" + (this & (1 << 8 * pn_length) - 1).to_bytes(pn_length, "big")
        packet = keys.seal(header, pn_length, this, bytes([at]) * (20 - pn_length))
        packets.append(packet[:-1] + b"?" if is_spoiled and spoiled == "body" else packet)
    data = b"".join(packets)
    found = keys.unmask_train(data, len(packets[0]), 3)
    payloads = keys.open_run(data, found, number, 0x5C, 0x40)
    assert payloads == [bytes([at]) * 18 for at in range(6 if spoiled == "nothing" else spoil)]
    assert keys.open_run(data, [], number, 0x5C, 0x40) == []

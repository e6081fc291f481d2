"""Inputs to begin with: what a handshake and a conversation put on the wire, and what the hostile peers invent.

``python tests/fuzz/seeds.py`` puts them into the working corpus; the kept one already has what matters of them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "hostile"))
sys.path.insert(0, str(Path(__file__).parents[1] / "connection"))
sys.path.insert(0, str(Path(__file__).parent))

import malice
from fuzz import WORK
from peer import Pair
from readers import tokens_made
from targets import TARGETS

from quicstack.observe.trace import Trace
from quicstack.tls.compression import ALGORITHMS
from quicstack.tls.messages import CompressedCertificate, HandshakeType, read_extensions
from quicstack.tls.presentation import Reader
from quicstack.tls.trust import Trust
from quicstack.wire.frame_study import parse_frames
from quicstack.wire.varint import encode_varint


class Plaintext(Trace):
    """Keeps what each packet said."""

    def __init__(self, said: dict[str, list[bytes]]) -> None:
        self.said = said

    def packet_received(self, now: float, packet_type: str, packet_number: int, size: int, payload: bytes) -> None:
        self.said[packet_type].append(payload)


def conversation(**settings: object) -> tuple[dict[str, list[bytes]], dict[str, list[bytes]], list[bytes]]:
    """Payloads that the server heard, those that the client heard, and all datagrams."""
    heard: tuple[dict[str, list[bytes]], ...] = (defaultdict(list), defaultdict(list))
    pair = Pair(
        {"trace_factory": lambda cid, is_client: Plaintext(heard[1]), **settings},
        {"trace_factory": lambda cid, is_client: Plaintext(heard[0]), **settings},
    )
    datagrams: list[bytes] = []
    for step in range(30):
        if step == 10:
            stream = pair.client.open_stream()
            stream.write(b"hello" * 100, fin=True)
            pair.client.open_stream(unidirectional=True).write(b"there")
            pair.client.send_datagram(b"datagram")
            pair.client.update_keys(pair.now)
        if step == 15:
            for stream in list(pair.server._state.streams.streams.values()):
                if stream.can_receive:
                    stream.stop_sending(1)
                if stream.can_send:
                    stream.write(b"x" * 1000)
                    stream.reset(2, 500)
        if step == 25:
            pair.client.close(7, "bye", now=pair.now)
        to_server, to_client = pair.from_client(), pair.from_server()
        datagrams += [datagram for train in (*to_server, *to_client) for datagram in train.datagrams()]
        pair.now += 0.02
        pair.client_endpoint.handle_timeout(pair.now)
        pair.server_endpoint.handle_timeout(pair.now)
        pair.to_server(to_server)
        pair.to_client(to_client)
    return heard[0], heard[1], datagrams


def crypto(payloads: list[bytes]) -> bytes:
    """The CRYPTO bytes of a level, put together."""
    pieces: dict[int, bytes] = {}
    for payload in payloads:
        for frame in parse_frames(payload):
            if frame.name == "CRYPTO":
                pieces[int(frame.fields["offset"])] = bytes(frame.fields["data"])  # type: ignore[call-overload, arg-type]
    out = b""
    for offset, data in sorted(pieces.items()):
        out = out[:offset] + data
    return out


def piece(kind: int, payload: bytes) -> bytes:
    return bytes((kind,)) + len(payload).to_bytes(2) + payload


def handshakes(seeds: dict[str, list[bytes]]) -> None:
    """What comes of real handshakes, with and without a client certificate and compression."""
    for settings in (
        {},
        {"versions": (0x6B3343CF, 1)},
        {"client_authentication": "optional", "client_trust": Trust.insecure()},
    ):
        by_server, by_client, datagrams = conversation(**settings)  # heard
        flows = {
            "hello": crypto(by_server["initial"]),
            "server hello": crypto(by_client["initial"]),
            "flight": crypto(by_client["handshake"]),
            "client flight": crypto(by_server["handshake"]),
        }
        seeds["client_hello"].append(flows["hello"])
        seeds["server_hello"].append(flows["server hello"])
        seeds["encrypted_flight"].append(flows["flight"])
        for flow in flows.values():
            for message in malice.split_tls(flow):
                seeds["tls_message"].append(message[:1] + message[4:])
                body = message[4:]
                if message[0] == HandshakeType.CERTIFICATE:
                    seeds["certificate"].append(b"\x00" + body)
                    for number, algorithm in ALGORITHMS.items():
                        packed = CompressedCertificate(number, len(body), algorithm.compress(body)).write()[4:]
                        seeds["compressed"].append(packed)
                        seeds["certificate"].append(b"\x01" + packed)
                elif message[0] == HandshakeType.COMPRESSED_CERTIFICATE:
                    seeds["compressed"].append(body)
                    seeds["certificate"].append(b"\x01" + body)
                elif message[0] == HandshakeType.CERTIFICATE_REQUEST:
                    seeds["certificate"].append(b"\x02" + body)
                elif message[0] == HandshakeType.ENCRYPTED_EXTENSIONS:
                    extensions = read_extensions(Reader(body, "seed"))
                    seeds["transport_parameters"] += [value for kind, value in extensions.items() if kind == 0x39]
        for heard, target in ((by_server, "server_one_rtt"), (by_client, "client_one_rtt")):
            payloads = [payload for level, said in heard.items() if "1" in level for payload in said]
            seeds[target] += [piece(number % 160, payload[:1100]) for number, payload in enumerate(payloads)]
            seeds[target].append(
                b"".join(piece(160 + number, b"") + piece(0, payload) for number, payload in enumerate(payloads[:8]))
            )
            seeds["frames"] += [payload for said in heard.values() for payload in said]
        seeds["server_initial"] += [piece(0, payload.rstrip(b"\x00")) for payload in by_server["initial"]]
        seeds["server_flight"] += [piece(0x80, payload.rstrip(b"\x00")) for payload in by_client["initial"]]
        seeds["server_flight"] += [piece(0x81, payload.rstrip(b"\x00")) for payload in by_client["handshake"]]
        seeds["packet"] += datagrams[:6]
        seeds["server_datagrams"] += [piece(number % 2, datagram) for number, datagram in enumerate(datagrams[:6])]
        seeds["client_datagrams"] += [piece(3, datagram) for datagram in datagrams[:4]]


def inventions(seeds: dict[str, list[bytes]]) -> None:
    """What the hostile peers say."""
    random = Random("seeds")
    for is_client, target in ((True, "server_one_rtt"), (False, "client_one_rtt")):
        for _ in range(60):
            script = malice.Script(random, is_client=is_client, genuine_tls={}, largest_sent=lambda space: 5)
            seeds[target].append(b"".join(piece(random.randrange(256), script.payload(2)) for _ in range(4)))
    for stream_id in [*range(16)] * 6:
        content = malice.h3_stream(stream_id, random)
        control = piece(1, b"\x00" + malice.settings_frame(random))
        for target in ("h3_server", "h3_client"):
            opening = piece(1 if stream_id & 2 else 0, content) if target == "h3_server" else piece(2, content)
            seeds[target].append(control + opening + piece(5, b"\x00datagram"))
        if not stream_id & 2:
            seeds["capsules"].append(bytes((random.randrange(30),)) + malice.capsules(random))
        seeds["h3_settings"].append(malice.settings_frame(random)[2:])
    for section in malice.field_sections():
        seeds["qpack"].append(piece(1, section) + piece(0, b"\x3f\xe1\x1f\x43nam\x05value") + piece(4, b"\x02\x00\x80"))
        seeds["field_lines"].append(section)
    for kind in range(16):
        for _ in range(3):
            seeds["single_frame"].append(bytes((kind,)) + random.randbytes(40))
    for kind in range(13):
        seeds["tls_extension"].append(bytes((kind,)) + b"\x00\x06\x00\x1d\x00\x02ab")
    seeds["fields"] += [
        b":method\x00GET\x00:scheme\x00https\x00:authority\x00a\x00:path\x00/\x00cookie\x00a=b\x00cookie\x00c=d",
        b":method\x00CONNECT\x00:protocol\x00webtransport\x00:scheme\x00https\x00:authority\x00a\x00:path\x00/",
        b":status\x00200\x00content-length\x0010\x00capsule-protocol\x00?1",
    ]
    seeds["structured_fields"] += [b'"a", "b";q=1', b"tok, 1, 1.5, ?1, :YQ==:", b"(a b);c, d", b'"\\"x"']
    seeds["subprotocols"] += [b'"chat", "echo"', b"chat, echo", b'"chat"']
    seeds["h3_priority"] += [b"u=3, i", b"\x04u=1", b"\x40\x04u=7,i=?0"]
    seeds["wt_capsules"] += [b"\x00\x00\x00\x07bye", b"\x40\x64", b"\x00\x00\x00\x07\xff"]
    seeds["h3_datagram"] += [b"\x00x", b"\xc0\x00\x00\x00\x00\x00\x00\x00"]
    seeds["h3_varints"] += [encode_varint(1) + encode_varint(100) + encode_varint(1 << 20) + encode_varint(1 << 40)]
    seeds["varint"] += [encode_varint(value) for value in (0, 63, 64, 16383, 16384, 1 << 30, (1 << 62) - 1)]
    seeds["qpack_encoder"] += [b"\x80", b"\x84", b"\x02", b"\x44", b"\xff\x00"]
    seeds["address_token"] += list(tokens_made())
    seeds["version_negotiation"] += [b"\x00\x00\x00\x01\x6b\x33\x43\xcf"]
    seeds["client_datagrams"] += [
        piece(0, b"\x6b\x33\x43\xcf\x0a\x0a\x0a\x0a"),
        piece(1, b"\x08retryscidtoken"),
        piece(2, b"\x08serverid\x00\x40\x20"),
    ]


def main() -> None:
    seeds: dict[str, list[bytes]] = defaultdict(list)
    handshakes(seeds)
    inventions(seeds)
    for name in TARGETS:
        folder = WORK / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds[name] or [b"\x00"]):
            TARGETS[name](data)
            (folder / f"seed{number}").write_bytes(data)
        print(name, len(seeds[name]), max(map(len, seeds[name]), default=0))


if __name__ == "__main__":
    main()

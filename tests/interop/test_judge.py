"""The judge says no: to captures of other cases than the one it is asked about, and to packets that break one rule.

Captures come from the simulator and go through tshark. What no simulated connection does is made by hand, field by
field, as tshark would have said it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from interop.capture import Datagram
from interop.cases import CASES
from interop.judge import Evidence, judge
from quicstack.tls.groups import X25519
from quicstack.tls.key_schedule import TLS_CHACHA20_POLY1305_SHA256
from quicstack.wire.version import QUIC_V1, QUIC_V2

Simulated = Callable[..., Evidence]
CLASSICAL = {"groups": (X25519,)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "client", "server"),
    [
        ("handshake", {}, {}),
        ("retry", {}, {"retry": "always"}),
        ("chacha20", {"cipher_suites": (TLS_CHACHA20_POLY1305_SHA256,)}, {}),
        ("v2", {"versions": (QUIC_V1, QUIC_V2)}, {"versions": (QUIC_V2, QUIC_V1)}),
        ("ecn", {}, {}),
        ("multiplexing", {}, {"initial_max_streams_bidi": 1000}),
    ],
)
def test_what_is_right_passes(simulated: Simulated, case: str, client: dict[str, Any], server: dict[str, Any]) -> None:
    assert judge(simulated(case, client=CLASSICAL | client, server=server)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "client", "server", "complaint"),
    [
        ("handshake", {}, {"retry": "always"}, "sent a Retry"),
        ("retry", {}, {}, "no Retry"),
        ("longrtt", {}, {}, "1 ClientHello"),
        ("chacha20", {}, {}, "0x1301"),
        ("handshake", {"versions": (QUIC_V2,)}, {"versions": (QUIC_V2,)}, "0x6b3343cf"),
        ("v2", {}, {}, "an Initial of the server had version ['0x1']"),
        ("v2", {"versions": (QUIC_V2,)}, {"versions": (QUIC_V2,)}, "the client began with"),
        ("ecn", {"ecn": False}, {}, "the client left"),
        ("ecn", {}, {"ecn": False}, "the server left"),
        ("multiplexing", {}, {"initial_max_streams_bidi": 1001}, "1001 streams"),
        ("keyupdate", {}, {}, "the client sent no packet with key phase 1"),
        ("amplificationlimit", {}, {}, "chain is too short"),
        ("ipv6", {}, {}, "over IPv4"),
        ("rebind-port", {}, {}, "one path only"),
        ("connectionmigration", {}, {}, "did not migrate"),
        ("resumption", {}, {}, "1 handshakes, expected 2"),
        ("zerortt", {}, {}, "no 0-RTT data"),
        ("handshakeloss", {}, {}, "1 handshakes, expected 50"),
    ],
)
def test_what_is_wrong_does_not(
    simulated: Simulated, case: str, client: dict[str, Any], server: dict[str, Any], complaint: str
) -> None:
    complaints = judge(simulated(case, client=CLASSICAL | client, server=server))
    assert any(complaint in said for said in complaints), complaints


@pytest.mark.slow
def test_without_keys_nothing_is_proven(simulated: Simulated) -> None:
    """What tshark cannot decrypt it does not take for right."""
    complaints = judge(simulated("multiplexing", client=CLASSICAL, server={}, keys=False))
    assert complaints == ["the server did not state initial_max_streams_bidi where tshark could read it"]


def test_nothing_at_all_is_wrong_for_every_case() -> None:
    for case in CASES.values():
        assert judge(Evidence(case)), case.name


# -- by hand -----------------------------------------------------------------------------------------------------------

CLIENT, MOVED, SERVER, PREFERRED = ("10.0.0.1", "5000"), ("10.0.0.9", "5000"), ("10.0.0.2", "443"), ("10.0.0.3", "443")


def seen(source: tuple[str, str], destination: tuple[str, str], size: int = 100, **fields: str) -> Datagram:
    """``quic_scid="aa,bb"`` is what tshark says of ``quic.scid``."""
    named = {name.replace("__", ".").replace("quic_", "quic.", 1): text for name, text in fields.items()}
    facts = {"ip.src": source[0], "udp.srcport": source[1], "ip.dst": destination[0], "udp.dstport": destination[1]}
    facts |= {"udp.length": str(size + 8), "ip.dsfield.ecn": "2", **named}
    return Datagram({name: tuple(text.split(",")) for name, text in facts.items()})


def initial(source: tuple[str, str], destination: tuple[str, str], **more: Any) -> Datagram:
    fields: dict[str, Any] = {"quic_version": "1", "quic_long__packet_type": "0", "quic_scid": "aa", "quic_dcid": "d0"}
    return seen(source, destination, **{**fields, **more})


OPENING = [initial(CLIENT, SERVER), initial(SERVER, CLIENT, quic_scid="bb")]


def evidence(case: str, *datagrams: Datagram) -> Evidence:
    """The same at both ends."""
    both = [*OPENING, *datagrams]
    return Evidence(CASES[case], both, both)


def test_a_rebound_client_is_challenged_and_answers() -> None:
    moved = seen(MOVED, SERVER, quic_dcid="d0")
    challenge = seen(SERVER, MOVED, quic_path_challenge__data="01")
    answer = seen(MOVED, SERVER, quic_path_response__data="01", quic_dcid="d0")
    assert judge(evidence("rebind-addr", moved, challenge, answer)) == []
    assert judge(evidence("rebind-addr", moved, challenge)) == ["1 of 1 challenges were not answered"]
    assert "has no PATH_CHALLENGE" in judge(evidence("rebind-addr", moved, seen(SERVER, MOVED), challenge, answer))[0]


@pytest.mark.parametrize(("dcid", "is_right"), [("d9", True), ("d0", False)])
def test_a_client_that_moves_takes_another_connection_id(dcid: str, is_right: bool) -> None:
    moved = seen(CLIENT, PREFERRED, quic_dcid=dcid, quic_path_response__data="02")
    challenge = seen(PREFERRED, CLIENT, quic_path_challenge__data="02")
    assert (judge(evidence("connectionmigration", moved, challenge)) == []) is is_right


def test_a_server_may_send_three_times_what_it_got() -> None:
    handshake = {"quic_version": "1", "quic_long__packet_type": "2"}
    crypto = {"quic_crypto__offset": "0", "quic_crypto__length": "8000"}
    proof = seen(CLIENT, SERVER, **handshake)
    opening = [initial(CLIENT, SERVER, size=1200), initial(SERVER, CLIENT, size=1200, quic_scid="bb")]
    for size, is_right in ((2400, True), (3600, False)):
        answer = seen(SERVER, CLIENT, size, **handshake, **crypto)
        both = [*opening, answer, proof]
        assert (judge(Evidence(CASES["amplificationlimit"], both, both)) == []) is is_right


def test_packet_numbers_go_on_after_a_retry() -> None:
    retry = seen(SERVER, CLIENT, quic_version="1", quic_long__packet_type="3", quic_retry_token="7e")
    first = initial(CLIENT, SERVER, quic_packet_number="0")
    answer = initial(SERVER, CLIENT, quic_scid="bb")
    for number, token, complaint in (("1", "7e", None), ("0", "7e", "began again"), ("1", "00", "carried the token")):
        second = initial(CLIENT, SERVER, quic_packet_number=number, quic_token=token)
        both = [first, retry, second, answer]
        complaints = judge(Evidence(CASES["retry"], both, both))
        assert complaints == [] if complaint is None else complaint in complaints[0]


def test_both_sides_change_to_the_next_key_phase() -> None:
    of_client, of_server = seen(CLIENT, SERVER, quic_key_phase="1"), seen(SERVER, CLIENT, quic_key_phase="1")
    assert judge(evidence("keyupdate", of_client, of_server)) == []
    assert judge(evidence("keyupdate", of_client)) == ["the server sent no packet with key phase 1"]


def test_a_resumed_handshake_has_no_certificate() -> None:
    def handshake(scid: str, connection: str, messages: str) -> list[Datagram]:
        more = {"quic_connection__number": connection, "tls.handshake.type": messages}
        return [initial(CLIENT, SERVER), initial(SERVER, CLIENT, quic_scid=scid, **more)]

    first, second = handshake("b1", "0", "2,8,11,15,20"), handshake("b2", "1", "2,8,20")
    again = handshake("b2", "1", "2,8,25,15,20")
    case = CASES["resumption"]
    assert judge(Evidence(case, [*first, *second], [*first, *second])) == []
    assert "certificates in the handshakes: [True, True]" in judge(Evidence(case, [], [*first, *again]))[0]


def test_requests_travel_early() -> None:
    case = CASES["zerortt"]
    early = seen(CLIENT, SERVER, quic_version="1", quic_long__packet_type="1", quic_length="1000")
    second = [initial(CLIENT, SERVER), early, initial(SERVER, CLIENT, quic_scid="b2")]
    both = [*OPENING, *second]
    assert judge(Evidence(case, both, both)) == []
    late = [*both, seen(CLIENT, SERVER, 5001)]
    assert judge(Evidence(case, late, late)) == ["the client sent 5001 bytes in 1-RTT packets, expected 5000 at most"]
    assert judge(Evidence(replace(case, handshakes=1), OPENING, OPENING)) == ["the client sent no 0-RTT data"]

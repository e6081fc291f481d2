"""Key exchange, against the key pairs of RFC 8448 and against itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from quicstack.errors import TransportError
from quicstack.tls import groups
from quicstack.tls.groups import (
    SECP256R1,
    SECP384R1,
    X25519,
    X25519MLKEM768,
    EllipticCurveExchange,
    X25519Exchange,
    available_groups,
    generate,
    group_name,
    respond,
)

SIZES = {X25519: (32, 32, 32), SECP256R1: (65, 65, 32), SECP384R1: (97, 97, 48), X25519MLKEM768: (1216, 1120, 64)}


def randomness(seed: int = 0) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


@pytest.mark.parametrize("group", available_groups(), ids=group_name)
def test_both_sides_agree(group: int) -> None:
    """Sizes of RFC 8446 §4.2.8 and draft-ietf-tls-ecdhe-mlkem §3.1."""
    exchange = generate(group, randomness(1))
    share, secret = respond(group, exchange.share, randomness(2))
    assert exchange.finish(share) == secret
    assert (len(exchange.share), len(share), len(secret)) == SIZES[group]


@pytest.mark.parametrize("group", available_groups(), ids=group_name)
def test_keys_come_from_the_given_randomness(group: int) -> None:
    assert generate(group, randomness(1)).share == generate(group, randomness(1)).share
    assert generate(group, randomness(1)).share != generate(group, randomness(2)).share


@pytest.mark.parametrize("group", [SECP256R1, SECP384R1], ids=group_name)
@pytest.mark.parametrize("byte", [0x00, 0xFF])
def test_extreme_randomness_still_gives_a_key(group: int, byte: int) -> None:
    share = generate(group, lambda size: bytes([byte]) * size).share
    assert share[0] == 4


@pytest.mark.parametrize("name", ["simple_1rtt", "client_auth"])
def test_x25519_of_rfc8448(trace: Any, name: str) -> None:
    told = trace(name)
    (client, server) = [f for _, step, f in told.steps if step == "create an ephemeral x25519 key pair"]
    key = x25519.X25519PrivateKey.from_private_bytes(client["private key"])
    exchange = X25519Exchange(key, key.public_key().public_bytes_raw())
    assert exchange.share == client["public key"]
    assert exchange.finish(server["public key"]) == told.shared_secret()


def test_p256_of_rfc8448(trace: Any) -> None:
    told = trace("hello_retry_request")
    (client, server) = [f for _, step, f in told.steps if step == "create an ephemeral P-256 key pair"]
    key = ec.derive_private_key(int.from_bytes(client["private key"], "big"), ec.SECP256R1())
    share = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert share == client["public key"]
    assert EllipticCurveExchange(SECP256R1, key, share).finish(server["public key"]) == told.shared_secret()


def test_hybrid_order() -> None:
    """draft-ietf-tls-ecdhe-mlkem §3.1.3: ML-KEM first, in shares and in the secret."""
    if X25519MLKEM768 not in available_groups():
        pytest.skip("not here: this cryptography has no ML-KEM")
    exchange = generate(X25519MLKEM768, randomness(1))
    assert isinstance(exchange, groups.HybridExchange)
    share, secret = respond(X25519MLKEM768, exchange.share, randomness(2))
    classic = X25519Exchange.generate(randomness(2))
    assert share[1088:] == classic.share
    assert secret[32:] == classic.finish(exchange.share[1184:])
    assert secret[:32] == exchange.mlkem_key.decapsulate(share[:1088])


@pytest.mark.parametrize("group", available_groups(), ids=group_name)
@pytest.mark.parametrize("damage", ["short", "long", "empty", "zeros", "ones"])
def test_bad_shares_are_illegal_parameters(group: int, damage: str) -> None:
    edits: dict[str, Callable[[bytes], bytes]] = {
        "short": lambda share: share[:-1],
        "long": lambda share: share + b"\x00",
        "empty": lambda share: b"",
        "zeros": lambda share: bytes(len(share)),
        "ones": lambda share: share[:-32] + b"\x01" + bytes(31) if group != X25519MLKEM768 else share[:-32] + bytes(32),
    }
    exchange = generate(group, randomness(1))
    share, _ = respond(group, exchange.share, randomness(2))
    for attempt in (
        lambda: respond(group, edits[damage](exchange.share), randomness(3)),
        lambda: exchange.finish(edits[damage](share)),
    ):
        with pytest.raises(TransportError) as caught:
            attempt()
        assert caught.value.code == 0x12F


@pytest.mark.parametrize("prefix", [2, 3, 6])
def test_only_uncompressed_points(prefix: int) -> None:
    share = generate(SECP256R1, randomness(1)).share
    with pytest.raises(TransportError, match="not an uncompressed point"):
        respond(SECP256R1, bytes([prefix]) + share[1:], randomness(2))


def test_an_encapsulation_key_out_of_range() -> None:
    """FIPS 203 §7.2: each coefficient is below 3329."""
    if X25519MLKEM768 not in available_groups():
        pytest.skip("not here: this cryptography has no ML-KEM")
    share = generate(X25519MLKEM768, randomness(1)).share
    with pytest.raises(TransportError, match="ML-KEM-768") as caught:
        respond(X25519MLKEM768, b"\xff" * 1184 + share[1184:], randomness(2))
    assert caught.value.code == 0x12F


def test_names() -> None:
    assert group_name(X25519) == "x25519"
    assert group_name(0x0A0A) == "0x0a0a"

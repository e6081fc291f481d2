"""The key schedule against every step of RFC 8448 §3 to §7."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

from quicstack.tls.key_schedule import CIPHER_SUITES, KeySchedule, Transcript, export, hkdf_expand_label, hkdf_extract
from quicstack.tls.messages import HandshakeType, ServerHello
from quicstack.tls.presentation import Reader

TRACES = ["simple_1rtt", "resumed_0rtt", "hello_retry_request", "client_auth", "compat_mode"]
FULL = ["simple_1rtt", "hello_retry_request", "client_auth", "compat_mode"]
AES_128 = CIPHER_SUITES[0x1301]
SHA256 = hashes.SHA256()


@pytest.mark.parametrize("name", TRACES)
def test_extract(trace: Any, name: str) -> None:
    checked = 0
    for _, step, fields in trace(name).steps:
        if step.startswith("extract secret") and fields:
            assert hkdf_extract(SHA256, fields["salt"], fields["IKM"]) == fields["secret"]
            checked += 1
    assert checked >= 2


def expand(prk: bytes, info: bytes) -> bytes:
    """Take an HkdfLabel apart (RFC 8446 §7.1) and do it again from its parts."""
    reader = Reader(info, "HkdfLabel")
    length, label, context = reader.number(2), reader.vector(1), reader.vector(1)
    reader.finish()
    assert label.startswith(b"tls13 ")
    return hkdf_expand_label(SHA256, prk, label[6:], context, length)


@pytest.mark.parametrize("name", TRACES)
def test_expand(trace: Any, name: str) -> None:
    checked = 0
    for _, _, fields in trace(name).steps:
        for prefix in ("", "key ", "iv "):
            if f"{prefix}expanded" in fields:
                assert expand(fields["PRK"], fields[f"{prefix}info"]) == fields[f"{prefix}expanded"]
                checked += 1
    assert checked >= 15


def hash_before(messages: list[bytes]) -> bytes:
    """The transcript over ``messages``, with the special case of HelloRetryRequest."""
    transcript = Transcript()
    for message in messages:
        is_server_hello = message[0] == HandshakeType.SERVER_HELLO
        if is_server_hello and ServerHello.read(message[4:]).is_hello_retry_request:
            transcript.choose_hash(SHA256)
            transcript.replace_by_message_hash()
        transcript.add(message)
    transcript.choose_hash(SHA256)
    return transcript.digest()


def position(messages: list[bytes], message_type: int, nth: int = -1) -> int:
    """How many messages there are up to the nth of a type, counted from the end for -1."""
    return [i for i, message in enumerate(messages) if message[0] == message_type][nth] + 1


@pytest.mark.parametrize("name", FULL)
def test_whole_schedule(trace: Any, name: str) -> None:
    """From nothing but the messages and the result of the key exchange, every secret comes out."""
    told = trace(name)
    messages = told.messages
    schedule = KeySchedule(AES_128)
    schedule.enter_handshake(told.shared_secret())
    hello_hash = hash_before(messages[: position(messages, HandshakeType.SERVER_HELLO)])
    client = schedule.derive(b"c hs traffic", hello_hash)
    server = schedule.derive(b"s hs traffic", hello_hash)
    assert (client, server) == (told.secret("c hs traffic"), told.secret("s hs traffic"))

    end = position(messages, HandshakeType.FINISHED, 0)
    verify_data = schedule.finished(server, hash_before(messages[: end - 1]))
    assert messages[end - 1] == b"\x14\x00\x00\x20" + verify_data
    schedule.enter_application()
    for label in ("c ap traffic", "s ap traffic", "exp master"):
        assert schedule.derive(label.encode(), hash_before(messages[:end])) == told.secret(label)

    end = position(messages, HandshakeType.FINISHED)
    verify_data = schedule.finished(client, hash_before(messages[: end - 1]))
    assert messages[end - 1] == b"\x14\x00\x00\x20" + verify_data
    assert schedule.derive(b"res master", hash_before(messages[:end])) == told.secret("res master")


@pytest.mark.parametrize("name", FULL)
def test_exporter(trace: Any, name: str) -> None:
    """RFC 8446 §7.5, spelled out from the exporter master secret of RFC 8448 with nothing but HMAC."""
    secret = trace(name).secret("exp master")

    def expand_once(key: bytes, label: bytes, content: bytes) -> bytes:
        digest = hashlib.sha256(content).digest()
        info = b"\x00\x20" + bytes([6 + len(label)]) + b"tls13 " + label + b"\x20" + digest
        return hmac.digest(key, info + b"\x01", "sha256")

    derived = expand_once(secret, b"EXPORTER-Channel-Binding", b"")
    assert export(SHA256, secret, b"EXPORTER-Channel-Binding", b"context", 32) == expand_once(
        derived, b"exporter", b"context"
    )


def test_resumed_schedule(trace: Any) -> None:
    """RFC 8448 §4: the early secret comes from the PSK."""
    told = trace("resumed_0rtt")
    (early,) = [f for _, step, f in told.steps if step == 'extract secret "early"']
    schedule = KeySchedule(AES_128, psk=early["IKM"])
    (derived,) = [f for _, step, f in told.steps if step.startswith('derive secret "tls13 c e') and f]
    assert schedule.derive(b"c e traffic", derived["hash"]) == derived["expanded"]


def test_suites() -> None:
    """RFC 8446 §B.4; 0x1305 is banned by RFC 9001 §5.3."""
    assert {value: (s.key_length, s.hash_length, s.hash().name) for value, s in CIPHER_SUITES.items()} == {
        0x1301: (16, 32, "sha256"),
        0x1302: (32, 48, "sha384"),
        0x1303: (32, 32, "sha256"),
    }


def test_transcript_needs_a_hash() -> None:
    transcript = Transcript()
    transcript.add(b"ClientHello")
    with pytest.raises(RuntimeError, match="no hash before"):
        transcript.digest()
    with pytest.raises(RuntimeError, match="no hash before"):
        transcript.replace_by_message_hash()

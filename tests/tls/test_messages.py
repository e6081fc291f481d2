"""Readers and writers of messages: RFC 8448 in both directions, and hostile bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quicstack.errors import TransportError
from quicstack.tls import messages
from quicstack.tls.extensions import ExtensionType, read_pre_shared_key, read_server_name
from quicstack.tls.messages import HandshakeType, ServerHello, handshake_message, message_name

TRACES = ["simple_1rtt", "resumed_0rtt", "hello_retry_request", "client_auth", "compat_mode"]
READERS: dict[int, Any] = {
    HandshakeType.CLIENT_HELLO: messages.ClientHello,
    HandshakeType.SERVER_HELLO: messages.ServerHello,
    HandshakeType.ENCRYPTED_EXTENSIONS: messages.EncryptedExtensions,
    HandshakeType.CERTIFICATE_REQUEST: messages.CertificateRequest,
    HandshakeType.CERTIFICATE: messages.Certificate,
    HandshakeType.COMPRESSED_CERTIFICATE: messages.CompressedCertificate,
    HandshakeType.CERTIFICATE_VERIFY: messages.CertificateVerify,
    HandshakeType.FINISHED: messages.Finished,
    HandshakeType.NEW_SESSION_TICKET: messages.NewSessionTicket,
}


@pytest.mark.parametrize("name", TRACES)
def test_read_and_write_again(trace: Any, name: str) -> None:
    sent = [fields["payload"] for _, step, fields in trace(name).steps if step == "send handshake record"]
    seen = 0
    for payload in sent:
        while payload:
            size = 4 + int.from_bytes(payload[1:4], "big")
            message, payload = payload[:size], payload[size:]
            if message[0] != HandshakeType.END_OF_EARLY_DATA:
                assert READERS[message[0]].read(message[4:]).write() == message
                seen += 1
    assert seen >= 5


def test_hello_retry_request_is_known_by_its_random(trace: Any) -> None:
    hellos = [ServerHello.read(data[4:]) for data in trace("hello_retry_request").messages if data[0] == 2]
    assert [hello.is_hello_retry_request for hello in hellos] == [True, False]
    assert [hello.cipher_suite for hello in hellos] == [0x1301, 0x1301]


def test_fields_of_a_real_client_hello(trace: Any) -> None:
    hello = messages.ClientHello.read(trace("simple_1rtt").messages[0][4:])
    assert hello.cipher_suites == (0x1301, 0x1303, 0x1302)
    assert read_server_name(hello.extensions[ExtensionType.SERVER_NAME]) == "server"


def test_fields_of_a_resuming_client_hello(trace: Any) -> None:
    told = trace("resumed_0rtt")
    hello = next(fields["payload"] for _, step, fields in told.steps if step == "send handshake record")
    offered = read_pre_shared_key(messages.ClientHello.read(hello[4:]).extensions[ExtensionType.PRE_SHARED_KEY])
    (binder,) = [f["finished"] for _, step, f in told.steps if step == "calculate PSK binder"]
    assert offered.binders == (binder,)
    assert len(offered.identities) == 1


def test_fields_of_a_real_ticket(trace: Any) -> None:
    (data,) = [data for data in trace("simple_1rtt").messages if data[0] == HandshakeType.NEW_SESSION_TICKET]
    ticket = messages.NewSessionTicket.read(data[4:])
    assert (ticket.lifetime, ticket.nonce) == (30, b"\x00\x00")
    assert set(ticket.extensions) == {ExtensionType.EARLY_DATA}


@pytest.mark.parametrize("message_type", READERS, ids=message_name)
@given(body=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_readers_are_total(message_type: int, body: bytes) -> None:
    """Whatever comes: a message that writes the same bytes again, or TransportError."""
    try:
        message = READERS[message_type].read(body)
    except TransportError as error:
        assert error.code in (0x132, 0x12F)
    else:
        if message_type in (HandshakeType.CLIENT_HELLO, HandshakeType.SERVER_HELLO) and not message.extensions:
            return  # RFC 8446 §4.1.2: a hello before TLS 1.3 may lack the block altogether.
        assert message.write() == handshake_message(message_type, body)


@pytest.mark.parametrize("name", TRACES)
def test_every_cut_is_a_decode_error(trace: Any, name: str) -> None:
    for message in trace(name).messages:
        if message[0] in (HandshakeType.FINISHED, HandshakeType.END_OF_EARLY_DATA):
            continue
        body = message[4:]
        for end in range(0, len(body), 3):
            try:
                cut = READERS[message[0]].read(body[:end])
            except TransportError as error:
                assert error.code == 0x132
            else:
                assert not cut.extensions


def test_names() -> None:
    assert message_name(8) == "EncryptedExtensions"
    assert message_name(99) == "handshake message of type 99"

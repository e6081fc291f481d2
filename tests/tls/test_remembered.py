"""What handshakes remember from one to the next: how certificates are written and read, and never what is believed."""

from __future__ import annotations

from typing import Any

import pytest

from quicstack.errors import TransportError
from quicstack.tls.certificate import parse_certificate
from quicstack.tls.compression import available_compression
from quicstack.tls.trust import Trust

COMPRESSION = [(), available_compression()]


@pytest.mark.parametrize("compression", COMPRESSION, ids=["plain", "compressed"])
def test_a_renewed_certificate_is_shown_in_the_next_handshake(wire: Any, compression: tuple[int, ...]) -> None:
    settings = {"trust": Trust.insecure(), "certificate_compression": compression}
    first, second = wire.authority.server()[0], wire.authority.server()[0]
    shown = []
    for certificate_key in (first, first, second, first):
        wire.certificates.replace(certificate_key)
        client, _ = wire.run(wire.client(**settings), wire.server(certificate_compression=compression))
        assert client.is_complete
        shown.append(client.peer_certificates)
    assert shown == [first.certificates, first.certificates, second.certificates, first.certificates]


def test_one_object_serves_all_connections(wire: Any) -> None:
    one, other = (wire.run(wire.client(), wire.server())[0] for _ in range(2))
    assert one.peer_certificates[0] is other.peer_certificates[0]


def test_a_certificate_that_was_seen_is_judged_again(wire: Any) -> None:
    client, _ = wire.run(wire.client(), wire.server())
    assert client.is_complete
    stranger = wire.authority.root("stranger")[0]
    with pytest.raises(TransportError, match="not a trusted root"):
        wire.run(wire.client(trust=Trust.roots(stranger)), wire.server())
    with pytest.raises(TransportError, match=r"is not for 'other\.example'"):
        wire.run(wire.client(server_name="other.example"), wire.server())


def test_a_certificate_that_cannot_be_read_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="error parsing"):
            parse_certificate(b"garbage")

"""Peers that put anything at all on the streams of a session: it may cost them the session, never more than that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from h3.frames import FrameType, encode_frame
from quicstack.wire.varint import encode_varint
from webtransport.capsules import CAPSULE_LIMITS
from webtransport.dialects import DIALECTS, DRAFT02, DRAFT16, Dialect
from webtransport.session_state import Session

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

capsules = st.builds(
    lambda kind, value: encode_varint(kind) + encode_varint(len(value)) + value,
    st.one_of(st.sampled_from(sorted(CAPSULE_LIMITS)), st.integers(0, (1 << 62) - 1)),
    st.binary(max_size=20),
)
dialects = st.sampled_from([DRAFT16, DRAFT02])


def server_survives(n: Any, server: Session) -> None:
    """No defect of ours showed; and if the connection is still there, the next session works."""
    assert n.server.quic.internal_error is None
    assert n.server.h3.error is None
    assert n.server.quic.closed is None
    _, other = n.connect()
    assert other.is_open or other is server


@FEW
@given(parts=st.lists(capsules, max_size=8), dialect=dialects, end=st.booleans())
def test_any_capsules(net: Callable[..., Any], parts: list[bytes], dialect: Dialect, end: bool) -> None:
    n = net(client_dialects=(dialect,))
    client, server = n.connect()
    client.exchange.owner = n  # the client's own table looks away
    client.exchange.stream.write(encode_frame(FrameType.DATA, b"".join(parts)), end)
    n.run()
    server_survives(n, server)


@FEW
@given(data=st.binary(max_size=200), dialect=dialects, cut=st.integers(0, 200))
def test_any_bytes_as_capsules(net: Callable[..., Any], data: bytes, dialect: Dialect, cut: int) -> None:
    n = net(client_dialects=(dialect,))
    client, server = n.connect()
    client.exchange.owner = n
    for piece in (data[:cut], data[cut:]):
        if client.exchange.stream.stop_code is None:
            client.exchange.stream.write(encode_frame(FrameType.DATA, piece))
        n.run()
    server_survives(n, server)


@FEW
@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"wt-available-protocols", b"origin", b"sec-webtransport-http3-draft02", b"x"]),
            st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30).map(str.encode),
        ),
        max_size=5,
    ),
    path=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=20),
    dialect=st.sampled_from(DIALECTS),
)
def test_any_request(net: Callable[..., Any], headers: list[Any], path: str, dialect: Dialect) -> None:
    n = net(client_dialects=(dialect,))
    n.client.table.connect("test", "/" + path, headers=headers)
    n.run()
    assert n.server.quic.internal_error is None
    assert n.server.quic.closed is None

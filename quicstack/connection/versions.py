"""Which version a connection speaks (RFC 9368, RFC 9369 §4): choosing, changing, and checks against downgrade."""

from __future__ import annotations

from quicstack.connection.setup import take_token
from quicstack.connection.state import INITIAL, ConnectionState
from quicstack.errors import TransportError, TransportErrorCode
from quicstack.transport.packet_protection import INITIAL_SUITE, PacketKeys, initial_secrets
from quicstack.wire.packet import LongHeader
from quicstack.wire.transport_parameters import TransportParameters
from quicstack.wire.version import QUIC_V1, VERSIONS, PacketType, Version

__all__ = ["choose", "give_up_version", "initial_open_keys", "install_initial_keys", "is_early", "negotiate", "switch"]


def install_initial_keys(state: ConnectionState, dcid: bytes) -> None:
    """RFC 9001 §5.2: keys that anyone can compute from the client's first Destination Connection ID."""
    client, server = initial_secrets(state.version, dcid)
    space = state.spaces[INITIAL]
    ours, theirs = (client, server) if state.is_client else (server, client)
    space.seal_keys = PacketKeys(INITIAL_SUITE, ours, state.version)
    space.open_keys = PacketKeys(INITIAL_SUITE, theirs, state.version)


def choose(state: ConnectionState, offered: tuple[int, ...]) -> int | None:
    """The best of our versions that the other side speaks too."""
    return next((version for version in state.configuration.versions if version in offered), None)


def initial_open_keys(state: ConnectionState, version: int) -> PacketKeys | None:
    """RFC 9369 §4.1: what opens an Initial of a version other than the connection's; None: it is to be dropped."""
    if not state.is_client:
        original = state.original_open
        return original[1] if original is not None and original[0].value == version else None
    if state.version_settled or version not in state.configuration.versions:
        return None
    _, server = initial_secrets(VERSIONS[version], state.retry_scid or state.original_dcid)
    return PacketKeys(INITIAL_SUITE, server, VERSIONS[version])


def is_early(state: ConnectionState, header: LongHeader) -> bool:
    """RFC 9369 §4.1: 0-RTT packets are of the version that the client began with, whatever was negotiated since."""
    original = state.original_open
    return header.packet_type == PacketType.ZERO_RTT and original is not None and original[0].value == header.version


def switch(state: ConnectionState, version: Version) -> None:
    """RFC 9369 §4.1: from here on the connection speaks the negotiated version, Initials included."""
    state.version = version
    install_initial_keys(state, state.retry_scid or state.original_dcid)


def give_up_version(state: ConnectionState, version: Version) -> None:
    """RFC 9368 §2.1: the server does not know our version; begin again with one that it knows."""
    state.refused_version = state.version
    state.version = version
    path = state.path.address
    state.token, state.may_clear_quic_bit = take_token(state.configuration, state.environment, path, version.value)
    _announce(state, version.value)


def _announce(state: ConnectionState, chosen: int) -> None:
    """RFC 9368 §3: the Chosen Version is another one now, those available are the same."""
    _, *available = state.local_parameters.version_information or (0,)
    state.local_parameters.version_information = (chosen, *available)


def negotiate(state: ConnectionState, parameters: TransportParameters) -> None:
    """RFC 9368 §4: what the peer says about versions against what the packets said; a server then chooses."""
    information = parameters.version_information
    current = state.version.value
    if state.is_client:
        _check_server(state, information)
    elif information is not None:
        if information[0] != current:
            raise _error(f"the client chose {information[0]:#x}, and sent packets of {current:#x}")
        chosen = choose(state, information[1:])
        if chosen is not None and chosen != current:
            keys = state.spaces[INITIAL].open_keys
            if keys is not None:
                state.original_open = state.version, keys
            switch(state, VERSIONS[chosen])
            _announce(state, chosen)


def _check_server(state: ConnectionState, information: tuple[int, ...] | None) -> None:
    current = state.version.value
    if information is None:
        changed = current != state.configuration.first_version
        if changed and not (state.refused_version is not None and current == QUIC_V1):  # §8: then it is {v1}
            raise _error("the version has changed, and the server sent no version_information")
        return
    if information[0] != current or information[0] not in state.configuration.versions:
        raise _error(f"the server chose {information[0]:#x}, and sent packets of {current:#x}")
    if state.refused_version is not None:
        attempted = state.local_parameters.version_information
        known = (*information[1:], current)
        if len(information) == 1 or attempted is None or choose(state, known) != attempted[0]:
            raise _error("the server knows a version that a Version Negotiation packet left out")


def _error(reason: str) -> TransportError:
    return TransportError(TransportErrorCode.VERSION_NEGOTIATION_ERROR, reason)

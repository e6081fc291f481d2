"""Taking in what arrives: packets are opened, frames dispatched, violations end here (RFC 9000 §5.2, §12, §13.1).

Packets that cannot be opened are dropped and traced, never fatal; a :class:`TransportError` closes the connection.
"""

from __future__ import annotations

from itertools import count

from quicstack.connection import (
    early_data,
    handshake,
    key_update,
    lifecycle,
    paths,
    stateless_reset,
    unprotected,
    versions,
)
from quicstack.connection.datagrams import take_datagram_run
from quicstack.connection.frames import FLAGS, HANDLERS, IS_ELICITING, IS_NO_PROBE, ack_frequency, unknown_frame
from quicstack.connection.runs import RUN_FRAME, OpenedPacket, take_run
from quicstack.connection.state import (
    APPLICATION,
    EARLY,
    HANDSHAKE,
    INITIAL,
    SPACE_NAMES,
    ConnectionState,
    EarlyData,
    Phase,
)
from quicstack.errors import ConnectionClosed, TransportError, TransportErrorCode
from quicstack.observe.trace import Trace
from quicstack.train import Path, Train
from quicstack.transport.packet_protection import AEAD_TAG_LENGTH, SAMPLE_LENGTH, BarePacket, InvalidTag
from quicstack.transport.packet_space import MAX_WAITING, MAX_WAITING_BYTES, PacketSpace, WaitingPacket
from quicstack.wire.frame import ACK_FREQUENCY, DATAGRAM_LEN, read_frame_type
from quicstack.wire.packet import (
    FIXED_BIT,
    LONG_HEADER,
    MIN_INITIAL_DATAGRAM,
    LongHeader,
    read_cids,
    read_long_header,
)
from quicstack.wire.packet_number import decode_packet_number
from quicstack.wire.version import NEGOTIATION, VERSIONS, PacketType

__all__ = ["receive"]

LEVELS = {PacketType.INITIAL: INITIAL, PacketType.ZERO_RTT: EARLY, PacketType.HANDSHAKE: HANDSHAKE}
RESERVED_BITS, KEY_PHASE = 0x18, 0x04
"""Of a short header (RFC 9000 §17.3)."""
MIN_SEALED = 4 + SAMPLE_LENGTH
"""From the packet number on, a packet needs this many bytes to carry a sample (RFC 9001 §5.4.2)."""
STREAM_START, DATAGRAM_START = bytes((RUN_FRAME,)), bytes((DATAGRAM_LEN,))
RUN_STARTS = frozenset((STREAM_START, DATAGRAM_START))
"""What the first packet of a run begins with."""


def receive(state: ConnectionState, train: Train, now: float) -> None:
    """Take in a train of datagrams of this connection. Raises nothing."""
    counters = state.counters
    counters.trains_received += 1
    counters.bytes_received += len(train.data)
    if state.phase.is_over and state.phase is not Phase.CLOSING:
        return
    path = state.path if train.path is state.path.address else paths.path_of(state, train.path)
    if path is None:
        state.trace.packet_dropped(now, "unknown", len(train.data), "unknown_path")
        return
    path.bytes_received += len(train.data)
    state.rx_now = state.outbox.now = now
    state.rx_path = path
    packets, datagrams = counters.packets_received, counters.datagrams_received
    was_confirmed = state.handshake_confirmed
    try:
        if train.data[0] & LONG_HEADER:
            for datagram in train.datagrams():
                counters.datagrams_received += 1
                _receive_datagram(state, datagram, train.path, train.ecn, now)
        else:
            _receive_train(state, train, now)
        if not was_confirmed:
            _open_waiting(state, now)
    except TransportError as error:
        lifecycle.close_on_error(state, now, error)
    except Exception as error:
        lifecycle.internal_error(state, now, error)
    state.rx_path = None
    if counters.packets_received - packets < counters.datagrams_received - datagrams:
        stateless_reset.look_for_reset(state, train, now)
    if counters.packets_received != packets and not state.phase.is_over:
        lifecycle.restart_idle_timer(state, now)  # RFC 9000 §10.1
        state.eliciting_sent = False
    if was_confirmed:
        state.spaces[APPLICATION].acks.end_of_read(now)
    else:
        for space in state.spaces:
            space.acks.end_of_read(now)
    if state.outbox.touched:
        state.streams.forget_finished()
    state.outbox.ring()


# -- datagrams with long headers ---------------------------------------------------------------------------------------


def _receive_datagram(state: ConnectionState, data: bytes, path: Path, ecn: int, now: float) -> None:
    """RFC 9000 §12.2: packet after packet; one that is bad does not spoil the others."""
    pos = 0
    dcid = None
    while pos < len(data):
        if not data[pos] & LONG_HEADER:
            if dcid is not None and data[pos + 1 : pos + 1 + state.local_cids.length] == dcid:
                _receive_train(state, Train(data[pos:], len(data) - pos, path, ecn), now, counted=True)
            return
        try:
            version, packet_dcid, _, _ = read_cids(data, pos)
            if version == NEGOTIATION:
                if pos == 0:  # §12.2: it has no length, and is not coalesced
                    unprotected.on_version_negotiation(state, data, now)
                return
            if version != state.version.value and version not in VERSIONS:
                raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, "another version")
            header = read_long_header(data, pos, VERSIONS[version])
        except TransportError:
            _drop(state, "unknown", len(data) - pos, "header_parse_error")
            return
        pos = header.end
        if dcid is not None and packet_dcid != dcid:
            _drop(state, "unknown", header.end - header.start, "connection_unknown")  # §12.2
            continue
        dcid = packet_dcid
        _receive_long(state, data, header, path, ecn, now)


def _receive_long(state: ConnectionState, data: bytes, header: LongHeader, path: Path, ecn: int, now: float) -> None:
    size = header.end - header.start
    keys = None
    if not data[header.start] & FIXED_BIT and not state.local_parameters.grease_quic_bit:
        _drop(state, "unknown", size, "header_parse_error")  # §17.2
        return
    if header.version != state.version.value:
        if header.packet_type == PacketType.INITIAL:
            keys = versions.initial_open_keys(state, header.version)
        if keys is None and not versions.is_early(state, header):
            _drop(state, "unknown", size, "unexpected_version")
            return
    if header.packet_type == PacketType.RETRY:
        if not unprotected.on_retry(state, data, header, now):
            _drop(state, "retry", len(data), "invalid_retry")
        return
    name = PacketType.NAMES[header.packet_type]
    level = LEVELS[header.packet_type]
    space = state.spaces[APPLICATION if level == EARLY else level]
    if state.peer_scid is not None and header.scid != state.peer_scid:
        _drop(state, name, size, "connection_unknown")  # §7.2: a different Source Connection ID is discarded
        return
    if header.packet_type == PacketType.INITIAL and not state.is_client and len(data) < MIN_INITIAL_DATAGRAM:
        _drop(state, name, size, "invalid_length")  # §14.1: whoever can reach us can pad
        return
    if state.is_client and header.packet_type == PacketType.INITIAL and header.token:
        _drop(state, name, size, "invalid_token")  # §17.2.2: servers send none
        return
    if header.end - header.pn_offset < MIN_SEALED:
        _drop(state, name, size, "header_parse_error")
        return
    source = state.early if level == EARLY else space
    keys = source.open_keys if keys is None or source.discarded else keys
    if keys is None:
        _keep_waiting(state, source, name, data[header.start : header.end], path, ecn, now)
        return
    plain, pn_length = keys.unmask(data, header.start, header.pn_offset)
    truncated = int.from_bytes(plain[-pn_length:], "big")
    number = decode_packet_number(truncated, 8 * pn_length, space.acks.largest)
    if space.acks.is_duplicate(number):
        state.counters.packets_duplicate += 1
        return
    try:
        payload = keys.open(plain, number, data[header.pn_offset + pn_length : header.end])
    except InvalidTag:
        key_update.count_failure(state)
        _drop(state, name, size, "decryption_failure")
        return
    if plain[0] & 0x0C:
        raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, "reserved header bits are set")  # §17.2
    if state.is_client and header.version != state.version.value:
        early_data.stop_sending(state)
        versions.switch(state, VERSIONS[header.version])
    if state.peer_scid is None:
        state.peer_scid = header.scid
        state.peer_cids.replace_first(header.scid)
    if space.index == HANDSHAKE and not state.is_client:
        if state.rx_path is not None:
            state.rx_path.validated = True  # RFC 9000 §8.1: whoever sends Handshake packets has seen ours
        handshake.discard_keys(state, INITIAL, now)  # RFC 9001 §4.9.1
    state.rx_dcid = header.dcid
    state.rx_level = level
    _process(state, space, number, payload, size, ecn, now, level)
    state.rx_level = APPLICATION


def _keep_waiting(
    state: ConnectionState, space: PacketSpace | EarlyData, name: str, packet: bytes, path: Path, ecn: int, now: float
) -> None:
    """RFC 9001 §5.7: packets that overtook the handshake wait for their keys, a few of them."""
    size = space.waiting_bytes + len(packet)
    if space.discarded or len(space.waiting) >= MAX_WAITING or size > MAX_WAITING_BYTES or lifecycle.is_over(state):
        _drop(state, name, len(packet), "key_unavailable")
    else:
        space.waiting_bytes = size
        space.waiting.append(WaitingPacket(packet, path, ecn, now))


def _open_waiting(state: ConnectionState, now: float) -> None:
    for space in (state.spaces[INITIAL], state.spaces[HANDSHAKE], state.early, state.spaces[APPLICATION]):
        if space.waiting and space.open_keys is not None:
            waiting, space.waiting, space.waiting_bytes = space.waiting, [], 0
            for packet in waiting:
                # With the time at which it came: the wait for keys is part of the ACK delay (RFC 9000 §13.2.5).
                if packet.data[0] & LONG_HEADER:
                    _receive_datagram(state, packet.data, packet.path, packet.ecn, packet.now)
                else:
                    train = Train(packet.data, len(packet.data), packet.path, packet.ecn)
                    _receive_train(state, train, packet.now, counted=True)


# -- trains with short headers -----------------------------------------------------------------------------------------


def _receive_train(state: ConnectionState, train: Train, now: float, counted: bool = False) -> None:  # hot path
    """Open the 1-RTT packets of a train; all masks come from one call."""
    data = train.data
    size = train.segment_size
    if not counted:
        state.counters.datagrams_received += (len(data) + size - 1) // size
    space = state.spaces[APPLICATION]
    keys = space.open_keys
    # RFC 9001 §5.7: no 1-RTT packet is processed before the handshake is complete
    if keys is None or not (state.handshake_complete or state.is_client):
        for datagram in train.datagrams():
            _keep_waiting(state, space, "1RTT", datagram, train.path, train.ecn, now)
        return
    cid_end = 1 + state.local_cids.length
    state.rx_dcid = data[1:cid_end]
    if len(data) <= size:
        if len(data) >= cid_end + MIN_SEALED:
            header, pn_length = keys.unmask(data, 0, cid_end)
            _receive_packet(state, space, header, data[cid_end + pn_length :], pn_length, train.ecn, now)
        return
    packets = keys.unmask_train(data, size, cid_end - 1)
    while packets and state.phase is not Phase.DRAINING:
        opened = _open_run(state, space, data, packets)
        if opened:
            last = opened[-1][0], packets[len(opened) - 1][0][0]
            packets = packets[len(opened) :]
            _process_run(state, space, opened, train.ecn, now)
            if state.rx_path is not None:
                state.rx_path.spin.on_packet(*last, state.is_client)
        else:  # out of order, of another key phase, damaged
            header, pn_length, start, end = packets.pop(0)
            _receive_packet(state, space, header, data[start:end], pn_length, train.ecn, now)


def _receive_packet(
    state: ConnectionState, space: PacketSpace, header: bytes, body: bytes, pn_length: int, ecn: int, now: float
) -> None:  # hot path
    """One 1-RTT packet whose header is bare."""
    largest = space.acks.largest
    number = largest + 1
    truncated = int.from_bytes(header[-pn_length:], "big")
    if truncated != number & (1 << 8 * pn_length) - 1:
        number = decode_packet_number(truncated, 8 * pn_length, largest)
        if space.acks.is_duplicate(number):
            state.counters.packets_duplicate += 1
            return
    keys, first, size = space.open_keys, header[0], len(header) + len(body)
    assert keys is not None
    try:
        if first >> 2 & 1 == state.key_phase.receive_bit:
            payload = keys.open(header, number, body)
        else:
            payload = key_update.open_other_phase(state, header, number, body, now)
    except InvalidTag:
        key_update.count_failure(state)
        _drop(state, "1RTT", size, "decryption_failure")
        return
    fixed_bit = 0 if state.local_parameters.grease_quic_bit else FIXED_BIT
    if first & (RESERVED_BITS | fixed_bit) != fixed_bit:
        if ~first & fixed_bit:
            _drop(state, "1RTT", size, "header_parse_error")  # §17.3.1: without the fixed bit
            return
        raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, "reserved header bits are set")  # §17.3.1
    _process(state, space, number, payload, size, ecn, now)
    if number > largest and state.rx_path is not None:
        state.rx_path.spin.on_packet(number, first, state.is_client)


def _open_run(
    state: ConnectionState, space: PacketSpace, data: bytes, packets: list[BarePacket]
) -> list[OpenedPacket]:  # hot path
    """The first of these packets, as long as their numbers go on without a gap above all that came, opened."""
    keys, largest = space.open_keys, space.acks.largest
    assert keys is not None
    header, pn_length, _, _ = packets[0]
    number = largest + 1
    truncated = int.from_bytes(header[-pn_length:], "big")
    if truncated != number & (1 << 8 * pn_length) - 1:
        number = max(number, decode_packet_number(truncated, 8 * pn_length, largest))
    fixed_bit = 0 if state.local_parameters.grease_quic_bit else FIXED_BIT
    checked, expected = RESERVED_BITS | fixed_bit | KEY_PHASE, fixed_bit | state.key_phase.receive_bit << 2
    payloads = keys.open_run(data, packets, number, checked, expected)
    if not payloads:
        return []
    overhead = len(header) + AEAD_TAG_LENGTH
    sizes = [len(payloads[0]) + overhead] * len(payloads)
    sizes[-1] = len(payloads[-1]) + overhead  # the last one of a train may be shorter
    return list(zip(count(number), payloads, sizes, strict=False))


def _process_run(
    state: ConnectionState, space: PacketSpace, opened: list[OpenedPacket], ecn: int, now: float
) -> None:  # hot path
    """Packets in the order of their numbers: what belongs together as one, the others frame by frame."""
    index, end = 0, len(opened)
    while index < end and state.phase is not Phase.DRAINING:
        number, payload, size = opened[index]
        start = payload[:1]
        if start in RUN_STARTS and _may_be_run(state):
            take = take_run if start == STREAM_START else take_datagram_run
            taken = take(state, space, opened, index, now, ecn)
            if taken:
                index += taken
                continue
        index += 1
        _process(state, space, number, payload, size, ecn, now)


def _may_be_run(state: ConnectionState) -> bool:
    """Nobody wants to see each packet by itself."""
    return type(state.trace) is Trace and state.rx_path is state.path and not state.phase.is_over


# -- one packet --------------------------------------------------------------------------------------------------------


def _process(
    state: ConnectionState,
    space: PacketSpace,
    number: int,
    payload: bytes,
    size: int,
    ecn: int,
    now: float,
    level: int = APPLICATION,
) -> None:  # hot path
    """RFC 9000 §12.4, §13.1: dispatch every frame, then remember the packet as one to acknowledge."""
    state.trace.packet_received(now, SPACE_NAMES[level], number, size, payload)
    if state.phase.is_over:
        # Only the peer's own close matters now (§10.2.1).
        if payload[:1] in (b"\x1c", b"\x1d"):
            lifecycle.drain(state, now, state.closed or ConnectionClosed(0))
        else:
            lifecycle.on_packet_while_closing(state)
        return
    if not payload:
        raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, "a packet without frames")
    state.rx_space = space
    handlers = HANDLERS[level]
    flags = 0
    pos = 0
    end = len(payload)
    while pos < end:
        frame_type = payload[pos]
        if frame_type >= 0x40:
            frame_type, after = read_frame_type(payload, pos)
            if frame_type != ACK_FREQUENCY:
                unknown_frame(frame_type)
            pos = ack_frequency(state, payload, after)
            flags |= IS_ELICITING | IS_NO_PROBE
            continue
        pos = handlers[frame_type](state, payload, pos + 1, frame_type)
        flags |= FLAGS[frame_type]
    state.counters.packets_received += 1
    space.acks.on_packet(number, flags & IS_ELICITING > 0, now, ecn)
    path = state.rx_path
    if path is not state.path and flags & IS_NO_PROBE and number == space.acks.largest:  # noqa: SIM102
        if path is not None and not state.phase.is_over:
            paths.on_moved_packet(state, path, now)


def _drop(state: ConnectionState, name: str, size: int, trigger: str) -> None:
    state.counters.packets_dropped += 1
    state.trace.packet_dropped(state.rx_now, name, size, trigger)

"""Building and sealing what goes out (RFC 9000 §12.2, §13, §14.1; RFC 9001 §5).

There is no second place that answers "is there something to send?": a packet is built, and dropped if it stayed empty.
"""

from __future__ import annotations

from quicstack.connection import first_byte, handshake, key_update, lifecycle, paths, retransmission
from quicstack.connection.datagrams import datagrams_fill, fill_datagram_run
from quicstack.connection.packing import MIN_PAYLOAD, fill_packet, fill_path_frames, is_drained, pad_payload
from quicstack.connection.retransmission import MTU_PROBE, Record
from quicstack.connection.runs import fill_run
from quicstack.connection.state import APPLICATION, EARLY, INITIAL, SPACE_NAMES, ConnectionState, Phase
from quicstack.errors import ConnectionClosed
from quicstack.recovery.sent_packet import SentPacket
from quicstack.train import Train
from quicstack.transport.packet_protection import AEAD_TAG_LENGTH, PacketKeys
from quicstack.transport.packet_space import PacketSpace
from quicstack.transport.path import PathState
from quicstack.wire import frame
from quicstack.wire.packet import MIN_INITIAL_DATAGRAM, long_header_size, write_long_header
from quicstack.wire.packet_number import MAX_PACKET_NUMBER, packet_number_length
from quicstack.wire.version import PacketType

__all__ = ["next_train"]

MAX_TRAIN_PACKETS = 64
"""Segments of one GSO send that every kernel with GSO takes."""
LAST_NUMBER = MAX_PACKET_NUMBER - MAX_TRAIN_PACKETS - 1
"""No train begins here, so that none gets to the end of the packet numbers (RFC 9000 §12.3)."""
MIN_ROOM = 48
"""Room that makes it worth adding another packet to a datagram."""
SKIP_PERIOD = 256
"""Packets, on average, from one packet number left out to the next, while the window is small."""

LONG_TYPES = (PacketType.INITIAL, PacketType.HANDSHAKE, PacketType.ZERO_RTT)
"""By packet number space. Packets of the last have long headers only until there are 1-RTT keys."""


def next_train(state: ConnectionState, now: float) -> Train | None:
    """The next datagrams to send, or None. Called until it says None or the socket is full."""
    if state.spaces[APPLICATION].next_packet_number >= LAST_NUMBER:
        _out_of_numbers(state, now)
        return None
    outbox = state.outbox
    outbox.now = now
    outbox.drained = False
    outbox.smoothed_rtt = state.recovery.rtt.smoothed_rtt
    if state.phase.is_over:
        return _close_datagram(state, now) if state.phase is Phase.CLOSING else None
    if outbox.touched:
        state.streams.forget_finished()
    for path in state.other_paths:
        if path.responses or (path.challenge is not None and path.challenge_deadline is None):
            train = _probe_datagram(state, path, now)
            if train is not None:
                return train
    initial, handshake_space, application = state.spaces
    if initial.seal_keys is not None or handshake_space.seal_keys is not None:
        return _handshake_datagram(state, now)
    if application.seal_keys is not None:
        return _one_rtt_train(state, now)
    return None


def _out_of_numbers(state: ConnectionState, now: float) -> None:
    """RFC 9000 §12.3: the connection is over, and no packet is left to say so in."""
    if state.phase is not Phase.CLOSED:
        lifecycle.discard(state, now, ConnectionClosed(0, "all packet numbers are used"))


# -- long headers: one datagram of up to three packets -----------------------------------------------------------------


def _handshake_datagram(state: ConnectionState, now: float) -> Train | None:
    """RFC 9000 §12.2: Initial, Handshake and 1-RTT packets in one datagram, padded where §14.1 asks for it."""
    path = state.path
    room = min(state.max_datagram_size, path.budget())
    state.recovery.at_anti_amplification_limit = path.budget() < MIN_INITIAL_DATAGRAM
    allowed = state.probes > 0 or state.recovery.send_allowance(now) > 0
    parts: list[tuple[PacketSpace, list[bytes], list[Record], bool, int]] = []
    padded = False
    for space in state.spaces:
        if _keys(state, space) is None:
            continue
        pn_length = packet_number_length(space.next_packet_number, space.largest_acked)
        overhead = _header_size(state, space, pn_length) + AEAD_TAG_LENGTH
        if room - overhead < MIN_ROOM:
            break
        # RFC 9000 §14.1: a server's ack-eliciting Initial needs a full datagram, a client's any Initial does
        may_elicit = allowed and (space.index != INITIAL or room >= MIN_INITIAL_DATAGRAM)
        out, records, elicits = fill_packet(state, space, room - overhead, now, may_elicit=may_elicit)
        if not out:
            continue
        size = sum(map(len, out))
        if size < MIN_PAYLOAD:
            out.append(bytes(MIN_PAYLOAD - size))
            size = MIN_PAYLOAD
        padded = padded or (space.index == INITIAL and (state.is_client or elicits))
        parts.append((space, out, records, elicits, pn_length))
        room -= overhead + size
    if not parts:
        state.recovery.app_limited = allowed
        return None
    if padded:
        used = min(state.max_datagram_size, path.budget()) - room
        parts[-1][1].append(bytes(max(0, MIN_INITIAL_DATAGRAM - used)))
    ecn = state.recovery.ecn.mark() if state.configuration.ecn else 0
    data = b"".join(_seal_one(state, *part, now, ecn, padded and part is parts[-1]) for part in parts)
    if state.probes:
        state.probes -= 1
        if state.probes and not any(space.crypto.outgoing.has_data for space in state.spaces):
            retransmission.queue_probe(state)  # a second copy has twice the chance; a PING would have none
    if state.is_client and any(part[0].index == 1 for part in parts):
        handshake.discard_keys(state, INITIAL, now)  # RFC 9001 §4.9.1
    if path.validated and all(is_drained(state, space) for space in state.spaces if _keys(state, space) is not None):
        state.outbox.drained = True  # to ask once more and find nothing takes 12 us, in each of three datagrams
        state.recovery.app_limited = state.recovery.send_allowance(now) > 0
    state.counters.packets_sent += len(parts) - 1
    return _launch(state, path, data, len(data), 1, ecn)


def _seal_one(
    state: ConnectionState,
    space: PacketSpace,
    out: list[bytes],
    records: list[Record],
    elicits: bool,
    pn_length: int,
    now: float,
    ecn: int,
    padded: bool,
) -> bytes:
    payload = b"".join(out)
    number = space.next_packet_number
    header = _header(state, space, len(payload) + AEAD_TAG_LENGTH, pn_length)
    keys = _keys(state, space)
    assert keys is not None
    data = keys.seal(header, pn_length, number, payload)
    space.next_packet_number = number + 1
    _note_sent(state, space, number, payload, len(data), elicits, elicits or padded, tuple(records), now, ecn)
    return data


def _keys(state: ConnectionState, space: PacketSpace) -> PacketKeys | None:
    """What seals a packet of this space now; RFC 9001 §5.6: 0-RTT keys only until there are others."""
    if space.index == APPLICATION and space.seal_keys is None:
        return state.early.seal_keys
    return space.seal_keys


def _header(state: ConnectionState, space: PacketSpace, length: int, pn_length: int) -> bytes:
    number = space.next_packet_number
    dcid = state.peer_cids.current.cid
    if space.index == APPLICATION and space.seal_keys is not None:
        return _short_header(state, state.path, space, dcid, pn_length)
    kind, scid = LONG_TYPES[space.index], state.local_cids.first
    fixed_bit = first_byte.fixed_bit(state)
    return write_long_header(state.version, kind, dcid, scid, state.token, length, number, pn_length, fixed_bit)


def _header_size(state: ConnectionState, space: PacketSpace, pn_length: int) -> int:
    """Of what ``_header`` makes; a tenth of the work."""
    dcid = state.peer_cids.current.cid
    if space.index == APPLICATION and space.seal_keys is not None:
        return 1 + len(dcid) + pn_length
    return long_header_size(LONG_TYPES[space.index], dcid, state.local_cids.first, state.token, pn_length)


def _short_header(state: ConnectionState, path: PathState, space: PacketSpace, dcid: bytes, pn_length: int) -> bytes:
    number = space.next_packet_number & ((1 << 8 * pn_length) - 1)
    return _short_prefix(state, path, dcid, pn_length) + number.to_bytes(pn_length, "big")


def _short_prefix(state: ConnectionState, path: PathState, dcid: bytes, pn_length: int) -> bytes:
    return bytes((first_byte.free_bits(state, path, dcid) | state.key_phase.send_bit << 2 | (pn_length - 1),)) + dcid


# -- short headers: trains ---------------------------------------------------------------------------------------------


def _one_rtt_train(state: ConnectionState, now: float) -> Train | None:  # hot path
    """As many full packets as window, pacer and path allow, and at most one shorter packet at their end."""
    path = state.path
    if path.mtu.enabled and state.handshake_confirmed and path.validated and (larger := path.mtu.next_probe(now)):
        train = _mtu_probe(state, path, larger, now)
        if train is not None:
            return train
    size = state.max_datagram_size
    recovery = state.recovery
    probe = state.probes > 0
    allowance = recovery.send_allowance(now, probe=probe)
    packets = allowance // size
    if packets > MAX_TRAIN_PACKETS:
        packets = MAX_TRAIN_PACKETS
    recovery.at_anti_amplification_limit = False
    if not path.validated:
        budget = path.budget()
        recovery.at_anti_amplification_limit = budget < size
        packets = min(packets, max(1, budget // size))  # §8.2.1: the first challenge may have to be a small packet
        size = min(size, budget)
    if not packets and path.challenge is not None and path.challenge_deadline is None:
        # What fills the window may be lost on the path before, and without this proof it cannot be sent again.
        return _probe_datagram(state, path, now)
    space = state.spaces[APPLICATION]
    if not packets and not space.acks.ack_due:
        recovery.app_limited = state.outbox.drained = False  # the window is full, or the pacer waits
        return None
    assert space.seal_keys is not None
    if space.seal_keys.packets > key_update.UPDATE_AFTER and not key_update.stay_within_limits(state, now):
        return None
    if space.next_packet_number >= space.skip_at:
        _skip_a_number(state, space)
    number = first_number = space.next_packet_number
    dcid = state.peer_cids.current.cid
    pn_length = packet_number_length(number + MAX_TRAIN_PACKETS, space.largest_acked)
    overhead = 1 + len(dcid) + pn_length + AEAD_TAG_LENGTH
    capacity = size - overhead
    if capacity < MIN_ROOM:
        return None
    ecn = recovery.ecn.mark() if state.configuration.ecn else 0
    payloads: list[bytes] = []
    if packets > 1 and not probe:  # gain: 0.3 us a packet, where a whole train is one run
        payloads = fill_run(state, space, number, capacity, overhead, packets, now, ecn)
        packets -= len(payloads)
        number = space.next_packet_number = number + len(payloads)
    only_datagrams = False
    while packets > 0 or not payloads:
        if only_datagrams and not datagrams_fill(state, capacity):
            recovery.app_limited = state.outbox.drained = is_drained(state, space)
            break
        out, records, elicits = fill_packet(state, space, capacity, now, may_elicit=packets > 0)
        if not out:
            recovery.app_limited = state.outbox.drained = packets > 0
            break
        payload = out[0] if len(out) == 1 else b"".join(out)
        if len(payload) < capacity:
            payload = pad_payload(state, payload, capacity, only_datagrams)
        payloads.append(payload)
        _note_sent(state, space, number, payload, len(payload) + overhead, elicits, elicits, tuple(records), now, ecn)
        number += 1
        packets -= 1
        if probe and state.probes:
            state.probes -= 1
        more: list[bytes] | None = None
        if packets > 1 and len(payload) == capacity:
            more = fill_run(state, space, number, capacity, overhead, packets, now, ecn)
        if state.datagrams_out.size and len(payloads) == 1 and elicits and datagrams_fill(state, len(payload)):
            capacity = len(payload)  # a train has packets of one size, whatever that is, and a shorter one at its end
            only_datagrams = True
            if path.validated and not probe:  # gain: of packets of 1030 bytes a train has 62, not 53
                packets = min(allowance // (capacity + overhead), MAX_TRAIN_PACKETS) - 1
            more = fill_datagram_run(state, space, number, capacity, overhead, packets, now, ecn)
        if more:
            payloads += more
            number += len(more)
            packets -= len(more)
        space.next_packet_number = number
        if packets <= 0 or len(payload) < capacity:
            recovery.app_limited = packets > 0
            state.outbox.drained = packets > 0 and is_drained(state, space)
            break
    else:
        recovery.app_limited = False
    if not payloads:
        return None
    data = space.seal_keys.seal_train(_short_prefix(state, path, dcid, pn_length), pn_length, first_number, payloads)
    return _launch(state, path, data, len(payloads[0]) + overhead, len(payloads), ecn)


def _skip_a_number(state: ConnectionState, space: PacketSpace) -> None:
    """RFC 9000 §21.4: leave a number out, one in several windows. Who acknowledges it has not read our packets."""
    if space.skip_at:
        space.skipped = space.next_packet_number
        space.next_packet_number += 1
    window = state.recovery.congestion_controller.congestion_window // state.max_datagram_size
    period = max(SKIP_PERIOD, 4 * int(window))
    chance = int.from_bytes(state.environment.random(4), "big") % period
    space.skip_at = space.next_packet_number + period // 2 + chance


def _note_sent(
    state: ConnectionState,
    space: PacketSpace,
    number: int,
    payload: bytes,
    size: int,
    elicits: bool,
    in_flight: bool,
    records: tuple[Record, ...],
    now: float,
    ecn: int,
) -> None:
    state.recovery.on_packet_sent(space.index, SentPacket(number, now, size, elicits, in_flight, records, ecn), now)
    state.trace.packet_sent(now, SPACE_NAMES[space.index if space.seal_keys else EARLY], number, size, payload)
    if elicits and not state.eliciting_sent:
        lifecycle.note_eliciting_sent(state, now)


def _launch(state: ConnectionState, path: PathState, data: bytes, segment: int, datagrams: int, ecn: int) -> Train:
    path.bytes_sent += len(data)
    counters = state.counters
    counters.bytes_sent += len(data)
    counters.datagrams_sent += datagrams
    counters.packets_sent += datagrams
    counters.trains_sent += 1
    return Train(data, segment, path.address, ecn)


# -- other paths, and the end ------------------------------------------------------------------------------------------


def _probe_datagram(state: ConnectionState, path: PathState, now: float) -> Train | None:
    """RFC 9000 §8.2, §9.3.3: PATH_CHALLENGE and PATH_RESPONSE and nothing else, on any path."""
    out: list[bytes] = []
    size = min(MIN_INITIAL_DATAGRAM, path.budget())
    space = state.spaces[APPLICATION]
    dcid = state.peer_cids.current.cid if path is state.path else paths.cid_for(state, path)
    if dcid is None or space.seal_keys is None:
        return None
    pn_length = packet_number_length(space.next_packet_number, space.largest_acked)
    header = _short_header(state, path, space, dcid, pn_length)
    room = size - len(header) - AEAD_TAG_LENGTH
    room -= fill_path_frames(state, path, room, out)
    path.pad_next = False
    if not out:
        return None
    if size >= MIN_INITIAL_DATAGRAM:  # §8.2.2: else the limit forbids to expand it
        out.append(bytes(size - len(header) - AEAD_TAG_LENGTH - room))
    payload = b"".join(out)
    number = space.next_packet_number
    space.next_packet_number = number + 1
    data = space.seal_keys.seal(header, pn_length, number, payload)
    # Not in flight: a probe of a path says nothing about congestion on the path used so far.
    _note_sent(state, space, number, payload, len(data), False, False, (), now, 0)
    return _launch(state, path, data, len(data), 1, 0)


def _mtu_probe(state: ConnectionState, path: PathState, size: int, now: float) -> Train | None:
    """RFC 9000 §14.4: PING and PADDING of a size that the path may not carry; a train of its own."""
    recovery = state.recovery
    if recovery.congestion_controller.congestion_window - recovery.bytes_in_flight < size:
        return None
    space = state.spaces[APPLICATION]
    pn_length = packet_number_length(space.next_packet_number, space.largest_acked)
    header = _header(state, space, 0, pn_length)
    payload = b"\x01" + bytes(size - len(header) - AEAD_TAG_LENGTH - 1)
    number = space.next_packet_number
    assert space.seal_keys is not None
    data = space.seal_keys.seal(header, pn_length, number, payload)
    space.next_packet_number = number + 1
    ecn = recovery.ecn.mark() if state.configuration.ecn else 0
    packet = SentPacket(number, now, size, True, True, ((MTU_PROBE, path.mtu),), ecn, is_mtu_probe=True)
    recovery.on_packet_sent(APPLICATION, packet, now)
    path.mtu.on_probe_sent(size)
    state.trace.packet_sent(now, SPACE_NAMES[APPLICATION], number, size, payload)
    return _launch(state, path, data, size, 1, ecn)


def _close_datagram(state: ConnectionState, now: float) -> Train | None:
    """RFC 9000 §10.2.3: CONNECTION_CLOSE at every level that the peer may be able to read.

    Once the handshake is confirmed that is 1-RTT alone: the keys of the others are gone (RFC 9001 §4.9).
    """
    if not state.close_due or state.close_frame is None:
        return None
    state.close_due = False
    lifecycle.begin_closing(state, now)
    close = state.close_frame
    parts = []
    size = 0
    spaces = [space for space in state.spaces if space.seal_keys is not None]
    for space in spaces:
        code, reason, fault = close.code, close.reason, close.fault
        if fault is None and space.index != APPLICATION:
            code, reason, fault = 0x0C, b"", 0  # §10.2.3: the application's words are not for keys anyone can compute
        pn_length = packet_number_length(space.next_packet_number, space.largest_acked)
        written = frame.write_connection_close(code, reason, fault)
        payload = written + bytes(max(0, MIN_PAYLOAD - len(written)))
        if space is spaces[-1] and spaces[0].index == INITIAL and state.is_client:
            header = _header(state, space, 0, pn_length)
            payload += bytes(max(0, MIN_INITIAL_DATAGRAM - size - len(header) - len(payload) - AEAD_TAG_LENGTH))
        header = _header(state, space, len(payload) + AEAD_TAG_LENGTH, pn_length)
        number = space.next_packet_number
        space.next_packet_number = number + 1
        assert space.seal_keys is not None
        data = space.seal_keys.seal(header, pn_length, number, payload)
        state.trace.packet_sent(now, SPACE_NAMES[space.index], number, len(data), payload)
        parts.append(data)
        size += len(data)
    datagram = b"".join(parts)
    if not datagram or len(datagram) > state.path.budget():
        return None
    ecn = state.recovery.ecn.mark() if state.configuration.ecn else 0
    return _launch(state, state.path, datagram, len(datagram), 1, ecn)

"""The frames of one packet, in order of urgency (RFC 9000 §12.4, §13): ACK, CRYPTO, path validation, control, data."""

from __future__ import annotations

from functools import partial

from quicstack.connection import paths
from quicstack.connection.datagrams import MAX_PADDING, fill_datagrams
from quicstack.connection.retransmission import ACK, CRYPTO, STREAM, VALUE, Record
from quicstack.connection.state import APPLICATION, ConnectionState
from quicstack.transport.flow_control import SendWindow
from quicstack.transport.outbox import EMPTY, Outbox, SentValue
from quicstack.transport.packet_space import PacketSpace
from quicstack.transport.path import PathState
from quicstack.transport.stream import Stream
from quicstack.wire import frame
from quicstack.wire.packet import MIN_INITIAL_DATAGRAM

__all__ = ["MIN_PAYLOAD", "fill_packet", "fill_path_frames", "is_drained", "pad_payload"]

MIN_PAYLOAD = 4
"""With any packet number length, enough bytes for the header protection sample (RFC 9001 §5.4.2)."""
PING_AFTER_ACK_ONLY = 64
"""ACK-only packets after which a PING asks the peer to acknowledge them, so that ranges can be forgotten (§13.2.4)."""
DATAGRAM_BURST = 1 << 14
"""Bytes that datagrams may take in a row because they took less than their share before."""


def fill_packet(
    state: ConnectionState, space: PacketSpace, capacity: int, now: float, *, may_elicit: bool, with_ack: bool = True
) -> tuple[list[bytes], list[Record], bool]:
    """Frames for one packet of at most ``capacity`` bytes, their records, and whether they are ack-eliciting.

    Without ``may_elicit`` (congestion window or pacer) only an ACK may be written.
    """
    acks = space.acks
    if not acks.ack_due and _has_nothing(state, space):
        return [], [], False  # what may wait need not be written first
    out: list[bytes] = []
    records: list[Record] = []
    room = capacity
    ack_only = not acks.ack_due
    if with_ack and (acks.unacked or acks.ack_due):
        ack = acks.write(now, state.local_parameters.ack_delay_exponent if space.index == APPLICATION else 3, room)
        if ack is not None:
            out.append(ack)
            records.append((ACK, acks.largest))
            room -= len(ack)
    acks_written = len(out)
    if may_elicit:
        room = _fill_crypto(space, room, out, records)
        if space.index == APPLICATION:
            room = _fill_application(state, space, room, out, records)
        if len(out) == acks_written and state.probes and state.probe_space == space.index and room:
            # RFC 9002 §6.2.4: a PTO always sends something that elicits an ACK, and not a late one
            out.append(b"\x1f" if space.index == APPLICATION and state.ack_requests.are_made else b"\x01")
    elicits = len(out) > acks_written
    if not elicits and (ack_only or not out):
        if out and may_elicit:  # a datagram may fit without the acknowledgement, which can wait
            return fill_packet(state, space, capacity, now, may_elicit=True, with_ack=False)
        return [], [], False  # an acknowledgement that may wait does not travel alone
    if acks_written:
        acks.on_ack_sent()
        if space.index == APPLICATION:
            state.key_phase.ack_sent = True
    if not elicits and space.index == APPLICATION:
        state.ack_only_since_ping += 1
        if state.ack_only_since_ping >= PING_AFTER_ACK_ONLY and may_elicit and room:
            state.ack_only_since_ping = 0
            out.append(b"\x01")
            elicits = True
    return out, records, elicits


def is_drained(state: ConnectionState, space: PacketSpace) -> bool:
    """``fill_packet`` would find nothing. Only asked right after it filled a packet."""
    return not space.acks.ack_due and not space.acks.unacked and not state.other_paths and _has_nothing(state, space)


def _has_nothing(state: ConnectionState, space: PacketSpace) -> bool:
    """Each of the things that ``fill_packet`` looks for, but for acknowledgements, is known to be absent."""
    outbox, path = state.outbox, state.path
    return not (
        outbox.control
        or outbox.sending
        or state.datagrams_out.size
        or state.probes
        or path.responses
        or (path.challenge is not None and path.challenge_deadline is None)
        or space.crypto.outgoing.has_data
    )


def _fill_crypto(space: PacketSpace, room: int, out: list[bytes], records: list[Record]) -> int:
    while room > 8 and space.crypto.outgoing.has_data:
        crypto = space.crypto.next_frame(room)
        if crypto is None:
            break
        out.append(crypto[0])
        records.append((CRYPTO, *crypto[1]))
        room -= len(crypto[0])
    return room


def _fill_application(
    state: ConnectionState, space: PacketSpace, room: int, out: list[bytes], records: list[Record]
) -> int:
    """Path validation, control frames, datagrams, then stream data."""
    path = state.path
    if path.responses or path.challenge is not None:
        room = fill_path_frames(state, path, room, out)
    if state.outbox.control:
        room = _fill_control(state.outbox, space, room, out, records)
        if state.outbox.control:
            return 0  # the next one needs a packet of its own
    if not _may_send_data(state):
        return room
    if not state.datagrams_out.size:
        left = _fill_streams(state, room, out, records)
        if state.datagram_debt > 0:
            state.datagram_debt -= (room - left) * state.configuration.datagram_share
        return left
    if not state.outbox.sending:
        state.datagram_debt = 0.0
        return fill_datagrams(state, room, out)[0]
    return _fill_both(state, room, out, records)


def _fill_control(outbox: Outbox, space: PacketSpace, room: int, out: list[bytes], records: list[Record]) -> int:
    while outbox.control:
        value = outbox.control[0]
        written = value.write()
        if written is not None:
            if len(written) > room:
                return room
            out.append(written)
            records.append((VALUE, value))
            room -= len(written)
            value.packet_number = space.next_packet_number
            value.acked = False
        value.queued = False
        outbox.control.popleft()
    outbox.control = EMPTY
    return room


def _fill_both(state: ConnectionState, room: int, out: list[bytes], records: list[Record]) -> int:
    """Datagrams and streams wait, and neither may starve the other: datagrams go first until they have had their share
    of the bytes, then streams do until that is made up for."""
    share = state.configuration.datagram_share
    if state.datagram_debt <= 0 < share:
        room, for_datagrams = fill_datagrams(state, room, out)
        left = _fill_streams(state, room, out, records)
        for_streams = room - left
    else:
        left = _fill_streams(state, room, out, records)
        for_streams = room - left
        left, for_datagrams = fill_datagrams(state, left, out)
    debt = state.datagram_debt + for_datagrams * (1 - share) - for_streams * share
    state.datagram_debt = max(debt, -DATAGRAM_BURST)
    return left


def _may_send_data(state: ConnectionState) -> bool:
    """A client sends application data in 0-RTT packets or when the handshake is complete, a server as soon as it has
    keys (0.5-RTT)."""
    return state.handshake_complete or not state.is_client or state.early.seal_keys is not None


def _fill_streams(state: ConnectionState, room: int, out: list[bytes], records: list[Record]) -> int:  # hot path
    sending = state.outbox.sending
    window = state.streams.send_window
    while room > 3 and (stream := sending.peek()) is not None:
        send = stream.send
        written = send.next_frame(room, window) if send is not None else None
        has_more = send is not None and send.has_work(window)
        if written is not None:
            out.append(written[0])
            records.append((STREAM, stream, *written[1]))
            size = len(written[0])
            room -= size
            if has_more:
                sending.served(size)
                continue
        elif has_more:  # only the room was too small
            break
        sending.remove(stream)
        stream.is_sending = False
        _note_blocked(state, stream)
    return room


def _note_blocked(state: ConnectionState, stream: Stream) -> None:
    """RFC 9000 §4.1: tell the peer what we wait for; once for each limit."""
    if stream.send is not None:
        stream.send.note_blocked()
    window = state.streams.send_window
    if state.streams.wait_for_credit(stream) and window.blocked_at != window.limit:
        window.blocked_at = window.limit
        if state.data_blocked is None:
            state.data_blocked = SentValue(partial(_write_data_blocked, window))
        state.outbox.push(state.data_blocked)


def _write_data_blocked(window: SendWindow) -> bytes | None:
    return frame.write_limit(frame.DATA_BLOCKED, window.limit) if window.used >= window.limit else None


def fill_path_frames(state: ConnectionState, path: PathState, room: int, out: list[bytes]) -> int:
    """RFC 9000 §8.2: the answer to a challenge, and our own challenge."""
    while path.responses and room >= 9:
        out.append(b"\x1b" + path.responses.pop(0))
        path.pad_next = True
        room -= 9
    if path.challenge is not None and path.challenge_deadline is None and room >= 9:
        out.append(b"\x1a" + path.challenge)
        deadline = state.outbox.now + paths.challenge_interval(state)
        path.on_challenge_sent(is_small=path.budget() < MIN_INITIAL_DATAGRAM, deadline=deadline)
        path.pad_next = True
        room -= 9
    return room


def pad_payload(state: ConnectionState, payload: bytes, capacity: int, only_datagrams: bool) -> bytes:
    """Fill up what is needed for the sample, for path validation, or so that a train can go on."""
    if len(payload) < MIN_PAYLOAD:
        payload += bytes(MIN_PAYLOAD - len(payload))
    is_more = state.outbox.sending or (only_datagrams and state.datagrams_out.size)
    if state.path.pad_next or (is_more and capacity - len(payload) < MAX_PADDING):
        state.path.pad_next = False
        payload += bytes(capacity - len(payload))  # RFC 9000 §8.2.1: path validation also proves 1200 bytes
    return payload

"""Runs: packets that carry on one stream and nothing else, taken in or sent as one (RFC 9000 §19.8).

What a bulk transfer consists of. A run has consecutive packet numbers above all that came, and each of its packets is
filled by one STREAM frame that begins where the one before ended, be it behind a gap. So a run is one decision about
flow control, one about acknowledging, and a list of chunks. Whatever does not fit goes through the ordinary dispatch,
with the same result.
Sending is the mirror image: while nothing but one stream has anything to say, its bytes are cut into full packets in
one go.
"""

from __future__ import annotations

from itertools import islice

from quicstack.connection import lifecycle
from quicstack.connection.retransmission import RUN
from quicstack.connection.state import APPLICATION, ConnectionState
from quicstack.observe.trace import Trace
from quicstack.recovery.sent_packet import SentPacket
from quicstack.transport.packet_space import PacketSpace
from quicstack.wire.frame import STREAM, STREAM_OFF, read_stream

__all__ = ["RUN_FRAME", "OpenedPacket", "fill_run", "take_run"]

OpenedPacket = tuple[int, bytes, int]
"""Packet number, payload, size of the packet."""

RUN_FRAME = STREAM | STREAM_OFF
"""Without a length the data runs to the end of the packet; the first and the last frame of a stream differ."""


def take_run(
    state: ConnectionState, space: PacketSpace, packets: list[OpenedPacket], index: int, now: float, ecn: int
) -> int:  # hot path: benchmarks/engine.py
    """Take in the run that begins with ``packets[index]``, whose payload begins with RUN_FRAME.

    ``packets`` are numbered without a gap between them. Returns how many packets it has. 0: it is no run, for one of
    many reasons.
    """
    number, payload, _ = packets[index]
    if number <= space.acks.largest:
        return 0
    stream_id, offset, chunk, _, _ = read_stream(payload, 1, RUN_FRAME)
    stream = state.streams.streams.get(stream_id)
    receive = stream.receive if stream is not None else None
    if stream is None or receive is None:
        return 0
    is_ahead = not receive.continues_at(offset)
    if is_ahead and not receive.waits_before(offset):
        return 0
    body = len(payload) - len(chunk)
    width = 1 << (payload[1] >> 6)  # of the varint that holds the stream's id
    width = body - 1 - width  # and now of the one that holds the offset
    at = body - width
    head = payload[:at]
    tag = (payload[at] >> 6) << (8 * width - 2)
    widest = 1 << (8 * width - 2)  # from here on an offset takes more bytes
    stop = offset + len(chunk)
    chunks = [chunk]
    for _, payload, _ in islice(packets, index + 1, None):
        if stop >= widest or not payload.startswith(head + (stop | tag).to_bytes(width, "big")):
            break
        chunk = payload[body:]
        chunks.append(chunk)
        stop += len(chunk)
    count = len(chunks)
    is_readable = True
    if is_ahead:
        is_readable = receive.receive(offset, b"".join(chunks), False, RUN_FRAME)
    else:
        receive.receive_run(chunks, stop, RUN_FRAME)
    space.acks.on_run(number, count, now, ecn)
    state.counters.packets_received += count
    if is_readable and not stream.is_ready:
        state.outbox.push_ready(stream)
    return count


def fill_run(
    state: ConnectionState,
    space: PacketSpace,
    number: int,
    capacity: int,
    overhead: int,
    count: int,
    now: float,
    ecn: int,
) -> list[bytes]:  # hot path: benchmarks/engine.py
    """While nothing but one stream has anything to send: the payloads of up to ``count`` full packets at once."""
    outbox, path = state.outbox, state.path
    acks = space.acks
    if len(outbox.sending) != 1 or outbox.control or state.datagrams_out.size or acks.unacked or acks.ack_due:
        return []
    if path.responses or path.challenge is not None or space.crypto.outgoing.has_data or not state.handshake_complete:
        return []
    stream = outbox.sending.peek()
    if stream is None or stream.send is None:
        return []
    payloads, starts = stream.send.full_frames(capacity, count, state.streams.send_window)
    if not payloads:
        return []
    size = capacity + overhead
    records = ((RUN, stream, number, starts.start, starts.step),)
    sent = [SentPacket(at, now, size, True, True, records, ecn) for at in range(number, number + len(payloads))]
    state.recovery.on_train_sent(APPLICATION, sent, now)
    if not state.eliciting_sent:
        lifecycle.note_eliciting_sent(state, now)
    if type(state.trace) is not Trace:
        for at, payload in enumerate(payloads, number):
            state.trace.packet_sent(now, "1RTT", at, size, payload)
    return payloads

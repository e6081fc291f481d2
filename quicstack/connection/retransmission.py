"""What happens to the content of a packet that was acknowledged or lost, item by item (RFC 9000 §13.3).

A sent packet remembers its content as a tuple of records; the first element of a record is one of the kinds below.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from quicstack.connection import paths
from quicstack.connection.state import APPLICATION, HANDSHAKE, INITIAL, ConnectionState
from quicstack.recovery.sent_packet import SentPacket
from quicstack.transport.outbox import SentValue
from quicstack.transport.packet_space import PacketSpace
from quicstack.transport.stream import Stream

__all__ = [
    "ACK",
    "CRYPTO",
    "MTU_PROBE",
    "RUN",
    "STREAM",
    "VALUE",
    "Record",
    "on_acked",
    "on_lost",
    "queue_probe",
    "send_again",
]

Record = tuple[Any, ...]

STREAM = 0
"""(STREAM, stream, start, stop, fin)"""
VALUE = 1
"""(VALUE, sent_value): a control frame that is written anew from the state of the moment."""
CRYPTO = 2
"""(CRYPTO, start, stop), of the packet's own space."""
ACK = 3
"""(ACK, largest): not sent again, but what it reports need not be reported again once it is acknowledged (§13.2.4)."""
MTU_PROBE = 4
"""(MTU_PROBE, path_mtu): nothing to send again; it proves a size or does not (RFC 9000 §14.4)."""
RUN = 5
"""(RUN, stream, number, start, step): one for all packets of a run (``connection/runs``), and the only one of each. The
packet of that number has the bytes from ``start`` on, every packet has ``step`` of them, and none has the end."""

# PADDING, PING, PATH_CHALLENGE, PATH_RESPONSE, DATAGRAM and CONNECTION_CLOSE leave no record: never sent again.


def on_acked(state: ConnectionState, space: PacketSpace, packets: list[SentPacket]) -> None:  # hot path
    """The peer has processed these packets."""
    stream, start, stop = None, 0, 0  # contiguous bytes of one stream, settled in one call
    # The records of the run of the last packet, the bytes in each of its packets, and where number 0 would begin.
    run, step, before = None, 0, 0
    for packet in packets:
        # Numbers ascend, so between two packets of a run there is nothing else.
        if packet.frames is run and before + packet.packet_number * step == stop:
            stop += step
            continue
        for record in packet.frames:
            kind = record[0]
            if kind == RUN:
                _, _, number, first, step = record
                run, before = packet.frames, first - number * step
                record, kind = _of_run(record, packet), STREAM
            if kind == STREAM:
                if record[1] is stream and record[2] == stop and not record[4]:
                    stop = record[3]
                    continue
                if stream is not None:
                    _stream_acked(state, stream, start, stop, False)
                _, stream, start, stop, fin = record
                if fin:
                    _stream_acked(state, stream, start, stop, True)
                    stream = None
            elif kind == ACK:
                space.acks.on_ack_acked(record[1])
            elif kind == CRYPTO:
                space.crypto.outgoing.on_acked(record[1], record[2])
            elif kind == MTU_PROBE:
                paths.on_probe_acked(state, record[1], packet.size)
            else:
                _value_acked(state, record[1], packet.packet_number)
    if stream is not None:
        _stream_acked(state, stream, start, stop, False)


def _stream_acked(state: ConnectionState, stream: Stream, start: int, stop: int, fin: bool) -> None:
    if stream.send is not None and stream.send.on_acked(start, stop, fin):
        state.outbox.push_ready(stream)
        state.outbox.touched.append(stream)


def _value_acked(state: ConnectionState, value: SentValue, packet_number: int) -> None:
    # An older version of the frame may be acknowledged while a newer one is on its way.
    if packet_number != value.packet_number or value.acked:
        return
    value.acked = True
    if value.on_acked is not None:
        value.on_acked()
    if value.stream_id is not None:
        stream = state.streams.streams.get(value.stream_id)
        if stream is not None:
            state.outbox.push_ready(stream)
            state.outbox.touched.append(stream)


def on_lost(state: ConnectionState, space: PacketSpace, packets: list[SentPacket]) -> None:
    """These packets are lost: their content goes out again, except what is of no use any more."""
    state.counters.packets_lost += len(packets)
    state.counters.bytes_lost += sum(packet.size for packet in packets)
    for packet in packets:
        if packet.is_mtu_probe:
            packet.frames[0][1].on_probe_lost(packet.size)
        else:
            send_again(state, space, packet)


def queue_probe(state: ConnectionState) -> None:
    """RFC 9002 §6.2.4: what a PTO sends once more. In a handshake that is everything outstanding, of both levels, and
    the oldest 1-RTT packet: one datagram takes it where it fits, and neither side can go on without the handshake.
    Later it is the two oldest packets, or the oldest and something new."""
    if state.probe_space == APPLICATION:
        most = {APPLICATION: 1 if _has_new_data(state) else 2}
    else:
        most = {INITIAL: 16, HANDSHAKE: 16, APPLICATION: 1}
    for index, count in most.items():
        for packet in islice(state.recovery.outstanding(index), count):
            send_again(state, state.spaces[index], packet)


def _has_new_data(state: ConnectionState) -> bool:
    window = state.streams.send_window
    return any(stream.send is not None and stream.send.has_work(window) for stream in state.outbox.sending)


def send_again(state: ConnectionState, space: PacketSpace, packet: SentPacket) -> None:
    """Queue the content of one packet anew. Also what a PTO probe does, with packets that are not lost (§6.2.4)."""
    outbox = state.outbox
    for record in packet.frames:
        kind = record[0]
        if kind in (STREAM, RUN):
            _, stream, start, stop, fin = record if kind == STREAM else _of_run(record, packet)
            if stream.send.on_lost(start, stop, fin):
                outbox.push_stream(stream)
        elif kind == CRYPTO:
            space.crypto.outgoing.on_lost(record[1], record[2])
        elif kind == VALUE:
            value = record[1]
            if value.packet_number == packet.packet_number and not value.acked:
                outbox.push(value)


def _of_run(record: Record, packet: SentPacket) -> Record:
    """What a packet of a run would have as a record of its own."""
    _, stream, number, start, step = record
    start += (packet.packet_number - number) * step
    return STREAM, stream, start, start + step, False

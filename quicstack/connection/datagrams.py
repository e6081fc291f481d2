"""DATAGRAM frames by the train (RFC 9221): small ones share packets, and alike ones are written and read as one.

The frames of datagrams of one length all begin with the same bytes. So a packet of them is that head, joined with the
payloads, and a packet that came is cut at it. What is not alike goes frame by frame, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from struct import Struct

from quicstack.connection.runs import OpenedPacket
from quicstack.connection.state import APPLICATION, ConnectionState
from quicstack.errors import Truncated
from quicstack.observe.trace import Trace
from quicstack.recovery.sent_packet import SentPacket
from quicstack.transport.packet_space import PacketSpace
from quicstack.wire.frame import datagram_head, read_datagrams
from quicstack.wire.varint import read_varint

__all__ = ["MAX_PADDING", "datagrams_fill", "fill_datagram_run", "fill_datagrams", "take_datagram_run"]

MAX_PADDING = 64
"""A packet that is shorter than its train by less than this is padded, so that the train can go on."""

MAX_ALIKE = 64
"""Datagrams that are cut out of one packet in one call; a packet with more of them goes frame by frame."""

# -- sending -----------------------------------------------------------------------------------------------------------


def datagrams_fill(state: ConnectionState, size: int) -> bool:
    """Nothing but datagrams waits, and the first of them fits into ``size`` bytes."""
    outbox = state.outbox
    waiting = state.datagrams_out.peek()
    return waiting is not None and not outbox.sending and not outbox.control and len(waiting) + 3 <= size


def fill_datagrams(state: ConnectionState, room: int, out: list[bytes]) -> tuple[int, int]:
    """Write what fits. Returns the room that is left, none if the next one needs a packet of its own, and the bytes
    written."""
    queue = state.datagrams_out
    dropped, taken = 0, 0
    length, head, left = -1, b"", room
    for data in queue:
        if len(data) != length:
            length = len(data)
            head = datagram_head(length)
        if len(head) + length <= left:
            left -= len(head) + length
            out += (head, data)
            taken += 1
        elif out:
            break  # it goes first into the next packet
        else:
            dropped += 1  # the path got smaller since it was queued; it will never fit
    is_more = len(queue) > dropped + taken
    queue.dropped += dropped
    if dropped + taken == 1:
        queue.pop()
    else:
        queue.take(dropped + taken)
    return 0 if is_more else left, room - left


def fill_datagram_run(
    state: ConnectionState,
    space: PacketSpace,
    number: int,
    capacity: int,
    overhead: int,
    count: int,
    now: float,
    ecn: int,
) -> list[bytes]:  # hot path: benchmarks/datagrams.py
    """While nothing but datagrams of one length waits: the payloads of up to ``count`` packets of ``capacity`` bytes.

    One more of them stays in the queue: whether a packet is padded depends on whether another one follows. Gain: the
    sender's 1.0 us for a datagram of 100 bytes take 0.5 us, its 6.1 us for one of 1000 bytes take 3.3 us.
    """
    queue, acks = state.datagrams_out, space.acks
    if acks.unacked or acks.ack_due or space.crypto.outgoing.has_data:
        return []
    head = datagram_head(len(queue.peek() or b""))
    size = len(head) + len(queue.peek() or b"")
    each = capacity // size
    padding = capacity - each * size
    count = min(count, (queue.alike(each * count + 1) - 1) // each) if each and padding < MAX_PADDING else 0
    if not count:
        return []
    datagrams = queue.take(each * count)
    padding_bytes = bytes(padding)
    if each == 1:
        payloads = [head + datagram + padding_bytes for datagram in datagrams]
    else:
        payloads = [head + head.join(datagrams[at : at + each]) + padding_bytes for at in range(0, each * count, each)]
    size = capacity + overhead
    sent = [SentPacket(at, now, size, True, True, (), ecn) for at in range(number, number + count)]
    state.recovery.on_train_sent(APPLICATION, sent, now)
    if type(state.trace) is not Trace:
        for at, payload in enumerate(payloads, number):
            state.trace.packet_sent(now, "1RTT", at, size, payload)
    return payloads


# -- receiving ---------------------------------------------------------------------------------------------------------


def take_datagram_run(
    state: ConnectionState, space: PacketSpace, packets: list[OpenedPacket], index: int, now: float, ecn: int
) -> int:  # hot path: benchmarks/datagrams.py
    """Take in the packets from ``packets[index]`` on that hold datagrams alone.

    ``packets`` are numbered without a gap. Returns how many they are. 0: look at that packet frame by frame. Gain: the
    receiver's 1.1 us for a datagram of 100 bytes take 0.5 us.
    """
    first = packets[index][0]
    if first <= space.acks.largest:
        return 0
    limit = state.local_parameters.max_datagram_frame_size
    found: list[bytes] = []
    at = index
    while at < len(packets):
        payload = packets[at][1]
        if payload[:1] != b"\x31" or len(payload) > limit or (datagrams := _datagrams_of(payload)) is None:
            break
        found += datagrams
        at += 1
        if len(datagrams) == 1:
            more = _like(payload, datagrams[0], packets, at)
            found += more
            at += len(more)
    count = at - index
    if count:
        state.datagrams_in.push_newest(found)
        state.outbox.datagrams = True
        space.acks.on_run(first, count, now, ecn)
        state.counters.packets_received += count
    return count


def _like(
    payload: bytes, datagram: bytes, packets: list[OpenedPacket], index: int
) -> list[bytes]:  # hot path: benchmarks/datagrams.py
    """The datagrams of the packets from ``index`` on, as far as one of the same length fills each of them.

    Cut without a look inside: half the instructions for a datagram of 1000 bytes.
    """
    head, size = datagram_head(len(datagram)), len(payload)
    at = len(head)
    if at + len(datagram) != size:
        return []  # padded
    found: list[bytes] = []
    for _, other, _ in islice(packets, index, None):
        if len(other) != size or other[:at] != head:
            break
        found.append(other[at:])
    return found


def _datagrams_of(payload: bytes) -> Sequence[bytes] | None:  # hot path: benchmarks/datagrams.py
    """The datagrams of a packet that holds nothing else, but for padding at its end; None if it does, or is broken.

    If all are as long as the first, one call cuts them out, and written again they must be what came.
    """
    try:
        head = payload[: 2 if payload[1:2] < b"\x40" else 3]
        cut, end = _layout(head, len(payload))
        found: Sequence[bytes] = cut(payload)
        is_alike = len(found) == 1 or payload.startswith(head + head.join(found))
        if not is_alike or (end < len(payload) and payload[end:].strip(b"\0")):
            found, end = read_datagrams(payload, 0)
    except Truncated:
        return None
    return None if end < len(payload) and payload[end:].strip(b"\0") else found


@lru_cache(maxsize=64)
def _layout(head: bytes, size: int) -> tuple[Callable[[bytes], tuple[bytes, ...]], int]:
    """For a payload of ``size`` bytes that begins with ``head``: what cuts it into datagrams of the length that the
    head says, and where they end. To remember it saves 0.6 us of 1.1 us a packet."""
    length, at = read_varint(head, 1)
    count = min(size // (at + length), MAX_ALIKE)
    return Struct(f"{at}x{length}s" * count).unpack_from, count * (at + length)

"""Loss detection and what it means for sending (RFC 9002 §6, §A, §B).

:class:`Recovery` is told what was sent, acknowledged and how late it is, and *returns* what became of the packets. It
calls nobody but its congestion controller. The procedures carry the names of RFC 9002 Appendix A. One thing differs in
form: the loss detection timer is not set and reset per packet, it is computed when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from quicstack.recovery.congestion.controller import AckEvent, CongestionController, CongestionControllerFactory
from quicstack.recovery.congestion.window import initial_window
from quicstack.recovery.ecn import ECT0, EcnCounts, EcnState, EcnValidation
from quicstack.recovery.pacer import Pacer
from quicstack.recovery.persistent_congestion import PersistentCongestion, kPersistentCongestionThreshold
from quicstack.recovery.results import AckResult, Metrics, Timeout
from quicstack.recovery.rtt import RttEstimator, kGranularity, kInitialRtt
from quicstack.recovery.sent_packet import SentPacket
from quicstack.recovery.space import AckRange, Space, SpaceState, loss_time_and_space

__all__ = ["PathRecovery", "Recovery"]

HANDSHAKE, APPLICATION = int(Space.HANDSHAKE), int(Space.APPLICATION)  # plain ints: looked at for every ACK

kTimeThreshold = 9 / 8
"""RFC 9002 §6.1.2: in round trips."""

MAX_BACKOFF = 32
"""Past this many timeouts the exponent stands still; every idle timeout is long over."""

MAX_TRAIN = 64_000
"""No single answer of send_allowance is larger: it is what one GSO send carries."""

PROBES = 2
"""RFC 9002 §6.2.4: two datagrams, so that one loss does not cost another timeout."""


@dataclass(frozen=True, slots=True)
class PathRecovery:
    """What recovery knows of one path alone: kept when the path is left, given back on return (RFC 9000 §9.4)."""

    rtt: RttEstimator
    congestion_controller: CongestionController
    ecn: EcnValidation


class Recovery:
    """Recovery of one path: RTT, loss detection in three packet number spaces, congestion control, pacing, ECN.

    The connection keeps these attributes true:

    - ``max_ack_delay``: the peer's, in seconds (RFC 9000 §18.2)
    - ``handshake_confirmed`` (RFC 9001 §4.1.2), ``has_handshake_keys``
    - ``at_anti_amplification_limit``: a server that may not send another full datagram (RFC 9000 §8.1)
    - ``app_limited``: sending stopped because there was nothing to send, not because send_allowance() said 0
    - ``peer_completed_address_validation``: set here by the first ACK of a Handshake packet
    """

    def __init__(
        self,
        *,
        congestion_controller_factory: CongestionControllerFactory,
        max_datagram_size: int,
        is_client: bool,
        pacing: bool = True,
        initial_rtt: float = kInitialRtt,
        exact_timers: bool = False,
        ecn: bool = True,
    ) -> None:
        self._factory = congestion_controller_factory
        self._pacing = pacing
        self._exact_timers = exact_timers
        self._initial_rtt = initial_rtt
        self.max_datagram_size = max_datagram_size
        self.is_client = is_client

        self.max_ack_delay = 0.025
        self.handshake_confirmed = False
        self.has_handshake_keys = False
        self.peer_completed_address_validation = not is_client
        self.at_anti_amplification_limit = False
        self.app_limited = False

        self.rtt = RttEstimator(initial_rtt)
        self.congestion_controller = congestion_controller_factory(max_datagram_size)
        self.pacer = Pacer(exact_timers=exact_timers)
        self.ecn = EcnState(enabled=ecn)
        self.bytes_in_flight = 0
        self._flight_at_last_send = 0
        self.pto_count = 0
        self._spaces = [SpaceState(space) for space in Space]
        self._live_spaces = self._spaces[:]
        self._persistent_congestion = PersistentCongestion()
        self._path_start = -inf
        self._timer_base = 0.0
        self._may_send_one_packet = False
        self._rate_is_stale = True

    # -- RFC 9002 §A.5

    def on_packet_sent(self, space: int, packet: SentPacket, now: float) -> None:  # hot path
        """Remember a packet that is on its way."""
        state = self._spaces[space]
        if packet.ecn:
            self.ecn.on_packets_sent(space, 1)
        if not packet.in_flight:
            state.remember_ack_only(packet)
            return
        size = packet.size
        state.sent_packets[packet.packet_number] = packet
        self.bytes_in_flight += size
        self._flight_at_last_send = self.bytes_in_flight
        self.pacer.tokens -= size
        if packet.ack_eliciting:
            state.ack_eliciting_in_flight += 1
            state.time_of_last_ack_eliciting_packet = now
        self._timer_base = now
        self._may_send_one_packet = False
        self.congestion_controller.on_packets_sent((packet,), self.bytes_in_flight, now)

    def on_train_sent(self, space: int, packets: Sequence[SentPacket], now: float) -> None:  # hot path
        """The same for packets of one size, numbered without a gap, in flight, ack-eliciting and marked alike."""
        state = self._spaces[space]
        first = packets[0]
        count = len(packets)
        state.sent_packets.update(zip(range(first.packet_number, first.packet_number + count), packets, strict=True))
        size = count * first.size
        if first.ecn:
            self.ecn.on_packets_sent(space, count)
        self.bytes_in_flight += size
        self._flight_at_last_send = self.bytes_in_flight
        self.pacer.tokens -= size
        state.ack_eliciting_in_flight += count
        state.time_of_last_ack_eliciting_packet = self._timer_base = now
        self._may_send_one_packet = False
        self.congestion_controller.on_packets_sent(packets, self.bytes_in_flight, now)

    # -- RFC 9002 §A.7

    def on_ack_received(
        self,
        space: int,
        ranges: Sequence[AckRange],
        ack_delay: float,
        now: float,
        ecn_counts: EcnCounts | None = None,
    ) -> AckResult:
        """Work through one ACK frame. ``ranges`` descends; the largest number was checked to have been sent."""
        state = self._spaces[space]
        largest_acked = ranges[0][1]
        raises_largest = largest_acked > state.largest_acked_packet
        largest_packet = state.find(largest_acked)
        if raises_largest:
            state.largest_acked_packet = largest_acked
        acked = state.detect_and_remove_acked_packets(ranges)
        ack_only = state.detect_and_remove_acked_ack_only(ranges) if state.ack_only_packets else []
        if not acked and not ack_only and not raises_largest:
            return AckResult(acked, [])

        prior_bytes_in_flight = self.bytes_in_flight
        acked_bytes, ack_eliciting, marked = self._remove_from_flight(state, acked)
        if ack_only:
            marked += sum(1 for packet in ack_only if packet.ecn == ECT0)

        # RFC 9002 §5.1: a sample needs the largest newly acknowledged, and one ack-eliciting packet among the new.
        if largest_packet is not None and ack_eliciting and largest_packet.time_sent >= self._path_start:
            self.rtt.update(
                now - largest_packet.time_sent,
                # RFC 9002 §5.3: Initial packets are not acknowledged late on purpose
                ack_delay if space else 0.0,
                now,
                self.max_ack_delay if self.handshake_confirmed else None,
            )

        if raises_largest and (marked or ecn_counts is not None):
            self._process_ecn(space, marked, ecn_counts, largest_packet, now)

        duration = self._persistent_congestion_duration()
        if acked:
            self._persistent_congestion.on_packets_acked(acked, duration)
        for packet in ack_only:
            self._persistent_congestion.on_packets_acked((packet,), duration)
        controller = self.congestion_controller
        is_window_limited = self._is_window_limited()
        lost = state.detect_and_remove_lost_packets(now, self._loss_delay())
        persistent = self._on_packets_lost(state, lost, now) if lost else False
        if acked_bytes:
            # RFC 9002 §7.6.2: the window is the minimum then, whatever else this ACK brought
            may_grow = is_window_limited and not persistent
            flight = self.bytes_in_flight
            controller.on_ack(AckEvent(now, acked, acked_bytes, prior_bytes_in_flight, flight, may_grow, self.rtt))

        if space == HANDSHAKE and (acked or ack_only):
            self.peer_completed_address_validation = True
        # RFC 9002 §6.2.1: a client unsure of its address validation keeps backing off
        if self.peer_completed_address_validation or self.handshake_confirmed:
            self.pto_count = 0
        self._timer_base = now
        self._rate_is_stale = True
        return AckResult(acked + ack_only if ack_only else acked, lost, persistent)

    def _remove_from_flight(self, state: SpaceState, packets: Sequence[SentPacket]) -> tuple[int, int, int]:  # hot path
        """Take packets out of every count; returns their bytes, and how many are ack-eliciting and marked ECT(0)."""
        size = ack_eliciting = marked = 0
        for packet in packets:
            if packet.in_flight:
                size += packet.size
            if packet.ack_eliciting:
                ack_eliciting += 1
            if packet.ecn:
                marked += 1
        state.ack_eliciting_in_flight -= ack_eliciting
        self.bytes_in_flight -= size
        return size, ack_eliciting, marked

    def _is_window_limited(self) -> bool:
        """Whether the window was used (RFC 9002 §7.8), judged by the flight right after the last packet went out.

        Full, or held back by something other than the application. Then at least half is asked for all the same: a
        short message that empties the pacer is not a sender that needs more window.
        """
        window, flight = self.congestion_controller.congestion_window, self._flight_at_last_send
        return window - flight < self.max_datagram_size or (not self.app_limited and 2 * flight >= window)

    def _process_ecn(
        self, space: int, marked: int, counts: EcnCounts | None, largest: SentPacket | None, now: float
    ) -> None:
        """RFC 9002 §B.7: an increase of the CE count is a congestion event."""
        ce_increase, _ = self.ecn.on_ack(space, marked, counts)
        if ce_increase and largest is not None and largest.time_sent >= self._path_start:
            self._on_congestion_event(now, largest.time_sent, is_ecn=True)

    # -- RFC 9002 §A.8

    def set_loss_detection_timer(self, now: float) -> None:
        """Something happened that restarts the timer; only the anti-deadlock timer counts from here."""
        self._timer_base = now

    @property
    def loss_detection_timer(self) -> float | None:
        """When on_loss_detection_timeout is due, or None."""
        if self.handshake_confirmed and len(self._live_spaces) == 1 and not self.at_anti_amplification_limit:
            # What follows, for the one space that is left: most of all answers, at a third of the price.
            state = self._live_spaces[0]
            if state.loss_time is not None or not state.ack_eliciting_in_flight:
                return state.loss_time
            duration = self.rtt.pto + self.max_ack_delay
            if self.pto_count:
                duration *= 1 << min(self.pto_count, MAX_BACKOFF)
            return state.time_of_last_ack_eliciting_packet + duration
        loss_time, _ = loss_time_and_space(self._live_spaces)
        return self._pto_time_and_space()[0] if loss_time is None else loss_time

    def _pto_time_and_space(self) -> tuple[float | None, int]:
        """The probe timeout that comes first and its space; None when there is nothing to wait for."""
        # RFC 9002 §6.2.2.1: probes count against the anti-amplification limit, so a server at it has no use for them
        if self.at_anti_amplification_limit:
            return None, 0
        backoff = 1 << min(self.pto_count, MAX_BACKOFF)
        duration = self.rtt.pto * backoff
        timeout: float | None = None
        pto_space = 0
        for state in self._live_spaces:
            if not state.ack_eliciting_in_flight:
                continue
            if state.space == APPLICATION:
                # RFC 9002 §6.2.1: before, the peer may not have the keys, or we not those for its ACK
                if not self.handshake_confirmed:
                    break
                duration += self.max_ack_delay * backoff
            due = state.time_of_last_ack_eliciting_packet + duration
            if timeout is None or due < timeout:
                timeout, pto_space = due, state.space
        if timeout is None and not (self.peer_completed_address_validation or self.handshake_confirmed):
            # RFC 9002 §6.2.2.1: the server may be waiting for bytes before it can send: keep it fed
            space = HANDSHAKE if self.has_handshake_keys else 0
            return self._timer_base + duration, space
        return timeout, pto_space

    # -- RFC 9002 §A.9

    def on_loss_detection_timeout(self, now: float) -> Timeout:
        """The time of ``loss_detection_timer`` has come. Too early a call changes nothing."""
        loss_time, space = loss_time_and_space(self._live_spaces)
        if loss_time is not None:
            if now < loss_time:
                return Timeout([])
            state = self._spaces[space]
            lost = state.detect_and_remove_lost_packets(now, self._loss_delay())
            persistent = self._on_packets_lost(state, lost, now) if lost else False
            self.set_loss_detection_timer(now)
            return Timeout(lost, None, persistent, int(space))
        timeout, space = self._pto_time_and_space()
        if timeout is None or now < timeout:
            return Timeout([])
        count = PROBES if self._spaces[space].ack_eliciting_in_flight else 1
        self.pto_count += 1
        self.set_loss_detection_timer(now)
        return Timeout([], (space, count))

    # -- RFC 9002 §A.10, §B.6, §B.8

    def _loss_delay(self) -> float:
        return max(kTimeThreshold * max(self.rtt.latest_rtt, self.rtt.smoothed_rtt), kGranularity)

    def _persistent_congestion_duration(self) -> float:
        return (self.rtt.pto + self.max_ack_delay) * kPersistentCongestionThreshold

    def _on_packets_lost(self, state: SpaceState, lost: Sequence[SentPacket], now: float) -> bool:
        """Take the congestion response; True when it is persistent congestion."""
        _, _, marked = self._remove_from_flight(state, lost)
        self._rate_is_stale = True
        if marked:
            self.ecn.on_packets_lost(marked)
        # RFC 9000 §14.4: a lost path MTU probe says something about size. Old paths say nothing about this one.
        counting = [packet for packet in lost if packet.in_flight and not packet.is_mtu_probe]
        if not counting:
            return False
        self._on_congestion_event(now, counting[-1].time_sent, is_ecn=False)
        first_rtt_sample = self.rtt.first_rtt_sample
        if first_rtt_sample is None:
            return False
        if not self._persistent_congestion.on_packets_lost(
            counting, self._persistent_congestion_duration(), first_rtt_sample
        ):
            return False
        self._persistent_congestion.reset()
        self.congestion_controller.on_persistent_congestion(now)
        self.rtt.refresh_min_rtt()
        return True

    def _on_congestion_event(self, now: float, sent_time: float, *, is_ecn: bool) -> None:
        controller = self.congestion_controller
        window = controller.congestion_window
        controller.on_congestion_event(now, sent_time, self.bytes_in_flight, is_ecn=is_ecn)
        if controller.congestion_window < window:
            # RFC 9002 §7.3.2: one packet may leave at once, so that the lost data is repaired a round trip earlier
            self._may_send_one_packet = True

    # -- RFC 9002 §6.3, §6.4; RFC 9000 §9.4

    def discard_space(self, space: int) -> list[SentPacket]:
        """Keys are discarded: nothing sent in this space can be acknowledged any more (RFC 9002 §A.11)."""
        state = self._spaces[space]
        discarded = state.clear()
        if space != APPLICATION and state in self._live_spaces:
            self._live_spaces.remove(state)
        size = sum(packet.size for packet in discarded if packet.in_flight)
        self.bytes_in_flight -= size
        if size:
            self.congestion_controller.on_packets_discarded(size)
        self.pto_count = 0
        return discarded

    def on_retry(self, now: float) -> list[SentPacket]:
        """A Retry begins recovery anew (RFC 9002 §6.3); returns the packets whose contents must be sent again."""
        discarded = [packet for state in self._spaces for packet in state.clear()]
        self.reset_path(now)
        return discarded

    def path(self) -> PathRecovery:
        """What is known of the path in use, to be kept while it is left. ``reset_path`` must follow."""
        return PathRecovery(self.rtt, self.congestion_controller, self.ecn.validation)

    def reset_path(self, now: float, known: PathRecovery | None = None) -> None:
        """The connection moved to a new path: its RTT and its congestion are unknown (RFC 9000 §9.4), unless ``known``.

        Packets of the old path can still be acknowledged and lost, but no longer count for anything else.
        """
        for state in self._spaces:
            for packet in state.sent_packets.values():
                packet.in_flight = False
        self._path_start = now
        self.rtt = known.rtt if known is not None else RttEstimator(self._initial_rtt)
        self.congestion_controller = (
            known.congestion_controller if known is not None else self._factory(self.max_datagram_size)
        )
        self.pacer = Pacer(exact_timers=self._exact_timers)
        self._rate_is_stale = True
        self.ecn.restart()
        if known is not None and known.ecn is EcnValidation.FAILED:
            self.ecn.validation = known.ecn
        self._persistent_congestion.reset()
        self.bytes_in_flight = self._flight_at_last_send = 0
        self.pto_count = 0
        self._may_send_one_packet = False
        self.set_loss_detection_timer(now)

    def set_max_datagram_size(self, max_datagram_size: int) -> None:
        """The path MTU is known better now."""
        self.max_datagram_size = max_datagram_size
        self.congestion_controller.set_max_datagram_size(max_datagram_size)
        self._rate_is_stale = True

    # -- RFC 9002 §7: may I send?

    def send_allowance(self, now: float, *, probe: bool = False) -> int:
        """Bytes that may be sent now; 0 means wait. Never less than a full datagram otherwise, so none is cut short.

        A probe (RFC 9002 §7.5) is blocked by nothing and is given room for one full datagram.
        """
        if probe:
            return self.max_datagram_size
        room = self.congestion_controller.congestion_window - self.bytes_in_flight
        if room < self.max_datagram_size:
            return self.max_datagram_size if self._may_send_one_packet else 0
        if self._pacing:
            paced = self._paced_allowance(now)
            if paced < room:
                room = paced
        return room if room < MAX_TRAIN else MAX_TRAIN

    def next_send_time(self, now: float) -> float | None:
        """When the pacer lets the next train go; None if it is not the pacer that waits."""
        room = self.congestion_controller.congestion_window - self.bytes_in_flight
        if not self._pacing or room < self.max_datagram_size or self._paced_allowance(now):
            return None
        return self.pacer.next_send_time(now)

    def _paced_allowance(self, now: float) -> int:
        if self._rate_is_stale:
            burst = initial_window(self.max_datagram_size) if self.rtt.first_rtt_sample is None else None
            rate = self.congestion_controller.pacing_rate(self.rtt)
            self.pacer.set_rate(rate, self.max_datagram_size, burst)
            self._rate_is_stale = False
        return self.pacer.allowance(now)

    # -- looking in

    def pto_duration(self, space: int) -> float:
        """The probe timeout of a space without backoff (RFC 9002 §6.2.1)."""
        return self.rtt.pto + (self.max_ack_delay if space == APPLICATION else 0.0)

    def outstanding(self, space: int) -> Iterable[SentPacket]:
        """Packets in flight in a space, oldest first."""
        return self._spaces[space].sent_packets.values()

    def metrics(self) -> Metrics:
        """A snapshot for statistics and qlog."""
        rtt, controller = self.rtt, self.congestion_controller
        return Metrics(
            rtt.min_rtt,
            rtt.smoothed_rtt,
            rtt.latest_rtt,
            rtt.rttvar,
            self.pto_count,
            controller.congestion_window,
            self.bytes_in_flight,
            controller.ssthresh,
            controller.pacing_rate(rtt),
        )

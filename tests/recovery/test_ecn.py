"""RFC 9000 §13.4.2 and §A.4 as a table: what was sent, what the ACK says, what becomes of ECN."""

from __future__ import annotations

from typing import Any

import pytest

from quicstack.recovery import Space
from quicstack.recovery.ecn import ECT0, EcnState, EcnValidation

APPLICATION = Space.APPLICATION


def after_testing(marked: int = 10) -> EcnState:
    ecn = EcnState()
    for _ in range(marked):
        assert ecn.mark() == ECT0
        ecn.on_packets_sent(APPLICATION, 1)
    return ecn


def test_testing_ends_after_ten_packets() -> None:
    ecn = after_testing(9)
    assert ecn.validation is EcnValidation.TESTING
    ecn.on_packets_sent(APPLICATION, 1)
    assert ecn.validation is EcnValidation.UNKNOWN
    assert ecn.mark() == 0


@pytest.mark.parametrize(
    ("newly_acked", "counts", "ce_increase", "outcome"),
    [
        (10, (10, 0, 0), 0, EcnValidation.CAPABLE),
        (10, (8, 0, 2), 2, EcnValidation.CAPABLE),
        (3, (10, 0, 0), 0, EcnValidation.CAPABLE),  # earlier ACKs were lost
        (0, (0, 0, 0), 0, EcnValidation.UNKNOWN),  # no marked packet acknowledged yet
        (0, None, 0, EcnValidation.UNKNOWN),
        (1, None, 0, EcnValidation.FAILED),  # zeroed on the way, or a peer that does not report
        (10, (0, 0, 0), 0, EcnValidation.FAILED),
        (10, (9, 0, 0), 0, EcnValidation.FAILED),  # less than what was acknowledged
        (10, (5, 5, 0), 0, EcnValidation.FAILED),  # remarked to ECT(1)
        (1, (1, 1, 0), 0, EcnValidation.FAILED),  # a codepoint never sent
        (10, (11, 0, 0), 0, EcnValidation.FAILED),  # more than was ever marked
        (10, (0, 0, 2**62), 0, EcnValidation.FAILED),
    ],
)
def test_first_counts(
    newly_acked: int, counts: tuple[int, int, int] | None, ce_increase: int, outcome: EcnValidation
) -> None:
    ecn = after_testing()
    assert ecn.on_ack(APPLICATION, newly_acked, counts) == (ce_increase, outcome is not EcnValidation.FAILED)
    assert ecn.validation is outcome
    assert ecn.mark() == (ECT0 if outcome is EcnValidation.CAPABLE else 0)


def test_validation_can_fail_later() -> None:
    ecn = after_testing()
    ecn.on_ack(APPLICATION, 10, (10, 0, 0))
    ecn.on_packets_sent(APPLICATION, 1)
    assert ecn.on_ack(APPLICATION, 1, (10, 0, 0)) == (0, False)
    assert ecn.mark() == 0


def test_counts_that_fall_fail() -> None:
    ecn = after_testing()
    ecn.on_ack(APPLICATION, 2, (2, 0, 2))
    assert ecn.on_ack(APPLICATION, 1, (4, 0, 1)) == (0, False)


def test_a_count_that_falls_is_not_made_up_for_by_another() -> None:
    ecn = after_testing()
    ecn.on_ack(APPLICATION, 8, (8, 0, 0))
    assert ecn.on_ack(APPLICATION, 1, (7, 0, 2)) == (0, False)
    assert ecn.validation is EcnValidation.FAILED


def test_after_a_failure_nothing_counts() -> None:
    ecn = after_testing()
    ecn.on_ack(APPLICATION, 1, None)
    assert ecn.on_ack(APPLICATION, 1, (9, 0, 1)) == (0, False)
    assert ecn.validation is EcnValidation.FAILED


def test_spaces_count_separately() -> None:
    ecn = EcnState()
    for space in (Space.INITIAL, Space.HANDSHAKE, APPLICATION):
        ecn.on_packets_sent(space, 1)
    for space in (Space.INITIAL, Space.HANDSHAKE, APPLICATION):
        assert ecn.on_ack(space, 1, (1, 0, 0)) == (0, True)


def test_a_path_that_drops_every_marked_packet() -> None:
    ecn = after_testing()
    ecn.on_packets_lost(9)
    assert ecn.validation is EcnValidation.UNKNOWN
    ecn.on_packets_lost(1)
    assert ecn.validation is EcnValidation.FAILED


def test_a_new_path_is_tested_again_from_the_old_counts() -> None:
    ecn = after_testing()
    ecn.on_ack(APPLICATION, 10, None)
    assert ecn.mark() == 0
    ecn.restart()
    for _ in range(10):
        assert ecn.mark() == ECT0
        ecn.on_packets_sent(APPLICATION, 1)
    assert ecn.on_ack(APPLICATION, 10, (20, 0, 0)) == (0, True)
    assert ecn.validation is EcnValidation.CAPABLE


def test_switched_off_stays_off() -> None:
    ecn = EcnState(enabled=False)
    ecn.restart()
    assert ecn.mark() == 0


# -- through recovery


def test_a_reordered_ack_cannot_fail_validation(script: Any) -> None:
    s = script()
    s.send(10, ecn=ECT0)
    s.ack((2, 9), ecn=(8, 0, 0))
    s.ack((0, 1))  # no counts, but the largest acknowledged does not rise
    assert s.recovery.ecn.validation is EcnValidation.CAPABLE


def test_missing_counts_fail_and_no_window_is_lost(script: Any) -> None:
    s = script()
    s.send(10, ecn=ECT0)
    s.ack((0, 9))
    assert s.recovery.ecn.validation is EcnValidation.FAILED
    s.expect_var("congestion_window", 24_000)


def test_losses_of_marked_packets_reach_validation(script: Any) -> None:
    s = script()
    s.send(10, ecn=ECT0)
    s.send(3)
    s.advance(0.1)
    s.ack((10, 12))
    assert s.recovery.ecn.validation is EcnValidation.FAILED


def test_right_counts_during_the_test_end_it_well() -> None:
    """A fast answer: the tenth packet leaves with the path proven, and the eleventh is marked like all others."""
    ecn = after_testing(9)
    ecn.on_ack(APPLICATION, 4, (4, 0, 0))
    ecn.on_packets_sent(APPLICATION, 1)
    assert ecn.validation is EcnValidation.CAPABLE and ecn.mark() == ECT0

from __future__ import annotations

import pytest

from webtransport.capsules import CapsuleError
from webtransport.codes import CapsuleType, ErrorCode
from webtransport.dialects import FlowLimits
from webtransport.flow_control import SessionFlowControl

INITIAL = FlowLimits(100, 2, 3)
WINDOW = FlowLimits(400, 8, 8)


def make(*, peer: FlowLimits = INITIAL, must_grow: bool = True) -> SessionFlowControl:
    return SessionFlowControl(local=INITIAL, peer=peer, window=WINDOW, must_grow=must_grow)


def settled() -> SessionFlowControl:
    flow = make()
    flow.take_capsules()
    return flow


def test_the_first_capsules_raise_the_settings_to_the_window() -> None:
    assert make().take_capsules() == [
        (CapsuleType.WT_MAX_DATA, 400),
        (CapsuleType.WT_MAX_STREAMS_BIDI, 8),
        (CapsuleType.WT_MAX_STREAMS_UNI, 8),
    ]
    assert settled().take_capsules() == []


def test_nothing_may_be_sent_before_a_capsule_where_settings_gave_nothing() -> None:
    flow = make(peer=FlowLimits())
    assert flow.data_left == 0
    assert not flow.may_open(unidirectional=False)
    flow.receive_capsule(CapsuleType.WT_MAX_DATA, 5)
    flow.receive_capsule(CapsuleType.WT_MAX_STREAMS_BIDI, 1)
    assert flow.data_left == 5
    assert flow.may_open(unidirectional=False)
    assert not flow.may_open(unidirectional=True)


def test_limits_are_cumulative() -> None:
    flow = settled()
    for _ in range(2):
        assert flow.may_open(unidirectional=False)
        flow.opened(unidirectional=False)
    assert not flow.may_open(unidirectional=False)
    flow.send_data(100)
    assert flow.data_left == 0
    flow.send_data(-30)
    assert flow.data_left == 30


def test_blocked_is_said_once_per_limit() -> None:
    flow = settled()
    flow.send_data(100)
    flow.data_blocked()
    flow.data_blocked()
    for _ in range(3):
        flow.opened(unidirectional=True)
    flow.may_open(unidirectional=True)
    assert flow.take_capsules() == [(CapsuleType.WT_DATA_BLOCKED, 100), (CapsuleType.WT_STREAMS_BLOCKED_UNI, 3)]
    flow.data_blocked()
    assert flow.take_capsules() == []
    flow.receive_capsule(CapsuleType.WT_MAX_DATA, 101)
    flow.data_blocked()
    assert flow.take_capsules() == [(CapsuleType.WT_DATA_BLOCKED, 101)]


def test_credit_comes_back_in_quarters_of_the_window() -> None:
    flow = settled()
    flow.data_received(150)
    flow.data_released(99)
    assert flow.take_capsules() == []
    flow.data_released(1)
    assert flow.take_capsules() == [(CapsuleType.WT_MAX_DATA, 500)]
    for _ in range(2):
        flow.stream_received(unidirectional=True)
        flow.stream_released(unidirectional=True)
    assert flow.take_capsules() == [(CapsuleType.WT_MAX_STREAMS_UNI, 10)]


def test_a_peer_that_sends_too_much() -> None:
    flow = settled()
    flow.data_received(400)
    with pytest.raises(CapsuleError) as error:
        flow.data_received(1)
    assert error.value.code == ErrorCode.WT_FLOW_CONTROL_ERROR
    for _ in range(8):
        flow.stream_received(unidirectional=False)
    with pytest.raises(CapsuleError) as error:
        flow.stream_received(unidirectional=False)
    assert error.value.code == ErrorCode.WT_FLOW_CONTROL_ERROR


@pytest.mark.parametrize(
    "capsule_type",
    [CapsuleType.WT_MAX_DATA, CapsuleType.WT_MAX_STREAMS_BIDI, CapsuleType.WT_MAX_STREAMS_UNI],
)
def test_limits_must_not_shrink(capsule_type: CapsuleType) -> None:
    for must_grow in (True, False):
        flow = make(must_grow=must_grow)
        flow.receive_capsule(capsule_type, 200)
        with pytest.raises(CapsuleError):
            flow.receive_capsule(capsule_type, 199)
    flow = make(must_grow=False)
    flow.receive_capsule(capsule_type, 200)
    flow.receive_capsule(capsule_type, 200)
    flow = make(must_grow=True)
    flow.receive_capsule(capsule_type, 200)
    with pytest.raises(CapsuleError):
        flow.receive_capsule(capsule_type, 200)


def test_blocked_capsules_of_the_peer_change_nothing() -> None:
    flow = settled()
    flow.receive_capsule(CapsuleType.WT_DATA_BLOCKED, 0)
    flow.receive_capsule(CapsuleType.WT_STREAMS_BLOCKED_BIDI, 0)
    assert flow.data_left == 100
    assert flow.take_capsules() == []

"""The trace that does nothing takes every event, and a qlog trace overrides each of them."""

from __future__ import annotations

import inspect

from quicstack.observe.qlog import QlogTrace
from quicstack.observe.trace import Trace

EVENTS = {name: method for name, method in vars(Trace).items() if inspect.isfunction(method)}


def test_every_event_is_ignored() -> None:
    trace = Trace()
    for method in EVENTS.values():
        arguments = [None] * (len(inspect.signature(method).parameters) - 1)
        assert method(trace, *arguments) is None


def test_qlog_leaves_no_event_out() -> None:
    assert set(EVENTS) <= set(vars(QlogTrace))

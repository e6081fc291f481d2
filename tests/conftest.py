"""What every test shares: in CI a skip is a failure.

A test that needs a browser, a peer or a newer library skips with a reason that names what to install. That is right on
a newcomer's machine and wrong in CI, where everything is installed and a skip would hide that it went missing. A reason
that begins with ``not here:`` (another kernel, another Python) stays a skip there too.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator

import pytest

IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that says what the skip said, unless the reason allows it."""
    if not IN_CI or not report.skipped or getattr(report, "wasxfail", None) is not None:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith("not here:"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    refuse_skip(report)
    return report


@pytest.fixture
def no_cycles() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """``with no_cycles():`` what the block drops is freed at once, without the garbage collector."""

    @contextlib.contextmanager
    def watch() -> Iterator[None]:
        gc.collect()
        gc.disable()
        try:
            yield
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            found = Counter(type(thing).__qualname__ for thing in gc.garbage if is_ours(thing))
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert not found, f"freed by nobody but the garbage collector: {dict(found)}"

    return watch


def is_ours(thing: object) -> bool:
    return type(thing).__module__.split(".")[0] in ("quicstack", "h3", "webtransport")

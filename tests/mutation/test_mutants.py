"""The short form of ``make mutants``: two small files, judged by their own tests alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation import mutants


@pytest.mark.slow
def test_changed_sources_are_noticed(tmp_path: Path) -> None:
    pytest.importorskip("mutmut", reason="pip install 'quicstack[mutation]'")
    mutants.copy_tree(tmp_path)
    files = ["quicstack/recovery/rtt.py", "quicstack/recovery/ecn.py"]
    mutants.choose(tmp_path, files, ["tests/recovery/test_rtt.py", "tests/recovery/test_ecn.py"])
    mutants.run(tmp_path, 120, quiet=True)
    found = list(mutants.reports(tmp_path))
    assert [report.path for report in found] == sorted(files)
    for report in found:
        left = [mutants.difference(tmp_path, report.path, name) for name in report.survivors]
        assert report.judged > 50 and not report.unknown
        assert len(left) <= 0.15 * report.judged, "\n\n".join(left)

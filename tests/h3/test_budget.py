from __future__ import annotations

import pytest

from h3.budget import Budget
from h3.errors import H3ConnectionError, H3ErrorCode


def test_work_earns_back_what_floods_spend() -> None:
    budget = Budget(10, "frames")
    for _ in range(100):
        budget.spend(5)
        budget.earn(5)
    budget.earn(1000)
    budget.spend(10)
    with pytest.raises(H3ConnectionError, match="too many frames") as error:
        budget.spend()
    assert error.value.code == H3ErrorCode.H3_EXCESSIVE_LOAD

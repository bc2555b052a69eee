"""The budget where nobody named one."""

from __future__ import annotations

import pytest

from naiad.lifecycle.experiments.aside.settings import default_budget


@pytest.mark.parametrize(("quota", "budget"), [(None, 0.5), (2.0, 0.1), (0.25, 0.02), (64.0, 0.5)])
def test_where_a_quota_binds_the_default_is_a_small_part_of_it(quota: float | None, budget: float) -> None:
    """The kernel counts an idle process into the quota, and stops the serving one for it."""
    assert default_budget(quota) == pytest.approx(budget)

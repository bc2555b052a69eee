"""A server measures at load how its CPU threads are used best, and says so; or not, as it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.onnx_models import slow
from support.repositories import add_model
from support.servers import server

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("switch", "told"), [(True, "1 x 2"), (False, "rule: one instance a CPU thread")], ids=["on", "off"]
)
async def test_a_layout_is_measured_unless_that_is_switched_off(
    tmp_path: Path, switch: bool, told: str
) -> None:
    """With a tenth of a second the other layout is measured or, on a slow machine, not tried: both is said."""
    add_model(tmp_path, "slow", slow())
    async with server(
        tmp_path, cpu_threads=2, measure_layout=switch, measure_layout_secs=0.1, allow_http=False
    ) as running:
        (serving,) = running.manager.ready_versions("slow")
        assert told in serving.layout_reason
        assert running.manager.layouts()["slow/1"].startswith(("2 x 1, no spin, ", "1 x 2, no spin, "))

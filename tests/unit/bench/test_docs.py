"""What a run leaves for readers: cells, remarks, and the part of the docs between the markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bench.criteria import Verdict
from bench.docs import BEGIN, END, measured, write_docs
from bench.figures import COLUMNS, cells, remark, verdict_cells
from bench.results import Row, Sample, Series, summarise

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = {
    "time": "2026-01-02T03:04:05Z",
    "cpu": "a CPU",
    "cpus": 2,
    "load_average_before": 0.5,
    "python": "3.11",
    "packages": {"naiad": "1"},
    "settings": {"rounds": 3, "seconds": 1.0},
}


def row(**changes: float) -> Row:
    series = Series("c", "case", "c", "Naiad", "Poisson, 80%", "open", 0.8, client="asyncio")
    values = {"requests_per_s": 1234.5, "p50_us": 900.0, "p90_us": 20_000.0, "p99_us": 300_000.0}
    series.samples = {0: Sample(**(values | {"client_cpu_us": 10.0} | changes))}  # type: ignore[arg-type]  # numbers all
    return summarise([series])[0]


def test_a_row_has_a_cell_a_column() -> None:
    shown = dict(zip(COLUMNS, cells(row()), strict=True))
    assert (shown["requests/s"], shown["p50 ms"], shown["p90 ms"], shown["p99 ms"]) == (
        "1,234",
        "0.900",
        "20.00",
        "300",
    )
    assert shown["batch"] == ""


def test_errors_and_a_late_client_are_remarked() -> None:
    assert remark(row()) == ""
    assert remark(row(errors=3, late_us=2_500)) == "3 errors; the client itself was late by 2.5 ms (p99)"


@pytest.mark.parametrize(
    ("verdict", "shown"),
    [
        (Verdict("n", 0.5, 0.6, "", at_least=True), ["n", "0.500", ">= 0.600", "miss", ""]),
        (Verdict("n", 12.0, 14.5, "ms", at_least=False), ["n", "12.00 ms", "<= 14.50 ms", "pass", ""]),
        (Verdict("n", None, None, "/s", at_least=True, note="why"), ["n", "", "", "not measured", "why"]),
    ],
)
def test_a_verdict_says_its_bound(verdict: Verdict, shown: list[str]) -> None:
    assert verdict_cells(verdict) == shown


def test_a_run_replaces_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    text = measured(ABOUT, ["a note"], [row()], [Verdict("n", 1.0, 2.0, "", at_least=False)], pictures=True)
    write_docs(page, text)
    write_docs(page, text)
    written = page.read_text()
    assert written.startswith(f"before\n{BEGIN}\n\nMeasured 2026-01-02 on a CPU")
    assert written.endswith(f"\n\n{END}\nafter\n")
    assert written.count("| n | 1.00 | <= 2.00 | pass |") == 1
    assert written.count("(images/benchmark-latency.svg)") == 1
    assert "old" not in written


def test_a_page_without_markers_is_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text")
    with pytest.raises(InvalidArgumentError, match="page.md"):
        write_docs(page, "x")

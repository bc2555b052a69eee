"""Draws a run's figures: `python bench/charts.py RESULTS.json FOLDER svg,png`, by build/peers/plots.

It needs matplotlib and nothing of this project. Three pictures, each a panel a case: throughput against
latency, batch size against load, CPU time a request against load.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Callable

    Rows = list[dict[str, Any]]

_COLOURS = {
    "bare": "#8a8f98",
    "Naiad": "#1466b8",
    "Naiad over grpc.aio": "#8fb8dd",
    "Triton": "#4f9d2f",
    "MLServer": "#d1661a",
}
_PANEL = (3.6, 2.9)
_COLUMNS = 3
_FARTHEST = 4.0


def main(results: Path, folder: Path, formats: list[str]) -> None:
    """Write `benchmark-latency`, `-batches` and `-cpu`, each in these formats."""
    content = json.loads(results.read_text(encoding="utf-8"))
    rows = [row for row in content["rows"] if row["requests_per_s"] is not None]
    about = content["machine"]
    caption = f"{about['cpu']}, {about['cpus']} CPUs shared by clients and servers, {about['time'][:10]}"
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update(
        {
            "font.size": 8,
            "svg.hashsalt": "naiad",
            "svg.fonttype": "none",
            "axes.grid": True,
            "grid.alpha": 0.3,
        }
    )
    for name, title, draw in (
        (
            "benchmark-latency",
            "Throughput against latency: line p50, dashed p99; rings: Poisson arrivals",
            _latency,
        ),
        ("benchmark-batches", "Requests a run of the model against requests in flight", _batches),
        ("benchmark-cpu", "Server CPU time a request against requests in flight; grey: bare", _cpu),
    ):
        figure = _figure(f"{title}\n{caption}", rows, draw)
        for kind in formats:
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(folder / f"{name}.{kind}", dpi=110, metadata=metadata)
        plt.close(figure)


def _figure(title: str, rows: Rows, draw: Callable[[Any, Rows], None]) -> Any:
    cases = list(dict.fromkeys(row["title"] for row in rows))
    lines = -(-len(cases) // _COLUMNS)
    figure, axes = plt.subplots(
        lines,
        _COLUMNS,
        figsize=(_PANEL[0] * _COLUMNS, _PANEL[1] * lines + 0.6),
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle(title, fontsize=9)
    for axis in axes.flat[len(cases) :]:
        axis.set_visible(False)
    for case, axis in zip(cases, axes.flat, strict=False):
        axis.set_title(case, fontsize=9)
        draw(axis, [row for row in rows if row["title"] == case])
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)
    return figure


def _servers(rows: Rows) -> dict[str, Rows]:
    """The closed loops of each server by its first client, by level."""
    found: dict[str, Rows] = {}
    for row in rows:
        if row["kind"] == "closed":
            found.setdefault(row["target"], []).append(row)
    return {
        target: sorted(
            (row for row in group if row["client"] == group[0]["client"]), key=lambda row: row["level"]
        )
        for target, group in found.items()
    }


def _latency(axis: Any, rows: Rows) -> None:
    for target, group in _servers(rows).items():
        colour = _COLOURS.get(target, "black")
        rates = [row["requests_per_s"] for row in group]
        axis.plot(rates, [row["p50_ms"] for row in group], "o-", color=colour, label=target, markersize=4)
        axis.plot(rates, [row["p99_ms"] for row in group], "o--", color=colour, markersize=3, alpha=0.6)
    for row in rows:
        if row["kind"] == "open":
            colour = _COLOURS.get(row["target"], "black")
            for figure in ("p50_ms", "p99_ms"):
                axis.plot([row["requests_per_s"]], [row[figure]], "o", color=colour, fillstyle="none")
    limits = [row["requests_per_s"] for row in rows if row["is_limit"]]
    served = [row["requests_per_s"] for row in rows if row["kind"] in {"closed", "open"}]
    # On the smallest models the limit is so far away that nothing else would be seen.
    if limits and limits[0] < _FARTHEST * max(served, default=0.0):
        axis.axvline(limits[0], color=_COLOURS["bare"], linestyle=":", label="bare")
    axis.set_xlabel("requests/s")
    axis.set_ylabel("ms")
    axis.set_yscale("log")
    axis.set_xlim(left=0)


def _batches(axis: Any, rows: Rows) -> None:
    _by_level(axis, rows, "batch", "requests a run")
    axis.set_ylim(bottom=0)


def _cpu(axis: Any, rows: Rows) -> None:
    _by_level(axis, rows, "server_cpu_us", "us a request")
    limits = [row["client_cpu_us"] for row in rows if row["is_limit"]]
    if limits:
        axis.axhline(limits[0], color=_COLOURS["bare"], linestyle=":", label="bare")
    axis.set_ylim(bottom=0)


def _by_level(axis: Any, rows: Rows, figure: str, label: str) -> None:
    for target, group in _servers(rows).items():
        there = [row for row in group if row[figure] is not None]
        axis.plot(
            [row["level"] for row in there],
            [row[figure] for row in there],
            "o-",
            color=_COLOURS.get(target, "black"),
            label=target,
            markersize=4,
        )
    levels = sorted({row["level"] for group in _servers(rows).values() for row in group})
    axis.set_xscale("log", base=2)
    axis.set_xticks(levels, [f"{level:g}" for level in levels])
    axis.set_xlabel("requests in flight")
    axis.set_ylabel(label)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","))

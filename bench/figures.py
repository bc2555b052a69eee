"""How figures are written, on the terminal and in the docs alike: cells of tables, without markup. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.criteria import Verdict
    from bench.results import Row

COLUMNS = (
    "requests/s",
    "spread",
    "of bare",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "p50 - bare ms",
    "batch",
    "server CPU us",
    "beyond bare us",
    "client CPU us",
    "MiB",
)
VERDICT_COLUMNS = ("criterion", "measured", "wanted", "verdict", "of")
"""The titles of `cells` from the third column on, and of `verdict_cells`."""


def cells(row: Row) -> list[str]:
    """A row's figures, as many as there are columns, and last what went wrong."""
    return [
        _number(row.requests_per_s),
        "" if row.spread is None else f"{row.spread:.0%}",
        "" if row.ratio is None else f"{row.ratio:.3f}",
        _ms(row.p50_ms),
        _ms(row.p90_ms),
        _ms(row.p99_ms),
        _ms(row.p50_beyond_ms),
        "" if row.batch is None else f"{row.batch:.2f}",
        _number(row.server_cpu_us),
        _number(row.cpu_beyond_us),
        _number(row.client_cpu_us),
        _number(row.memory_mib),
    ]


def remark(row: Row) -> str:
    """What must be known of a row besides its figures: errors, failed rounds, a client that was late."""
    told = []
    if row.errors:
        told.append(f"{row.errors} errors")
    if row.failure:
        told.append(f"FAILED ({row.rounds} rounds have figures): {row.failure}")
    if row.late_ms is not None and row.late_ms > 1.0:
        told.append(f"the client itself was late by {row.late_ms:.1f} ms (p99)")
    return "; ".join(told)


def verdict_cells(verdict: Verdict) -> list[str]:
    """A criterion as cells."""
    sign = ">=" if verdict.at_least else "<="
    word = {True: "pass", False: "miss", None: "not measured"}[verdict.passed]
    wanted = "" if verdict.wanted is None else f"{sign} {_value(verdict.wanted, verdict.unit)}"
    measured = "" if verdict.measured is None else _value(verdict.measured, verdict.unit)
    return [verdict.name, measured, wanted, word, verdict.note]


def _value(value: float, unit: str) -> str:
    shown = f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{shown} {unit}".rstrip() if unit not in {"/s", "x"} else f"{shown}{unit}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.1f}" if abs(value) < 1_000 else f"{value:,.0f}"


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"

"""An experiment's report for readers: tables side by side, and an interval plot for each check."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from naiad.lifecycle.experiments.measures import region_of
from naiad.lifecycle.experiments.phrases import count_text, range_text, with_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from naiad.lifecycle.experiments.guard import Check, Kind
    from naiad.lifecycle.experiments.phrases import State, Unit
    from naiad.lifecycle.experiments.report import (
        ArmReport,
        CandidateReport,
        ExperimentReport,
        Figure,
        ShadowReport,
    )

PLOT_WIDTH = 31
_STYLES: dict[State, str] = {"inside": "green", "undecided": "yellow", "beyond": "bold red"}
_KINDS: dict[Kind, tuple[str, str]] = {
    "collecting": ("collecting", "dim"),
    "holding": ("holding", "yellow"),
    "better": ("better", "bold green"),
    "roll_back": ("roll back", "bold red"),
    "promote": ("promote", "bold green"),
}
_DASH = "-"


def render(report: ExperimentReport) -> RenderableType:
    """The whole report for a terminal."""
    parts: list[RenderableType] = [_title(report), _arms(report)]
    if report.shadow is not None:
        shadow, baseline = report.shadow, report.baseline
        title = f"version {shadow.version} in the shadow, on requests that version {baseline} answered"
        parts += [Text(), Text(title, style="bold"), _shadow(shadow)]
    for candidate in report.candidates:
        parts += [Text(), *_judged(candidate)]
    parts += [Text(note, style="dim") for note in report.notes]
    return Group(*parts)


def plain_text(report: ExperimentReport, width: int = 120) -> str:
    """The whole report without colours, as for a pipe; lines are at most `width` characters."""
    # A file of our own and no terminal, whatever the environment says of colours.
    console = Console(file=StringIO(), width=width, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(render(report))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def interval_plot(check: Check, width: int = PLOT_WIDTH) -> str:
    """Where the interval lies: `(---o---)`, `|` at limits, `:` where nothing changed, in `width` characters.

    An interval that goes beyond the line ends in `<` or `>`; without one there are only the limits.
    """
    lowest, highest = region_of(check.metric, check.limit)
    no_change = 1.0 if check.unit == "ratio" else 0.0
    marks = [mark for mark in (lowest, highest) if math.isfinite(mark)]
    known = [value for value in (check.estimate, check.low, check.high) if value is not None]
    left, right = _line(marks, no_change if check.metric != "shadow_cosine" else marks[0], known)
    cells = [" "] * width

    def place(value: float) -> int:
        return min(width - 1, max(0, round((value - left) / (right - left) * (width - 1))))

    if left <= no_change <= right:
        cells[place(no_change)] = ":"
    if check.low is not None and check.high is not None:
        first, last = place(check.low), place(check.high)
        cells[first : last + 1] = "-" * (last + 1 - first)
        cells[first] = "<" if check.low < left else "("
        cells[last] = ">" if check.high > right else ")"
    if check.estimate is not None:
        cells[place(check.estimate)] = "o"
    for mark in marks:
        cells[place(mark)] = "|"
    return "".join(cells)


def _line(marks: list[float], no_change: float, known: list[float]) -> tuple[float, float]:
    """The ends of a plot: all limits and no change, and the interval as far as six times that."""
    core = [*marks, no_change]
    reach = (max(core) - min(core)) or max(abs(core[0]), 1.0) / 10
    left = max(min([*core, *known]), min(core) - 3 * reach)
    right = min(max([*core, *known]), max(core) + 3 * reach)
    margin = 0.1 * (right - left) or reach
    return left - margin, right + margin


def _title(report: ExperimentReport) -> Text:
    began = datetime.fromtimestamp(report.began_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    about = f"  {report.experiment} ({report.digest}), since {began}: {report.state}"
    return Text(report.model, style="bold").append(about, style="not bold")


def _arms(report: ExperimentReport) -> Table:
    """One column a version."""
    table = Table("", *(f"version {arm.version}" for arm in report.arms), box=None, header_style="bold")
    rows: list[tuple[str, Callable[[ArmReport], str]]] = [
        ("role", lambda arm: f"{arm.role}, {arm.state}"),
        ("share now", lambda arm: with_unit(arm.share, "part")),
        ("answered", lambda arm: count_text(arm.ok)),
        ("errors", lambda arm: count_text(arm.errors)),
        ("callers' faults", lambda arm: count_text(arm.callers_faults)),
        ("cancelled", lambda arm: count_text(arm.cancelled)),
        ("error rate", lambda arm: _told(arm.error_rate, "part")),
        ("typical latency", lambda arm: _told(arm.typical_ms, "seconds", 1e-3)),
        ("p50, p90, p99", lambda arm: _times(arm.p50_ms, arm.p90_ms, arm.p99_ms)),
        ("looked into", lambda arm: count_text(arm.looked_into)),
        ("not finite", lambda arm: _told(arm.not_finite, "part")),
        ("without a face", lambda arm: _told(arm.empty_rate, "part")),
        ("faces a picture", lambda arm: _told(arm.faces, "number")),
        ("best score", lambda arm: _told(arm.score, "number")),
        ("length of vectors", lambda arm: _told(arm.norm, "number")),
    ]
    for label, tell in rows:
        told = [tell(arm) for arm in report.arms]
        if any(text != _DASH for text in told):
            table.add_row(label, *told)
    return table


def _times(*times_ms: float | None) -> str:
    found = [value for value in times_ms if value is not None]
    return ", ".join(with_unit(value / 1_000, "seconds") for value in found) or _DASH


def _shadow(shadow: ShadowReport) -> Table:
    """What two versions made of the same requests."""
    table = Table(box=None, show_header=False)
    for label, text in _shadow_rows(shadow):
        if text != _DASH:
            table.add_row(label, text)
    return table


def _shadow_rows(shadow: ShadowReport) -> Iterator[tuple[str, str]]:
    yield "compared", count_text(shadow.compared)
    yield "failures", f"{count_text(shadow.failures)}: {_told(shadow.failed, 'part')}"
    yield "skipped", count_text(shadow.skipped)
    yield "missed faces", _told(shadow.missed, "part")
    yield "extra faces", _told(shadow.extra, "part")
    yield "IoU", _number(shadow.iou)
    yield "landmark error", _number(shadow.landmark_error)
    yield "score shift", _told(shadow.score_shift, "number")
    yield "cosine", _told(shadow.cosine, "number")
    yield "least cosine", _number(shadow.least_cosine)
    yield "length of vectors", _told(shadow.norm_ratio, "ratio")
    yield "rank agreement", _number(shadow.rank_agreement)
    yield "beyond tolerance", _told(shadow.mismatched, "part")
    yield "largest difference", _number(shadow.max_difference)
    yield "its runs aside: p50, p99", _times(shadow.candidate_p50_ms, shadow.candidate_p99_ms)


def _judged(candidate: CandidateReport) -> Iterator[RenderableType]:
    """A candidate's checks and verdict."""
    verdict = candidate.verdict
    if verdict.checks:
        table = Table(
            f"version {candidate.version}", "difference", "limit", "", "", box=None, header_style="bold"
        )
        for check in verdict.checks:
            either_way = all(map(math.isfinite, region_of(check.metric, check.limit)))
            limit = with_unit(check.limit, check.unit) + (" either way" if either_way else "")
            plot = Text(interval_plot(check), style=_STYLES[check.state])
            state = Text(check.state, style=_STYLES[check.state])
            table.add_row(check.label, _difference(check), limit, plot, state)
        yield table
    word, style = _KINDS[verdict.kind]
    told = Text(f"version {candidate.version}: {word}", style=style)
    yield told.append(f", {verdict.reason}", style="not bold default")


def _difference(check: Check) -> str:
    if check.estimate is None:
        return _DASH
    estimate = with_unit(check.estimate, check.unit)
    if check.low is None or check.high is None:
        return estimate
    bare, _, unit = estimate.partition(" ")
    low, high = (with_unit(end, check.unit).partition(" ")[0] for end in (check.low, check.high))
    return f"{bare} ({low} to {high}) {unit}".rstrip()


def _told(figure: Figure | None, unit: Unit, scale: float = 1.0) -> str:
    """The figure and its interval; a dash where there is none."""
    if figure is None or figure.value is None:
        return _DASH
    value = with_unit(scale * figure.value, unit)
    if figure.low is None or figure.high is None:
        return value
    return f"{value} ({range_text(scale * figure.low, scale * figure.high, unit)})"


def _number(value: float | None) -> str:
    return _DASH if value is None else with_unit(value, "number")

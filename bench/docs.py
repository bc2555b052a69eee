"""Writes a run's tables and pictures into the docs, between markers: nothing there is typed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.figures import COLUMNS, VERDICT_COLUMNS, cells, remark, verdict_cells

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

    from bench.criteria import Verdict
    from bench.results import Row

BEGIN = "<!-- measured: begin (bench/run.py --write-docs) -->"
END = "<!-- measured: end -->"
PICTURES = {
    "benchmark-latency": "Throughput against latency",
    "benchmark-batches": "Batch size against load",
    "benchmark-cpu": "CPU time a request against load",
}
"""The files that `bench.charts` draws, and what they show."""


def write_docs(page: Path, measured_text: str, begin_mark: str = BEGIN, end_mark: str = END) -> None:
    """Put a run between the page's markers.

    Raises:
        InvalidArgumentError: the page has no markers.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not begin or not end:
        raise InvalidArgumentError(f"'{page}' has no '{begin_mark}' followed by '{end_mark}'")
    page.write_text(f"{before}{begin}\n\n{measured_text}\n\n{end}{after}", encoding="utf-8")


def measured(
    about: dict[str, Any], notes: list[str], rows: list[Row], verdicts: list[Verdict], *, pictures: bool
) -> str:
    """A run as Markdown: what it was, its criteria, pictures and figures."""
    parts = [caption(about), *notes_text(notes), criteria_table(verdicts)]
    if pictures:
        parts += [f"![{title}](images/{name}.svg)" for name, title in PICTURES.items()]
    return "\n\n".join([*parts, table(rows)])


def caption(about: dict[str, Any]) -> str:
    """What machine and what run it was."""
    versions = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    settings = about["settings"]
    return (
        f"Measured {about['time'][:10]} on {about['cpu']}, {about['cpus']} CPUs shared by clients and "
        f"servers, load average {about['load_average_before']:.2f} before the run, Python {about['python']}, "
        f"{versions}; {settings['rounds']} rounds of {settings['seconds']:g} s."
    )


def notes_text(notes: list[str]) -> list[str]:
    """What the reader of the tables must know of the run, as a list."""
    return ["\n".join(f"- {note}" for note in notes)] if notes else []


def table(rows: list[Row]) -> str:
    """The figures, a row a series."""
    titles = ["case", "server", "load", *COLUMNS, ""]
    lines = [_line(titles), _line(["---"] * 3 + ["--:"] * len(COLUMNS) + ["---"])]
    previous = ""
    for row in rows:
        case = "" if row.title == previous else row.title
        lines.append(_line([case, row.target, row.load, *cells(row), remark(row)]))
        previous = row.title
    return "\n".join(lines)


def criteria_table(verdicts: list[Verdict]) -> str:
    """The criteria, a row each."""
    lines = [_line(list(VERDICT_COLUMNS)), _line(["---", "--:", "--:", "---", "---"])]
    return "\n".join([*lines, *(_line(verdict_cells(verdict)) for verdict in verdicts)])


def _line(cells_: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells_) + " |"

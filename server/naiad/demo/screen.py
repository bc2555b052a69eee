"""What the demo shows: labelled lines and, on a terminal, bars that move; on a pipe plain lines only."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_LABEL_WIDTH = 14
_PLAIN_WIDTH = 120
"""Where there is no terminal whose width could be known."""
_PLAIN_PAUSE_S = 2.0
"""On a pipe a step that takes long says so this often; a quick one says nothing on the way."""


class Screen:
    """The demo's output.

    Args:
        console: where it goes.
        clock: seconds on a monotonic clock.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        console = console or Console()
        if not console.is_terminal:
            console.width = _PLAIN_WIDTH
        self._console = console
        self._clock = clock

    def line(self, text: str = "") -> None:
        """A line as it is, never wrapped: a command stays fit for pasting."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def heading(self, text: str) -> None:
        """A line that stands out."""
        self._console.print(text, style="bold", markup=False, highlight=False, soft_wrap=True)

    def step(self, label: str, text: str) -> None:
        """What a step came to."""
        if not self._console.is_terminal:
            self.line(f"{label:<{_LABEL_WIDTH}}{text}")
            return
        grid = Table.grid()
        grid.add_column(width=_LABEL_WIDTH, style="bold green", no_wrap=True)
        grid.add_column()
        grid.add_row(Text(label), Text(text))
        self._console.print(grid)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table with an empty line before it; a column that is named with a leading ">" is of numbers."""
        lines = box.SIMPLE_HEAD if self._console.is_terminal else None
        table = Table(box=lines, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
        for name in columns:
            table.add_column(
                Text(name.removeprefix(">")), justify="right" if name.startswith(">") else "left"
            )
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.line()
        self.heading(title)
        self._console.print(table)

    @contextmanager
    def waiting(self, label: str, text: str) -> Iterator[None]:
        """Say what is being waited for, for as long as it is."""
        if not self._console.is_terminal:
            yield
            return
        with self._progress(SpinnerColumn()) as progress:
            progress.add_task(label, total=None, note=text)
            yield

    @contextmanager
    def counting(self, label: str) -> Iterator[Callable[[int, int, str], None]]:
        """Show how far a step is; yields what to call with the count done, the total and a note to it."""
        if not self._console.is_terminal:
            yield self._plain_count(label)
            return
        with self._progress(BarColumn(), MofNCompleteColumn()) as progress:
            task = progress.add_task(label, total=None, note="")
            yield lambda done, total, note: progress.update(task, completed=done, total=total, note=note)

    def _progress(self, *columns: BarColumn | MofNCompleteColumn | SpinnerColumn) -> Progress:
        label = TextColumn(f"{{task.description:<{_LABEL_WIDTH - 1}}}", style="bold green", markup=False)
        note = TextColumn("{task.fields[note]}", markup=False)
        return Progress(label, *columns, note, console=self._console, transient=True)

    def _plain_count(self, label: str) -> Callable[[int, int, str], None]:
        last_s = self._clock()

        def count(done: int, total: int, note: str) -> None:
            nonlocal last_s
            if done < total and self._clock() - last_s >= _PLAIN_PAUSE_S:
                last_s = self._clock()
                self.step(label, f"{done} of {total}, {note}")

        return count

"""One row of the table of metrics."""

from __future__ import annotations

from dataclasses import dataclass

COUNTER, GAUGE, HISTOGRAM, SUMMARY = "counter", "gauge", "histogram", "summary"

MODEL = ("model", "version")
"""The labels of most families."""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One family: the name in the text format, its type, the labels in order, the HELP text, and a note.

    `condition` says what must be so for the family to be there; empty for always.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    note: str = ""
    condition: str = ""

    @property
    def is_triton(self) -> bool:
        """Whether it is one of Triton's."""
        return self.name.startswith("nv_")

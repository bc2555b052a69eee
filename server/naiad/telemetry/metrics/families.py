"""Families being filled: what the collectors of Triton's metrics and of ours share."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import Metric, Sample

from naiad.telemetry.metrics.table import COUNTER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from naiad.telemetry.metrics.table import MetricSpec

Labels = dict[str, str]


class Families:
    """One `Metric` a row of the table, filled sample by sample."""

    def __init__(self, specs: Iterable[MetricSpec]) -> None:
        self._families = {spec.name: _family(spec) for spec in specs}

    def add(self, name: str, labels: Labels, value: float) -> None:
        """One sample of a counter or gauge."""
        self._families[name].samples.append(Sample(name, labels, value))

    def add_known(self, name: str, labels: Labels, value: float | None) -> None:
        """The same, or nothing where there is no value."""
        if value is not None:
            self.add(name, labels, value)

    def histogram(
        self, name: str, labels: Labels, bounds: Sequence[str], counts: Sequence[int], total: float
    ) -> None:
        """One histogram: `counts[i]` observations above bound `i - 1` up to bound `i`, the last above all."""
        samples = self._families[name].samples
        cumulative = list(accumulate(counts))
        for bound, count in zip((*bounds, "+Inf"), cumulative, strict=True):
            samples.append(Sample(f"{name}_bucket", {**labels, "le": bound}, count))
        samples.append(Sample(f"{name}_count", labels, cumulative[-1]))
        samples.append(Sample(f"{name}_sum", labels, total))

    def summary(
        self, name: str, labels: Labels, quantiles: Mapping[str, float], count: int, total: float | None
    ) -> None:
        """One summary: the value at each quantile by its text. A sum that nobody keeps is left out."""
        samples = self._families[name].samples
        samples.append(Sample(f"{name}_count", labels, count))
        if total is not None:
            samples.append(Sample(f"{name}_sum", labels, total))
        for text, value in quantiles.items():
            samples.append(Sample(name, {**labels, "quantile": text}, value))

    def filled(self) -> list[Metric]:
        """Those that have a sample, in the table's order."""
        return [family for family in self._families.values() if family.samples]


def _family(spec: MetricSpec) -> Metric:
    # prometheus_client names a counter without its suffix, which Triton's counters do not have.
    bare = spec.name.removesuffix("_total") if spec.type == COUNTER else spec.name
    return Metric(bare, spec.help, spec.type)

"""Families to text: as Triton writes its own, as prometheus_client writes ours, OpenMetrics when asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import Metric, Sample
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_BOUNDS = ("le", "quantile")


@dataclass(frozen=True, slots=True)
class _Collected:
    """Families that have been collected already, as prometheus_client's writers take them."""

    families: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def write(triton: Sequence[Metric], ours: Sequence[Metric], accept: str) -> tuple[bytes, str]:
    """The body and its content type.

    Args:
        triton: Triton's families, whose names follow no convention.
        ours: families that follow OpenMetrics' conventions.
        accept: the request's Accept header; OpenMetrics is written if it names it.
    """
    if "application/openmetrics-text" in accept:
        families = _Collected([*map(_in_openmetrics, triton), *ours])
        body: bytes = openmetrics.generate_latest(families)  # type: ignore[no-untyped-call]  # its module has none
        return body, openmetrics.CONTENT_TYPE_LATEST
    text = "".join(map(_in_tritons_text, triton)).encode()
    return text + generate_latest(_Collected(ours)), CONTENT_TYPE_PLAIN_0_0_4


def _in_openmetrics(family: Metric) -> Metric:
    """A counter without the suffix that OpenMetrics demands keeps its name by being of unknown type."""
    kind = "unknown" if family.type == "counter" else family.type
    converted = Metric(family.name, family.documentation, kind)
    converted.samples = [
        Sample(sample.name, {key: _canonical(key, text) for key, text in sample.labels.items()}, sample.value)
        for sample in family.samples
    ]
    return converted


def _canonical(key: str, text: str) -> str:
    """Bounds as OpenMetrics wants them: 100 is 100.0 there."""
    return repr(float(text)) if key in _BOUNDS and text != "+Inf" else text


def _in_tritons_text(family: Metric) -> str:
    """As prometheus-cpp does: names as they are, labels in their order, whole numbers without a point."""
    lines = [f"# HELP {family.name} {family.documentation}\n# TYPE {family.name} {family.type}\n"]
    for sample in family.samples:
        pairs = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in sample.labels.items())
        labels = f"{{{pairs}}}" if pairs else ""
        lines.append(f"{sample.name}{labels} {_number(sample.value)}\n")
    return "".join(lines)


def _number(value: float) -> str:
    if math.isnan(value):
        return "Nan"
    return str(int(value)) if value == int(value) else repr(float(value))

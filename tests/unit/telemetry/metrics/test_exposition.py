"""Both text formats can be read back, and say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from naiad.telemetry.metrics.cpu import CpuReading
from naiad.telemetry.metrics.exposition import write
from naiad.telemetry.metrics.gpu import GpuReading
from naiad.telemetry.metrics.machine import MachineReading
from naiad.telemetry.metrics.naiad import naiad_families
from naiad.telemetry.metrics.settings import metrics_settings
from naiad.telemetry.metrics.table import NAIAD_METRICS, TRITON_METRICS
from naiad.telemetry.metrics.triton import triton_families
from naiad.telemetry.metrics.view import (
    AsideView,
    EngineView,
    ExperimentView,
    ModelState,
    RoomView,
    StreamsView,
    VersionState,
)
from naiad.telemetry.statistics import CacheStatistics, VersionStatistics
from naiad.telemetry.streams import ModelStreams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric

    from naiad.telemetry.metrics import VersionView

OPENMETRICS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""As Prometheus asks."""


@pytest.fixture
def everything(
    view: Callable[..., VersionView],
    run_batch: Callable[[VersionStatistics, int], None],
    experiment: ExperimentView,
) -> tuple[list[Metric], list[Metric]]:
    """Every family that there is, of a version that has run and one that has not."""
    counted = VersionStatistics(first_response_bounds_ns=(10**8, 5 * 10**8), summaries=True)
    counted.cache = CacheStatistics()
    run_batch(counted, 3)
    engine = EngineView("building", 42.0)
    views = [view(statistics=counted, tags={"team": 'a"\\\n'}, engine=engine), view(model="other")]
    machine = MachineReading(
        CpuReading(0.5, 1_000, 400), (GpuReading("GPU-aa", 0.25, 80, 20, 300.5, 700.0, 12.0),)
    )
    settings = metrics_settings(["summary_latencies=true"])
    states = [VersionState("m", 1, True)]
    return (
        triton_families(views, machine, settings, 10**7),
        naiad_families(
            views,
            states,
            [ModelState("m", 0, False)],
            streams=[StreamsView("m", ModelStreams())],
            rooms=[RoomView("m", 1, 1, 2)],
            experiments=[experiment],
            aside=AsideView(1.5, 1, 0),
            version="1",
            started_s=5.0,
        ),
    )


def values(families: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], str]:
    """Each sample's value by name and labels, bounds as numbers.

    The plain format's parser gives counters the suffix that Triton's do not have.
    """
    return {
        (
            sample.name.removesuffix("_total"),
            frozenset(
                (key, str(float(text)) if key in ("le", "quantile") else text)
                for key, text in sample.labels.items()
            ),
        ): str(float(sample.value))
        for family in families
        for sample in family.samples
    }


def test_plain_text_and_openmetrics_say_the_same(everything: tuple[list[Metric], list[Metric]]) -> None:
    """Each format's own parser reads it; OpenMetrics' checks names, suffixes, order and bounds as well."""
    plain, plain_type = write(*everything, "")
    opened, opened_type = write(*everything, OPENMETRICS)
    assert plain_type.startswith("text/plain; version=0.0.4")
    assert opened_type.startswith("application/openmetrics-text; version=1.0.0")
    reread = parse_openmetrics(opened.decode())  # type: ignore[no-untyped-call]  # its module has no types
    assert values(parse_text(plain.decode())) == values(reread)


def test_every_row_of_the_table_is_written_with_its_type_help_and_labels(
    everything: tuple[list[Metric], list[Metric]],
) -> None:
    text = write(*everything, "")[0].decode()
    for spec in (*TRITON_METRICS, *NAIAD_METRICS):
        assert f"# HELP {spec.name} {spec.help}\n# TYPE {spec.name} {spec.type}\n" in text
    families = {family.name: family for family in parse_text(text)}
    for spec in (*TRITON_METRICS, *NAIAD_METRICS):
        family = families[spec.name.removesuffix("_total")]
        extra = {"le", "quantile", "_team"}
        assert {key for sample in family.samples for key in sample.labels} - extra == set(spec.labels), spec


@pytest.mark.parametrize("accept", ["*/*", "text/plain", "application/openmetrics", "text/html;q=abc"])
def test_whoever_does_not_ask_for_openmetrics_gets_plain_text(accept: str) -> None:
    assert write([], [], accept) == (b"", "text/plain; version=0.0.4; charset=utf-8")

"""`--metrics-config` as Triton's users write it."""

from __future__ import annotations

import pytest

from naiad.core.errors import InvalidArgumentError
from naiad.telemetry.metrics import MetricsSettings, metrics_settings


def test_the_defaults_are_tritons() -> None:
    settings = metrics_settings()
    assert settings == MetricsSettings()
    assert (settings.counter_latencies, settings.summary_latencies, settings.histogram_latencies) == (
        True,
        False,
        False,
    )
    assert [tuple(quantile) for quantile in settings.summary_quantiles] == [
        (0.5, 0.05),
        (0.9, 0.01),
        (0.95, 0.001),
        (0.99, 0.001),
        (0.999, 0.001),
    ]


def test_each_key_is_understood_and_the_last_entry_wins() -> None:
    settings = metrics_settings(
        [
            "counter_latencies=false",
            "summary_latencies=OFF",
            "summary_latencies=True",
            "histogram_latencies=1",
            'summary_quantiles="0.25:0.1,1:0"',
        ],
        allow_cpu_metrics=False,
        allow_gpu_metrics=False,
        interval_ms=5,
    )
    assert settings == MetricsSettings(
        allow_cpu_metrics=False,
        allow_gpu_metrics=False,
        interval_ms=5,
        counter_latencies=False,
        summary_latencies=True,
        histogram_latencies=True,
        summary_quantiles=settings.summary_quantiles,
    )
    assert [tuple(quantile) for quantile in settings.summary_quantiles] == [(0.25, 0.1), (1, 0)]


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ("latencies=true", "expected one of counter_latencies, summary_latencies"),
        ("summary_latencies", "as KEY=VALUE"),
        ("summary_latencies=maybe", "expected true, on, 1, false, off or 0"),
        ("summary_quantiles=0.5", "expected pairs QUANTILE:ERROR"),
        ("summary_quantiles=0.5:0.1:3", "expected pairs QUANTILE:ERROR"),
        ("summary_quantiles=1.5:0.1", "numbers from 0 to 1"),
        ("summary_quantiles=nan:0.1", "numbers from 0 to 1"),
        ("summary_quantiles=", "expected pairs QUANTILE:ERROR"),
    ],
)
def test_what_is_wrong_is_named(entry: str, wanted: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        metrics_settings([entry])
    assert caught.value.message.startswith(f"--metrics-config={entry}: ")
    assert wanted in caught.value.message

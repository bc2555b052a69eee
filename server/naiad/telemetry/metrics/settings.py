"""What `--allow-…-metrics`, `--metrics-interval-ms` and `--metrics-config` say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FLAG = "--metrics-config"


class Quantile(NamedTuple):
    """One quantile of the summaries.

    `error` is what Triton's algorithm may be wrong by in rank; ours has an error of its own, whatever is
    asked for (`naiad.telemetry.quantiles`).
    """

    quantile: float
    error: float


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Which of the families `/metrics` has. The defaults are Triton's.

    `interval_ms` is the least time between two readings of the machine's CPU and GPUs.
    """

    allow_cpu_metrics: bool = True
    allow_gpu_metrics: bool = True
    interval_ms: int = 2_000
    counter_latencies: bool = True
    summary_latencies: bool = False
    histogram_latencies: bool = False
    summary_quantiles: tuple[Quantile, ...] = (
        Quantile(0.5, 0.05),
        Quantile(0.9, 0.01),
        Quantile(0.95, 0.001),
        Quantile(0.99, 0.001),
        Quantile(0.999, 0.001),
    )


def metrics_settings(
    entries: Iterable[str] = (),
    *,
    allow_cpu_metrics: bool = True,
    allow_gpu_metrics: bool = True,
    interval_ms: int = 2_000,
) -> MetricsSettings:
    """The settings from the flags.

    Args:
        entries: the values of every `--metrics-config`, each `KEY=VALUE`; a later one wins.
        allow_cpu_metrics: whether the machine's CPU and memory are shown.
        allow_gpu_metrics: whether the GPUs are shown.
        interval_ms: the least time between two readings of the machine.

    Raises:
        InvalidArgumentError: an entry has no such key or not such a value; names both and what is allowed.
    """
    given: dict[str, bool | tuple[Quantile, ...]] = {}
    for entry in entries:
        key, found, text = entry.partition("=")
        parse = _PARSERS.get(key.strip())
        if not found or parse is None:
            raise InvalidArgumentError(f"{FLAG}={entry}: expected one of {', '.join(_PARSERS)} as KEY=VALUE")
        given[key.strip()] = parse(entry, text.strip().strip('"'))
    return MetricsSettings(
        allow_cpu_metrics=allow_cpu_metrics,
        allow_gpu_metrics=allow_gpu_metrics,
        interval_ms=interval_ms,
        **given,  # type: ignore[arg-type]  # each parser gives what its field holds
    )


def _parse_bool(entry: str, text: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise InvalidArgumentError(f"{FLAG}={entry}: expected true, on, 1, false, off or 0")
    return value


def _parse_quantiles(entry: str, text: str) -> tuple[Quantile, ...]:
    """`0.5:0.05,0.9:0.01`: each quantile and the error allowed."""
    try:
        pairs = [pair.split(":") for pair in text.split(",")]
        quantiles = tuple(Quantile(float(quantile), float(error)) for quantile, error in pairs)
    except ValueError:
        quantiles = ()
    if not quantiles or not all(0 <= number <= 1 for quantile in quantiles for number in quantile):
        raise InvalidArgumentError(
            f"{FLAG}={entry}: expected pairs QUANTILE:ERROR of numbers from 0 to 1, such as 0.5:0.05,0.9:0.01"
        )
    return quantiles


_BOOLEANS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
_PARSERS: dict[str, Callable[[str, str], bool | tuple[Quantile, ...]]] = {
    "counter_latencies": _parse_bool,
    "summary_latencies": _parse_bool,
    "histogram_latencies": _parse_bool,
    "summary_quantiles": _parse_quantiles,
}

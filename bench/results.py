"""From samples to figures: medians over rounds, ratios to the limit of the same round. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bench.loads import Client

Kind = Literal["bare", "batches", "closed", "open"]
"""Bare ONNX Runtime one by one, the same in batches, a server under a closed loop, under an open one."""
BARE, OURS = "bare", "Naiad"


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. CPU times are microseconds a request; bare has no server and its caller is itself.

    `errors` are requests without an answer, `late_us` is how late an open loop sent (p99), `parts_us` where a
    request's time went on average.
    """

    requests_per_s: float
    p50_us: float
    p90_us: float
    p99_us: float
    client_cpu_us: float
    server_cpu_us: float | None = None
    batch: float | None = None
    memory_mib: float | None = None
    errors: int = 0
    late_us: float = 0.0
    parts_us: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Series:
    """One way of calling one case, measured once a round; `samples` by round, for a round may fail.

    `limit` names the group of cases that share one bare measurement. A bare series has `threads` a run and
    `level` callers; of the others `level` is the number in flight, or an open loop's share of the throughput.
    """

    case: str
    title: str
    limit: str
    target: str
    load: str
    kind: Kind
    level: float
    client: Client | None = None
    threads: int = 0
    samples: dict[int, Sample] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one series: medians over the rounds; None where there are none.

    `spread` is the rounds' range of requests/s as a share of their median. `ratio` is the median of the
    rounds' shares of the limit, `p50_beyond_ms` and `cpu_beyond_us` what the server adds to bare's p50 with
    one caller and to bare's CPU time a request. `failure` says why rounds are missing.
    """

    case: str
    title: str
    target: str
    load: str
    kind: Kind
    level: float
    client: Client | None
    rounds: int
    is_limit: bool
    requests_per_s: float | None
    spread: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    batch: float | None
    server_cpu_us: float | None
    client_cpu_us: float | None
    memory_mib: float | None
    ratio: float | None
    p50_beyond_ms: float | None
    cpu_beyond_us: float | None
    errors: int
    late_ms: float | None
    parts_us: Mapping[str, float]
    failure: str


def summarise(series: list[Series]) -> list[Row]:
    """One row a series, in order."""
    return [_row(each, _limit(series, each.limit), _one_caller(series, each.limit)) for each in series]


def _limit(series: list[Series], name: str) -> Series | None:
    """The layout that does most: the best bare series without batches, by its median."""
    bare = [each for each in series if each.kind == "bare" and each.limit == name and each.samples]
    return max(
        bare, key=lambda each: _median(each, lambda sample: sample.requests_per_s) or 0.0, default=None
    )


def _one_caller(series: list[Series], name: str) -> Series | None:
    """A single caller of the limit's layout: what one request in flight can be compared with."""
    limit = _limit(series, name)
    if limit is None:
        return None
    wanted = (name, "bare", 1, limit.threads)
    return next(
        (each for each in series if (each.limit, each.kind, each.level, each.threads) == wanted), None
    )


def _row(series: Series, limit: Series | None, one_caller: Series | None) -> Row:
    rates = [sample.requests_per_s for sample in series.samples.values()]
    served = series.kind in {"closed", "open"}
    p50 = _median(series, lambda sample: sample.p50_us / 1e3)
    return Row(
        case=series.case,
        title=series.title,
        target=series.target,
        load=series.load,
        kind=series.kind,
        level=series.level,
        client=series.client,
        rounds=len(rates),
        is_limit=series is limit,
        requests_per_s=median(rates) if rates else None,
        spread=(max(rates) - min(rates)) / max(median(rates), 1e-9) if rates else None,
        p50_ms=p50,
        p90_ms=_median(series, lambda sample: sample.p90_us / 1e3),
        p99_ms=_median(series, lambda sample: sample.p99_us / 1e3),
        batch=_median(series, lambda sample: sample.batch),
        server_cpu_us=_median(series, lambda sample: sample.server_cpu_us),
        client_cpu_us=_median(series, lambda sample: sample.client_cpu_us),
        memory_mib=_median(series, lambda sample: sample.memory_mib),
        ratio=_paired(series, limit, lambda own, bare: own.requests_per_s / max(bare.requests_per_s, 1e-9)),
        p50_beyond_ms=_paired(series, one_caller, lambda own, bare: (own.p50_us - bare.p50_us) / 1e3)
        if served and series.level == 1
        else None,
        cpu_beyond_us=_paired(
            series, limit, lambda own, bare: (own.server_cpu_us or 0.0) - bare.client_cpu_us
        )
        if served
        else None,
        errors=sum(sample.errors for sample in series.samples.values()),
        late_ms=_median(series, lambda sample: sample.late_us / 1e3) if series.kind == "open" else None,
        parts_us=_parts(series),
        failure="; ".join(dict.fromkeys(series.failures)),
    )


def _median(series: Series, figure: Callable[[Sample], float | None]) -> float | None:
    return _median_of(map(figure, series.samples.values()))


def _paired(series: Series, bare: Series | None, figure: Callable[[Sample, Sample], float]) -> float | None:
    """The median over the rounds that both have; machines drift, within a round they compare."""
    if bare is None:
        return None
    rounds = series.samples.keys() & bare.samples.keys()
    return _median_of(figure(series.samples[number], bare.samples[number]) for number in rounds)


def _median_of(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return median(there) if there else None


def _parts(series: Series) -> dict[str, float]:
    names = list(dict.fromkeys(name for sample in series.samples.values() for name in sample.parts_us))
    return {
        name: median(sample.parts_us.get(name, 0.0) for sample in series.samples.values()) for name in names
    }

"""The order of a run: every case on every server under every load, once a round, next to its bare runs."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Self

from bench.arrivals import percentiles
from bench.loads import SHARE_OF
from bench.meter import tree_cpu_ns, tree_memory_mib
from bench.perf_client import PerfClient, PerfError
from bench.processes import Worker
from bench.results import Sample, Series
from bench.targets import check_answer, executions
from tritonclient.utils import InferenceServerException

from naiad.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.cases import Case
    from bench.loads import Load
    from bench.plan import Plan, Step
    from bench.targets import Target

_RAMP_S = 0.5
_BARE_SHARE = 0.5
"""The bare loops need less time than the load: they have no queue to fill."""
_REQUESTS_A_WINDOW = 24
"""perf_analyzer gives up on a window in which nothing is answered, so slow models get longer ones."""


class StepError(Exception):
    """One measurement has no figures; the text, one line, goes into its row."""


class Clients:
    """Who measures: the bare loops' process, our own load's, and perf_analyzer where it is there.

    A process of ours that ends is started again for the next measurement.
    """

    def __init__(self, perf: PerfClient | None) -> None:
        self.perf = perf
        self._workers: dict[str, Worker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.__exit__()

    def ask(self, module: str, **question: Any) -> dict[str, Any]:
        """What a worker answers.

        Raises:
            UnavailableError: it ended instead.
        """
        if module not in self._workers:
            self._workers[module] = Worker(module)
        try:
            return self._workers[module].ask(**question)
        except (UnavailableError, BrokenPipeError) as error:
            self._workers.pop(module).__exit__()
            raise UnavailableError(f"{module} ended while it measured") from error


class Bench:
    """A run on servers that are started. A round measures every series once, the servers in turn."""

    def __init__(self, plans: list[Plan], clients: Clients, *, seconds: float) -> None:
        self._plans = plans
        self._clients = clients
        self._seconds = seconds
        self.wrong: dict[tuple[str, str], str] = {}
        """What is wrong with a (server, model): it is not measured."""
        self.output_bytes: dict[str, int] = {}
        """Bytes of each model's largest output."""

    @property
    def series(self) -> list[Series]:
        """Every series, case by case."""
        return [
            series
            for plan in self._plans
            for series in (
                *(series for series, _ in plan.bare),
                *(step.series for steps in plan.steps for step in steps),
            )
        ]

    def round(self, number: int) -> Iterator[str]:
        """Measure everything once; yields the name of each series before it is measured."""
        for steps in (steps for plan in self._plans for steps in plan.steps):
            for step in steps:
                step.target.pause()
        bare_rate = 1.0
        for plan in self._plans:
            for series, batch in plan.bare:
                yield f"{plan.case.name}: {series.load}"
                series.samples[number] = self._bare(plan.case, series, batch)
                bare_rate = series.samples[number].requests_per_s
            window_s = max(self._seconds, 3 * _REQUESTS_A_WINDOW / bare_rate)
            for steps in plan.steps:
                # Another server goes first in each round: who follows whom is no one's advantage.
                for index in range(len(steps)):
                    step = steps[(index + number) % len(steps)]
                    yield f"{step.case.name}: {step.target.name}, {step.load.name}"
                    self._step(step, number, window_s)

    def _bare(self, case: Case, series: Series, batch: int) -> Sample:
        window = self._clients.ask(
            "bench.bare",
            case=asdict(case),
            threads=series.threads,
            callers=int(series.level),
            batch=batch,
            ramp_s=_RAMP_S * _BARE_SHARE,
            window_s=self._seconds * _BARE_SHARE,
        )
        return _window_sample(window)

    def _step(self, step: Step, number: int, window_s: float) -> None:
        step.target.resume()
        try:
            step.series.samples[number] = self._measured(step, number, window_s)
        except (StepError, PerfError, UnavailableError) as error:
            step.series.failures.append(str(error))
        except InferenceServerException as error:
            step.series.failures.append(f"no statistics: {error.message()}"[:200])
        finally:
            step.target.pause()

    def _measured(self, step: Step, number: int, window_s: float) -> Sample:
        failure = step.target.ended() or self.wrong.get((step.target.name, step.case.model))
        if failure:
            raise StepError(failure)
        load = step.load
        if load.open:
            load = replace(load, rate=load.share * self._closed_rate(step))
        before = executions(step.target.address, step.case)
        if load.client == "perf_analyzer":
            sample = self._by_perf_analyzer(step, load, window_s, before[0])
        else:
            sample = self._by_ourselves(step, load, number)
        requests, runs = (
            end - start for start, end in zip(before, executions(step.target.address, step.case), strict=True)
        )
        return replace(sample, batch=requests / max(1, runs), memory_mib=tree_memory_mib(step.target.pid))

    def _closed_rate(self, step: Step) -> float:
        """What the same client got through in its first closed loop: the same in every round."""
        own = step.series
        for each in self.series:
            same = (each.case, each.target, each.client) == (own.case, own.target, own.client)
            if same and each.kind == "closed" and each.level == SHARE_OF and each.samples:
                return each.samples[min(each.samples)].requests_per_s
        raise StepError(f"there is no closed loop of {SHARE_OF} to take a share of")

    def _by_perf_analyzer(self, step: Step, load: Load, window_s: float, counted: int) -> Sample:
        """CPU times are of the whole run and so are the requests: its warm-up is neither here nor there."""
        assert self._clients.perf is not None
        cpu = tree_cpu_ns(step.target.pid)
        figures = self._clients.perf.run(
            step.case, load, step.target.address, window_s, self.output_bytes.get(step.case.model, 0)
        )
        server_cpu_us = (tree_cpu_ns(step.target.pid) - cpu) / 1e3
        requests = max(1, executions(step.target.address, step.case)[0] - counted)
        return Sample(
            requests_per_s=figures.requests_per_s,
            p50_us=figures.p50_us,
            p90_us=figures.p90_us,
            p99_us=figures.p99_us,
            client_cpu_us=figures.client_cpu_us / requests,
            server_cpu_us=server_cpu_us / requests,
            parts_us=figures.parts_us,
        )

    def _by_ourselves(self, step: Step, load: Load, number: int) -> Sample:
        window = self._clients.ask(
            "bench.load",
            case=asdict(step.case),
            address=step.target.address,
            rate=load.rate,
            in_flight=load.in_flight,
            seed=number,
            ramp_s=_RAMP_S,
            window_s=self._seconds,
            pid=step.target.pid,
        )
        if "failure" in window:
            raise StepError(window["failure"])
        return _window_sample(window, served=True)


def _window_sample(window: dict[str, Any], *, served: bool = False) -> Sample:
    """The sample of a `meter.Window` as a dict, of an open loop with `errors` and `late_us`."""
    count = max(window["count"], 1e-9)
    found = percentiles(window["latencies_us"])
    if not window["latencies_us"]:
        raise StepError("nothing was answered")
    return Sample(
        requests_per_s=window["count"] / window["seconds"],
        p50_us=found.p50,
        p90_us=found.p90,
        p99_us=found.p99,
        client_cpu_us=window["own_cpu_us"] / count,
        server_cpu_us=window["other_cpu_us"] / count if served else None,
        errors=window.get("errors", 0),
        late_us=window.get("late_us", 0.0),
    )


def check_answers(bench: Bench, cases: list[Case], targets: list[Target], expected: dict[str, Path]) -> None:
    """Note which server gives another answer than bare, before anything is measured."""
    for case in {case.model: case for case in cases}.values():
        for target in targets:
            if not target.serves(case):
                continue
            failure = target.ended() or check_answer(target.address, case, expected[case.model])
            if failure:
                bench.wrong[target.name, case.model] = failure

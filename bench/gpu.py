"""What each step on a GPU is worth: plain runs, fixed buffers, lanes, CUDA graphs, TensorRT; and first runs.

`python -m bench.gpu [MODEL.onnx…] [--json=FILE]`; `--cpu` goes the same way on a machine without a GPU, where
the figures say nothing. Models need a free batch dimension; a small network in FP32 and FP16 is made if none
is given. Figures are of one process without a server: batches a second times their size.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from bench.gpu_host import HostDriver
from bench.gpu_models import CPU_PLAN, Subject, subject_of, write_network

from naiad.core.errors import NaiadError, UnavailableError
from naiad.runtime.buckets import batch_buckets
from naiad.runtime.cuda.driver import load_driver
from naiad.runtime.cuda.lanes import open_lanes
from naiad.runtime.onnx_session import open_session
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.provider_options import cuda_options
from naiad.runtime.providers import CPU, CUDA, TENSORRT, Provider, ProviderPlan
from naiad.runtime.tensorrt.options import tensorrt_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad.core.tensors import Array
    from naiad.runtime.session import Session

ROUNDS = 3


@dataclass(frozen=True)
class Way:
    """One way to run a model; `lanes` 0 is the engine's own plain run."""

    name: str
    lanes: int = 0
    graphs: bool = False
    tensorrt: str = ""


@dataclass(frozen=True)
class Row:
    """A measurement: items a second over all callers, and one caller's median time of a batch."""

    model: str
    way: str
    batch: int
    items_per_s: float
    batch_us: float
    note: str = ""


@dataclass(frozen=True)
class FirstRun:
    """How long the first run of a batch size took, and the second."""

    model: str
    search: str
    batch: int
    first_ms: float
    second_ms: float


WAYS = (
    Way("plain"),
    Way("buffers, 1 lane", 1),
    Way("buffers, 2 lanes", 2),
    Way("graphs, 1 lane", 1, graphs=True),
    Way("graphs, 2 lanes", 2, graphs=True),
    Way("TensorRT FP32, 2 lanes", 2, tensorrt="FP32"),
    Way("TensorRT FP16, 2 lanes", 2, tensorrt="FP16"),
)


class Bench:
    """One machine's measurements."""

    def __init__(self, *, on_cpu: bool, seconds: float) -> None:
        self._on_cpu = on_cpu
        self._seconds = seconds
        environment = OrtEnvironment.detect()
        self.available = environment.available
        self.device = f"{environment.gpu_count} visible GPU(s), ONNX Runtime {environment.version}"
        if not on_cpu and (CUDA not in self.available or not environment.gpu_count):
            raise SystemExit("no GPU that this onnxruntime can use: --cpu goes the same way without one")

    def rows(self, subject: Subject) -> Iterator[Row]:
        """Every way at every batch size."""
        for way in WAYS:
            if way.tensorrt and (self._on_cpu or TENSORRT not in self.available):
                continue
            try:
                yield from self._way(subject, way)
            except NaiadError as error:
                yield Row(subject.name, way.name, 0, 0.0, 0.0, error.message[:80])

    def first_runs(self, subject: Subject) -> Iterator[FirstRun]:
        """What the search for algorithms costs each new shape."""
        names = [output.name for output in subject.config.outputs]
        for search in ("HEURISTIC", "EXHAUSTIVE", "DEFAULT"):
            plan = self._plan(cudnn_conv_algo_search=search)
            with closing(open_session(subject.prepared, subject.config, plan, 1, 1)) as session:
                for size in batch_buckets(subject.config, on_gpu=True).sizes:
                    feeds = subject.feeds(size)
                    first, second = (_timed_ms(session, feeds, names) for _ in range(2))
                    yield FirstRun(subject.name, search, size, first, second)

    def _way(self, subject: Subject, way: Way) -> Iterator[Row]:
        config = subject.asked(lanes=max(1, way.lanes), graphs=way.graphs)
        plan = self._plan(way.tensorrt)

        def reopen() -> Any:
            return open_session(subject.prepared, config, plan, 1, 1)

        engine = open_session(subject.prepared, config, plan, 1, 1, graphs=way.graphs and not self._on_cpu)
        note = "; ".join(engine.notes)
        with ExitStack() as opened:
            opened.callback(engine.close)
            if engine.dropped:
                # The engine goes on without: its figures would stand under another's name.
                raise UnavailableError("; ".join(f"no {name}: {why}" for name, why in engine.dropped.items()))
            sessions: Sequence[Session] = [engine]
            if way.lanes:
                load: Any = (lambda _: HostDriver()) if self._on_cpu else load_driver
                laned = open_lanes(engine, config, name="bench", gpu=0, reopen=reopen, load=load)
                opened.callback(laned.close)
                sessions, note = laned.lanes, "; ".join((*engine.notes, *laned.notes))
            names = [output.name for output in config.outputs]
            for size in batch_buckets(config, on_gpu=True).sizes:
                rate, batch_us = self._measure(sessions, subject.feeds(size), names)
                yield Row(subject.name, way.name, size, rate * size, batch_us, note)

    def _measure(
        self, sessions: Sequence[Session], feeds: dict[str, Array], names: list[str]
    ) -> tuple[float, float]:
        """Batches a second of all sessions at once, and the median time of one batch in microseconds."""
        for session in sessions:
            for _ in range(3):
                session.run(feeds, names)
        rates, times = [], []
        for _ in range(ROUNDS):
            took: list[list[int]] = [[] for _ in sessions]
            end_ns = time.monotonic_ns() + int(self._seconds * 1e9)
            threads = [
                threading.Thread(target=_run_until, args=(session, feeds, names, end_ns, each))
                for session, each in zip(sessions, took, strict=True)
            ]
            started_ns = time.monotonic_ns()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            elapsed_s = (time.monotonic_ns() - started_ns) / 1e9
            rates.append(sum(map(len, took)) / elapsed_s)
            times.append(median(ns for each in took for ns in each) / 1e3)
        return median(rates), median(times)

    def _plan(self, tensorrt: str = "", **options: str) -> ProviderPlan:
        if self._on_cpu:
            return CPU_PLAN
        providers = [Provider(CUDA, cuda_options(options, {}, gpu=0)), Provider(CPU)]
        if tensorrt:
            providers.insert(0, Provider(TENSORRT, tensorrt_options({"precision_mode": tensorrt}, gpu=0)))
        names = tuple(provider.name for provider in providers)
        return ProviderPlan(tuple(providers), names, (), gpu_count=1)


def _run_until(
    session: Session, feeds: dict[str, Array], names: list[str], end_ns: int, took: list[int]
) -> None:
    while True:
        started_ns = time.monotonic_ns()
        session.run(feeds, names)
        ended_ns = time.monotonic_ns()
        took.append(ended_ns - started_ns)
        if ended_ns >= end_ns:
            return


def _timed_ms(session: Session, feeds: dict[str, Array], names: list[str]) -> float:
    started_ns = time.monotonic_ns()
    session.run(feeds, names)
    return (time.monotonic_ns() - started_ns) / 1e6


def _subjects(paths: Sequence[Path], folder: Path, *, side: int, max_batch: int) -> Iterator[Subject]:
    kinds: tuple[type[np.generic], ...] = (np.float32, np.float16)
    for path in paths or [write_network(folder, kind) for kind in kinds]:
        subject = subject_of(path, side=side, max_batch=max_batch)
        if subject is None:
            print(f"{path.name}: left out, its batch dimension is fixed")
        else:
            yield subject


def _print_rows(rows: Sequence[Row]) -> None:
    print(f"\n{'model':24} {'way':24} {'batch':>5} {'items/s':>10} {'us/batch':>10}  note")
    for row in rows:
        print(
            f"{row.model[:24]:24} {row.way:24} {row.batch:>5} {row.items_per_s:>10,.0f} "
            f"{row.batch_us:>10,.0f}  {row.note[:60]}"
        )


def _print_first_runs(runs: Sequence[FirstRun]) -> None:
    print(f"\n{'model':24} {'search':12} {'batch':>5} {'first ms':>10} {'second ms':>10}")
    for run in runs:
        times = f"{run.first_ms:>10,.1f} {run.second_ms:>10,.2f}"
        print(f"{run.model[:24]:24} {run.search:12} {run.batch:>5} {times}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--cpu", action="store_true", help="go the same way without a GPU")
    parser.add_argument("--side", type=int, default=320, help="of pictures whose size the graph leaves open")
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each of three rounds")
    parser.add_argument("--json", type=Path, default=Path("bench-output") / "gpu.json")
    asked = parser.parse_args()
    bench = Bench(on_cpu=asked.cpu, seconds=asked.seconds)
    rows: list[Row] = []
    runs: list[FirstRun] = []
    with tempfile.TemporaryDirectory() as folder:
        for subject in _subjects(asked.models, Path(folder), side=asked.side, max_batch=asked.max_batch):
            rows += bench.rows(subject)
            runs += bench.first_runs(subject)
    _print_rows(rows)
    _print_first_runs(runs)
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    device = "none: plain memory, the figures say nothing of a GPU" if asked.cpu else bench.device
    print(f"\ndevice: {device}")
    figures = {
        "device": device,
        "batches": [asdict(row) for row in rows],
        "first_runs": [asdict(run) for run in runs],
    }
    asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

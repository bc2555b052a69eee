"""What ONNX Runtime's settings are worth on the CPU: each beside the server's own, in rounds taken in turn.

`python -m bench.session_options MODEL.onnx… [--rounds=9] [--seconds=0.3]`; figures are in docs/threads.md.
"""

from __future__ import annotations

import argparse
import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from naiad.runtime.graph import prepare_model
from naiad.runtime.threads import read_cpu_budget

_SIDE = 320  # of pictures whose size the graph leaves open


@dataclass(frozen=True)
class Variant:
    """Settings of a session, and how many threads call it."""

    name: str
    callers: int
    threads: int
    entries: dict[str, str] = field(default_factory=dict)
    arena: bool = True
    pattern: bool = True

    def open(self, path: Path) -> Any:
        """A session with these settings, of the graph as the server prepares it."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = self.arena
        options.enable_mem_pattern = self.pattern
        entries = {"session.intra_op.allow_spinning": "0"} | self.entries
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        source = prepare_model(path, ()).source
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def variants(cpus: int) -> list[Variant]:
    """The server's settings first."""
    spin = {"session.intra_op.allow_spinning": "1"}
    return [
        Variant("as served", cpus, 1),
        Variant("no arena", cpus, 1, arena=False),
        Variant("no pattern", cpus, 1, pattern=False),
        Variant("denormal as zero", cpus, 1, entries={"session.set_denormal_as_zero": "1"}),
        Variant("one caller", 1, cpus),
        Variant("one caller, spin", 1, cpus, entries=spin),
        Variant("all callers, pool spins", cpus, cpus, entries=spin),
    ]


def feeds(session: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Random numbers of the inputs' shapes, a batch of one."""
    source = np.random.default_rng(0)
    made = {}
    for value in session.get_inputs():
        first, *rest = value.shape
        sizes = [first if isinstance(first, int) else 1]
        sizes += [size if isinstance(size, int) else _SIDE for size in rest]
        made[value.name] = source.random(sizes, np.float32)
    return made


def rate(session: Any, callers: int, inputs: dict[str, Any], seconds: float) -> tuple[float, float]:
    """Runs a second of all callers, and CPU milliseconds a run."""
    until = time.monotonic() + seconds
    rates: list[float] = []
    runs: list[int] = []

    def call() -> None:
        began, count = time.monotonic(), 0
        while time.monotonic() < until:
            session.run(None, inputs)
            count += 1
        rates.append(count / (time.monotonic() - began))
        runs.append(count)

    cpu = time.process_time()
    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates), (time.process_time() - cpu) * 1_000 / sum(runs)


def measure(path: Path, cpus: int, rounds: int, seconds: float) -> None:
    """Print a model's figures: medians, and the median ratio to the server's own settings."""
    opened = [(variant, variant.open(path)) for variant in variants(cpus)]
    inputs = feeds(opened[0][1])
    for variant, session in opened:
        rate(session, variant.callers, inputs, seconds / 3)
    figures = []
    order = list(enumerate(opened))
    for turn in range(rounds):
        # What runs before leaves threads that spin, and caches: each comes after each other one.
        random.Random(turn).shuffle(order)
        row = {column: rate(each[1], each[0].callers, inputs, seconds) for column, each in order}
        figures.append(row)
    print(f"{path.stem}, {cpus} CPUs")
    for column, (variant, _) in enumerate(opened):
        speed = median(row[column][0] for row in figures)
        ratio = median(row[column][0] / row[0][0] for row in figures)
        cpu = median(row[column][1] for row in figures)
        print(f"  {variant.name:26} {speed:10,.0f}/s  {ratio:5.2f}  CPU {cpu:8.3f} ms a run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3)
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.2f}")
    for path in arguments.models:
        measure(path, read_cpu_budget().threads, arguments.rounds, arguments.seconds)
    print(f"load {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()

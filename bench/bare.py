"""The limit: bare ONNX Runtime in a loop, without a server, in its own process (`python -m bench.bare`)."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from bench.cases import Case
from bench.meter import Window, read
from bench.processes import answer, questions

from naiad.runtime.graph import prepare_model

if TYPE_CHECKING:
    from bench.cases import Arrays


class BareSession:
    """A session of some threads, as many callers at once as asked for; `run` lets go of Python's lock."""

    def __init__(self, case: Case, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors: a warning a weight says nothing about speed
        # Prepared as the server prepares it: a file that lists its weights as inputs is slow as it is, and
        # the server would pass for faster than the limit.
        prepared = prepare_model(Path(case.path), set(case.inputs))
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(prepared.source, options, providers=providers)
        self._names = [output.name for output in self._session.get_outputs()]
        self._requests = case.requests()

    def outputs(self, file: Path) -> list[dict[str, Any]]:
        """Write the answer to the first request as an .npz, and say what the graph calls its outputs.

        Shapes are the graph's own, -1 where it leaves a size open.
        """
        arrays = self._session.run(self._names, self._requests[0])
        np.savez(file, **dict(zip(self._names, arrays, strict=True)))
        return [
            {
                "name": output.name,
                "dtype": str(array.dtype),
                "shape": [dim if isinstance(dim, int) else -1 for dim in output.shape],
                "bytes": array.nbytes,
            }
            for output, array in zip(self._session.get_outputs(), arrays, strict=True)
        ]

    def measure(self, callers: int, batch: int, ramp_s: float, window_s: float) -> Window:
        """Run from `callers` threads for a while; a batch counts as that many requests."""
        batches = [self._batch(start, batch) for start in range(0, len(self._requests), batch)]
        stop = threading.Event()
        finished: list[tuple[int, int]] = []
        threads = [
            threading.Thread(target=self._call, args=(batches, stop, finished)) for _ in range(callers)
        ]
        for thread in threads:
            thread.start()
        time.sleep(ramp_s)
        first = read()
        time.sleep(window_s)
        last = read()
        stop.set()
        for thread in threads:
            thread.join()
        return Window.between(first, last, finished, batch)

    def _batch(self, start: int, size: int) -> Arrays:
        """Requests from `start` on as one batch, from the first again after the last."""
        taken = [self._requests[(start + index) % len(self._requests)] for index in range(size)]
        return {name: np.concatenate([request[name] for request in taken]) for name in taken[0]}

    def _call(self, batches: list[Arrays], stop: threading.Event, finished: list[tuple[int, int]]) -> None:
        for arrays in itertools.cycle(batches):
            if stop.is_set():
                return
            start = time.perf_counter_ns()
            self._session.run(self._names, arrays)
            finished.append((start, time.perf_counter_ns()))


def _main() -> None:
    sessions: dict[tuple[str, int], BareSession] = {}
    for question in questions():
        case = Case(**question.pop("case"))
        threads = question.pop("threads", 1)
        if (case.key, threads) not in sessions:
            sessions[case.key, threads] = BareSession(case, threads)
        session = sessions[case.key, threads]
        if "outputs" in question:
            answer({"outputs": session.outputs(Path(question["outputs"]))})
        else:
            answer(asdict(session.measure(**question)))


if __name__ == "__main__":
    _main()

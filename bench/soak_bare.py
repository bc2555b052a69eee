"""What the engine itself keeps: bare ONNX Runtime that opens, runs and closes one session again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from bench.processes import Worker, answer, questions
from bench.soak_models import WEIGHTS, dense
from bench.soak_probe import heap
from bench.soak_server import read_process

if TYPE_CHECKING:
    from collections.abc import Iterator


def bare_samples(times: int) -> Iterator[dict[str, Any]]:
    """One sample a session, from a process of its own."""
    start = time.monotonic()
    with Worker("bench.soak_bare") as worker:
        for number in range(times):
            found = worker.ask(case={"name": "the engine"})
            yield {"seconds": time.monotonic() - start, "reloads": number + 1, **found}


def _main() -> None:
    import os  # noqa: PLC0415

    import onnxruntime  # noqa: PLC0415

    model = dense().SerializeToString()
    feeds = {"INPUT": np.ones((8, WEIGHTS), np.float32)}
    for _ in questions():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        session.run(None, feeds)
        del session
        answer(read_process(os.getpid()) | heap())


if __name__ == "__main__":
    _main()

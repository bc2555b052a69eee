"""The limit of video: a detector's whole work in one process (`python -m bench.video_bare`).

The same code as the server's for each step, on a thread a CPU, one frame at a time; no queue, no wire.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import onnxruntime
import structlog
from bench.meter import Window, read
from bench.processes import answer, questions
from bench.video_cases import VideoCase

from naiad.app import NaiadServer
from naiad.config.server_config import server_config
from naiad.runtime.graph import prepare_model
from naiad.vision.detector import Detector

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGES = ("decode", "preprocess", "infer", "postprocess")


class BarePipeline:
    """A detector's whole work on JPEG files."""

    def __init__(self, case: VideoCase) -> None:
        self._frames = case.jpegs()
        self._detector, self._input, self._is_batched = asyncio.run(_load(case))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # As the server prepares it, or a file that lists its weights among the inputs is slower here.
        prepared = prepare_model(Path(case.onnx), {self._input})
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(prepared.source, options, providers=providers)

    def measure(self, callers: int, ramp_s: float, window_s: float) -> dict[str, Any]:
        """Run from `callers` threads for a while; also CPU microseconds a frame of each stage."""
        stop, finished = threading.Event(), list[tuple[int, int]]()
        spent = np.zeros((callers, len(STAGES)), np.int64)
        threads = [threading.Thread(target=self._run, args=(stop, finished, times)) for times in spent]
        for thread in threads:
            thread.start()
        time.sleep(ramp_s)
        first = read()
        time.sleep(window_s)
        last = read()
        stop.set()
        for thread in threads:
            thread.join()
        each = spent.sum(axis=0) / 1_000 / max(1, len(finished))
        stages = dict(zip(STAGES, each.tolist(), strict=True))
        return asdict(Window.between(first, last, finished)) | {"stages_us": stages}

    def _run(self, stop: threading.Event, finished: list[tuple[int, int]], spent: Any) -> None:
        for frame in itertools.cycle(self._frames):
            if stop.is_set():
                return
            start = time.perf_counter_ns()
            marks = [time.thread_time_ns(), *self._work(frame)]
            spent += np.diff(marks)
            finished.append((start, time.perf_counter_ns()))

    def _work(self, frame: bytes) -> Iterator[int]:
        """The thread's CPU time after each stage."""
        picture = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR)
        yield time.thread_time_ns()
        detector = self._detector
        tensor, transform = detector.preprocessor(np.asarray(picture, np.uint8))
        yield time.thread_time_ns()
        feed = {self._input: tensor[np.newaxis] if self._is_batched else tensor}
        outputs = self._session.run(list(detector.output_names), feed)
        yield time.thread_time_ns()
        detector.head.decode(dict(zip(detector.output_names, outputs, strict=True)), [transform])
        yield time.thread_time_ns()


class _Loaded(NamedTuple):
    detector: Detector
    input_name: str
    is_batched: bool


async def _load(case: VideoCase) -> _Loaded:
    """The case's detector as the server makes it of the model's config."""
    flags = {
        "model_repository": (Path(case.repository),),
        "model_control_mode": "explicit",
        "load_model": (case.model,),
        "allow_http": False,
        "allow_metrics": False,
        "grpc_address": "127.0.0.1",
        "grpc_port": 0,
    }
    async with NaiadServer(server_config(flags)) as server:
        with server.manager.acquire(case.model, None) as handle:
            config = handle.config
            assert isinstance(handle.vision, Detector)
            assert config.vision is not None
            return _Loaded(handle.vision, config.vision.input.tensor, config.max_batch_size > 0)


def _main() -> None:
    # The server that a detector is taken from has nothing to say on standard output, which is for answers.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    pipelines: dict[str, BarePipeline] = {}
    for question in questions():
        case = VideoCase(**question.pop("case"))
        if case.key not in pipelines:
            pipelines[case.key] = BarePipeline(case)
        answer(pipelines[case.key].measure(**question))


if __name__ == "__main__":
    _main()

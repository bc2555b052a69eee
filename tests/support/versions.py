"""Versions of tiny models that tell themselves apart, good and bad ones, and the experiments on them."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np
from onnx import TensorProto, helper
from support.onnx_models import info, model
from support.repositories import add_model
from support.stock_clients import PATIENCE_S

from naiad.config.experiment_reader import read_experiment
from naiad.core.clock import MonotonicClock
from naiad.core.tensors import ModelKey
from naiad.lifecycle.experiments.aside import AsideProcess
from naiad.lifecycle.loading import RepositoryLoader
from naiad.lifecycle.version_loader import VersionLoader
from naiad.repository.layout import read_folder
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.threads import CpuBudget
from naiad.telemetry.statistics import VersionStatistics
from naiad_protos.naiad.experiments.v1 import experiments_pb2 as pb
from naiad_protos.naiad.experiments.v1 import experiments_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import onnx
    from onnx import NodeProto

    from naiad.config.model_config import ModelConfig
    from naiad.lifecycle.experiments.aside import AsideJob, AsideResult
    from naiad.lifecycle.version import ServingVersion

POLLING = ("--model-control-mode=poll", "--repository-poll-secs=0.2", "--repository-quiet-secs=0.1")
"""Flags of a server that sees a changed file at once."""

PLAIN_CONFIG = "max_batch_size: 8\ndynamic_batching { }\n"
"""Of `tells_its_version`."""


def tells_its_version(number: float, *, size: int | None = 1, output: str = "OUTPUT") -> onnx.ModelProto:
    """`output` = INPUT + number, FP32 `[N, size]`."""
    dims: list[int | str | None] = ["N", size]
    return model(
        [helper.make_node("Add", ["INPUT", "number"], [output])],
        [info("INPUT", TensorProto.FLOAT, dims)],
        [info(output, TensorProto.FLOAT, dims)],
        [helper.make_tensor("number", TensorProto.FLOAT, [1], [number])],
    )


def sums_from(number: int) -> onnx.ModelProto:
    """OUTPUT = SUM_OUT = INPUT + SUM_IN + number, all INT32 `[N, 1]`: each step tells the version."""
    dims: list[int | str | None] = ["N", 1]
    return model(
        [
            helper.make_node("Add", ["INPUT", "SUM_IN"], ["sum"]),
            helper.make_node("Add", ["sum", "number"], ["SUM_OUT"]),
            helper.make_node("Identity", ["SUM_OUT"], ["OUTPUT"]),
        ],
        [info(name, TensorProto.INT32, dims) for name in ("INPUT", "SUM_IN")],
        [info(name, TensorProto.INT32, dims) for name in ("OUTPUT", "SUM_OUT")],
        [helper.make_tensor("number", TensorProto.INT32, [1], [number])],
    )


SIDE = 64
"""Width and height of the detectors' pictures."""
CELL = 16
"""A face, where there is one, fills a cell of so many pixels."""
FACES = (SIDE // CELL) ** 2
"""Faces in a picture at most."""
BRIGHT = 128
"""A cell whose middle is as bright as this, of 255, holds a face."""

FACES_CONFIG = f"""
max_batch_size: 8
input [ {{ name: "image" data_type: TYPE_UINT8 dims: [ {SIDE}, {SIDE}, 3 ] }} ]
output [ {{ name: "rows" data_type: TYPE_FP32 dims: [ {FACES}, 5 ] }} ]
dynamic_batching {{ }}
parameters {{ key: "naiad.task" value {{ string_value: "detect" }} }}
parameters {{ key: "naiad.head" value {{ string_value: "boxes" }} }}
"""


def grid_detector(
    *, bright: int = BRIGHT, score: float = 0.9, fails_from: int | None = None
) -> onnx.ModelProto:
    """A face of `score` in each cell of a picture whose middle is at least `bright`.

    A picture whose top left pixel is `fails_from` or more fails the run: a row is read that is not there.
    """
    starts, ends = [CELL // 2, CELL // 2, 0], [SIDE, SIDE, 1]
    nodes = [
        helper.make_node("Slice", ["image", "starts", "ends", "axes", "steps"], ["middles"]),
        helper.make_node("Reshape", ["middles", "flat"], ["cells"]),
        helper.make_node("Cast", ["cells"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("GreaterOrEqual", ["values", "bright"], ["is_face"]),
        helper.make_node("Cast", ["is_face"], ["there"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["there", "score"], ["scores"]),
        helper.make_node("Mul", ["scores", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "boxes"], ["places"]),
        helper.make_node("Concat", ["places", "scores"], ["found"], axis=2),
        *_failing(fails_from),
    ]
    corners = range(0, SIDE, CELL)
    boxes = [[x + 1, y + 1, x + CELL - 1, y + CELL - 1] for y in corners for x in corners]
    constants = [
        helper.make_tensor("starts", TensorProto.INT64, [3], starts),
        helper.make_tensor("ends", TensorProto.INT64, [3], ends),
        helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("steps", TensorProto.INT64, [3], [CELL, CELL, 1]),
        helper.make_tensor("flat", TensorProto.INT64, [3], [-1, FACES, 1]),
        helper.make_tensor("bright", TensorProto.FLOAT, [], [bright]),
        helper.make_tensor("score", TensorProto.FLOAT, [], [score]),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("boxes", TensorProto.FLOAT, [1, FACES, 4], np.ravel(boxes).tolist()),
    ]
    if fails_from is not None:
        constants += [
            helper.make_tensor("corner_start", TensorProto.INT64, [3], [0, 0, 0]),
            helper.make_tensor("corner_end", TensorProto.INT64, [3], [1, 1, 1]),
            helper.make_tensor("alone", TensorProto.INT64, [3], [-1, 1, 1]),
            helper.make_tensor("fails_from", TensorProto.INT32, [], [fails_from]),
            helper.make_tensor("only_row", TensorProto.FLOAT, [1], [0.0]),
        ]
    return model(
        nodes,
        [info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [info("rows", TensorProto.FLOAT, ["N", FACES, 5])],
        constants,
    )


def _failing(fails_from: int | None) -> list[NodeProto]:
    """`found` to `rows`, by way of a row that a picture with such a corner does not have."""
    if fails_from is None:
        return [helper.make_node("Identity", ["found"], ["rows"])]
    return [
        helper.make_node("Slice", ["image", "corner_start", "corner_end", "axes"], ["corner"]),
        helper.make_node("Reshape", ["corner", "alone"], ["pixel"]),
        helper.make_node("Cast", ["pixel"], ["level"], to=TensorProto.INT32),
        helper.make_node("GreaterOrEqual", ["level", "fails_from"], ["is_bad"]),
        helper.make_node("Cast", ["is_bad"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["only_row", "row"], ["nothing"]),
        helper.make_node("Add", ["found", "nothing"], ["rows"]),
    ]


def photos(count: int, seed: int) -> npt.NDArray[np.uint8]:
    """`[count, SIDE, SIDE, 3]`: cells of even brightness of which all are faces, the corner pixel of its own."""
    generator = np.random.default_rng(seed)
    cells = generator.integers(BRIGHT, 256, (count, SIDE // CELL, SIDE // CELL, 1), np.uint8)
    pictures = cells.repeat(CELL, axis=1).repeat(CELL, axis=2).repeat(3, axis=3)
    pictures[:, 0, 0, :] = generator.integers(0, 256, (count, 1), np.uint8)
    return pictures


WORK_SIZE = 96
WORK_CONFIG = "max_batch_size: 0\n"


def worker(steps: int) -> onnx.ModelProto:
    """OUTPUT = INPUT (FP32 `[WORK_SIZE, WORK_SIZE]`) after `steps` products with the identity."""
    nodes, last = [], "INPUT"
    for step in range(steps):
        nodes.append(helper.make_node("MatMul", [last, "one"], [f"step{step}"]))
        last = f"step{step}"
    nodes.append(helper.make_node("Identity", [last], ["OUTPUT"]))
    dims: list[int | str | None] = [WORK_SIZE, WORK_SIZE]
    one = np.eye(WORK_SIZE, dtype=np.float32)
    return model(
        nodes,
        [info("INPUT", TensorProto.FLOAT, dims)],
        [info("OUTPUT", TensorProto.FLOAT, dims)],
        [helper.make_tensor("one", TensorProto.FLOAT, one.shape, one.tobytes(), raw=True)],
    )


EMBEDDER_CONFIG = """
max_batch_size: 8
input [ { name: "crop" data_type: TYPE_UINT8 dims: [ 112, 112, 3 ] } ]
output [ { name: "embedding" data_type: TYPE_FP32 dims: [ 3 ] } ]
dynamic_batching { }
parameters { key: "naiad.task" value { string_value: "embed" } }
"""
"""Of `support.embedders.channel_embedder`: another order of its channels is another space, rotated."""


def crops(count: int, seed: int) -> npt.NDArray[np.uint8]:
    """`[count, 112, 112, 3]`: each of one pure colour, so that rotated spaces lie apart."""
    generator = np.random.default_rng(seed)
    colours = np.eye(3)[generator.integers(0, 3, count)] * generator.integers(100, 256, (count, 1))
    return np.broadcast_to(colours[:, None, None].astype(np.uint8), (count, 112, 112, 3)).copy()


def write_experiment(folder: Path, **fields: Any) -> str:
    """Put an experiment.json in force, whole at once; returns the digest by which reports tell it."""
    write_raw_experiment(folder, json.dumps(fields))
    config = read_experiment(folder, None)
    assert config is not None
    return config.digest


def write_raw_experiment(folder: Path, text: str) -> None:
    """Put a text where experiment.json is, whole at once."""
    staged = folder / "experiment.json.new"
    staged.write_text(text)
    staged.rename(folder / "experiment.json")


@dataclass
class Reports:
    """What a server tells of its experiments. A context manager."""

    address: str

    def __enter__(self) -> Self:
        self._channel = grpc.insecure_channel(self.address)
        self._stub: Any = experiments_pb2_grpc.ExperimentServiceStub(self._channel)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def models(self) -> Sequence[str]:
        """Those that have an experiment."""
        return tuple(self._stub.ListExperiments(pb.ListExperimentsRequest()).models)

    def of(self, name: str) -> pb.Report:
        """The report on one model."""
        report: pb.Report = self._stub.GetReport(pb.GetReportRequest(model=name)).report
        return report

    def decide(self, name: str, kind: str, candidate: int, reason: str = "by a test") -> pb.Report:
        """Decide by hand; `kind` as in `ROLL_BACK`."""
        number = pb.DecisionKind.Value(f"DECISION_KIND_{kind}")
        request = pb.DecideRequest(model=name, kind=number, candidate=candidate, reason=reason, by="tester")
        report: pb.Report = self._stub.Decide(request).report
        return report

    def wait_for(self, name: str, holds: Callable[[pb.Report], bool], what: str) -> pb.Report:
        """The first report of which that is true; AssertionError if none comes."""
        until = time.monotonic() + PATIENCE_S
        while not holds(report := self.of(name)):
            assert time.monotonic() < until, f"{name}: not {what}: {report}"
            time.sleep(0.02)
        return report

    def wait_until_in_force(self, name: str, digest: str) -> pb.Report:
        """The first report on that experiment in which all versions are ready."""

        def holds(report: pb.Report) -> bool:
            return report.digest == digest and all(arm.state != "not ready" for arm in report.arms)

        return self.wait_for(name, holds, f"in force: {digest}")


@asynccontextmanager
async def serving_versions(
    root: Path, name: str, models: Mapping[int, onnx.ModelProto | bytes], config: str = PLAIN_CONFIG
) -> AsyncIterator[dict[int, ServingVersion]]:
    """Versions of a model that are written, loaded and ready, each with its scheduler."""
    folder = read_folder(add_model(root, name, models, config))
    loader = RepositoryLoader(
        OrtEnvironment.detect(), CpuBudget(1, ""), auto_complete=True, default_max_batch_size=4
    )
    with ThreadPoolExecutor(1) as pool:
        versions = VersionLoader(
            loader,
            pool,
            clock=MonotonicClock(),
            max_queue_size=100,
            retries=0,
            new_statistics=lambda _: VersionStatistics(),
        )
        read = loader.read_config(folder)
        serving = {
            number: versions.serve(ModelKey(name, number), loader.load(folder, number, read), 0.0)
            for number in models
        }
    try:
        yield serving
    finally:
        for version in serving.values():
            await version.close()


class NotedAside(AsideProcess):
    """A process aside that is never started: it notes what it is asked for, and tests answer its jobs."""

    def __init__(self, *, has_room: bool = True) -> None:
        super().__init__()
        self.has_room = has_room
        self.jobs: list[tuple[AsideJob, Callable[[AsideResult], None]]] = []
        self.orders: list[tuple[str, int]] = []

    def submit(self, job: AsideJob, done: Callable[[AsideResult], None]) -> bool:
        """Note a job, if there is room."""
        if self.has_room:
            self.jobs.append((job, done))
        return self.has_room

    def read_model(self, key: ModelKey, config: ModelConfig) -> None:
        """Note it."""
        self.orders.append(("read", key.version))

    def open_model(self, key: ModelKey, *_: Any, **__: Any) -> None:
        """Note it."""
        self.orders.append(("open", key.version))

    def close_model(self, key: ModelKey) -> None:
        """Note it."""
        self.orders.append(("close", key.version))

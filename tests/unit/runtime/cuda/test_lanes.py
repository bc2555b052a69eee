"""From an opened session to proven lanes; graphs that fail or lie are given up, and said."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from support.gpu import DoublingEngine, HostDriver
from support.runtime import config

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, UnavailableError
from naiad.runtime.cuda.lanes import InstanceLanes, open_lanes
from naiad.runtime.warmup import warm_up

FP32 = DataType.FP32


def doubling(width: int = 2, **parameters: str) -> ModelConfig:
    return config(
        max_batch_size=4,
        inputs=(TensorConfig("INPUT0", FP32, (width,)),),
        outputs=(TensorConfig("OUTPUT0", FP32, (width,)),),
        parameters={f"naiad.{key}": value for key, value in parameters.items()},
    )


def never() -> DoublingEngine:
    raise AssertionError("nothing is to be opened again")


def lanes_of(
    engine: DoublingEngine, driver: HostDriver, model: ModelConfig | None = None, **more: Any
) -> InstanceLanes:
    fields: dict[str, Any] = {"name": "m_0", "gpu": 0, "reopen": never, "load": lambda _: driver}
    return open_lanes(engine, model or doubling(), **(fields | more))


def right(laned: InstanceLanes) -> bool:
    ones = np.ones((3, 2), np.float32)
    answers = [lane.run({"INPUT0": ones}, ["OUTPUT0"])["OUTPUT0"] for lane in laned.lanes]
    return all((answer == 2).all() for answer in answers)


def compute_threads() -> int:
    return sum(thread.name == "naiad-gpu-m_0" for thread in threading.enumerate())


def test_two_lanes_share_one_session_and_close_it_together() -> None:
    engine, driver = DoublingEngine(), HostDriver()
    laned = lanes_of(engine, driver)
    assert (len(laned.lanes), laned.notes) == (2, ())
    assert right(laned)
    assert len(engine.threads) == 1
    laned.lanes[0].close()
    assert engine.closed == 0
    laned.lanes[1].close()
    laned.close()
    assert engine.closed == 1
    assert driver.held == {}
    assert compute_threads() == 0


def test_one_lane_if_the_config_says_so() -> None:
    laned = lanes_of(DoublingEngine(), HostDriver(), doubling(gpu_lanes="1"))
    assert len(laned.lanes) == 1
    laned.close()


def test_every_bucket_of_every_lane_is_captured_and_proven_before_it_serves() -> None:
    engine = DoublingEngine(captures=True)
    laned = lanes_of(engine, HostDriver())
    captured = {(size, graph) for size, graph in engine.runs if graph > 0}
    assert captured == {(1, 1), (2, 2), (4, 3), (1, 4), (2, 5), (4, 6)}
    assert laned.notes == ("CUDA graphs of batch sizes 1, 2, 4",)
    assert right(laned)
    laned.close()


def test_a_capture_that_fails_opens_the_session_again_without_graphs_and_says_so() -> None:
    def at_run(rows: int, graph: int) -> None:
        if (rows, graph) == (2, 2):
            raise InternalError("operation not permitted when stream is capturing")

    broken, plain, driver = DoublingEngine(captures=True, at_run=at_run), DoublingEngine(), HostDriver()
    laned = lanes_of(broken, driver, reopen=lambda: plain)
    assert broken.closed == 1
    assert laned.notes == ("no CUDA graphs: operation not permitted when stream is capturing",)
    assert right(laned)
    laned.close()
    assert plain.closed == 1
    assert driver.held == {}


def test_a_graph_that_replays_old_values_is_found_out() -> None:
    """As one whose model computed something from its first inputs on the host would."""
    lying, plain = DoublingEngine(captures=True, stale_graphs=True), DoublingEngine()
    laned = lanes_of(lying, HostDriver(), reopen=lambda: plain)
    assert laned.notes == (
        "no CUDA graphs: the graph of batch size 1 answers another 'OUTPUT0' than the model",
    )
    assert right(laned)
    laned.close()


def test_a_session_that_cannot_be_opened_again_leaves_nothing_behind() -> None:
    def fail() -> DoublingEngine:
        raise InternalError("out of memory")

    lying, driver = DoublingEngine(captures=True, stale_graphs=True), HostDriver()
    with pytest.raises(InternalError, match="out of memory"):
        lanes_of(lying, driver, reopen=fail)
    assert lying.closed == 1
    assert driver.held == {}
    assert compute_threads() == 0


def test_switched_off_no_graph_is_captured_though_the_session_could() -> None:
    engine = DoublingEngine(captures=True)
    laned = lanes_of(engine, HostDriver(), doubling(cuda_graphs="off"))
    assert right(laned)
    assert {graph for _, graph in engine.runs} == {-1}
    laned.close()


def test_without_cudas_libraries_the_engine_copies_and_a_note_says_why() -> None:
    def missing(device_id: int) -> HostDriver:
        raise UnavailableError(f"no CUDA for {device_id}")

    engine = DoublingEngine(captures=True)
    laned = lanes_of(engine, HostDriver(), load=missing)
    assert len(laned.lanes) == 1
    assert laned.notes == (
        "tensors are copied in each run: no CUDA for 0",
        "no CUDA graphs: its tensors have no fixed place in memory",
    )
    assert right(laned)
    assert {graph for _, graph in engine.runs} == {-1}
    laned.close()


def test_libraries_that_do_not_fit_the_machine_are_as_good_as_missing() -> None:
    """The engine brought CUDA along and works; what we found beside it does not."""

    class Unfit(HostDriver):
        def enter(self) -> None:
            raise InternalError("CUDA driver version is insufficient for CUDA runtime version (35)")

    laned = lanes_of(DoublingEngine(), Unfit())
    [note] = laned.notes
    assert note.startswith("tensors are copied in each run: CUDA driver version is insufficient")
    assert right(laned)
    laned.close()


@pytest.mark.parametrize(("most_bytes", "lanes"), [(70, 1), (10, 1), (200, 2)])
def test_memory_for_fewer_lanes_gives_fewer_and_says_so(most_bytes: int, lanes: int) -> None:
    """A lane takes 2 x 64 bytes here, half of it on the host."""
    driver = HostDriver(most_bytes=2 * most_bytes)
    laned = lanes_of(DoublingEngine(), driver)
    assert len(laned.lanes) == lanes
    assert any("of 2 lanes: GPU 0: cudaMalloc failed" in note for note in laned.notes) == (lanes < 2)
    assert right(laned)
    laned.close()
    assert driver.held == {}


def test_warm_up_runs_every_bucket() -> None:
    engine = DoublingEngine()
    laned = lanes_of(engine, HostDriver(), doubling(batch_buckets="2,3,4"))
    report = warm_up(laned.lanes[0], doubling(batch_buckets="2,3,4"))
    assert [run.batch_size for run in report.runs] == [2, 3, 4]
    assert [size for size, _ in engine.runs] == [2, 3, 4]
    laned.close()

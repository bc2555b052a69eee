"""The process's tuner: what is worth measuring, what is remembered, and that measurements have their time."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.layouts import ThreadTime, TimedSession, Workshop
from support.runtime import config

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.runtime.tuning_process import LayoutTuner, WarmModel, largest_feeds, model_key
from naiad.runtime.warmup import WarmupReport, warm_up

if TYPE_CHECKING:
    from pathlib import Path

MS = 1_000_000
PAIRS = TensorConfig("INPUT0", DataType.FP32, (2,))
COMPLETE: ModelConfig = config(
    max_batch_size=4, inputs=(PAIRS,), outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),)
)


def warm(clock: ThreadTime, workshop: Workshop, run_ns: float, *, breaks: bool = False) -> WarmModel:
    session = TimedSession(clock, run_ns, breaks=breaks)
    return WarmModel(
        config=COMPLETE,
        session=session,
        report=warm_up(session, COMPLETE),
        samples=(),
        rule=2,
        threads=2,
        open_session=workshop.open,
        open_ns=0,
    )


def test_a_model_is_measured_once_and_remembered() -> None:
    clock = ThreadTime()
    workshop = Workshop(clock, {1: 0.5 * MS})
    tuner = LayoutTuner(limit_s=1.0, clock=clock)
    chosen = tuner.tune("key", warm(clock, workshop, 2 * MS))
    assert chosen.instances == 1
    assert chosen.reason.startswith("measured: 1 x 2 gives 2,000/s, 2 x 1 gives 1,000/s")
    known = tuner.known("key")
    assert known is not None
    assert known.instances == 1
    assert known.reason.endswith("(at an earlier load)")
    assert tuner.known("another") is None


def test_a_tiny_model_keeps_the_rule_and_opens_nothing() -> None:
    clock = ThreadTime()
    workshop = Workshop(clock, {1: 0.001 * MS})
    chosen = LayoutTuner(limit_s=1.0, clock=clock).tune("key", warm(clock, workshop, 0.1 * MS))
    assert (chosen.instances, workshop.opened) == (2, {})
    assert chosen.reason == "rule: 2 x 1; not measured, because one run takes 0.1 ms, less than 0.3 ms"


def test_a_model_that_no_warm_up_runs_keeps_the_rule() -> None:
    clock = ThreadTime()
    chosen = LayoutTuner(limit_s=1.0, clock=clock).tune(
        "key", warm(clock, Workshop(clock, {}), MS, breaks=True)
    )
    assert chosen.instances == 2
    assert "no input that runs" in chosen.reason


def test_a_measurement_that_fails_leaves_the_rule_and_is_made_again() -> None:
    clock = ThreadTime()
    tuner = LayoutTuner(limit_s=1.0, clock=clock)
    model = warm(clock, Workshop(clock, {}), MS)
    broken = replace(model, open_session=lambda _: TimedSession(clock, MS, breaks=True))
    assert tuner.tune("key", broken).reason == "rule: 2 x 1; measuring failed: the run broke"
    assert tuner.known("key") is None


def test_what_clients_may_have_disturbed_is_said() -> None:
    clock = ThreadTime()
    tuner = LayoutTuner(limit_s=1.0, clock=clock)
    tuner.serving = True
    assert (
        "while the server served" in tuner.tune("key", warm(clock, Workshop(clock, {1: 5 * MS}), MS)).reason
    )


def test_large_batches_leave_room_for_few_instances() -> None:
    """Of 16 CPU threads each instance would hold a batch of half a gigabyte."""
    clock = ThreadTime()
    workshop = Workshop(clock, dict.fromkeys((16, 8, 2, 1), 2 * MS))
    model = replace(warm(clock, workshop, 2 * MS), threads=16, rule=4)
    LayoutTuner(limit_s=1.0, clock=clock).tune("key", model)
    assert set(workshop.opened) == {16, 8, 2, 1}
    workshop.opened.clear()
    large = replace(model, config=replace(COMPLETE, max_batch_size=2**26))
    LayoutTuner(limit_s=1.0, clock=clock).tune("key", large)
    assert set(workshop.opened) == {2, 1}


def test_a_load_waits_for_a_measurement_and_a_measurement_for_a_load() -> None:
    """Whatever runs beside a measurement would be measured with it."""
    clock = ThreadTime()
    tuner = LayoutTuner(limit_s=1.0, clock=clock)
    order: list[str] = []
    measuring, loaded = threading.Event(), threading.Event()

    def load() -> None:
        measuring.wait(10)
        with tuner.loading():
            order.append("loaded")
        loaded.set()

    def open_session(_: int) -> TimedSession:
        measuring.set()
        # Nothing to wait for: the load must not get on before this is over.
        loaded.wait(0.05)
        order.append("measured")
        return TimedSession(clock, 5 * MS)

    other = threading.Thread(target=load)
    other.start()
    model = warm(clock, Workshop(clock, {}), MS)
    tuner.tune("key", replace(model, open_session=open_session))
    other.join(10)
    assert order == ["measured", "loaded"]


def test_the_largest_input_that_ran_is_taken() -> None:
    report = WarmupReport(runs=())
    assert largest_feeds(COMPLETE, report, ()) is None
    clock = ThreadTime()
    ran = warm(clock, Workshop(clock, {}), MS).report
    feeds = largest_feeds(COMPLETE, ran, ())
    assert feeds is not None
    assert feeds["INPUT0"].shape == (1, 2), "a batch of one, though one of four has run too"
    assert feeds["INPUT0"].dtype == np.float32


@pytest.mark.parametrize(
    "change",
    [{"threads": 4}, {"content": b"other"}, {"parameters": {"enable_mem_arena": "0"}}, {"max_batch_size": 8}],
)
def test_another_file_budget_or_config_is_another_model(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "model.onnx"

    def key(threads: int = 2, content: bytes = b"model", **fields: object) -> str:
        path.write_bytes(content)
        return model_key(path, config(**fields), threads)

    assert key() == key()
    assert key() != key(**change)  # type: ignore[arg-type]  # what changes is any of the arguments

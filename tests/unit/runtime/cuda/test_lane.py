"""A lane fills, runs in its turn and empties; what goes wrong stays with the batch that it went wrong for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.gpu import DoublingEngine, HostDriver

from naiad.core.datatypes import DataType
from naiad.core.errors import CancelledError, InternalError, ResourceExhaustedError, UnavailableError
from naiad.runtime.cuda.compute import ComputeThread
from naiad.runtime.cuda.lane import Lane
from naiad.runtime.cuda.plan import BindingPlan, BoundTensor
from naiad.runtime.session import BatchSlots, TerminableSession

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.core.tensors import Array

FP32 = np.dtype(np.float32)
PLAN = BindingPlan(
    inputs=(BoundTensor("INPUT0", DataType.FP32, (2,), batched=True),),
    outputs=(BoundTensor("OUTPUT0", DataType.FP32, (2,), batched=True),),
    free_outputs=(),
    sizes=(1, 2, 4),
    batched=True,
)


def rows(count: int, start: float = 1.0) -> Array:
    return np.arange(start, start + 2 * count, dtype=np.float32).reshape(count, 2)


def double(lane: Lane, batch: Array) -> Array:
    return lane.run({"INPUT0": batch}, ["OUTPUT0"])["OUTPUT0"]


@pytest.fixture
def driver() -> HostDriver:
    return HostDriver()


@pytest.fixture
def compute(driver: HostDriver) -> Iterator[ComputeThread]:
    thread = ComputeThread("m_0", driver)
    yield thread
    thread.close()


def lane_of(engine: DoublingEngine, compute: ComputeThread, driver: HostDriver, **more: Any) -> Lane:
    return Lane(engine, compute, driver=driver, plan=PLAN, **more)


def test_it_is_a_session_that_can_be_terminated_and_has_slots(
    compute: ComputeThread, driver: HostDriver
) -> None:
    lane = lane_of(DoublingEngine(), compute, driver)
    assert isinstance(lane, TerminableSession)
    assert isinstance(lane, BatchSlots)
    assert lane.sizes == (1, 2, 4)
    lane.close()


@pytest.mark.parametrize(("count", "bucket"), [(1, 1), (2, 2), (3, 4), (4, 4)])
def test_a_batch_runs_at_its_bucket_and_gives_its_own_rows(
    compute: ComputeThread, driver: HostDriver, count: int, bucket: int
) -> None:
    engine = DoublingEngine()
    lane = lane_of(engine, compute, driver)
    np.testing.assert_array_equal(double(lane, rows(count)), rows(count) * 2)
    assert engine.runs == [(bucket, -1)]
    assert lane.bucket_for(count) == bucket
    assert driver.copied == [("up", bucket * 8), ("down", count * 8)]
    lane.close()


def test_padding_is_a_row_of_the_batch_and_never_one_of_the_last(
    compute: ComputeThread, driver: HostDriver
) -> None:
    """What another caller's batch left behind could fail this one."""
    lane = lane_of(DoublingEngine(), compute, driver)
    double(lane, np.full((4, 2), -7, np.float32))
    double(lane, rows(3))
    assert lane._buffers is not None
    np.testing.assert_array_equal(lane._buffers.inputs["INPUT0"].host[3], rows(3)[0])
    lane.close()


def test_outputs_are_the_callers_to_keep(compute: ComputeThread, driver: HostDriver) -> None:
    """The next batch overwrites the buffers while the first one's responses are written."""
    lane = lane_of(DoublingEngine(), compute, driver)
    first = double(lane, rows(2))
    double(lane, rows(2, start=100))
    np.testing.assert_array_equal(first, rows(2) * 2)
    lane.close()


def test_what_lies_in_its_slot_is_not_copied_again(compute: ComputeThread, driver: HostDriver) -> None:
    lane = lane_of(DoublingEngine(), compute, driver)
    slot = lane.slot("INPUT0", 3, (2,), FP32)
    assert slot is not None
    slot[:] = rows(3)
    assert lane._buffers is not None
    buffer = lane._buffers.inputs["INPUT0"]
    assert buffer.holds(slot)
    assert buffer.holds(slot.reshape(3, 1, 2))
    assert not buffer.holds(buffer.host[1:3])
    assert not buffer.holds(slot.copy())
    np.testing.assert_array_equal(double(lane, slot), rows(3) * 2)
    lane.close()


@pytest.mark.parametrize(
    "asked",
    [
        ("OTHER", 2, (2,), FP32),
        ("INPUT0", 5, (2,), FP32),
        ("INPUT0", 2, (3,), FP32),
        ("INPUT0", 2, (2,), np.dtype(np.int32)),
    ],
    ids=["no such input", "too many rows", "other rows", "other type"],
)
def test_there_is_no_slot_for_what_does_not_fit(
    compute: ComputeThread, driver: HostDriver, asked: tuple[str, int, tuple[int, ...], Any]
) -> None:
    lane = lane_of(DoublingEngine(), compute, driver)
    assert lane.slot(*asked) is None
    assert lane.slot("INPUT0", 2, (1, 2), FP32) is not None  # as a client's shape may be
    lane.close()


@pytest.mark.parametrize("shape", [(5, 2), (0, 2), (2, 3)], ids=["beyond the largest", "empty", "other rows"])
def test_what_is_not_bound_is_left_to_the_engine_in_turn(
    compute: ComputeThread, driver: HostDriver, shape: tuple[int, ...]
) -> None:
    engine = DoublingEngine(captures=True)
    lane = lane_of(engine, compute, driver, new_graph=lambda: 1)
    batch = np.ones(shape, np.float32)
    np.testing.assert_array_equal(double(lane, batch), batch * 2)
    assert engine.runs == [(shape[0], -1)]
    assert driver.copied == []
    assert lane.bucket_for(shape[0]) == shape[0]  # nobody is told of padding that there was not
    double(lane, rows(3))
    assert lane.bucket_for(3) == 4
    assert threading.get_ident() not in engine.threads
    lane.close()


def test_each_bucket_of_a_lane_is_a_graph_of_its_own(compute: ComputeThread, driver: HostDriver) -> None:
    """A graph knows addresses and a shape: two lanes share none."""
    engine = DoublingEngine(captures=True)
    numbers = iter(range(1, 10))
    lanes = [lane_of(engine, compute, driver, new_graph=lambda: next(numbers)) for _ in range(2)]
    for lane in lanes:
        for count in (1, 2, 1):
            double(lane, rows(count))
    assert engine.runs == [(1, 1), (2, 2), (1, 1), (1, 3), (2, 4), (1, 3)]
    for lane in lanes:
        lane.close()


def test_a_lane_fills_while_another_runs_and_runs_never_overlap(
    compute: ComputeThread, driver: HostDriver
) -> None:
    began, go_on = threading.Event(), threading.Event()
    at_work: list[int] = []

    def at_run(rows_: int, _graph: int) -> None:
        at_work.append(rows_)
        if rows_ == 1:
            began.set()
            assert go_on.wait(20)
            assert at_work == [1]

    engine = DoublingEngine(at_run=at_run)
    first, second = (lane_of(engine, compute, driver) for _ in range(2))
    uploaded = threading.Event()
    upload = second._buffers.upload if second._buffers else None
    assert upload is not None

    def note(count: int) -> None:
        upload(count)
        uploaded.set()

    second._buffers.upload = note  # type: ignore[method-assign, union-attr]  # to see when it is done
    threads = [
        threading.Thread(target=double, args=(lane, rows(count))) for lane, count in ((first, 1), (second, 2))
    ]
    threads[0].start()
    assert began.wait(20)
    threads[1].start()
    assert uploaded.wait(20)  # while the first one runs
    go_on.set()
    for thread in threads:
        thread.join()
    assert at_work == [1, 2]
    first.close()
    second.close()


def test_a_run_that_fails_leaves_the_lane_and_the_other_one_usable(
    compute: ComputeThread, driver: HostDriver
) -> None:
    def at_run(rows_: int, _graph: int) -> None:
        if rows_ == 2:
            raise InternalError("CUDA failure 700")

    engine = DoublingEngine(at_run=at_run)
    lanes = [lane_of(engine, compute, driver) for _ in range(2)]
    with pytest.raises(InternalError, match="CUDA failure 700"):
        double(lanes[0], rows(2))
    for lane in lanes:
        np.testing.assert_array_equal(double(lane, rows(1)), rows(1) * 2)
        lane.close()


def test_a_batch_that_waits_for_the_session_is_terminated_without_a_run(
    compute: ComputeThread, driver: HostDriver
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def at_run(rows_: int, _graph: int) -> None:
        if rows_ == 1:
            began.set()
            assert go_on.wait(20)

    engine = DoublingEngine(at_run=at_run)
    first, second = (lane_of(engine, compute, driver) for _ in range(2))
    running = threading.Thread(target=double, args=(first, rows(1)))
    running.start()
    assert began.wait(20)
    errors: list[BaseException] = []

    def wait_in_vain() -> None:
        with pytest.raises(CancelledError) as caught:
            double(second, rows(2))
        errors.append(caught.value)

    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    second.terminate()
    go_on.set()
    for thread in (running, waiting):
        thread.join()
    assert len(errors) == 1
    assert engine.runs == [(1, -1)]
    second.rearm()
    np.testing.assert_array_equal(double(second, rows(2)), rows(2) * 2)
    first.close()
    second.close()


def test_closing_frees_everything_once(compute: ComputeThread, driver: HostDriver) -> None:
    closed: list[bool] = []
    lane = lane_of(DoublingEngine(), compute, driver, closed=lambda: closed.append(True))
    double(lane, rows(1))
    assert driver.held
    lane.close()
    lane.close()
    assert (driver.held, closed) == ({}, [True])
    with pytest.raises(UnavailableError, match="closed"):
        double(lane, rows(1))


def test_buffers_that_do_not_fit_leave_nothing_behind(compute: ComputeThread, driver: HostDriver) -> None:
    driver.most_bytes = 100
    with pytest.raises(ResourceExhaustedError, match="out of memory"):
        lane_of(DoublingEngine(), compute, driver)
    assert driver.held == {}


def test_no_outputs_asked_for_is_nothing_to_run(compute: ComputeThread, driver: HostDriver) -> None:
    engine = DoublingEngine()
    lane = lane_of(engine, compute, driver)
    assert lane.run({"INPUT0": rows(1)}, []) == {}
    assert engine.runs == []
    lane.close()

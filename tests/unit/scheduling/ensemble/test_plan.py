"""Which steps a request needs, when each can start, and how tensors pass between models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ensembles import step

from naiad.config.ensemble_config import EnsembleScheduling
from naiad.scheduling.ensemble.plan import Progress, Tensor, make_plan, pass_on, stages

# A makes x; B and C read it and make y and z; D reads y; E makes two of which one is for nobody but the caller.
DIAMOND = EnsembleScheduling(
    (
        step("D", {"IN": "y"}, {"OUT": "last"}),
        step("B", {"IN": "x"}, {"OUT": "y"}),
        step("C", {"IN": "x", "SAME": "x"}, {"OUT": "z"}),
        step("A", {"IN": "given"}, {"OUT": "x"}),
        step("E", {"IN": "z"}, {"OUT": "end", "MORE": "beside"}),
    )
)
TENSOR = Tensor(None, batched=True)


@pytest.mark.parametrize(
    ("outputs", "steps"),
    [
        (("last", "end", "beside"), {0: ("OUT",), 1: ("OUT",), 2: ("OUT",), 3: ("OUT",), 4: ("OUT", "MORE")}),
        (("last",), {0: ("OUT",), 1: ("OUT",), 3: ("OUT",)}),
        (("beside",), {2: ("OUT",), 3: ("OUT",), 4: ("MORE",)}),
        (("x",), {3: ("OUT",)}),
        (("given",), {}),
        (("y", "last"), {0: ("OUT",), 1: ("OUT",), 3: ("OUT",)}),
    ],
)
def test_only_what_the_outputs_need_is_planned(
    outputs: tuple[str, ...], steps: dict[int, tuple[str, ...]]
) -> None:
    assert make_plan(DIAMOND, outputs).steps == steps


def test_steps_of_a_stage_could_run_at_once() -> None:
    assert stages(DIAMOND) == [[3], [1, 2], [0, 4]]


def test_a_step_starts_once_when_its_last_input_is_there() -> None:
    progress = Progress(make_plan(DIAMOND, ("last", "end")))
    assert progress.give({"given": TENSOR, "unheard of": TENSOR}) == [3]
    assert progress.give({"x": TENSOR}) == [1, 2]
    assert progress.give({"y": TENSOR}) == [0]
    assert progress.give({"z": TENSOR}) == [4]
    assert not progress.is_complete
    for _ in range(5):
        progress.step_ended()
    assert progress.is_complete


def test_a_tensor_is_kept_for_its_readers_and_no_longer() -> None:
    progress = Progress(make_plan(DIAMOND, ("y", "last", "end")))
    progress.give({"x": TENSOR})
    assert progress.take({"x"}) == {"x": TENSOR}
    assert "x" in progress.tensors  # C has not read it
    progress.take({"x"})
    assert "x" not in progress.tensors
    progress.give({"y": TENSOR})
    progress.take({"y"})
    assert "y" in progress.tensors  # the caller asked for it
    progress.give({"beside": TENSOR})
    assert "beside" not in progress.tensors  # nobody did


@pytest.mark.parametrize(
    ("shape", "has_batch", "dims", "wants_batch", "expected"),
    [
        ((3, 4), True, (4,), True, (3, 4)),
        ((3, 4), False, (3, -1), False, (3, 4)),
        ((4,), False, (4,), True, (1, 4)),  # an item becomes a batch of one
        ((4,), False, (-1,), True, (1, 4)),
        ((3, 4), False, (4,), True, (3, 4)),  # a batch already
        ((3, 4), True, (-1, 4), False, (3, 4)),  # taken whole
        ((1, 4), True, (4,), False, (4,)),  # the item of a batch of one
        ((1, 4), True, (1, 4), False, (1, 4)),
        ((3, 4), True, (4,), False, (3, 4)),  # which the shape check refuses
        ((1,), True, (-1, 2), False, ()),
    ],
)
def test_a_tensor_passes_between_models_with_and_without_batches(
    shape: tuple[int, ...],
    has_batch: bool,
    dims: tuple[int, ...],
    wants_batch: bool,
    expected: tuple[int, ...],
) -> None:
    array = np.zeros(shape, np.float32)
    passed = pass_on(Tensor(array, has_batch), dims, batched=wants_batch)
    assert passed is not None
    assert passed.shape == expected
    assert np.shares_memory(passed, array)


def test_an_input_that_was_left_out_stays_so() -> None:
    assert pass_on(Tensor(None, batched=False), (4,), batched=True) is None


@given(st.data())
def test_every_needed_step_starts_exactly_once_whatever_the_graph_and_the_order(data: st.DataObject) -> None:
    """Random acyclic ensembles, answered in random order: all outputs come, no step starts early or twice."""
    count = data.draw(st.integers(1, 6))
    names = ["given", *(f"t{index}" for index in range(count))]
    reads = [
        data.draw(st.lists(st.sampled_from(names[: index + 1]), min_size=1, max_size=3, unique=True))
        for index in range(count)
    ]
    scheduling = EnsembleScheduling(
        tuple(
            step("m", {f"I{place}": name for place, name in enumerate(each)}, {"OUT": f"t{index}"})
            for index, each in enumerate(reads)
        )
    )
    outputs = data.draw(st.lists(st.sampled_from(names[1:]), min_size=1, unique=True))
    plan = make_plan(scheduling, outputs)
    progress = Progress(plan)
    started: list[int] = []
    there = {"given"}
    running = progress.give({"given": TENSOR})
    while running:
        index = running.pop(data.draw(st.integers(0, len(running) - 1)))
        assert set(reads[index]) <= there
        progress.take(set(reads[index]))
        started.append(index)
        there.add(f"t{index}")
        progress.step_ended()
        running += progress.give({f"t{index}": TENSOR})
    assert sorted(started) == sorted(plan.steps)
    assert progress.is_complete
    assert set(progress.tensors) == set(outputs)

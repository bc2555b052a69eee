"""Requests are joined into one batch and each gets its own rows back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError
from naiad.core.tensors import InferRequest
from naiad.scheduling.tensors import BatchBuffer, BatchLayout, split


def config(
    dims: tuple[int, ...] = (2,), *, max_batch_size: int = 8, reshape: tuple[int, ...] | None = None
) -> ModelConfig:
    return ModelConfig(
        name="m",
        max_batch_size=max_batch_size,
        inputs=(TensorConfig("IN", DataType.FP32, dims, reshape=reshape),),
        outputs=(
            TensorConfig("A", DataType.FP32, dims, reshape=reshape),
            TensorConfig("B", DataType.FP32, dims),
        ),
    )


def request(array: np.ndarray, outputs: tuple[str, ...] | None = None) -> InferRequest:
    return InferRequest("m", None, {"IN": array}, outputs, batch_size=len(array))


def rows(*values: float) -> np.ndarray:
    return np.array([[value, value] for value in values], dtype=np.float32)


def test_a_lone_request_is_passed_to_the_session_as_it_came() -> None:
    array = rows(1, 2)
    assert BatchBuffer(BatchLayout(config())).place([request(array)])["IN"] is array


@pytest.mark.parametrize("kind", ["plain", "reshaped", "ragged"])
def test_a_lone_request_that_lies_anywhere_in_its_message_is_aligned_for_the_engine(kind: str) -> None:
    made = config((4,), reshape=(2, 2) if kind == "reshaped" else None)
    if kind == "ragged":
        made = replace(made, inputs=(replace(made.inputs[0], ragged=True),))
    message = b"x" + np.arange(4, dtype=np.float32).tobytes()
    array = np.ndarray((1, 4), np.float32, message, 1)
    assert not array.flags.aligned
    placed = BatchBuffer(BatchLayout(made)).place([request(array)])["IN"]
    assert placed.flags.aligned
    np.testing.assert_array_equal(placed.reshape(1, 4), array)


def test_requests_lie_one_after_the_other() -> None:
    placed = BatchBuffer(BatchLayout(config())).place([request(rows(1, 2)), request(rows(3))])
    np.testing.assert_array_equal(placed["IN"], rows(1, 2, 3))


def test_the_batch_memory_is_used_again_for_the_same_shape() -> None:
    buffer = BatchBuffer(BatchLayout(config()))
    first = buffer.place([request(rows(3)), request(rows(4)), request(rows(5))])["IN"]
    second = buffer.place([request(rows(1)), request(rows(2))])["IN"]
    assert np.shares_memory(first, second)
    np.testing.assert_array_equal(second, rows(1, 2))


def test_another_shape_gets_other_memory() -> None:
    buffer = BatchBuffer(BatchLayout(config((-1,))))
    buffer.place([request(rows(1)), request(rows(2))])
    wide = np.ones((1, 5), np.float32)
    assert buffer.place([request(wide), request(wide)])["IN"].shape == (2, 5)


def test_each_request_gets_its_rows_of_what_it_asked_for() -> None:
    layout = BatchLayout(config())
    requests = [request(rows(1, 2), ("B",)), request(rows(3))]
    answers = split(layout, {"A": rows(10, 20, 30), "B": rows(1, 2, 3)}, requests)
    assert list(answers[0]) == ["B"]
    np.testing.assert_array_equal(answers[0]["B"], rows(1, 2))
    assert list(answers[1]) == ["A", "B"]
    np.testing.assert_array_equal(answers[1]["A"], rows(30))


def test_an_output_without_the_batchs_size_cannot_be_split() -> None:
    with pytest.raises(InternalError, match=r"output 'A' has shape \[1, 2\] for a batch of 2"):
        split(BatchLayout(config()), {"A": rows(1)}, [request(rows(1)), request(rows(2))])


def test_only_outputs_that_someone_asked_for_are_computed() -> None:
    layout = BatchLayout(config())
    assert layout.wanted([request(rows(1), ("B",))]) == ("B",)
    assert layout.wanted([request(rows(1), ("B",)), request(rows(1))]) == ("A", "B")


def test_reshape_is_applied_to_the_graph_and_undone_for_the_caller() -> None:
    layout = BatchLayout(config((4,), reshape=(2, 2)))
    placed = BatchBuffer(layout).place([request(np.zeros((3, 4), np.float32))])["IN"]
    assert placed.shape == (3, 2, 2)
    assert layout.client_output("A", placed).shape == (3, 4)


def test_reshape_of_a_model_without_batches_is_the_whole_shape() -> None:
    layout = BatchLayout(config((4,), max_batch_size=0, reshape=(1, 4)))
    assert layout.graph_input("IN", np.zeros(4, np.float32)).shape == (1, 4)


@pytest.mark.parametrize(("dims", "same"), [((2,), True), ((-1,), False)])
def test_variable_shapes_must_agree_within_a_batch(dims: tuple[int, ...], same: bool) -> None:
    layout = BatchLayout(config(dims))
    narrow, wide = request(np.zeros((1, 2), np.float32)), request(np.zeros((1, 5), np.float32))
    assert (layout.shape_key(narrow) == layout.shape_key(wide)) is same

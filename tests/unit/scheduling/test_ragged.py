"""Ragged requests share a batch whatever their lengths, and outputs are cut back by their shapes."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.schedulers import running_scheduler
from support.sessions import POISON, GatedSession

from naiad.config.model_config import DynamicBatching, ModelConfig, TensorConfig
from naiad.config.ragged_config import BatchInput, BatchInputKind, BatchOutput
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.core.tensors import InferRequest
from naiad.scheduling import tensors
from naiad.scheduling.tensors import BatchBuffer, BatchLayout, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Array, Tensors

FP32, INT32 = DataType.FP32, DataType.INT32
ENDS = BatchInput(BatchInputKind.ACCUMULATED, ("ENDS",), INT32, "INPUT0")


def config(
    dims: tuple[int, ...] = (-1,), out: TensorConfig | None = None, reshape: tuple[int, ...] | None = None
) -> ModelConfig:
    """INPUT0 is ragged, PLAIN is not; OUTPUT0 is cut by the shapes of INPUT0."""
    return ModelConfig(
        name="m",
        max_batch_size=4,
        inputs=(
            TensorConfig("INPUT0", FP32, dims, reshape=reshape, ragged=True),
            TensorConfig("PLAIN", FP32, (-1,)),
        ),
        outputs=(out or TensorConfig("OUTPUT0", FP32, (-1,)), TensorConfig("PLAIN_OUT", FP32, (-1,))),
        batch_inputs=(ENDS,),
        batch_outputs=(BatchOutput(("OUTPUT0",), "INPUT0"),),
        dynamic_batching=DynamicBatching((3,)),
    )


def request(
    values: Sequence[float] | np.ndarray, *, outputs: tuple[str, ...] | None = None, plain: int = 1
) -> InferRequest:
    array = np.asarray(values, dtype=np.float32)
    array = array.reshape(1, -1) if array.ndim == 1 else array
    inputs: dict[str, Array] = {"INPUT0": array, "PLAIN": np.zeros((len(array), plain), np.float32)}
    return InferRequest("m", None, inputs, outputs, batch_size=len(array))


def test_ragged_inputs_need_not_agree_and_the_others_must() -> None:
    layout = BatchLayout(config())
    assert layout.shape_key(request([1, 2])) == layout.shape_key(request([1, 2, 3]))
    assert layout.shape_key(request([1], plain=1)) != layout.shape_key(request([1], plain=2))


def test_elements_lie_end_to_end_and_the_batch_is_described() -> None:
    placed = BatchBuffer(BatchLayout(config())).place([request([1, 2]), request([3]), request([])])
    np.testing.assert_array_equal(placed["INPUT0"], [1, 2, 3])
    np.testing.assert_array_equal(placed["ENDS"], [2, 3, 3])
    assert placed["PLAIN"].shape == (3, 1)


def test_a_lone_request_is_flat_and_described_too_without_a_copy() -> None:
    lone = request(np.array([[1, 2], [3, 4]]))
    placed = BatchBuffer(BatchLayout(config())).place([lone])
    np.testing.assert_array_equal(placed["INPUT0"], [1, 2, 3, 4])
    assert np.shares_memory(placed["INPUT0"], lone.inputs["INPUT0"])
    np.testing.assert_array_equal(placed["ENDS"], [4])


def test_the_batch_memory_serves_shorter_batches_too() -> None:
    buffer = BatchBuffer(BatchLayout(config()))
    long = buffer.place([request([1, 2, 3]), request([4])])["INPUT0"]
    short = buffer.place([request([5]), request([6])])["INPUT0"]
    assert np.shares_memory(long, short)
    np.testing.assert_array_equal(short, [5, 6])


def test_a_huge_ragged_batch_leaves_no_memory_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "KEPT_BYTES", 16)
    buffer = BatchBuffer(BatchLayout(config()))
    kept = buffer.place([request([1, 2]), request([3, 4])])
    huge = buffer.place([request([1, 2, 3]), request([4, 5])])
    np.testing.assert_array_equal(huge["INPUT0"], [1, 2, 3, 4, 5])
    gone = weakref.ref(huge["INPUT0"])
    del huge
    gc.collect()
    assert gone() is None
    again = buffer.place([request([5]), request([6])])["INPUT0"]
    assert np.shares_memory(again, kept["INPUT0"])


def test_texts_lie_end_to_end() -> None:
    texts = ModelConfig("m", 4, (TensorConfig("TEXT", DataType.BYTES, (-1,), ragged=True),), outputs=())
    requests = [
        InferRequest("m", None, {"TEXT": np.array([words], dtype=np.object_)})
        for words in ([b"a", b"b"], [b"c"])
    ]
    assert BatchBuffer(BatchLayout(texts)).place(requests)["TEXT"].tolist() == [b"a", b"b", b"c"]


def test_each_request_gets_as_many_elements_as_it_sent() -> None:
    layout = BatchLayout(config())
    requests = [request([1, 2]), request([3], outputs=("OUTPUT0",)), request(np.array([[4, 5], [6, 7]]))]
    flat = np.arange(7, dtype=np.float32)
    answers = split(layout, {"OUTPUT0": flat, "PLAIN_OUT": np.zeros((4, 1), np.float32)}, requests)
    assert [answer["OUTPUT0"].tolist() for answer in answers] == [[[0, 1]], [[2]], [[3, 4], [5, 6]]]
    assert [list(answer) for answer in answers] == [
        ["OUTPUT0", "PLAIN_OUT"],
        ["OUTPUT0"],
        ["OUTPUT0", "PLAIN_OUT"],
    ]
    assert np.shares_memory(answers[2]["OUTPUT0"], flat)


def test_a_lone_requests_output_is_cut_too() -> None:
    answers = split(BatchLayout(config()), {"OUTPUT0": np.arange(3, dtype=np.float32)}, [request([1, 2, 3])])
    assert answers[0]["OUTPUT0"].tolist() == [[0, 1, 2]]


def test_only_dimensions_of_any_size_follow_the_input() -> None:
    layout = BatchLayout(config(dims=(-1, 1), out=TensorConfig("OUTPUT0", FP32, (-1, 2))))
    requests = [request(np.zeros((1, 3, 1))), request(np.zeros((1, 1, 1)))]
    answers = split(layout, {"OUTPUT0": np.arange(8, dtype=np.float32)}, requests)
    assert [answer["OUTPUT0"].shape for answer in answers] == [(1, 3, 2), (1, 1, 2)]


def test_reshapes_of_input_and_output_are_followed() -> None:
    """The caller sends and gets `[b, n]`, the graph counts it as `[b, n, 1]`."""
    out = TensorConfig("OUTPUT0", FP32, (-1,), reshape=(-1, 1))
    layout = BatchLayout(config(out=out, reshape=(-1, 1)))
    answers = split(layout, {"OUTPUT0": np.arange(3, dtype=np.float32)}, [request([1, 2]), request([3])])
    assert [answer["OUTPUT0"].shape for answer in answers] == [(1, 2), (1, 1)]


def test_an_output_with_other_elements_than_its_requests_cannot_be_cut() -> None:
    with pytest.raises(
        InternalError,
        match="output 'OUTPUT0' has 2 elements, but the shapes of 'INPUT0' .* 2 requests make 3",
    ):
        split(BatchLayout(config()), {"OUTPUT0": np.zeros(2)}, [request([1, 2]), request([3])])


class RaggedSession(GatedSession):
    """OUTPUT0 = 2 * INPUT0 end to end; remembers ENDS of each run; fails on POISON."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[list[int]] = []

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        self.ends.append(inputs["ENDS"].tolist())
        assert inputs["INPUT0"].ndim == 1
        return super().run(inputs, outputs)


async def test_requests_of_all_lengths_run_as_one_and_retry_with_batch_inputs_of_their_own() -> None:
    session = RaggedSession()
    async with running_scheduler(config(), session) as (running, _):
        wanted = ("OUTPUT0",)
        warm = running.submit(request([0], outputs=wanted))
        await session.run_began()
        good = running.submit(request([1, 2], outputs=wanted))
        bad = running.submit(request([POISON], outputs=wanted))
        also_good = running.submit(request([3, 4, 5], outputs=wanted))
        session.open()
        await warm
        assert (await good).outputs["OUTPUT0"].tolist() == [[2, 4]]
        assert (await also_good).outputs["OUTPUT0"].tolist() == [[6, 8, 10]]
        with pytest.raises(InvalidArgumentError):
            await bad
    assert session.ends == [[1], [2, 3, 6], [2], [1], [3]]

"""What describes a batch of three requests, kind by kind, and what warm-up makes of whole batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.ragged_models import RAGGED_SUM_CONFIG, ragged_sum
from support.runtime import config, cpu_session

from naiad.config.messages import parse_text
from naiad.config.model_config import TensorConfig
from naiad.config.ragged_config import BatchInput, BatchInputKind
from naiad.config.reader import config_from_message
from naiad.core.datatypes import DataType
from naiad.runtime.ragged import as_ragged, make_batch_inputs
from naiad.runtime.warmup import warm_up

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.core.tensors import Array

SHAPES = [{"IN": (1, 4, 1)}, {"IN": (2, 1, 2)}, {"IN": (1, 2, 2)}]


@pytest.mark.parametrize("datatype", [DataType.INT32, DataType.FP32])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (BatchInputKind.ELEMENT_COUNT, [4, 4, 4]),
        (BatchInputKind.ACCUMULATED, [4, 8, 12]),
        (BatchInputKind.ACCUMULATED_WITH_ZERO, [0, 4, 8, 12]),
        (BatchInputKind.MAX_AS_SHAPE, [0, 0, 0, 0]),
        (BatchInputKind.ITEM_SHAPE, [[4, 1], [1, 2], [1, 2], [2, 2]]),
        (BatchInputKind.ITEM_SHAPE_FLATTEN, [4, 1, 1, 2, 1, 2, 2, 2]),
    ],
)
def test_each_kind_in_each_datatype(kind: BatchInputKind, expected: list[object], datatype: DataType) -> None:
    made = make_batch_inputs([BatchInput(kind, ("A", "B"), datatype, "IN")], SHAPES)
    assert sorted(made) == ["A", "B"]
    assert made["A"].dtype == datatype.numpy
    np.testing.assert_array_equal(made["A"], expected)


def test_the_largest_request_gives_the_shape() -> None:
    batch_input = BatchInput(BatchInputKind.MAX_AS_SHAPE, ("A",), DataType.INT32, "IN")
    made = make_batch_inputs([batch_input], [{"IN": (1, 2)}, {"IN": (1, 5)}, {"IN": (1, 0)}])
    assert made["A"].shape == (5,)


def test_the_rows_of_a_whole_batch_stand_for_requests() -> None:
    ragged = config(
        max_batch_size=4,
        inputs=(
            TensorConfig("IN", DataType.FP32, (-1,), ragged=True),
            TensorConfig("PLAIN", DataType.FP32, (2,)),
        ),
        batch_inputs=(BatchInput(BatchInputKind.ACCUMULATED, ("ENDS",), DataType.INT32, "IN"),),
    )
    plain = np.ones((2, 2), np.float32)
    feeds = as_ragged(ragged, {"IN": np.arange(6).reshape(2, 3), "PLAIN": plain})
    np.testing.assert_array_equal(feeds["IN"], range(6))
    np.testing.assert_array_equal(feeds["ENDS"], [3, 6])
    assert feeds["PLAIN"] is plain


def test_a_model_without_a_batch_dimension_has_one_request() -> None:
    ragged = config(
        inputs=(TensorConfig("IN", DataType.FP32, (-1, -1), ragged=True),),
        batch_inputs=(BatchInput(BatchInputKind.ELEMENT_COUNT, ("N",), DataType.FP32, "IN"),),
    )
    feeds = as_ragged(ragged, {"IN": np.zeros((2, 3), np.float32)})
    assert feeds["IN"].shape == (6,)
    np.testing.assert_array_equal(feeds["N"], [6])


def test_feeds_of_other_models_are_left_alone() -> None:
    feeds: dict[str, Array] = {"IN": np.zeros((2, 3), np.float32)}
    plain = config(max_batch_size=4, inputs=(TensorConfig("IN", DataType.FP32, (3,)),))
    assert as_ragged(plain, feeds) is feeds


def test_warm_up_gives_the_model_every_input(tmp_path: Path) -> None:
    """Without its batch inputs, or with a batch dimension, no run of this model succeeds."""
    text = RAGGED_SUM_CONFIG + 'backend: "onnxruntime" ' + "dynamic_batching { preferred_batch_size: [ 4 ] }"
    report = warm_up(
        cpu_session(ragged_sum(), tmp_path), config_from_message(parse_text(text, "here"), tmp_path / "model")
    )
    assert [run.batch_size for run in report.runs] == [1, 4, 16]
    assert (report.skipped, report.warnings, report.quiet) == ((), (), ())

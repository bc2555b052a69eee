"""What a step's model is asked, and Triton's words for what it would refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.ensembles import plain_config, tensors

from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import InferRequest
from naiad.scheduling.ensemble.requests import step_request

if TYPE_CHECKING:
    from naiad.core.tensors import Array

OUTER = InferRequest(
    "E",
    7,
    {"given": np.zeros((2, 9), np.float32)},
    outputs=("end",),
    batch_size=2,
    request_id="mine",
    deadline_ns=5,
    priority=3,
    timeout_us=8,
    sequence_id=42,
    sequence_start=True,
    sequence_end=True,
    parameters={"mood": "good"},
)
CONFIG = plain_config("m", ("A", "B"))
NOTE = (
    " NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to "
    "each input shape."
)


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def test_all_but_the_tensors_is_the_ensembles() -> None:
    inputs: dict[str, Array] = {"A": zeros(3, 2), "B": zeros(3, 2)}
    request = step_request(OUTER, CONFIG, inputs, ("OUT",))
    assert request == replace(
        OUTER, model_name="m", version=None, inputs=inputs, outputs=("OUT",), batch_size=3
    )


def test_a_model_without_batches_gets_one_inference() -> None:
    config = plain_config("m", max_batch_size=0)
    assert step_request(OUTER, config, {"IN": zeros(2)}, ("OUT",)).batch_size == 1


def test_a_model_that_gets_no_input_gets_as_many_items_as_the_ensemble() -> None:
    optional = tuple(replace(spec, optional=True) for spec in tensors("A"))
    assert step_request(OUTER, plain_config("m", inputs=optional), {}, ("OUT",)).batch_size == 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"A": zeros(2, 2)},
            "expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['A'], but missing required "
            "input(s) ['B']. Please provide all required input(s).",
        ),
        (
            {"A": zeros(2, 3), "B": zeros(2, 2)},
            f"unexpected shape for input 'A' for model 'm'. Expected [-1,2], got [2,3].{NOTE}",
        ),
        (
            {"A": zeros(2), "B": zeros(2)},
            f"unexpected shape for input 'A' for model 'm'. Expected [-1,2], got [2].{NOTE}",
        ),
        (
            {"A": zeros(2, 2), "B": zeros(3, 2)},
            "input 'B' batch size does not match other inputs for 'm'",
        ),
        ({"A": zeros(5, 2), "B": zeros(5, 2)}, "inference request batch-size must be <= 4 for 'm'"),
        ({"A": zeros(0, 2), "B": zeros(0, 2)}, "inference request batch-size must be >= 1 for 'm', got 0"),
        (
            {"A": np.array(0, np.float32), "B": zeros(1, 2)},
            "input 'A' has no shape but model requires batch dimension for 'm'",
        ),
    ],
)
def test_what_does_not_suit_the_model_is_refused_in_tritons_words(
    inputs: dict[str, Array], message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        step_request(OUTER, CONFIG, inputs, ("OUT",))
    assert caught.value.message == f"[request id: mine] {message}"


def test_a_missing_input_beside_optional_ones() -> None:
    inputs = (*tensors("A"), *(replace(spec, optional=True) for spec in tensors("B")))
    with pytest.raises(InvalidArgumentError) as caught:
        step_request(replace(OUTER, request_id=""), plain_config("m", inputs=inputs), {}, ("OUT",))
    assert caught.value.message == (
        "[request id: <id_unknown>] expected number of inputs between 1 and 2 but got 0 inputs for model 'm'. "
        "Got input(s) [], but missing required input(s) ['A']. Please provide all required input(s)."
    )


def test_the_shape_of_a_model_without_batches() -> None:
    with pytest.raises(InvalidArgumentError, match=r"Expected \[2\], got \[3,2\]\.$"):
        step_request(OUTER, plain_config("m", max_batch_size=0), {"IN": zeros(3, 2)}, ("OUT",))

"""Config against graph: each difference is refused in Triton's words, what Triton allows passes."""

from __future__ import annotations

import pytest

from naiad.config.graph_checks import check_graph
from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import TensorSpec

FP32, INT32, BYTES = DataType.FP32, DataType.INT32, DataType.BYTES


def _config(
    inputs: list[TensorConfig], outputs: list[TensorConfig] | None = None, max_batch_size: int = 0
) -> ModelConfig:
    return ModelConfig("m", max_batch_size, tuple(inputs), tuple(outputs or ()))


def _tensor(name: str, *dims: int) -> TensorConfig:
    return TensorConfig(name, FP32, dims)


def _spec(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, FP32, shape)


@pytest.mark.parametrize(
    ("tensor", "shape", "max_batch_size"),
    [
        (_tensor("x", 4), (4,), 0),
        (_tensor("x", 4), (-1,), 0),
        (_tensor("x", -1), (-1,), 0),
        (_tensor("x", 640, 480), (-1, -1, -1), 8),
        (_tensor("x", 1), (), 0),
        (_tensor("x", 1, 1), (), 0),
        (_tensor("x", 2, 3), None, 8),
        (TensorConfig("x", FP32, (3, 4), reshape=(12,)), (-1, 12), 8),
    ],
)
def test_an_input_may_be_as_the_graph_or_narrower(
    tensor: TensorConfig, shape: tuple[int, ...] | None, max_batch_size: int
) -> None:
    check_graph(_config([tensor], max_batch_size=max_batch_size), [TensorSpec("x", FP32, shape)], [])


@pytest.mark.parametrize(
    ("config", "inputs", "expected"),
    [
        (
            _config([_tensor("a", 1)]),
            [_spec("a", 1), _spec("b", 1)],
            "unable to load model 'm', configuration expects 1 inputs, model provides 2",
        ),
        (
            _config([_tensor("c", 1), _tensor("a", 1)]),
            [_spec("b", 1), _spec("a", 1)],
            "unexpected inference input 'c', allowed inputs are: a, b",
        ),
        (
            _config([_tensor("a", 1)]),
            [TensorSpec("a", INT32, (1,))],
            (
                "unable to load model 'm', configuration expects datatype TYPE_FP32 for input 'a', model "
                "provides TYPE_INT32"
            ),
        ),
        (
            _config([TensorConfig("a", INT32, (1,))]),
            [TensorSpec("a", BYTES, (1,))],
            (
                "unable to load model 'm', configuration expects datatype TYPE_INT32 for input 'a', model "
                "provides TYPE_BYTES"
            ),
        ),
        (
            _config([_tensor("a", 4)], max_batch_size=8),
            [_spec("a", 1, 4)],
            (
                "model 'm', tensor 'a': for the model to support batching the shape should have at least 1 "
                "dimension and the first dimension must be -1; but shape expected by the model is [1,4]"
            ),
        ),
        (
            _config([_tensor("a", 1)], max_batch_size=8),
            [_spec("a")],
            (
                "model 'm', tensor 'a': for the model to support batching the shape should have at least 1 "
                "dimension and the first dimension must be -1; but shape expected by the model is []"
            ),
        ),
        (
            _config([_tensor("a", 8)], max_batch_size=8),
            [_spec("a", -1, 16)],
            (
                "model 'm', tensor 'a': the model expects 2 dimensions (shape [-1,16]) but the model "
                "configuration specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 "
                "followed by the explicit tensor shape, making complete shape [-1,8])"
            ),
        ),
        (
            _config([_tensor("a", -1)]),
            [_spec("a", 16)],
            (
                "model 'm', tensor 'a': the model expects 1 dimensions (shape [16]) but the model "
                "configuration specifies 1 dimensions (shape [-1])"
            ),
        ),
        (
            _config([_tensor("a", 4, 4)]),
            [_spec("a", 16)],
            (
                "model 'm', tensor 'a': the model expects 1 dimensions (shape [16]) but the model "
                "configuration specifies 2 dimensions (shape [4,4])"
            ),
        ),
        (
            _config([_tensor("a", 2)]),
            [_spec("a")],
            (
                "unable to load model 'm', scalar tensor 'a', should only provide 1 in the model "
                "configuration when the model doesn't support batching. Model configuration provided: [2]."
            ),
        ),
    ],
)
def test_an_input_that_differs_is_refused(
    config: ModelConfig, inputs: list[TensorSpec], expected: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_graph(config, inputs, [])
    assert caught.value.message == expected


def test_outputs_may_be_a_subset_but_not_narrower() -> None:
    outputs = [_spec("y", -1, 4), _spec("z", 3)]
    check_graph(_config([], [_tensor("y", -1, 4)]), [], outputs)
    with pytest.raises(InvalidArgumentError, match=r"model expects 2 dimensions \(shape \[-1,4\]\)"):
        check_graph(_config([], [_tensor("y", 8, 4)]), [], outputs)
    with pytest.raises(InvalidArgumentError) as caught:
        check_graph(_config([], [_tensor("w", 1)]), [], outputs)
    assert caught.value.message == "unexpected inference output 'w', allowed outputs are: y, z"


def test_an_overridable_initializer_is_an_optional_input() -> None:
    optional = TensorConfig("bias", FP32, (5, 5), optional=True)
    config = _config([_tensor("x", 5, 5), optional])
    check_graph(config, [_spec("x", 5, 5)], [], optional_inputs=["bias"])
    check_graph(config, [_spec("x", 5, 5), _spec("bias", 5, 5)], [], optional_inputs=["bias"])
    check_graph(_config([_tensor("x", 5, 5)]), [_spec("x", 5, 5)], [], optional_inputs=["bias"])


def test_optional_inputs_must_be_initializers_of_unbatched_models() -> None:
    optional = TensorConfig("bias", FP32, (5,), optional=True)
    with pytest.raises(InvalidArgumentError, match="expects 1 inputs, model provides 2"):
        check_graph(_config([_tensor("x", 5), optional]), [_spec("x", 5), _spec("bias", 5)], [])
    with pytest.raises(InvalidArgumentError, match="optional input 'bias' is not supported for models that"):
        check_graph(_config([optional], max_batch_size=4), [], [], optional_inputs=["bias"])


def test_an_initializer_whose_spec_is_known_is_compared() -> None:
    config = _config([TensorConfig("bias", FP32, (4,), optional=True)])
    with pytest.raises(InvalidArgumentError, match="tensor 'bias'"):
        check_graph(config, [_spec("bias", 5)], [], optional_inputs=["bias"])

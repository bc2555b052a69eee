"""The autofill decision, from shapes alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.config.autofill import decide_autofill
from naiad.config.model_config import DynamicBatching, ModelConfig, TensorConfig
from naiad.config.sequence_config import ControlConfig, ControlKind, SequenceBatching, StateConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import TensorSpec

FP32 = DataType.FP32


def _config(**fields: object) -> ModelConfig:
    base: dict[str, object] = {"name": "m", "max_batch_size": 0, "inputs": (), "outputs": ()}
    return ModelConfig(**(base | fields))  # type: ignore[arg-type]  # fields are the test's own


def _spec(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, FP32, shape)


X, Y = TensorConfig("x", FP32, (4,)), TensorConfig("y", FP32, (2,))


def test_listed_inputs_and_outputs_skip_it_completely() -> None:
    config = _config(inputs=(X,), outputs=(Y,))
    fill = decide_autofill(config, [_spec("x", -1, 4)], [_spec("y", -1, 2)], default_max_batch_size=4)
    assert fill is None


def test_a_batchable_graph_gets_the_default_batch_size_and_a_batcher() -> None:
    fill = decide_autofill(
        _config(), [_spec("b", -1, 4), _spec("a", -1, -1)], [_spec("y", -1)], default_max_batch_size=4
    )
    assert fill is not None
    assert (fill.max_batch_size, fill.add_dynamic_batching) == (4, True)
    assert fill.inputs == (TensorConfig("b", FP32, (4,)), TensorConfig("a", FP32, (-1,))), "graph order"
    assert fill.outputs == (TensorConfig("y", FP32, (1,), ()),), "a scalar of each item is reshaped from [1]"


def test_a_given_batch_size_stays() -> None:
    fill = decide_autofill(
        _config(max_batch_size=16), [_spec("x", -1, 4)], [_spec("y", -1, 2)], default_max_batch_size=4
    )
    assert fill is not None
    assert fill.max_batch_size == 16


@pytest.mark.parametrize(
    ("config", "default"),
    [(_config(), 1), (_config(max_batch_size=1), 4), (_config(dynamic_batching=DynamicBatching()), 4)],
)
def test_no_batcher_is_added_for_single_items_or_beside_a_given_one(
    config: ModelConfig, default: int
) -> None:
    fill = decide_autofill(config, [_spec("x", -1, 4)], [_spec("y", -1, 2)], default_max_batch_size=default)
    assert fill is not None
    assert not fill.add_dynamic_batching


def test_control_tensors_and_states_are_not_taken_for_the_callers_and_rule_out_a_dynamic_batcher() -> None:
    sequences = SequenceBatching(
        controls=(ControlConfig("START", ControlKind.START, FP32),),
        states=(StateConfig("S_IN", "S_OUT", FP32, (4,)),),
    )
    fill = decide_autofill(
        _config(sequence_batching=sequences),
        [_spec("START", -1, 1), _spec("x", -1, 4), _spec("S_IN", -1, 4)],
        [_spec("S_OUT", -1, 4), _spec("y", -1, 2)],
        default_max_batch_size=4,
    )
    assert fill is not None
    assert (fill.inputs, fill.outputs) == ((X,), (Y,))
    assert (fill.max_batch_size, fill.add_dynamic_batching) == (4, False)


def test_a_fixed_first_dimension_anywhere_means_no_batching() -> None:
    fill = decide_autofill(_config(), [_spec("x", -1, 4)], [_spec("y", 1, 2)], default_max_batch_size=4)
    assert fill is not None
    assert (fill.max_batch_size, fill.add_dynamic_batching) == (0, False)
    assert fill.inputs == (TensorConfig("x", FP32, (-1, 4)),), "dims keep the first dimension"


def test_asking_for_batches_that_the_graph_cannot_do_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        decide_autofill(
            _config(max_batch_size=8), [_spec("x", 1, 4)], [_spec("y", -1, 2)], default_max_batch_size=4
        )
    assert caught.value.message == (
        "autofill failed for model 'm': model does not support batching while non-zero max_batch_size is "
        "specified"
    )


def test_only_the_missing_list_is_filled() -> None:
    fill = decide_autofill(
        _config(inputs=(X,)), [_spec("x", -1, 4)], [_spec("y", -1, 2)], default_max_batch_size=4
    )
    assert fill is not None
    assert (fill.inputs, fill.outputs) == (None, (Y,))


def test_a_scalar_becomes_dims_of_one_without_reshape() -> None:
    fill = decide_autofill(_config(), [_spec("x")], [_spec("y")], default_max_batch_size=4)
    assert fill is not None
    assert fill.inputs == (TensorConfig("x", FP32, (1,)),)


def test_an_unknown_rank_is_guessed_and_said_so() -> None:
    fill = decide_autofill(
        _config(), [_spec("x", -1, 4)], [TensorSpec("y", FP32, None)], default_max_batch_size=4
    )
    assert fill is not None
    assert fill.max_batch_size == 0
    assert fill.outputs == (TensorConfig("y", FP32, (-1,)),)
    assert len(fill.warnings) == 1
    assert "'y'" in fill.warnings[0]


_SHAPES = st.lists(st.lists(st.sampled_from([-1, 1, 3]), max_size=4).map(tuple), min_size=1, max_size=3)


@given(inputs=_SHAPES, outputs=_SHAPES)
def test_filled_dims_plus_the_batch_dimension_are_always_the_graphs_shape(
    inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]]
) -> None:
    specs = [TensorSpec(str(index), FP32, shape) for index, shape in enumerate((*inputs, *outputs))]
    fill = decide_autofill(_config(), specs[: len(inputs)], specs[len(inputs) :], default_max_batch_size=4)
    assert fill is not None
    assert fill.inputs is not None
    assert fill.outputs is not None
    batch = (-1,) if fill.max_batch_size else ()
    for tensor, spec in zip((*fill.inputs, *fill.outputs), specs, strict=True):
        dims = tensor.dims if tensor.reshape is None else tensor.reshape
        assert (*batch, *dims) == spec.shape or (spec.shape == () and dims == (1,))

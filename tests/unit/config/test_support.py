"""The support table: complete against the proto, and each row does what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from naiad.config.messages import new_message, parse_text
from naiad.config.support import FIELDS, Support, check_refused, list_unhonoured
from naiad.core.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATHS = [row.path for row in FIELDS]


def _leaves(descriptor: Any, prefix: str = "") -> Iterator[str]:
    for field in descriptor.fields:
        path = f"{prefix}{field.name}"
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry:
            yield path
        else:
            yield from _leaves(inner, f"{path}.") if inner.fields else (path,)


def test_every_field_of_the_proto_has_exactly_one_row() -> None:
    for leaf in _leaves(new_message().DESCRIPTOR):
        rows = [path for path in _PATHS if leaf == path or leaf.startswith(f"{path}.")]
        assert len(rows) == 1, f"{leaf}: {rows}"


def test_every_row_names_a_real_field() -> None:
    for path in _PATHS:
        descriptor = new_message().DESCRIPTOR
        for name in path.split("."):
            field = descriptor.fields_by_name[name]
            descriptor = field.message_type
    assert len(set(_PATHS)) == len(_PATHS)


_SAMPLES = {
    "runtime": 'runtime: "libtriton_onnxruntime.so"',
    "output.label_filename": 'output { label_filename: "labels.txt" }',
    "optimization.priority": "optimization { priority: PRIORITY_MAX }",
    "optimization.cuda": "optimization { cuda { graphs: true } }",
    "optimization.input_pinned_memory.enable": "optimization { input_pinned_memory { enable: false } }",
    "optimization.output_pinned_memory.enable": "optimization { output_pinned_memory { enable: false } }",
    "optimization.gather_kernel_buffer_threshold": "optimization { gather_kernel_buffer_threshold: 1 }",
    "optimization.eager_batching": "optimization { eager_batching: true }",
    "sequence_batching.state.use_same_buffer_for_input_output": (
        "sequence_batching { state { use_same_buffer_for_input_output: true } }"
    ),
    "sequence_batching.state.use_growable_memory": (
        "sequence_batching { state { use_growable_memory: true } }"
    ),
    "ensemble_scheduling.step.model_namespace": 'ensemble_scheduling { step { model_namespace: "n" } }',
    "instance_group.secondary_devices": "instance_group { secondary_devices { device_id: 1 } }",
    "instance_group.passive": "instance_group { passive: true }",
    "instance_group.host_policy": 'instance_group { host_policy: "numa_0" }',
    "cc_model_filenames": 'cc_model_filenames { key: "9.0" value: "h100.onnx" }',
    "metric_tags": 'metric_tags { key: "team" value: "a" }',
    "model_warmup": 'model_warmup { name: "zeros" }',
    "model_metrics": "model_metrics { metric_control {} }",
}


@pytest.mark.parametrize(
    "row", [row for row in FIELDS if row.support is Support.WARNED], ids=lambda r: r.path
)
def test_a_field_that_makes_no_difference_is_named_in_one_sentence(row: Any) -> None:
    message = parse_text(_SAMPLES[row.path], "here")
    check_refused(message)
    assert list_unhonoured(message) == (f"{row.path} is not honoured: {row.note}",)


_REFUSED = {
    "input.is_shape_tensor": "input { is_shape_tensor: true }",
    "input.is_non_linear_format_io": "input { is_non_linear_format_io: true }",
    "output.is_shape_tensor": "output { is_shape_tensor: true }",
    "output.is_non_linear_format_io": "output { is_non_linear_format_io: true }",
    "sequence_batching.iterative_sequence": "sequence_batching { iterative_sequence: true }",
    "instance_group.profile": 'instance_group { profile: "0" }',
    "model_operations": 'model_operations { op_library_filename: "ops.so" }',
    "model_transaction_policy": "model_transaction_policy { decoupled: true }",
    "model_repository_agents": 'model_repository_agents { agents { name: "checksum" } }',
}


@pytest.mark.parametrize(
    "row", [row for row in FIELDS if row.support is Support.REFUSED], ids=lambda r: r.path
)
def test_a_field_without_which_answers_would_be_wrong_is_refused(row: Any) -> None:
    with pytest.raises(UnsupportedError) as caught:
        check_refused(parse_text('name: "m" ' + _REFUSED[row.path], "here"))
    assert caught.value.message == f"model 'm': {row.path} is not supported: {row.note}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model_transaction_policy { decoupled: false }",
        "optimization { input_pinned_memory { enable: true } graph { level: 1 } }",
        "dynamic_batching { max_queue_delay_microseconds: 100 default_queue_policy { max_queue_size: 9 } }",
        'parameters { key: "a" value { string_value: "b" } }',
        "response_cache { enable: true } instance_group { rate_limiter { priority: 1 } }",
        "dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }",
        "dynamic_batching { priority_queue_policy { key: 1 value { timeout_action: DELAY } } }",
        "sequence_batching { oldest { max_candidate_sequences: 4 } state { input_name: 'x' } }",
        "input [{}, { allow_ragged_batch: true }] batch_input { kind: BATCH_ITEM_SHAPE }",
        "batch_output { target_name: 'y' }",
        "ensemble_scheduling { step { model_name: 'm' model_version: -1 } max_inflight_requests: 4 }",
    ],
)
def test_defaults_and_honoured_fields_cause_neither(text: str) -> None:
    message = parse_text(text, "here")
    check_refused(message)
    assert list_unhonoured(message) == ()

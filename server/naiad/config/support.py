"""Which field of Triton's `ModelConfig` is honoured, warned about or refused: one table, nothing silent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from naiad.core.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.config.messages import Message


class Support(Enum):
    """What happens to a field that a config sets."""

    HONOURED = "honoured"
    WARNED = "warned"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class FieldSupport:
    """One row: a field and all below it.

    `path` has dots between field names. `note` says what the field does here, or why it is not honoured.
    `default` is the value that changes nothing; None means protobuf's own default.
    """

    path: str
    support: Support
    note: str
    default: Any = None


def _honoured(path: str, note: str = "as in Triton") -> FieldSupport:
    return FieldSupport(path, Support.HONOURED, note)


def _warned(path: str, note: str, default: Any = None) -> FieldSupport:
    return FieldSupport(path, Support.WARNED, note, default)


def _refused(path: str, note: str) -> FieldSupport:
    return FieldSupport(path, Support.REFUSED, note)


_TENSORRT_ONLY = "only the TensorRT backend has it"
_NO_HINT = "a hint about copying; outputs are the same without it"

FIELDS: tuple[FieldSupport, ...] = (
    _honoured("name", "must equal the folder's name"),
    _honoured("platform", "onnxruntime_onnx, ensemble"),
    _honoured("backend", "onnxruntime"),
    _warned("runtime", "the engine is the ONNX Runtime that is installed, no backend library is loaded"),
    _honoured("version_policy"),
    _honoured("max_batch_size"),
    _honoured("input.name"),
    _honoured("input.data_type"),
    _honoured("input.format", "information for clients; decides the layout of a vision model's input"),
    _honoured("input.dims"),
    _honoured("input.reshape"),
    _refused("input.is_shape_tensor", _TENSORRT_ONLY),
    _honoured("input.allow_ragged_batch"),
    _honoured("input.optional", "for overridable initializers of models without a batch dimension"),
    _refused("input.is_non_linear_format_io", _TENSORRT_ONLY),
    _honoured("output.name"),
    _honoured("output.data_type"),
    _honoured("output.dims"),
    _honoured("output.label_filename", "must lie in the model's folder"),
    _honoured("output.reshape"),
    _refused("output.is_shape_tensor", _TENSORRT_ONLY),
    _refused("output.is_non_linear_format_io", _TENSORRT_ONLY),
    _honoured("batch_input"),
    _honoured("batch_output"),
    _honoured("optimization.graph", "level -1 basic, 1 extended, 2 off, otherwise all"),
    _warned("optimization.priority", "instance threads run at normal priority"),
    _warned("optimization.cuda", f"{_TENSORRT_ONLY}; ONNX models have naiad.cuda_graphs"),
    _honoured("optimization.execution_accelerators"),
    _warned("optimization.input_pinned_memory.enable", _NO_HINT, default=True),
    _warned("optimization.output_pinned_memory.enable", _NO_HINT, default=True),
    _warned("optimization.gather_kernel_buffer_threshold", _NO_HINT),
    _warned("optimization.eager_batching", _NO_HINT),
    _honoured("dynamic_batching.preferred_batch_size"),
    _honoured("dynamic_batching.max_queue_delay_microseconds"),
    _honoured("dynamic_batching.preserve_ordering"),
    _honoured("dynamic_batching.priority_levels"),
    _honoured("dynamic_batching.default_priority_level"),
    _honoured("dynamic_batching.default_queue_policy", "0 as max_queue_size leaves the server's own limit"),
    _honoured("dynamic_batching.priority_queue_policy"),
    _honoured("sequence_batching.direct"),
    _honoured("sequence_batching.oldest", "the instances of a version share one batcher"),
    _honoured("sequence_batching.max_sequence_idle_microseconds", "counted from the last answer"),
    _honoured("sequence_batching.control_input"),
    _honoured("sequence_batching.state.input_name"),
    _honoured("sequence_batching.state.output_name"),
    _honoured("sequence_batching.state.data_type"),
    _honoured("sequence_batching.state.dims"),
    _honoured("sequence_batching.state.initial_state"),
    _warned("sequence_batching.state.use_same_buffer_for_input_output", _NO_HINT),
    _warned("sequence_batching.state.use_growable_memory", _NO_HINT),
    _refused("sequence_batching.iterative_sequence", "a request has exactly one response and runs once"),
    _honoured("ensemble_scheduling.step.model_name"),
    _honoured("ensemble_scheduling.step.model_version", "-1 is the latest; left out it is version 0"),
    _honoured("ensemble_scheduling.step.input_map"),
    _honoured("ensemble_scheduling.step.output_map"),
    _warned("ensemble_scheduling.step.model_namespace", "models are found by their names alone"),
    _honoured("ensemble_scheduling.max_inflight_requests", "a request waits, until its deadline"),
    _honoured("instance_group.name"),
    _honoured("instance_group.kind"),
    _honoured("instance_group.count"),
    _honoured("instance_group.rate_limiter", "with --rate-limit=execution_count"),
    _honoured("instance_group.gpus"),
    _warned("instance_group.secondary_devices", "an instance runs on one device"),
    _refused("instance_group.profile", _TENSORRT_ONLY),
    _honoured("instance_group.passive", "loaded, never scheduled; not every group may be"),
    _warned("instance_group.host_policy", "instances are not bound to cores or NUMA nodes"),
    _honoured("default_model_filename"),
    _warned("cc_model_filenames", "default_model_filename is loaded on every GPU"),
    _honoured("metric_tags", "label `_KEY` of the model's metrics"),
    _honoured("parameters", "ONNX Runtime's keys and naiad.…; others are kept as information"),
    _honoured("model_warmup", "beside zeros of the batch sizes that a version prefers and no sample has"),
    _refused("model_operations", "custom operator libraries are code and are not loaded"),
    _refused("model_transaction_policy", "a request has exactly one response"),
    _refused("model_repository_agents", "agents may check or replace the files that are loaded"),
    _honoured("response_cache", "with --cache-config=local,size=BYTES; of an ensemble its steps' own count"),
    _honoured("model_metrics", "buckets of nv_inference_first_response_histogram_ms"),
)
"""Every field of `model_config.proto`; a row stands for all fields below its path."""


def check_refused(message: Message) -> None:
    """Refuse what cannot be left out without wrong answers.

    Raises:
        UnsupportedError: names the first such field that the config sets, and why.
    """
    for row in FIELDS:
        if row.support is Support.REFUSED and _is_set(message, row):
            raise UnsupportedError(f"model '{message.name}': {row.path} is not supported: {row.note}")


def list_unhonoured(message: Message) -> tuple[str, ...]:
    """One sentence for each field that the config sets and that will make no difference."""
    return tuple(
        f"{row.path} is not honoured: {row.note}"
        for row in FIELDS
        if row.support is Support.WARNED and _is_set(message, row)
    )


def _is_set(message: Message, row: FieldSupport) -> bool:
    """Whether the config gives the field, or one below it, another value than its default."""
    return any(_differs(value, row.default) for value in _values(message, row.path.split(".")))


def _values(message: Message, names: list[str]) -> Iterator[Any]:
    """The values at a path that the message holds; none where a message on the way is absent."""
    head, *rest = names
    field = message.DESCRIPTOR.fields_by_name[head]
    value = getattr(message, head)
    if field.is_repeated and not rest:
        yield len(value) > 0
    elif field.is_repeated:
        for item in value:
            yield from _values(item, rest)
    elif field.message_type is None:
        yield value
    elif message.HasField(head):
        yield from _values(value, rest) if rest else (value,)


def _differs(value: Any, default: Any) -> bool:
    """A value without a default of its own counts as set when it is true, a message when it says anything."""
    if default is not None:
        return bool(value != default)
    if hasattr(value, "ListFields"):
        return bool(value.ListFields())  # not of `decoupled: false` and the like
    return bool(value)

"""An inspected version in the words of `naiad check`: shapes, batching, instances. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.model_config import InstanceKind
from naiad.config.sequence_config import OldestStrategy
from naiad.core.tensors import WILDCARD
from naiad.lifecycle.advice import fixed_tensors, name_tensors
from naiad.lifecycle.inspection import (
    BatchingReport,
    InstanceReport,
    InstancesReport,
    Merging,
    TensorReport,
    VersionPlan,
)
from naiad.runtime.buckets import batch_buckets
from naiad.scheduling.explain import explain_scheduling
from naiad.scheduling.factory import batch_policy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.config.sequence_config import SequenceBatching
    from naiad.core.tensors import TensorSpec
    from naiad.runtime.layout import InstanceLayout
    from naiad.runtime.loaded import InspectedVersion


def plan_version(
    config: ModelConfig, inspected: InspectedVersion, *, optional: Collection[str]
) -> VersionPlan:
    """What the version would be.

    Args:
        config: as read, before it was completed.
        inspected: the version with its completed config.
        optional: the graph's inputs that a caller may leave out.
    """
    completed = inspected.config
    batched = completed.max_batch_size > 0
    served = {tensor.name for tensor in completed.outputs}
    if completed.sequence_batching is not None:
        served |= {tensor.name for tensor in completed.sequence_batching.outputs}
    fixed = fixed_tensors(inspected.inputs, inspected.outputs, optional)
    return VersionPlan(
        inputs=_tensors(completed.inputs, inspected.inputs, batched=batched),
        outputs=_tensors(completed.outputs, inspected.outputs, batched=batched),
        completed=tuple(_completed(config, completed)),
        unserved_outputs=tuple(spec.name for spec in inspected.outputs if spec.name not in served),
        batching=describe_batching(completed, fixed),
        instances=_instances(config, inspected),
        execution_providers=inspected.execution_providers,
        fallbacks=inspected.fallbacks,
        vision=completed.vision,
        warnings=tuple(sentence for sentence in completed.warnings if sentence not in config.warnings),
        notes=inspected.notes,
        scheduling=explain_scheduling(completed),
        batch_buckets=_buckets(completed, inspected),
    )


def _buckets(config: ModelConfig, inspected: InspectedVersion) -> tuple[int, ...]:
    on_gpu = any(instance.gpu is not None for instance in inspected.layout.instances)
    return batch_buckets(config, on_gpu=on_gpu).sizes


def describe_batching(config: ModelConfig, fixed: tuple[TensorSpec, ...]) -> BatchingReport:
    """How requests of a complete config are merged, and what keeps them from it.

    Args:
        config: complete.
        fixed: the graph's tensors whose first dimension is not free.
    """
    policy = batch_policy(config)
    batching = config.dynamic_batching
    if config.sequence_batching is not None:
        merging = Merging.DYNAMIC if config.max_batch_size > 0 else Merging.NONE
        explanation = _sequences(config, config.sequence_batching)
    elif policy.max_batch_size > 0:
        merging, explanation = Merging.DYNAMIC, _dynamic(config)
    elif config.max_batch_size > 0:
        merging, explanation = Merging.DIRECT, _direct(config)
    else:
        merging, explanation = Merging.NONE, _none(config, fixed)
    return BatchingReport(
        merging=merging,
        max_batch_size=config.max_batch_size,
        preferred_batch_sizes=policy.preferred,
        max_queue_delay_us=policy.max_queue_delay_ns // 1_000,
        max_queue_size=batching.max_queue_size if batching else 0,
        fixed_tensors=fixed,
        explanation=explanation,
    )


def _dynamic(config: ModelConfig) -> str:
    batching = config.dynamic_batching
    assert batching is not None
    if config.max_batch_size == 1:
        return "dynamic_batching has no effect: max_batch_size is 1, so nothing can be merged"
    preferred = ", ".join(map(str, sorted(batching.preferred_batch_sizes))) or str(config.max_batch_size)
    delay = batching.max_queue_delay_us
    waiting = (
        f"a request waits up to {delay} µs for others"
        if delay
        else "no request waits for others: what is queued when an instance is free runs together"
    )
    variable = [tensor for tensor in config.inputs if WILDCARD in tensor.dims]
    equal = [f"'{tensor.name}'" for tensor in variable if not tensor.ragged]
    alike = f"; only requests of equal shape of {', '.join(equal)} are merged" if equal else ""
    ragged = [f"'{tensor.name}'" for tensor in config.inputs if tensor.ragged]
    alike += f"; the elements of {', '.join(ragged)} lie end to end, whatever their shapes" if ragged else ""
    return (
        f"waiting requests are merged into batches of up to {config.max_batch_size}, preferably {preferred}; "
        f"{waiting}{alike}"
    )


def _sequences(config: ModelConfig, sequences: SequenceBatching) -> str:
    strategy, rows = sequences.strategy, max(1, config.max_batch_size)
    if isinstance(strategy, OldestStrategy):
        merged = f"are merged into batches of up to {rows}" if rows > 1 else "run one by one"
        candidates = strategy.max_candidate_sequences or rows
        return (
            f"requests of up to {candidates} sequences an instance {merged}, one of each sequence at a time"
        )
    return f"each instance runs up to {rows} sequences, each of which keeps its instance and its row"


def _direct(config: ModelConfig) -> str:
    return (
        f"a request may hold up to {config.max_batch_size} items and runs alone: "
        "requests are not merged because the config has no dynamic_batching"
    )


def _none(config: ModelConfig, fixed: tuple[TensorSpec, ...]) -> str:
    ignored = "dynamic_batching has no effect; " if config.dynamic_batching else ""
    if fixed:
        return (
            f"{ignored}each request runs alone: the graph's first dimension is fixed or absent "
            f"in {name_tensors(fixed)}"
        )
    return (
        f"{ignored}each request runs alone: max_batch_size is 0; the graph's first dimension is free, "
        "so if it counts items, setting max_batch_size allows batches"
    )


def _tensors(
    tensors: Sequence[TensorConfig], specs: Sequence[TensorSpec], *, batched: bool
) -> tuple[TensorReport, ...]:
    shapes = {spec.name: spec.shape for spec in specs}
    return tuple(
        TensorReport(
            name=tensor.name,
            datatype=tensor.datatype.value,
            shape=(WILDCARD, *tensor.dims) if batched else tensor.dims,
            graph_shape=shapes.get(tensor.name),
            optional=tensor.optional,
        )
        for tensor in tensors
    )


def _completed(before: ModelConfig, after: ModelConfig) -> Iterator[str]:
    """The config fields that the graph filled in."""
    if after.max_batch_size != before.max_batch_size:
        yield "max_batch_size"
    if after.inputs and not before.inputs:
        yield "input"
    if after.outputs and not before.outputs:
        yield "output"
    if after.dynamic_batching is not None and before.dynamic_batching is None:
        yield "dynamic_batching"


def _instances(config: ModelConfig, inspected: InspectedVersion) -> InstancesReport:
    layout = inspected.layout
    active = zip(layout.active, inspected.instance_providers, strict=True)
    return InstancesReport(
        active=tuple(InstanceReport(name, provider) for name, provider in active),
        placement="" if inspected.fallbacks else _placement(config, layout),
        groups=layout.groups,
        count=len(layout.instances),
        intra_op_threads=layout.intra_op_threads,
        inter_op_threads=layout.inter_op_threads,
        layout=layout.reason,
    )


def _placement(config: ModelConfig, layout: InstanceLayout) -> str:
    """Why the instances run where they do, where nothing that was asked for is missing."""
    asked = {group.kind for group in config.instance_groups} or {InstanceKind.AUTO}
    if InstanceKind.AUTO not in asked:
        return f"instance_group says {' and '.join(sorted(kind.value for kind in asked))}"
    if any(instance.gpu is not None for instance in layout.instances):
        return "instance_group leaves it open, and there is a GPU that ONNX Runtime can use"
    return "instance_group leaves it open, and there is no GPU that ONNX Runtime can use"

"""Triton's `ModelConfig` message to the domain's `ModelConfig`, field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.ensemble_config import ensemble_scheduling
from naiad.config.messages import enum_name
from naiad.config.model_config import (
    Accelerator,
    DynamicBatching,
    InstanceGroup,
    InstanceKind,
    ModelConfig,
    QueuePolicy,
    TensorConfig,
    TimeoutAction,
    VersionPolicy,
    VersionPolicyKind,
)
from naiad.config.ragged_fields import batch_inputs, batch_outputs
from naiad.config.rate_config import read_rate_limit
from naiad.config.sequence_fields import sequence_batching
from naiad.core.datatypes import DataType

if TYPE_CHECKING:
    from naiad.config.messages import Message
    from naiad.config.vision_config import VisionConfig


def to_model_config(
    message: Message, *, warnings: tuple[str, ...] = (), vision: VisionConfig | None = None
) -> ModelConfig:
    """The domain's view of a normalised and validated message, which it keeps as `message`."""
    accelerators = message.optimization.execution_accelerators
    has_level = message.optimization.HasField("graph")
    return ModelConfig(
        name=message.name,
        max_batch_size=message.max_batch_size,
        inputs=tuple(
            _tensor(tensor, optional=tensor.optional, ragged=tensor.allow_ragged_batch)
            for tensor in message.input
        ),
        outputs=tuple(_tensor(tensor, label_filename=tensor.label_filename) for tensor in message.output),
        platform=message.platform,
        backend=message.backend,
        model_filename=message.default_model_filename,
        version_policy=_version_policy(message.version_policy),
        instance_groups=tuple(_instance_group(group) for group in message.instance_group),
        dynamic_batching=_dynamic_batching(message),
        sequence_batching=sequence_batching(message),
        ensemble=ensemble_scheduling(message),
        batch_inputs=batch_inputs(message),
        batch_outputs=batch_outputs(message),
        gpu_accelerators=tuple(_accelerator(entry) for entry in accelerators.gpu_execution_accelerator),
        cpu_accelerators=tuple(_accelerator(entry) for entry in accelerators.cpu_execution_accelerator),
        graph_level=message.optimization.graph.level if has_level else None,
        parameters={key: value.string_value for key, value in sorted(message.parameters.items())},
        vision=vision,
        response_cache=message.response_cache.enable,
        warnings=warnings,
        message=message,
    )


def _tensor(
    tensor: Message, *, optional: bool = False, ragged: bool = False, label_filename: str = ""
) -> TensorConfig:
    return TensorConfig(
        name=tensor.name,
        datatype=DataType.from_config_name(enum_name(tensor, "data_type")),
        dims=tuple(tensor.dims),
        reshape=tuple(tensor.reshape.shape) if tensor.HasField("reshape") else None,
        optional=optional,
        label_filename=label_filename,
        ragged=ragged,
    )


def _version_policy(policy: Message) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "latest":
        return VersionPolicy(VersionPolicyKind.LATEST, num_versions=policy.latest.num_versions)
    if choice == "specific":
        return VersionPolicy(VersionPolicyKind.SPECIFIC, versions=tuple(policy.specific.versions))
    return VersionPolicy(VersionPolicyKind.ALL)  # an empty version_policy block loads all, as in Triton


def _instance_group(group: Message) -> InstanceGroup:
    return InstanceGroup(
        name=group.name,
        kind=InstanceKind(enum_name(group, "kind")),
        count=group.count,
        gpus=tuple(group.gpus),
        passive=group.passive,
        rate_limit=read_rate_limit(group),
    )


def _dynamic_batching(message: Message) -> DynamicBatching | None:
    if not message.HasField("dynamic_batching"):
        return None
    batching = message.dynamic_batching
    return DynamicBatching(
        preferred_batch_sizes=tuple(batching.preferred_batch_size),
        max_queue_delay_us=batching.max_queue_delay_microseconds,
        preserve_ordering=batching.preserve_ordering,
        priority_levels=batching.priority_levels,
        default_priority_level=batching.default_priority_level,
        default_queue_policy=_queue_policy(batching.default_queue_policy),
        priority_queue_policy={
            level: _queue_policy(policy) for level, policy in sorted(batching.priority_queue_policy.items())
        },
    )


def _queue_policy(policy: Message) -> QueuePolicy:
    return QueuePolicy(
        timeout_action=TimeoutAction(enum_name(policy, "timeout_action")),
        default_timeout_us=policy.default_timeout_microseconds,
        allow_timeout_override=policy.allow_timeout_override,
        max_queue_size=policy.max_queue_size,
    )


def _accelerator(entry: Message) -> Accelerator:
    return Accelerator(entry.name, dict(sorted(entry.parameters.items())))

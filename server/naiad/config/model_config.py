"""A model's config in domain terms: what the parser yields and every layer above reads. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from naiad.config.ensemble_config import EnsembleScheduling
    from naiad.config.ragged_config import BatchInput, BatchOutput
    from naiad.config.rate_config import RateLimit
    from naiad.config.sequence_config import SequenceBatching
    from naiad.config.vision_config import VisionConfig
    from naiad.config.warmup_config import WarmupSample
    from naiad.core.datatypes import DataType


class InstanceKind(Enum):
    """Where the instances of a group run."""

    AUTO = "KIND_AUTO"
    CPU = "KIND_CPU"
    GPU = "KIND_GPU"
    MODEL = "KIND_MODEL"


@dataclass(frozen=True, slots=True)
class TensorConfig:
    """One input or output as the config declares it.

    `dims` never holds the batch dimension; -1 is any size. `reshape` is the shape (without batch) that
    the graph wants instead of `dims`, or None. Of a `ragged` input the graph gets the elements of all
    requests end to end.
    """

    name: str
    datatype: DataType
    dims: tuple[int, ...]
    reshape: tuple[int, ...] | None = None
    optional: bool = False
    label_filename: str = ""
    ragged: bool = False


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """`count` instances of one kind (per GPU for KIND_GPU); 0 where the config leaves it to the runtime.

    Those of a `passive` group are loaded and take no requests. `rate_limit` is what each needs to run.
    """

    name: str
    kind: InstanceKind
    count: int
    gpus: tuple[int, ...] = ()
    passive: bool = False
    rate_limit: RateLimit | None = None


class TimeoutAction(Enum):
    """What happens to a request whose timeout passes in the queue."""

    REJECT = "REJECT"
    DELAY = "DELAY"


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How requests of one priority level wait; 0 stands for no timeout and for no limit of its own.

    `max_queue_size` counts requests, not batch items. `allow_timeout_override` lets a request's own timeout
    count if it is shorter than `default_timeout_us`.
    """

    timeout_action: TimeoutAction = TimeoutAction.REJECT
    default_timeout_us: int = 0
    allow_timeout_override: bool = False
    max_queue_size: int = 0


@dataclass(frozen=True, slots=True)
class DynamicBatching:
    """The `dynamic_batching` block. Sizes count batch items, the delay is in microseconds.

    `priority_levels` 0 means that all requests wait alike; else 1 is the highest level and
    `default_priority_level` that of requests which name none. `priority_queue_policy` has the levels whose
    policy is not `default_queue_policy`. With `preserve_ordering` answers leave in the order of the requests.
    """

    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy = field(default_factory=QueuePolicy)
    priority_queue_policy: Mapping[int, QueuePolicy] = field(default_factory=dict)

    @property
    def max_queue_size(self) -> int:
        """Requests that may wait under the default policy; 0 for no limit but the server's."""
        return self.default_queue_policy.max_queue_size


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One `execution_accelerators` entry: its name (`tensorrt`, `cuda`, …) and parameters."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


class VersionPolicyKind(Enum):
    """Which version folders should be loaded."""

    LATEST = "latest"
    ALL = "all"
    SPECIFIC = "specific"


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """`latest` loads the `num_versions` highest, `all` every one, `specific` those in `versions`."""

    kind: VersionPolicyKind = VersionPolicyKind.LATEST
    num_versions: int = 1
    versions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A complete, validated model config.

    At most one of `dynamic_batching`, `sequence_batching` and `ensemble` is there. `instance_groups` is empty
    where the config named none: the runtime then chooses. `parameters` holds the config's own, `naiad.…`
    included; `vision` is what those mean, or None. `response_cache` says that answers may be kept. `warnings`
    names each field that will not be honoured. `message` is the normalised Triton `ModelConfig` message,
    opaque to every layer but the services. `folder` is the model's, where files lie that the config names.
    """

    name: str
    max_batch_size: int
    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]
    platform: str = "onnxruntime_onnx"
    backend: str = "onnxruntime"
    model_filename: str = "model.onnx"
    version_policy: VersionPolicy = field(default_factory=VersionPolicy)
    instance_groups: tuple[InstanceGroup, ...] = ()
    dynamic_batching: DynamicBatching | None = None
    sequence_batching: SequenceBatching | None = None
    ensemble: EnsembleScheduling | None = None
    batch_inputs: tuple[BatchInput, ...] = ()
    batch_outputs: tuple[BatchOutput, ...] = ()
    gpu_accelerators: tuple[Accelerator, ...] = ()
    cpu_accelerators: tuple[Accelerator, ...] = ()
    graph_level: int | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    vision: VisionConfig | None = None
    warmup: tuple[WarmupSample, ...] = ()
    response_cache: bool = False
    warnings: tuple[str, ...] = ()
    message: Any = None
    folder: Path | None = None

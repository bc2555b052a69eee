"""What `naiad check` finds out about model repositories, as plain data; `inspector` fills it. Pure.

Field names are the keys of `naiad check --format json`: adding one is fine, renaming one breaks programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.config.model_config import InstanceGroup
    from naiad.config.vision_config import VisionConfig
    from naiad.core.tensors import TensorSpec
    from naiad.scheduling.explain import SchedulingReport
    from naiad.vision.recognise import Proposal


class Stage(Enum):
    """The step of loading at which something is wrong."""

    REPOSITORY = "repository"  # the folder cannot be listed, or its name cannot be served
    CONFIG = "config"  # config.pbtxt is wrong in itself
    VERSIONS = "versions"  # the version policy selects nothing
    FILE = "file"  # the version has no model file
    INSTANCES = "instances"  # instance groups, accelerators or thread counts are wrong
    GRAPH = "graph"  # the file is no model, or the engine refuses it
    FIT = "fit"  # config and graph do not say the same
    ENSEMBLE = "ensemble"  # what it is composed of is missing, broken or does not fit
    LABELS = "labels"  # a file of class names is missing or cannot be read
    VISION = "vision"  # the naiad.… parameters do not suit the model
    EXPERIMENT = "experiment"  # experiment.json is wrong, or names versions that are not there
    INTERNAL = "internal"  # not the model's fault


class Merging(Enum):
    """How requests of a model version become runs of its session."""

    NONE = "none"  # the model has no batch dimension
    DIRECT = "direct"  # it has one, and each request still runs alone
    DYNAMIC = "dynamic"  # waiting requests are merged
    ENSEMBLE = "ensemble"  # by the models of its steps


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something cannot be served: `reason` is what `naiad serve` logs, `advice` is what to do."""

    stage: Stage
    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class TensorReport:
    """An input or output as callers see it.

    `shape` is full: it starts with the batch dimension if the model has one; -1 is any size. `graph_shape` is
    the ONNX file's own, None where the file does not say it.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    graph_shape: tuple[int, ...] | None
    optional: bool


@dataclass(frozen=True, slots=True)
class BatchingReport:
    """How requests are merged, in numbers and as a sentence.

    `fixed_tensors` are those of the graph whose first dimension is not free, which rules batches out. Sizes
    count batch items, `max_queue_delay_us` microseconds, `max_queue_size` requests (0: the server's limit).
    """

    merging: Merging
    max_batch_size: int
    preferred_batch_sizes: tuple[int, ...]
    max_queue_delay_us: int
    max_queue_size: int
    fixed_tensors: tuple[TensorSpec, ...]
    explanation: str


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """One instance: the name and the execution provider that an explained request reports of it."""

    name: str
    execution_provider: str


@dataclass(frozen=True, slots=True)
class InstancesReport:
    """What runs the version: instance groups and the threads of one session.

    `active` are the instances that take requests; `count` has the passive ones too. `placement` says why they
    run where they do, unless a fallback does, `layout` where their number and the threads come from.
    """

    groups: tuple[InstanceGroup, ...]
    count: int
    intra_op_threads: int
    inter_op_threads: int
    active: tuple[InstanceReport, ...] = ()
    placement: str = ""
    layout: str = ""


@dataclass(frozen=True, slots=True)
class VersionPlan:
    """What a version would be if it were loaded.

    `completed` names the config fields that were taken from the graph, `unserved_outputs` the graph's outputs
    that the config leaves out. `fallbacks` say which execution provider was asked for and is not used,
    `notes` what was done to the graph and decided about instances. `batch_buckets` are the sizes that batches
    are filled up to, empty where they run as they are. `proposals` say what a model without `naiad.`
    parameters could be declared as, the surest first.
    """

    inputs: tuple[TensorReport, ...]
    outputs: tuple[TensorReport, ...]
    completed: tuple[str, ...]
    unserved_outputs: tuple[str, ...]
    batching: BatchingReport
    instances: InstancesReport
    execution_providers: tuple[str, ...]
    fallbacks: tuple[str, ...]
    vision: VisionConfig | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    scheduling: SchedulingReport | None = None
    batch_buckets: tuple[int, ...] = ()
    proposals: tuple[Proposal, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionReport:
    """One selected version: what it would be, or what is wrong with it.

    `graph_inputs` and `graph_outputs` are the ONNX file's, empty if it could not be opened.
    """

    version: int
    file: str | None
    plan: VersionPlan | None
    problem: Problem | None
    graph_inputs: tuple[TensorSpec, ...] = ()
    graph_outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """What an experiment says, in numbers and as sentences.

    `shares` is the part of callers without a listed key that each version answers before the ramp's first
    step, 0 to 1. `keys` counts the listed ones. `shadow` is the version that is shadowed.
    """

    name: str
    digest: str
    baseline: int
    candidates: tuple[int, ...]
    shares: Mapping[int, float]
    ramp_steps: int
    keys: int
    shadow: int | None
    is_guarded: bool
    explanation: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """A model's experiment: what it would do, or what is wrong with it.

    `source` is its file, or the parameter that has it. `versions_added` are loaded for it alone: the version
    policy does not select them.
    """

    source: str
    versions_added: tuple[int, ...] = ()
    plan: ExperimentPlan | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model of a repository.

    `config_file` is None for a model without `config.pbtxt`. `versions_found` are the version folders,
    `versions` those that the version policy or the `experiment` selects, `versions_missing` those that the
    policy names and that are not there. `warnings` name config fields that are not honoured, `notes` folders
    that are ignored. `problem` is set if no version could be looked at.
    """

    name: str
    path: str | None
    config_file: str | None = None
    version_policy: str | None = None
    versions_found: tuple[int, ...] = ()
    versions_missing: tuple[int, ...] = ()
    versions: tuple[VersionReport, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problem: Problem | None = None
    experiment: ExperimentReport | None = None

    @property
    def ok(self) -> bool:
        """Whether every version would be loaded, and the experiment, if there is one, carried out."""
        if self.experiment is not None and self.experiment.problem is not None:
            return False
        return self.problem is None and all(version.problem is None for version in self.versions)


@dataclass(frozen=True, slots=True)
class RepositoryReport:
    """One model repository: how many folders of models it has, and what is wrong or odd about it."""

    path: str
    models: int
    problem: Problem | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineReport:
    """The engine and the settings that the models were looked at with."""

    onnxruntime: str
    execution_providers: tuple[str, ...]
    gpu_count: int
    cpu_threads: int
    cpu_threads_reason: str
    auto_complete: bool
    default_max_batch_size: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that `naiad check` found."""

    engine: EngineReport
    repositories: tuple[RepositoryReport, ...]
    models: tuple[ModelReport, ...]

    @property
    def ok(self) -> bool:
        """Whether every repository could be listed and every model would be served."""
        return all(entry.problem is None for entry in self.repositories) and all(
            model.ok for model in self.models
        )

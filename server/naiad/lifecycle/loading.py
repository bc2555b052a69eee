"""Loading one version from its folder: config, session, warm-up, and what the vision parameters ask for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from naiad.config.complete import complete_ensemble_config, complete_model_config
from naiad.config.message_view import EMBEDDING_SPACE, RUNTIME_PREFIX, WEIGHTS, with_instances
from naiad.config.model_config import InstanceKind
from naiad.config.reader import check_loadable, parse_config_override, parse_model_config
from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.embedding_space import embedding_space
from naiad.lifecycle.loaded import LoadedModel, VisionModel, vision_model
from naiad.repository.labels import read_labels
from naiad.repository.layout import model_file
from naiad.runtime.allocator import release_freed_memory
from naiad.runtime.loaded import nothing_to_run
from naiad.runtime.loader import load_version
from naiad.runtime.remote.loader import load_remote_version
from naiad.runtime.weights import WeightDigests

if TYPE_CHECKING:
    from naiad.config.model_config import ModelConfig
    from naiad.repository.layout import ModelFolder
    from naiad.runtime.loaded import LoadedVersion
    from naiad.runtime.ort_environment import OrtEnvironment
    from naiad.runtime.profiling import Profiles
    from naiad.runtime.remote.loader import RemoteEngine
    from naiad.runtime.tensorrt.service import EngineService
    from naiad.runtime.threads import CpuBudget
    from naiad.runtime.tuning_process import LayoutTuner

__all__ = ["LoadedModel", "RepositoryLoader", "VisionModel", "check_gpus", "class_labels", "vision_model"]

MAX_HASHED_BYTES = 256 * 2**20
"""Weights of what is no embedder are hashed up to this size only: an ensemble of them may be one."""


class RepositoryLoader:
    """Reads configs and loads versions into ONNX Runtime. Its methods are called from loader threads."""

    def __init__(
        self,
        environment: OrtEnvironment,
        budget: CpuBudget,
        *,
        auto_complete: bool,
        default_max_batch_size: int,
        config_name: str = "",
        tuner: LayoutTuner | None = None,
        engines: EngineService | None = None,
        profiles: Profiles | None = None,
        remote: RemoteEngine | None = None,
    ) -> None:
        """Create a loader.

        Args:
            environment: the installed engine.
            budget: the CPU threads to lay instances out for.
            auto_complete: whether what a config leaves out is taken from the graph.
            default_max_batch_size: of a batchable model whose config names neither it nor tensors.
            config_name: `configs/NAME.pbtxt` is a model's config where there is such a file.
            tuner: measures how many instances are best on the CPU; None leaves it at the rule.
            engines: builds TensorRT's; None leaves all to CUDA.
            profiles: of which models the engine writes profiles; None for none.
            remote: runs the models in place of ONNX Runtime; None for ONNX Runtime.
        """
        self._environment = environment
        self._budget = budget
        self._auto_complete = auto_complete
        self._default_max_batch_size = default_max_batch_size
        self._config_name = config_name
        self._tuner = tuner
        self._engines = engines
        self._profiles = profiles
        self._remote = remote
        self._digests = WeightDigests()

    def read_config(self, folder: ModelFolder, override: str | None = None) -> ModelConfig:
        """The model's config, not yet completed from a graph.

        Args:
            folder: the model's.
            override: JSON that takes the place of the folder's config file; None for that file.

        Raises:
            InvalidArgumentError: it is wrong, and how.
            UnsupportedError: it names files that it may not.
        """
        if override is not None:
            return parse_config_override(override, folder.path)
        return parse_model_config(
            folder.path,
            auto_complete=self._auto_complete,
            variant=self._config_name,
            any_backend=self._remote is not None,
        )

    def load(self, folder: ModelFolder, version: int, config: ModelConfig) -> LoadedModel:
        """Warm sessions of one version and its completed config.

        Raises:
            NaiadError: the file, the graph or the config is wrong, and how.
        """
        check_loadable(config, any_backend=self._remote is not None)
        if config.ensemble is not None:
            completed = complete_ensemble_config(config)
            labels = class_labels(folder, completed)
            return LoadedModel(nothing_to_run(completed), vision_model(completed), labels)
        loaded = self._run(folder, version, config)
        try:
            labels = class_labels(folder, loaded.config)
            weights = self._weights_of(loaded)
            space = embedding_space(loaded.config, version, weights)
            served = _with_runtime(loaded, weights, space)
            return LoadedModel(served, vision_model(loaded.config), labels, weights, space)
        except BaseException:
            loaded.close()
            raise

    def _weights_of(self, loaded: LoadedVersion) -> str:
        """The digest of what a version computes with; empty if it was not seen, or nobody needs it."""
        files = loaded.weight_files
        if not files:
            return loaded.weights
        is_embedder = loaded.config.vision is not None and loaded.config.vision.embed is not None
        if not is_embedder and sum(file.size for file in files) > MAX_HASHED_BYTES:
            return ""
        return self._digests.digest(files)

    def _run(self, folder: ModelFolder, version: int, config: ModelConfig) -> LoadedVersion:
        """What runs the version: this process, or the engine that is in its place."""
        complete = partial(
            complete_model_config,
            default_max_batch_size=self._default_max_batch_size,
            auto_complete=self._auto_complete,
        )
        if self._remote is not None:
            return load_remote_version(config, version, engine=self._remote, complete=complete)
        check_gpus(config, self._environment.gpu_count)
        try:
            return load_version(
                model_file(folder, version, config),
                config,
                environment=self._environment,
                budget=self._budget,
                complete=complete,
                tuner=self._tuner,
                engines=self._engines,
                profiles=self._profiles,
            )
        finally:
            # Reading and optimising a graph takes half of its weights' size once more, and frees it here.
            release_freed_memory()


def check_gpus(config: ModelConfig, gpu_count: int) -> None:
    """Refuse instances that must run on a GPU where there is none, as Triton does.

    Raises:
        InvalidArgumentError: names the instance group.
    """
    for group in config.instance_groups:
        if group.kind is InstanceKind.GPU and gpu_count < 1:
            raise InvalidArgumentError(
                f"instance group {group.name} of model {config.name} has kind KIND_GPU "
                "but no GPUs are available"
            )


def class_labels(folder: ModelFolder, config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """The names of the classes of each output that has a label file.

    Raises:
        InvalidArgumentError: there is no such file, or it cannot be read.
        UnsupportedError: it lies outside the model's folder.
    """
    return {
        output.name: read_labels(folder.path, output.label_filename)
        for output in config.outputs
        if output.label_filename
    }


def _with_runtime(loaded: LoadedVersion, weights: str, space: str) -> LoadedVersion:
    """The same version, its config telling what the server chose or found out.

    The instances, the providers if others were asked for, and of an embedder the weights' digest, where it
    is known, and the space of its vectors.
    """
    config = loaded.config
    parameters = {EMBEDDING_SPACE: space} if space else {}
    if space and weights:
        parameters[WEIGHTS] = weights
    if loaded.fallbacks:
        parameters[RUNTIME_PREFIX + "execution_providers"] = ",".join(loaded.current_providers)
        parameters[RUNTIME_PREFIX + "fallbacks"] = "; ".join(loaded.fallbacks)
    message = with_instances(config.message, config.instance_groups, parameters)
    return replace(loaded, config=replace(config, message=message))

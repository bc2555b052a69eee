"""Loading one version from its folder: config, session, warm-up, and what the vision parameters ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from naiad.config.complete import complete_model_config
from naiad.config.message_view import RUNTIME_PREFIX, with_instances
from naiad.config.reader import check_loadable, parse_model_config
from naiad.config.vision_config import Task
from naiad.repository.layout import model_file
from naiad.runtime.loader import load_version
from naiad.vision.detector import Detector
from naiad.vision.embedder import Embedder

if TYPE_CHECKING:
    from naiad.config.model_config import ModelConfig
    from naiad.repository.layout import ModelFolder
    from naiad.runtime.loader import LoadedVersion
    from naiad.runtime.ort_environment import OrtEnvironment
    from naiad.runtime.threads import CpuBudget


VisionModel = Detector | Embedder


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded version and, if its config has a `naiad.task`, what its images go through."""

    version: LoadedVersion
    vision: VisionModel | None


class RepositoryLoader:
    """Reads configs and loads versions into ONNX Runtime. Its methods are called from loader threads."""

    def __init__(
        self,
        environment: OrtEnvironment,
        budget: CpuBudget,
        *,
        auto_complete: bool,
        default_max_batch_size: int,
    ) -> None:
        self._environment = environment
        self._budget = budget
        self._auto_complete = auto_complete
        self._default_max_batch_size = default_max_batch_size

    def read_config(self, folder: ModelFolder) -> ModelConfig:
        """The model's config, not yet completed from a graph.

        Raises:
            InvalidArgumentError: it is wrong, and how.
        """
        return parse_model_config(folder.path, auto_complete=self._auto_complete)

    def load(self, folder: ModelFolder, version: int, config: ModelConfig) -> LoadedModel:
        """Warm sessions of one version and its completed config.

        Raises:
            NaiadError: the file, the graph or the config is wrong, and how.
        """
        check_loadable(config)
        complete = partial(
            complete_model_config,
            default_max_batch_size=self._default_max_batch_size,
            auto_complete=self._auto_complete,
        )
        loaded = load_version(
            model_file(folder, version, config),
            config,
            environment=self._environment,
            budget=self._budget,
            complete=complete,
        )
        try:
            return LoadedModel(_with_runtime(loaded), vision_model(loaded.config))
        except BaseException:
            loaded.close()
            raise


def _with_runtime(loaded: LoadedVersion) -> LoadedVersion:
    """The same version, its config message telling the instances and execution providers really used."""
    config = loaded.config
    parameters = {RUNTIME_PREFIX + "execution_providers": ",".join(loaded.execution_providers)}
    if loaded.fallbacks:
        parameters[RUNTIME_PREFIX + "fallbacks"] = "; ".join(loaded.fallbacks)
    message = with_instances(config.message, config.instance_groups, parameters)
    return replace(loaded, config=replace(config, message=message))


def vision_model(config: ModelConfig) -> VisionModel | None:
    """What images for a model go through, or None if its config declares no `naiad.task`.

    Raises:
        InvalidArgumentError: the parameters do not suit the model's inputs and outputs; names the key.
    """
    if config.vision is None:
        return None
    kind = Detector if config.vision.task is Task.DETECT else Embedder
    return kind(config.vision, config.inputs, config.outputs)

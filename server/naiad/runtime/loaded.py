"""What loading or inspecting a model version gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.runtime.layout import InstanceLayout
from naiad.runtime.warmup import WarmupReport

if TYPE_CHECKING:
    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import TensorSpec
    from naiad.runtime.session import Session
    from naiad.runtime.tensorrt.version import VersionEngine
    from naiad.runtime.weights import WeightFile


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version that is ready to serve. Whoever holds it closes it.

    `sessions` has one entry for each of `instance_names`; instances on the CPU share one session object, and
    an instance on a GPU has an entry, and its name, for each of its lanes.
    `instance_providers` has the execution provider that each of them prefers. `passive_sessions` are those of
    instances that take no requests.
    `config` is complete, its instance groups those of the layout. `execution_providers` are really in use,
    first choice first; `fallbacks` say what was asked for and is not, `notes` what was decided, in sentences.
    `engine` is TensorRT's part, which may change while it serves: `current_…` say how it is now.
    `is_even` says that every run of a batch size takes the same work, whatever the values.
    `weight_files` are what it was read from, `weights` is their digest where another server tells it.
    """

    config: ModelConfig
    sessions: tuple[Session, ...]
    instance_names: tuple[str, ...]
    instance_providers: tuple[str, ...]
    execution_providers: tuple[str, ...]
    fallbacks: tuple[str, ...]
    notes: tuple[str, ...]
    layout: InstanceLayout
    warmup: WarmupReport
    passive_sessions: tuple[Session, ...] = ()
    is_even: bool = False
    engine: VersionEngine | None = None
    weight_files: tuple[WeightFile, ...] = ()
    weights: str = ""

    @property
    def current_providers(self) -> tuple[str, ...]:
        """The execution providers in use now: an engine may have been swapped in since the load."""
        at_load = self.execution_providers
        return at_load if self.engine is None else self.engine.providers(at_load)

    @property
    def current_instance_providers(self) -> dict[str, str]:
        """What each instance prefers now, by its name."""
        return {
            name: provider if self.engine is None else self.engine.instance_provider(provider)
            for name, provider in zip(self.instance_names, self.instance_providers, strict=True)
        }

    @property
    def current_fallbacks(self) -> tuple[str, ...]:
        """What is asked for and not used now, with the reason."""
        return (*self.fallbacks, *(self.engine.current_fallback() if self.engine is not None else ()))

    def close(self) -> None:
        """Free every session; an engine that is being built is dropped when it comes. Safe to call twice."""
        if self.engine is not None and self.engine.build is not None:
            self.engine.build.cancel()
        for session in (*self.sessions, *self.passive_sessions):
            session.close()


def nothing_to_run(config: ModelConfig) -> LoadedVersion:
    """A version without a session of its own: an ensemble, whose steps other models run."""
    layout = InstanceLayout(groups=(), instances=(), intra_op_threads=0, inter_op_threads=0, notes=())
    return LoadedVersion(
        config=config,
        sessions=(),
        instance_names=(),
        instance_providers=(),
        execution_providers=(),
        fallbacks=(),
        notes=(),
        layout=layout,
        warmup=WarmupReport(runs=()),
    )


@dataclass(frozen=True, slots=True)
class InspectedVersion:
    """What a version would be if it were loaded; nothing of it is left open.

    `instance_providers` has the execution provider of each active instance of the layout.
    """

    config: ModelConfig
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    execution_providers: tuple[str, ...]
    fallbacks: tuple[str, ...]
    notes: tuple[str, ...]
    layout: InstanceLayout
    instance_providers: tuple[str, ...] = ()

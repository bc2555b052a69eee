"""What becomes of TensorRT in one model version, from its config to the state of its build."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from naiad.core.errors import NaiadError, UnavailableError, UnsupportedError
from naiad.runtime.cuda.lane import Lane
from naiad.runtime.providers import CUDA, TENSORRT
from naiad.runtime.tensorrt.build import BuildState
from naiad.runtime.tensorrt.options import CUDA_GRAPH, file_notes
from naiad.runtime.tensorrt.plan import plan_engine, read_build_mode
from naiad.runtime.tensorrt.service import EngineRequest, EngineUnit
from naiad.runtime.tensorrt.shapes import read_declared_shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import TensorSpec
    from naiad.runtime.graph import PreparedModel
    from naiad.runtime.layout import Instance
    from naiad.runtime.places import RunPlace
    from naiad.runtime.providers import Provider, ProviderPlan
    from naiad.runtime.session import Session
    from naiad.runtime.tensorrt.build import EngineBuild
    from naiad.runtime.tensorrt.plan import EnginePlan
    from naiad.runtime.tensorrt.service import EngineService
    from naiad.runtime.warmup_samples import PreparedSample


class OpenInstance(Protocol):
    """Opens an instance with TensorRT first; raises NaiadError if TensorRT is dropped."""

    def __call__(
        self, instance: Instance, config: ModelConfig, options: Mapping[str, str]
    ) -> Sequence[Session]:
        """A session for each lane."""
        ...


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The model file, and what the engine is given of it."""

    path: Path
    prepared: PreparedModel


@dataclass(slots=True)
class VersionEngine:
    """TensorRT's part in one version.

    `provider` is what the config asks for and the machine has, or None. `notes` and `fallbacks` are sentences
    on what was decided at load; `build` is there when an engine was asked for.
    """

    model: str
    provider: Provider | None = None
    notes: list[str] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)
    build: EngineBuild | None = None

    def plan(self, config: ModelConfig, inputs: Sequence[TensorSpec]) -> EnginePlan | None:
        """The engine's shapes, None if CUDA is to serve for ever; says why.

        Args:
            config: complete.
            inputs: the graph's.

        Raises:
            InvalidArgumentError: a parameter is wrong; names the key.
        """
        if self.provider is None:
            return None
        self.notes += file_notes(self.provider.options)
        try:
            plan = plan_engine(config, inputs, self.provider.options)
        except UnsupportedError as error:
            self._fall_back(error)
            return None
        how = "before it is ready" if plan.blocking else "in the background, CUDA serves until then"
        sizes = ", ".join(map(str, plan.batch_sizes))
        self.notes.append(
            f"a TensorRT engine in {plan.precision.value} for batch sizes {sizes} is opened or built {how}"
        )
        return plan

    def start(
        self,
        service: EngineService,
        plan: EnginePlan,
        *,
        source: ModelSource,
        config: ModelConfig,
        instances: Iterable[Instance],
        places: Sequence[RunPlace],
        samples: Sequence[PreparedSample],
        open_instance: OpenInstance,
    ) -> dict[Session, Session]:
        """Ask for the engine; says why if it cannot be had.

        Returns:
            What each session that serves is to be replaced with; empty if nothing changes.
        """
        request = EngineRequest(
            model=f"{self.model}/{source.path.parent.name}",
            path=source.path,
            prepared=source.prepared,
            config=config,
            plan=plan,
            units=tuple(_units(instances, places, config, open_instance)),
            samples=tuple(samples),
        )
        if not request.units:
            return {}
        try:
            self.build, slots = service.start(request)
        except (UnavailableError, UnsupportedError) as error:
            self._fall_back(error)
            return {}
        return dict(slots)

    @property
    def is_swapped(self) -> bool:
        """Whether TensorRT serves."""
        return self.build is not None and self.build.status.state is BuildState.SWAPPED

    def providers(self, at_load: tuple[str, ...]) -> tuple[str, ...]:
        """The execution providers in use now, first choice first."""
        return (TENSORRT, *at_load) if self.is_swapped else at_load

    def instance_provider(self, at_load: str) -> str:
        """The execution provider that an instance prefers now: those on the CPU stay there."""
        return TENSORRT if self.is_swapped and at_load == CUDA else at_load

    def current_fallback(self) -> tuple[str, ...]:
        """Why TensorRT does not serve now, though it was asked for; nothing if it does."""
        if self.build is None:
            return ()
        status = self.build.status
        if status.state is BuildState.FAILED:
            return (f"{TENSORRT} is not used by '{self.model}': {status.reason}",)
        if status.state is BuildState.SWAPPED:
            return ()
        how = f"its engine is {status.state.value}, for {status.seconds:.0f} s"
        return (f"{TENSORRT} is not used by '{self.model}' yet: {how}",)

    def _fall_back(self, error: NaiadError) -> None:
        self.fallbacks.append(f"{TENSORRT} is not used by '{self.model}': {error.message}")


def with_engine_options(plan: ProviderPlan, options: Mapping[str, str], *, graphs: bool) -> ProviderPlan:
    """The plan with these options for TensorRT; without CUDA graphs of its own unless `graphs`."""
    kept = {key: value for key, value in options.items() if graphs or key != CUDA_GRAPH}
    return replace(
        plan,
        providers=tuple(
            replace(each, options=kept) if each.name == TENSORRT else each for each in plan.providers
        ),
    )


def check_tensorrt_settings(config: ModelConfig) -> None:
    """Refuse wrong values of the keys that only TensorRT reads, on whatever machine.

    Raises:
        InvalidArgumentError: names the key, the value and what is expected.
    """
    read_build_mode(config)
    read_declared_shapes(config)


def _units(
    instances: Iterable[Instance],
    places: Sequence[RunPlace],
    config: ModelConfig,
    open_instance: OpenInstance,
) -> Iterable[EngineUnit]:
    for instance in instances:
        serving = tuple(place.session for place in places if place.instance == instance.name)
        if instance.gpu is None or not serving:
            continue
        first = serving[0]
        yield EngineUnit(
            gpu=instance.gpu,
            serving=serving,
            # A lane is one thread's: what is compared beside the traffic has one of its own.
            reference=first.spare() if isinstance(first, Lane) else first,
            open=_Opener(open_instance, instance, config),
        )


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens one instance with options that are known later."""

    open_instance: OpenInstance
    instance: Instance
    config: ModelConfig

    def __call__(self, options: Mapping[str, str]) -> Sequence[Session]:
        return self.open_instance(self.instance, self.config, options)

"""Loads one model version: from a file and a config to warm sessions, one for each instance.

Synchronous and slow: it runs in a loader's thread. What it opened it closes again if any step fails.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from naiad.config.model_config import InstanceKind
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError
from naiad.core.tensors import WILDCARD
from naiad.runtime.cuda.settings import GraphMode, check_cuda_settings, list_unused, read_cuda_settings
from naiad.runtime.graph import prepare_model
from naiad.runtime.layout import MeasuredLayout, is_open, plan_instances
from naiad.runtime.loaded import InspectedVersion, LoadedVersion
from naiad.runtime.onnx_session import open_session
from naiad.runtime.places import RunPlace, run_places
from naiad.runtime.profiling import profile_notes, profile_prefix
from naiad.runtime.providers import TENSORRT, plan_providers
from naiad.runtime.tensorrt.version import (
    ModelSource,
    VersionEngine,
    check_tensorrt_settings,
    with_engine_options,
)
from naiad.runtime.thread_names import children_named
from naiad.runtime.tuning_process import WarmModel, model_key
from naiad.runtime.warmup_all import warm_up_all
from naiad.runtime.warmup_samples import prepare_samples, run_samples

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import TensorSpec
    from naiad.runtime.layout import Instance
    from naiad.runtime.onnx_session import OnnxSession
    from naiad.runtime.ort_environment import OrtEnvironment
    from naiad.runtime.profiling import Profiles
    from naiad.runtime.providers import ProviderPlan
    from naiad.runtime.session import Session
    from naiad.runtime.tensorrt.service import EngineService
    from naiad.runtime.threads import CpuBudget
    from naiad.runtime.tuning_process import LayoutTuner
    from naiad.runtime.warmup import WarmupReport
    from naiad.runtime.warmup_samples import PreparedSample


class CompleteConfig(Protocol):
    """Fills and checks a config against the graph; raises NaiadError where they do not fit."""

    def __call__(
        self,
        config: ModelConfig,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        optional_inputs: Collection[str],
    ) -> ModelConfig:
        """The complete config. `optional_inputs` name those of `inputs` that a caller may leave out."""
        ...


def load_version(
    path: Path,
    config: ModelConfig,
    *,
    environment: OrtEnvironment,
    budget: CpuBudget,
    complete: CompleteConfig,
    tuner: LayoutTuner | None = None,
    engines: EngineService | None = None,
    profiles: Profiles | None = None,
) -> LoadedVersion:
    """Load a version and warm it up; where the config leaves it open, measure how many instances are best.

    Args:
        path: the model file.
        config: as read from the repository, not yet completed.
        environment: the installed engine.
        budget: the CPU threads to lay instances out for.
        complete: completes the config from the graph.
        tuner: measures layouts; None leaves it at the rule.
        engines: builds TensorRT's; None leaves all to CUDA.
        profiles: of which models the engine writes profiles; None for none.

    Raises:
        NaiadError: the file, the config or the engine is at fault; see the steps.
    """
    with ExitStack() as opened:
        loader = _Loader(path, config, environment, budget, tuner, profiles=profiles)
        warm = loader.open_warm(complete, opened)
        if loader.tune(warm):
            opened.close()
            warm = loader.open_warm(complete, opened)
        swapped = loader.start_engine(engines, warm)
        opened.pop_all()  # from here on the sessions are the caller's
    sessions, warmup = warm.sessions, warm.report
    return LoadedVersion(
        config=warm.config,
        sessions=tuple(swapped.get(place.session, place.session) for place in warm.places),
        passive_sessions=warm.passive,
        instance_names=tuple(place.instance for place in warm.places),
        instance_providers=tuple(place.provider for place in warm.places),
        execution_providers=tuple(dict.fromkeys(name for each in sessions for name in each.providers)),
        fallbacks=loader.fallbacks(sessions),
        notes=(*loader.notes(), *warmup.warnings, *warmup.skipped),
        layout=loader.layout,
        warmup=warmup,
        is_even=loader.is_even(warm.config),
        engine=loader.engine,
        weight_files=loader.prepared.files,
    )


def inspect_version(
    path: Path,
    config: ModelConfig,
    *,
    environment: OrtEnvironment,
    budget: CpuBudget,
    complete: CompleteConfig,
    measures: bool = False,
) -> InspectedVersion:
    """Go the way of `load_version` up to the completed config, with one session.

    Of the warm-up only the config's samples are run, and on that session alone: a load fails with them.
    Nothing is measured; `measures` says that a server would.

    Raises:
        NaiadError: as `load_version`.
    """
    with ExitStack() as opened:
        loader = _Loader(path, config, environment, budget)
        session = loader.open_first(opened)
        completed = loader.complete(complete, session)
        loader.engine.plan(completed, session.inputs())
        run_samples(session, completed, prepare_samples(completed))
        layout = loader.layout
        if measures and loader.is_tunable:
            later = "a server measures others at load if a run takes long enough (--measure-layout)"
            layout = replace(layout, reason=f"{layout.reason}; {later}")
        return InspectedVersion(
            config=completed,
            inputs=tuple(session.inputs()),
            outputs=tuple(session.outputs()),
            execution_providers=session.providers,
            fallbacks=loader.fallbacks([session]),
            notes=loader.notes(),
            layout=layout,
            instance_providers=tuple(loader.expected_providers(session)),
        )


@dataclass(frozen=True, slots=True)
class _Warm:
    """A version's sessions, open and warm. `samples` are those of the config, which have run.

    `places` is where batches run: the sessions of instances on the CPU, the lanes of those on a GPU.
    """

    config: ModelConfig
    sessions: tuple[OnnxSession, ...]
    passive: tuple[OnnxSession, ...]
    report: WarmupReport
    samples: tuple[PreparedSample, ...]
    places: tuple[RunPlace, ...]


class _Loader:
    """The steps of loading one version, and what they decided."""

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        environment: OrtEnvironment,
        budget: CpuBudget,
        tuner: LayoutTuner | None = None,
        *,
        profiles: Profiles | None = None,
    ) -> None:
        self._path = path
        self._profiles = profiles
        self._tuner = tuner
        self._measured: MeasuredLayout | None = None
        self._open_ns = 0
        self._gpu_notes: dict[str, None] = {}
        self._config = config
        self._environment = environment
        self._budget = budget
        self.prepared = prepare_model(path, {tensor.name for tensor in config.inputs})
        self._broken: dict[str, str] = {}
        self.engine = VersionEngine(config.name)
        self._plan()

    def _plan(self) -> None:
        self.plan = self._providers()
        self.engine.provider = self._planned().find(TENSORRT)
        self._lay_out(None)
        if self._tuner is not None and self.is_tunable:
            self._key = model_key(self._path, self._config, self._budget.threads)
            self._lay_out(self._tuner.known(self._key))

    def _lay_out(self, measured: MeasuredLayout | None) -> None:
        self._measured = measured
        self.layout = plan_instances(self._config, self.plan, self._budget, measured=measured)

    @property
    def is_tunable(self) -> bool:
        """Whether there is something to choose: CPU threads, and a config that leaves their use open."""
        return self._budget.threads > 1 and self._alike and is_open(self._config)

    def open_warm(self, complete: CompleteConfig, opened: ExitStack) -> _Warm:
        """Open every session of the layout, complete the config and warm up."""
        with self._tuner.loading() if self._tuner else nullcontext():
            first = self.open_first(opened)
            config = self.complete(complete, first)
            pairs = list(zip(self.layout.instances, self.open_all(first, opened), strict=True))
            sessions = tuple(session for instance, session in pairs if not instance.passive)
            samples = prepare_samples(config)
            places = tuple(run_places(pairs, config, reopen=self._open, opened=opened, notes=self._gpu_notes))
            report = warm_up_all([place.session for place in places], config, samples)
        passive = tuple(session for instance, session in pairs if instance.passive)
        return _Warm(config, sessions, passive, report, samples, places)

    def tune(self, warm: _Warm) -> bool:
        """Measure, if anything is open; whether the sessions must be opened anew for what was found."""
        if self._tuner is None or self._measured or not self.is_tunable:
            return False
        model = WarmModel(
            config=warm.config,
            session=warm.sessions[0],
            report=warm.report,
            samples=warm.samples,
            rule=len(self.layout.instances),
            threads=self._budget.threads,
            open_session=self._open_for,
            open_ns=self._open_ns,
        )
        self._lay_out(self._tuner.tune(self._key, model))
        return len(self.layout.instances) != model.rule

    def _open_for(self, instances: int) -> OnnxSession:
        """A session for so many instances, which whoever measures it closes."""
        layout = plan_instances(self._config, self.plan, self._budget, measured=MeasuredLayout(instances, ""))
        threads = layout.intra_op_threads, layout.inter_op_threads
        return open_session(self.prepared, self._config, self.plan, *threads)

    def open_first(self, opened: ExitStack) -> OnnxSession:
        """Open the first instance's session; if its GPU turns out unusable, lay out anew for the CPU."""
        session = self._open(self.layout.instances[0], opened)
        self._broken = session.dropped  # what failed once is not tried for each instance
        if self.layout.instances[0].gpu is None or session.on_gpu:
            return session
        session.close()
        self._plan()
        return self._open(self.layout.instances[0], opened)

    def complete(self, complete: CompleteConfig, session: OnnxSession) -> ModelConfig:
        """The config, completed from the graph, with the layout's instance groups."""
        completed = complete(
            self._config, session.inputs(), session.outputs(), optional_inputs=session.overridable
        )
        check_cuda_settings(completed)
        check_tensorrt_settings(completed)
        return replace(completed, instance_groups=self.layout.groups)

    def open_all(self, first: OnnxSession, opened: ExitStack) -> Iterator[OnnxSession]:
        """One session an instance: the CPU's instances share one, each on a GPU has its own."""
        on_cpu = first if self.layout.instances[0].gpu is None else None
        for index, instance in enumerate(self.layout.instances):
            if index == 0:
                yield first
            elif instance.gpu is not None:
                yield self._open(instance, opened)
            else:
                on_cpu = on_cpu or self._open(instance, opened)
                yield on_cpu

    def expected_providers(self, first: OnnxSession) -> Iterator[str]:
        """What each active instance would prefer: as the first session, or, on another device, as planned."""
        on_gpu = self.layout.instances[0].gpu is not None
        for instance in self.layout.instances:
            alike = (instance.gpu is not None) == on_gpu
            if not instance.passive:
                yield first.providers[0] if alike else self._providers(instance).names[0]

    def fallbacks(self, sessions: Iterable[OnnxSession]) -> tuple[str, ...]:
        """What the plan could not have, and what the engine dropped on opening; each once."""
        dropped = (
            f"{name} is not used by '{self._config.name}': {reason}"
            for session in sessions
            for name, reason in session.dropped.items()
        )
        return tuple(dict.fromkeys((*self.plan.fallbacks, *dropped, *self.engine.fallbacks)))

    def is_even(self, config: ModelConfig) -> bool:
        """Whether the work of a run on the CPU follows from its batch size alone."""
        return (
            self.prepared.is_even
            and all(instance.gpu is None for instance in self.layout.instances)
            and not any(
                WILDCARD in spec.dims or spec.ragged or spec.datatype is DataType.BYTES
                for spec in config.inputs
            )
        )

    def notes(self) -> tuple[str, ...]:
        """What was done to the graph and decided about instances."""
        removed = len(self.prepared.removed)
        prepared = f"took {removed} initializers off the graph inputs so that constants fold"
        unused = () if self.plan.on_gpu else list_unused(self._config)
        own = (*self.layout.notes, *self._gpu_notes, *self.engine.notes, *unused)
        return (*([prepared] if removed else ()), *own, *profile_notes(self._profiles, self._config.name))

    def start_engine(self, engines: EngineService | None, warm: _Warm) -> dict[Session, Session]:
        """Ask for TensorRT's engine; what each session that serves is to be replaced with."""
        plan = self.engine.plan(warm.config, warm.sessions[0].inputs())
        if plan is None or engines is None:
            return {}
        return self.engine.start(
            engines,
            plan,
            source=ModelSource(self._path, self.prepared),
            config=warm.config,
            instances=self.layout.instances,
            places=warm.places,
            samples=warm.samples,
            open_instance=self._open_engine,
        )

    def _open_engine(
        self, instance: Instance, config: ModelConfig, options: Mapping[str, str]
    ) -> list[Session]:
        """An instance's lanes on TensorRT, on the builder's thread."""

        def reopen(instance: Instance, opened: ExitStack, *, graphs: bool) -> OnnxSession:
            plan = with_engine_options(self._planned(instance), options, graphs=graphs)
            session = self._open(instance, opened, plan=plan, graphs=graphs)
            if TENSORRT in session.dropped:
                raise InternalError(session.dropped[TENSORRT])
            return session

        with ExitStack() as opened:
            pairs = [(instance, reopen(instance, opened, graphs=True))]
            places = list(run_places(pairs, config, reopen=reopen, opened=opened, notes={}))
            opened.pop_all()
        return [place.session for place in places]

    def _open(
        self,
        instance: Instance,
        opened: ExitStack,
        *,
        graphs: bool = True,
        plan: ProviderPlan | None = None,
    ) -> OnnxSession:
        plan = plan or (self.plan if self._alike else self._providers(instance))
        started_ns = time.monotonic_ns()
        with children_named(f"pool {self._config.name}"):
            session = open_session(
                self.prepared,
                self._config,
                plan,
                self.layout.intra_op_threads,
                self.layout.inter_op_threads,
                graphs=graphs and read_cuda_settings(self._config).graphs is not GraphMode.OFF,
                profile=profile_prefix(self._profiles, self._config.name, self._path, instance.name),
            )
        self._open_ns = time.monotonic_ns() - started_ns
        opened.callback(session.close)
        return session

    @property
    def _alike(self) -> bool:
        return all(instance.gpu is None for instance in self.layout.instances)

    def _providers(self, instance: Instance | None = None) -> ProviderPlan:
        """What serves from the first: TensorRT's engine takes its place when it is there."""
        return self._planned(instance).without(TENSORRT)

    def _planned(self, instance: Instance | None = None) -> ProviderPlan:
        kind = None
        if instance is not None:
            kind = InstanceKind.CPU if instance.gpu is None else InstanceKind.GPU
        return plan_providers(
            self._config,
            available=self._environment.available,
            gpu_count=self._environment.gpu_count,
            gpu=instance.gpu if instance else None,
            kind=kind,
            broken=self._broken,
        )

"""Loads one model version: from a file and a config to warm sessions, one for each instance.

Synchronous and slow: it runs in a loader's thread. What it opened it closes again if any step fails.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from naiad.config.model_config import InstanceKind
from naiad.runtime.graph import prepare_model
from naiad.runtime.layout import InstanceLayout, plan_instances
from naiad.runtime.onnx_session import open_session
from naiad.runtime.providers import plan_providers
from naiad.runtime.warmup import WarmupReport, warm_up
from naiad.runtime.warmup_samples import prepare_samples, run_samples

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import TensorSpec
    from naiad.runtime.graph import PreparedModel
    from naiad.runtime.layout import Instance
    from naiad.runtime.onnx_session import OnnxSession
    from naiad.runtime.ort_environment import OrtEnvironment
    from naiad.runtime.providers import ProviderPlan
    from naiad.runtime.session import Session
    from naiad.runtime.threads import CpuBudget


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


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version that is ready to serve. Whoever holds it closes it.

    `sessions` has one entry for each of `instance_names`; instances on the CPU share one session object.
    `instance_providers` has the execution provider that each of them prefers. `passive_sessions` are those of
    instances that take no requests.
    `config` is complete, its instance groups those of the layout. `execution_providers` are really in use,
    first choice first; `fallbacks` say what was asked for and is not, `notes` what was decided, in sentences.
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

    def close(self) -> None:
        """Free every session. Safe to call twice."""
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


def load_version(
    path: Path,
    config: ModelConfig,
    *,
    environment: OrtEnvironment,
    budget: CpuBudget,
    complete: CompleteConfig,
    spin: bool = False,
) -> LoadedVersion:
    """Load a version and warm it up.

    Args:
        path: the model file.
        config: as read from the repository, not yet completed.
        environment: the installed engine.
        budget: the CPU threads to lay instances out for.
        complete: completes the config from the graph.
        spin: whether idle threads may burn CPU, for a server of one model that has the machine for itself.

    Raises:
        NaiadError: the file, the config or the engine is at fault; see the steps.
    """
    with ExitStack() as opened:
        loader = _Loader(path, config, environment, budget, spin=spin)
        first = loader.open_first(opened)
        completed = loader.complete(complete, first)
        opened_all = list(zip(loader.layout.instances, loader.open_all(first, opened), strict=True))
        sessions = tuple(session for instance, session in opened_all if not instance.passive)
        warmup = _warm_up_all(sessions, completed)
        opened.pop_all()  # from here on the sessions are the caller's
    return LoadedVersion(
        config=completed,
        sessions=sessions,
        passive_sessions=tuple(session for instance, session in opened_all if instance.passive),
        instance_names=loader.layout.active,
        instance_providers=tuple(session.providers[0] for session in sessions),
        execution_providers=tuple(dict.fromkeys(name for each in sessions for name in each.providers)),
        fallbacks=loader.fallbacks(sessions),
        notes=(*loader.notes(), *warmup.warnings, *warmup.skipped),
        layout=loader.layout,
        warmup=warmup,
    )


def inspect_version(
    path: Path,
    config: ModelConfig,
    *,
    environment: OrtEnvironment,
    budget: CpuBudget,
    complete: CompleteConfig,
) -> InspectedVersion:
    """Go the way of `load_version` up to the completed config, with one session.

    Of the warm-up only the config's samples are run, and on that session alone: a load fails with them.

    Raises:
        NaiadError: as `load_version`.
    """
    with ExitStack() as opened:
        loader = _Loader(path, config, environment, budget, spin=False)
        session = loader.open_first(opened)
        completed = loader.complete(complete, session)
        run_samples(session, completed, prepare_samples(completed))
        return InspectedVersion(
            config=completed,
            inputs=tuple(session.inputs()),
            outputs=tuple(session.outputs()),
            execution_providers=session.providers,
            fallbacks=loader.fallbacks([session]),
            notes=loader.notes(),
            layout=loader.layout,
            instance_providers=tuple(loader.expected_providers(session)),
        )


class _Loader:
    """The steps of loading one version, and what they decided."""

    def __init__(
        self, path: Path, config: ModelConfig, environment: OrtEnvironment, budget: CpuBudget, *, spin: bool
    ) -> None:
        self._config = config
        self._environment = environment
        self._budget = budget
        self._prepared: PreparedModel = prepare_model(path, {tensor.name for tensor in config.inputs})
        self._broken: dict[str, str] = {}
        self._spin = spin
        self._plan()

    def _plan(self) -> None:
        self.plan = self._providers()
        self.layout = plan_instances(self._config, self.plan, self._budget)

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
        return tuple(dict.fromkeys((*self.plan.fallbacks, *dropped)))

    def notes(self) -> tuple[str, ...]:
        """What was done to the graph and decided about instances."""
        removed = len(self._prepared.removed)
        prepared = f"took {removed} initializers off the graph inputs so that constants fold"
        return (prepared, *self.layout.notes) if removed else self.layout.notes

    def _open(self, instance: Instance, opened: ExitStack) -> OnnxSession:
        plan = self.plan if self._alike else self._providers(instance)
        session = open_session(
            self._prepared,
            self._config,
            plan,
            self.layout.intra_op_threads,
            self.layout.inter_op_threads,
            spin=self._spin and len(self.layout.instances) == 1,
        )
        opened.callback(session.close)
        return session

    @property
    def _alike(self) -> bool:
        return all(instance.gpu is None for instance in self.layout.instances)

    def _providers(self, instance: Instance | None = None) -> ProviderPlan:
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


def _warm_up_all(sessions: Sequence[OnnxSession], config: ModelConfig) -> WarmupReport:
    """Run the config's samples on every instance, then zeros of what is left once in every session."""
    samples = prepare_samples(config)
    for session in sessions:
        run_samples(session, config, samples)
    done = {prepared.sample.batch_size for prepared in samples}
    return _merge(warm_up(session, config, done=done) for session in dict.fromkeys(sessions))


def _merge(reports: Iterable[WarmupReport]) -> WarmupReport:
    """The first session's runs stand for all; failures are kept, each once."""
    merged = list(reports)
    return WarmupReport(
        runs=merged[0].runs,
        skipped=_once(report.skipped for report in merged),
        warnings=_once(report.warnings for report in merged),
        quiet=_once(report.quiet for report in merged),
    )


def _once(sentences: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(sentences)))

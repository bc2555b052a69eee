"""Binds ensembles to the models that they are composed of, and keeps both in step.

Whether an ensemble can serve is a function of the models that do: it is asked anew whenever a version has
changed its state, in the same step of the loop. So the order in which models load does not matter, and no
request ever meets an ensemble whose models have gone or no longer fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from naiad.config.ensemble_checks import check_composition, check_extent, extent_over
from naiad.config.ensemble_config import LATEST_VERSION
from naiad.core.errors import InvalidArgumentError, NaiadError
from naiad.core.tensors import ModelKey
from naiad.lifecycle.control import titled
from naiad.lifecycle.registry import standing_version
from naiad.lifecycle.states import ReadyState
from naiad.lifecycle.version import ModelVersion
from naiad.scheduling.ensemble.scheduler import EnsembleScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.lifecycle.loading import LoadedModel
    from naiad.lifecycle.registry import Model
    from naiad.lifecycle.reload_plan import ModelView
    from naiad.lifecycle.retirement import Retirement
    from naiad.lifecycle.sources import Source
    from naiad.lifecycle.version import ServingVersion

log = structlog.get_logger(__name__)


class CompositionError(InvalidArgumentError):
    """An ensemble and the models that serve now do not go together."""


@dataclass(slots=True)
class WaitingEnsemble:
    """An ensemble that was loaded and cannot serve as things are: `problem` says why.

    `models` are its versions. `is_reported` says that the log knows of the problem.
    """

    view: ModelView
    models: Mapping[int, LoadedModel]
    is_guest: bool
    problem: CompositionError
    is_reported: bool = False


class Ensembles:
    """All ensembles of a manager. Used on the event loop's thread."""

    def __init__(
        self,
        models: Mapping[str, Model],
        retirement: Retirement,
        *,
        serve: Callable[[ModelKey, LoadedModel, float], ServingVersion],
    ) -> None:
        """Create it.

        Args:
            models: every known model, as it changes.
            retirement: takes over versions of ensembles that can serve no longer.
            serve: makes a version that serves of one that was loaded; the float is the seconds it took.
        """
        self._models = models
        self._retirement = retirement
        self._serve = serve
        self._refreshing = False

    def bind(self, versions: Iterable[ServingVersion]) -> bool:
        """Bind versions of one ensemble to the models that serve now.

        Returns:
            Whether there is more or less in it now, which ensembles that contain it must look at.

        Raises:
            CompositionError: they cannot be, and why. Then none was changed.
        """
        changed = [version for version in versions if not self._is_up_to_date(version)]
        bound = [self._resolve(version.config) for version in changed]
        before = [version.extent for version in changed]
        for version, models in zip(changed, bound, strict=True):
            _bind(version, models)
        return before != [version.extent for version in changed]

    def refresh(self) -> None:
        """Bind ensembles anew, take those out of service that no longer fit, and bring back those that do."""
        if self._refreshing:  # what changes below is seen by the loop below
            return
        self._refreshing = True
        try:
            while any(self._refresh(model) for model in list(self._models.values())):
                pass
        finally:
            self._refreshing = False

    def report(self) -> None:
        """Log each ensemble that waits, once a problem. For when what was to be loaded has been."""
        for model in self._models.values():
            waiting = model.waiting
            if waiting is not None and not waiting.is_reported:
                waiting.is_reported = True
                log.error(
                    "ensemble refused", model=model.name, reason=waiting.problem.message, who="model owner"
                )

    def composing(self, names: Iterable[str]) -> set[str]:
        """The models that the ensembles among `names` are composed of."""
        found: set[str] = set()
        for model in filter(None, map(self._models.get, names)):
            found.update(composing_names(model), _names_in(model.waiting.view if model.waiting else None))
        return found

    def only_needed_by(self, name: str) -> list[str]:
        """The models that nothing needs any more once ensemble `name` is unloaded, the outer ones first.

        Those that were loaded by their own names are not among them.
        """
        gone, unneeded = {name}, []
        needs = {each.name: composing_names(each) for each in self._models.values()}
        for leaving in (todo := [name]):
            for each in needs.get(leaving, ()):
                used = any(each in needs[other] for other in needs if other not in gone)
                if each not in gone and not used and each in needs and not self._models[each].is_explicit:
                    gone.add(each)
                    unneeded.append(each)
                    todo.append(each)
        return unneeded

    def _refresh(self, model: Model) -> bool:
        """Bring one ensemble in step with the others; whether something changed that others depend on."""
        # The newer one first, or there would be a moment without any.
        if model.waiting is not None and self._try_waiting(model, model.waiting):
            return True
        serving = _ensemble_versions(model)
        try:
            return self.bind(serving.values())
        except CompositionError as problem:
            self._withdraw(model, serving, problem)
            return True

    def _withdraw(
        self, model: Model, serving: Mapping[int, ServingVersion], problem: CompositionError
    ) -> None:
        log.warning("ensemble out of service", model=model.name, reason=problem.message, who="model owner")
        if model.waiting is None and model.served is not None:
            models = {number: version.model for number, version in serving.items()}
            model.waiting = WaitingEnsemble(model.served, models, model.is_guest, problem, is_reported=True)
        model.served = None
        for number in serving:
            entry = model.versions[number]
            entry.is_withdrawn = True
            self._retirement.retire(entry, problem)

    def _try_waiting(self, model: Model, waiting: WaitingEnsemble) -> bool:
        try:
            bound = {number: self._resolve(each.version.config) for number, each in waiting.models.items()}
        except CompositionError as problem:
            _note_problem(model, waiting, problem)
            return False
        model.waiting = None
        versions: dict[int, ServingVersion] = {}
        for number, each in waiting.models.items():
            versions[number] = self._serve(ModelKey(model.name, number), each, 0.0)
            _bind(versions[number], bound[number])
        leaving = [entry for entry in model.versions.values() if entry.state is ReadyState.READY]
        for number, version in versions.items():
            entry = ModelVersion(version.key)
            entry.move(ReadyState.LOADING)
            entry.serving = version
            entry.move(ReadyState.READY)
            model.versions[number] = entry
        model.served, model.is_guest = waiting.view, waiting.is_guest
        for entry in leaving:
            self._retirement.retire(entry)
        log.info("ensemble in service", model=model.name, versions=sorted(versions))
        return True

    def _is_up_to_date(self, version: ServingVersion) -> bool:
        """Whether each step has the version that it would get now: they were found to fit when it got them.

        With hundreds of ensembles, comparing all of them at each change of a state would hold up the loop.
        """
        assert version.config.ensemble is not None
        chosen = [
            _choice(self._models.get(step.model_name), step.model_version)
            for step in version.config.ensemble.steps
        ]
        extent = extent_over(each.extent for each in chosen if each is not None)
        return _scheduler(version).models == tuple(chosen) and version.extent == extent

    def _resolve(self, config: ModelConfig) -> list[ServingVersion]:
        """The version that runs each step; raises CompositionError."""
        assert config.ensemble is not None
        self._check_present(config)
        self._check_circle(config)
        models = [self._choose(config, step.model_name, step.model_version) for step in config.ensemble.steps]
        try:
            check_extent(config.name, extent_over(model.extent for model in models))
            check_composition(config, [model.config for model in models])
        except InvalidArgumentError as error:
            raise CompositionError(error.message) from error
        return models

    def _check_present(self, config: ModelConfig) -> None:
        assert config.ensemble is not None
        missing = [name for name in config.ensemble.model_names if not _is_known(self._models.get(name))]
        if missing:
            raise CompositionError(
                f"ensemble {config.name} contains models that are not available or ambiguous: "
                f"{', '.join(missing)}"
            )

    def _check_circle(self, config: ModelConfig) -> None:
        assert config.ensemble is not None
        seen: set[str] = set()
        todo = [(config.name, name) for name in config.ensemble.model_names]
        while todo:
            reader, name = todo.pop()
            if name == config.name:
                raise CompositionError(
                    f"circular dependency between ensembles: {name} -> ... -> {reader} -> {name}"
                )
            if name not in seen:
                seen.add(name)
                todo += [(name, each) for each in composing_names(self._models.get(name))]

    def _choose(self, config: ModelConfig, name: str, version: int) -> ServingVersion:
        model = self._models[name]
        depends = f"ensemble '{config.name}' depends on '{name}'"
        if not model.ready:
            raise CompositionError(f"{depends} {_why_none(model)}")
        chosen = _choice(model, version)
        if chosen is None:
            raise CompositionError(f"{depends} whose required version {version} is not loaded.")
        return chosen


def waiting_ensemble(
    source: Source, versions: Mapping[int, ServingVersion | None], problem: CompositionError
) -> WaitingEnsemble:
    """What was loaded from `source` and cannot serve yet."""
    models = {number: version.model for number, version in versions.items() if version is not None}
    return WaitingEnsemble(source.view, models, source.files is not None, problem)


def composing_names(model: Model | None) -> tuple[str, ...]:
    """What a model is composed of or, if it does not serve, would be; nothing if it is no ensemble."""
    if model is None:
        return ()
    return _names_in(model.served or (model.waiting.view if model.waiting else None))


def _names_in(view: ModelView | None) -> tuple[str, ...]:
    return view.config.ensemble.model_names if view is not None and view.config.ensemble is not None else ()


def composition_failure(name: str, problem: NaiadError) -> InvalidArgumentError:
    """What a client is told when an ensemble was loaded and does not go with its models."""
    return InvalidArgumentError(f"load failed for model '{name}': {problem.message}\n")


def drain_order(versions: Sequence[ServingVersion]) -> Iterator[list[ServingVersion]]:
    """The versions in groups: an ensemble before the models that its requests at work still need."""
    rest = list(versions)
    while rest:
        needed = {
            name
            for each in rest
            if each.config.ensemble is not None
            for name in each.config.ensemble.model_names
        }
        group = [each for each in rest if each.key.name not in needed] or rest
        yield group
        rest = [each for each in rest if each not in group]


def _choice(model: Model | None, version: int) -> ServingVersion | None:
    """The version of a model that a step gets, if it is there."""
    ready = model.ready if model is not None else {}
    return standing_version(model, ready) if version == LATEST_VERSION else ready.get(version)


def _ensemble_versions(model: Model) -> dict[int, ServingVersion]:
    """The versions of a model that serve as an ensemble."""
    return {number: serving for number, serving in model.ready.items() if serving.config.ensemble is not None}


def _scheduler(version: ServingVersion) -> EnsembleScheduler:
    assert isinstance(version.scheduler, EnsembleScheduler)
    return version.scheduler


def _bind(version: ServingVersion, models: Sequence[ServingVersion]) -> None:
    _scheduler(version).bind(models)
    version.composed_of = tuple(dict.fromkeys(models))
    version.extent = extent_over(model.extent for model in models)
    version.labels = {**_labels(version.config, models), **version.model.labels}


def _labels(config: ModelConfig, models: Sequence[ServingVersion]) -> dict[str, tuple[str, ...]]:
    """The classes of each output whose model names them."""
    assert config.ensemble is not None
    outputs = {output.name for output in config.outputs}
    return {
        theirs: model.labels[ours]
        for step, model in zip(config.ensemble.steps, models, strict=True)
        for ours, theirs in step.outputs.items()
        if theirs in outputs and ours in model.labels
    }


def _is_known(model: Model | None) -> bool:
    """Whether a model serves or, at least, there is something to say about why it does not."""
    return model is not None and (
        model.waiting is not None
        or any(
            entry.state is ReadyState.READY or isinstance(entry.reason, NaiadError)
            for entry in model.versions.values()
        )
    )


def _why_none(model: Model) -> str:
    if model.waiting is not None:
        return f"which is not valid. Model '{model.name}' failed with error: {model.waiting.problem.message}"
    clauses = [
        f"version {number} is at UNAVAILABLE state: {titled(entry.reason)};\n"
        for number, entry in sorted(model.versions.items())
        if isinstance(entry.reason, NaiadError)
    ]
    if not clauses:
        return "which has no loaded version."
    return f"which has no loaded version. Model '{model.name}' loading failed with error: {''.join(clauses)}"


def _note_problem(model: Model, waiting: WaitingEnsemble, problem: CompositionError) -> None:
    """Remember why it still waits, if that is another reason than before."""
    before, now = waiting.problem.message, problem.message
    if before == now:
        return
    for entry in model.versions.values():
        if isinstance(entry.reason, CompositionError):
            entry.reason = problem
    waiting.problem, waiting.is_reported = problem, False

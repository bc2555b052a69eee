"""Loads a model's versions beside those that serve, then moves the traffic, or lets all stay as it was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from naiad.core.errors import InvalidArgumentError, NaiadError
from naiad.core.tensors import ModelKey
from naiad.lifecycle.acceptance import check_finite, check_interface
from naiad.lifecycle.control import UNLOADED, load_failure, policy_failure
from naiad.lifecycle.ensembles import CompositionError, waiting_ensemble
from naiad.lifecycle.reload_plan import plan_reload
from naiad.lifecycle.states import ReadyState
from naiad.lifecycle.version import ModelVersion, ServingVersion
from naiad.lifecycle.version_loader import warn
from naiad.repository.version_policy import select_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from naiad.lifecycle.ensembles import Ensembles
    from naiad.lifecycle.experiments.director import Experiments
    from naiad.lifecycle.registry import Model
    from naiad.lifecycle.reload_plan import ReloadPlan
    from naiad.lifecycle.retirement import Retirement
    from naiad.lifecycle.sources import Source
    from naiad.lifecycle.version_loader import VersionLoader
    from naiad.repository.version_policy import VersionSelection

log = structlog.get_logger(__name__)


class ModelLoader:
    """Brings one model at a time to what a source says. Used on the event loop's thread.

    The caller sees to it that nothing else is done to the same model meanwhile.
    """

    def __init__(
        self,
        versions: VersionLoader,
        retirement: Retirement,
        *,
        tell: Callable[[], None],
        is_stopping: Callable[[], bool],
        ensembles: Ensembles,
        allow_interface_change: bool = False,
        experiments: Experiments | None = None,
    ) -> None:
        """Create a loader.

        Args:
            versions: loads single versions.
            retirement: takes those over that are replaced or no longer wanted.
            tell: called whenever a version has changed its state.
            is_stopping: whether to load no more.
            ensembles: binds ensembles to their models.
            allow_interface_change: whether new versions may have other inputs and outputs than what serves.
            experiments: takes those on the models' versions; None for none.
        """
        self._experiments = experiments
        self._allow_interface_change = allow_interface_change
        self._versions = versions
        self._retirement = retirement
        self._tell = tell
        self._is_stopping = is_stopping
        self._ensembles = ensembles

    async def load(self, model: Model, source: Source) -> None:
        """Load what has changed; the new versions serve when every one of them is ready.

        Raises:
            CompositionError: it is an ensemble that does not go with the models that serve now; it waits.
            InvalidArgumentError: a version does not load, or may not take the place of what serves, or the
                policy selects none.
        What served before goes on serving.
        """
        selection = self._select(model, source)
        model.problem, model.unreadable = None, False
        plan = plan_reload(
            model.served,
            source.view,
            serving=list(model.ready),
            wanted=selection.selected,
        )
        staged = self._stage(model, plan.load)
        outcomes = await asyncio.gather(
            *(
                self._versions.load(
                    source.folder, entry.key, source.view.config, is_stopping=self._is_stopping
                )
                for entry in staged.values()
            )
        )
        results = dict(zip(staged, outcomes, strict=True))
        loaded = {number: each for number, each in results.items() if isinstance(each, ServingVersion)}
        failed = {
            number: _without_path(each, source)
            for number, each in results.items()
            if isinstance(each, NaiadError)
        }
        overridden = model.served is not None and model.served.overridden
        failed |= self._unacceptable(
            model,
            loaded,
            baseline=source.experiment.baseline if source.experiment else None,
            is_deliberate=overridden or source.view.overridden,
        )
        if failed and self._may_go_without(source, plan, failed):
            await self._roll_back(
                {number: staged.pop(number) for number in failed},
                {number: loaded.pop(number) for number in failed if number in loaded},
                failed,
            )
        elif failed:
            await self._roll_back(staged, loaded, failed)
            raise load_failure(model.name, failed)
        if source.view.config.ensemble is not None:
            try:
                self._ensembles.bind(loaded.values())
            except CompositionError as problem:
                kept = {number: model.versions[number].serving for number in plan.keep}
                model.waiting = waiting_ensemble(source, kept | loaded, problem)
                await self._roll_back_waiting(model, staged, loaded)
                return
        model.waiting = None
        model.served, model.is_guest = source.view, source.files is not None
        if self._experiments is not None:
            model.experiment = self._experiments.adopt(
                model.name, source.experiment, source.folder, source.view.config
            )
        self._swap(model, staged, loaded, plan)

    def _unacceptable(
        self,
        model: Model,
        loaded: Mapping[int, ServingVersion],
        *,
        baseline: int | None,
        is_deliberate: bool,
    ) -> dict[int, NaiadError]:
        """Those of the loaded versions that may not serve beside those that do, and why.

        What a request brought along, and the way back from it, is meant to be another model. The baseline of
        an experiment counts as serving before its candidates, also where all are loaded at once.
        """
        serving = model.ready
        if baseline is not None and baseline in loaded and not serving:
            serving = {baseline: loaded[baseline]}
        refused: dict[int, NaiadError] = {}
        for number, version in loaded.items():
            try:
                self._accept(number, version, serving, loaded, is_deliberate=is_deliberate)
            except InvalidArgumentError as error:
                log.error(
                    "model version refused", model=str(version.key), reason=error.message, who="model owner"
                )
                refused[number] = error
        return refused

    def _accept(
        self,
        number: int,
        version: ServingVersion,
        serving: Mapping[int, ServingVersion],
        loaded: Mapping[int, ServingVersion],
        *,
        is_deliberate: bool,
    ) -> None:
        """Raise InvalidArgumentError if a loaded version may not serve beside those that do."""
        key = str(version.key)
        # The same number with another interface is its owner's doing: the config says so.
        if serving and number not in serving and not is_deliberate:
            latest = max(serving)
            changed = check_interface(
                number,
                version.config,
                serving=latest,
                served=loaded.get(latest, serving[latest]).config,
                allowed=self._allow_interface_change,
            )
            if changed:
                log.warning("interface changes", model=key, detail=changed, who="model owner")
        not_finite = check_finite(
            number,
            version.config,
            version.model.version.warmup,
            serving={other: each.model.version.warmup for other, each in serving.items()},
        )
        if not_finite:
            log.warning("NaN or infinity at warm-up", model=key, detail=not_finite, who="model owner")

    def _may_go_without(self, source: Source, plan: ReloadPlan, failed: Mapping[int, NaiadError]) -> bool:
        """Whether an experiment goes on without candidates that failed: its baseline must not suffer."""
        experiment = source.experiment
        if experiment is None or not failed.keys() <= set(experiment.candidates):
            return False
        return experiment.baseline in {*plan.load, *plan.keep}

    async def _roll_back_waiting(
        self, model: Model, staged: Mapping[int, ModelVersion], loaded: Mapping[int, ServingVersion]
    ) -> None:
        """Raise why the ensemble waits, unless its models have come meanwhile."""
        assert model.waiting is not None
        problem = model.waiting.problem
        log.info("ensemble waits for its models", model=model.name, reason=problem.message)
        await self._roll_back(staged, {}, dict.fromkeys(staged, problem))
        await asyncio.gather(*(serving.close() for serving in loaded.values()))
        if model.waiting is not None:
            raise problem

    def _select(self, model: Model, source: Source) -> VersionSelection:
        config = source.view.config
        warn(model.name, "config", config.warnings)
        warn(model.name, "folder", source.folder.notes)
        try:
            selection = select_versions(
                config.version_policy,
                source.folder.versions,
                model_name=model.name,
                experiment=source.experiment.versions if source.experiment else (),
            )
        except InvalidArgumentError as error:
            if not model.ready:
                model.problem, model.unreadable = error, False
            log.error("model refused", model=model.name, reason=error.message, who="model owner")
            self._tell()
            raise policy_failure(model.name, error) from error
        for missing in selection.missing:
            log.warning(
                "version of the policy is not there", model=model.name, version=missing, who="model owner"
            )
        return selection

    def _stage(self, model: Model, numbers: Sequence[int]) -> dict[int, ModelVersion]:
        """New entries for the versions to load; where an old one serves, it stays the one that is seen."""
        ready = model.ready
        staged = {number: ModelVersion(ModelKey(model.name, number)) for number in numbers}
        for number, entry in staged.items():
            entry.move(ReadyState.LOADING)
            if number not in ready:
                model.versions[number] = entry
            log.info("model version loading", model=str(entry.key))
        self._tell()
        return staged

    async def _roll_back(
        self,
        staged: Mapping[int, ModelVersion],
        loaded: Mapping[int, ServingVersion],
        failed: Mapping[int, NaiadError],
    ) -> None:
        for number, error in failed.items():
            staged[number].move(ReadyState.UNAVAILABLE, error)
        for number in loaded.keys() - failed.keys():
            staged[number].move(ReadyState.UNAVAILABLE, UNLOADED)
        self._tell()
        await asyncio.gather(*(serving.close() for serving in loaded.values()))

    def _swap(
        self,
        model: Model,
        staged: Mapping[int, ModelVersion],
        loaded: Mapping[int, ServingVersion],
        plan: ReloadPlan,
    ) -> None:
        """Move the traffic to the new versions, all in one step of the loop, and see the old ones off."""
        leaving = [model.versions[number] for number in plan.unload]
        for number, entry in staged.items():
            old = model.versions[number]
            entry.serving = loaded[number]
            entry.move(ReadyState.READY)
            model.versions[number] = entry
            if old is not entry:
                leaving.append(old)
            _log_ready(loaded[number])
        for entry in leaving:
            self._retirement.retire(entry, is_replaced=entry.key.version in staged)
        wanted = {*plan.load, *plan.keep}
        for number, entry in list(model.versions.items()):
            if number not in wanted and isinstance(entry.reason, NaiadError):
                del model.versions[number]  # it failed, and is no longer asked for
        self._tell()


def _without_path(error: NaiadError, source: Source) -> NaiadError:
    """The error without the place where a request's files lie for a while, which is nobody's business."""
    if source.files is None:
        return error
    return type(error)(error.message.replace(f"{source.folder.path.parent}/", ""))


def _log_ready(serving: ServingVersion) -> None:
    log.info(
        "model version ready",
        model=str(serving.key),
        instances=serving.instance_count,
        layout=serving.layout_reason,
        execution_providers=list(serving.execution_providers),
        took_ms=int(serving.load_seconds * 1_000),
    )

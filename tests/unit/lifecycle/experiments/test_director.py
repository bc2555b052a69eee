"""A server's experiments: they come and go with their files, one does not end another, and all of it is closed."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from support.aside import AMPLE, until
from support.versions import PLAIN_CONFIG, NotedAside, serving_versions, tells_its_version

from naiad.config.experiment_config import ExperimentConfig
from naiad.config.reader import read_model_config
from naiad.core.errors import InvalidArgumentError, NotFoundError
from naiad.lifecycle.caller import NOBODY
from naiad.lifecycle.experiments import director
from naiad.lifecycle.experiments.director import Experiments
from naiad.repository.layout import read_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.lifecycle.experiments.experiment import Experiment
    from naiad.lifecycle.version import ServingVersion

HALVES = {"weights": {"1": 50, "2": 50}}
SHADOWED = {"weights": {"1": 1}, "shadow": {"version": 2, "budget": 0.25}}


class Bench:
    """Two versions of a model that serve, and what they were loaded from."""

    def __init__(self, root: Path, serving: dict[int, ServingVersion]) -> None:
        self.folder = read_folder(root / "m")
        self.serving = serving

    def adopt(
        self, experiments: Experiments, fields: dict[str, Any] | None, model: str = "m"
    ) -> Experiment | None:
        """Put an experiment in force, with its versions."""
        config = None if fields is None else ExperimentConfig.model_validate(fields)
        model_config = read_model_config(self.folder.path)
        found = experiments.adopt(model, config, self.folder, model_config)
        experiments.bind(model, self.serving)
        return found


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    models = {1: tells_its_version(1), 2: tells_its_version(2)}
    async with serving_versions(tmp_path, "m", models, PLAIN_CONFIG) as serving:
        yield Bench(tmp_path, serving)


@pytest.fixture
def asides(monkeypatch: pytest.MonkeyPatch) -> list[NotedAside]:
    """The processes aside that are asked for, none of which starts."""
    made: list[NotedAside] = []

    def make(_: object) -> NotedAside:
        made.append(NotedAside())
        return made[-1]

    monkeypatch.setattr(director, "AsideProcess", make)
    return made


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Experiments]:
    experiments = Experiments(AMPLE, **options)
    try:
        yield experiments
    finally:
        await experiments.close()


async def test_an_experiment_stays_while_its_file_says_the_same_and_a_new_one_takes_its_place(
    bench: Bench, asides: list[NotedAside]
) -> None:
    async with running() as experiments:
        first = bench.adopt(experiments, HALVES)
        assert bench.adopt(experiments, HALVES | {"name": "experiment"}) is first
        second = bench.adopt(experiments, {"weights": {"1": 40, "2": 60}})
        assert second is not first
        assert list(experiments) == [second]
        assert experiments.get("m") is second
        assert len(asides) == 1


async def test_an_experiment_ends_with_its_file_and_nothing_of_it_stays(
    bench: Bench, asides: list[NotedAside]
) -> None:
    async with running() as experiments:
        bench.adopt(experiments, HALVES)
        assert all(version.watch for version in bench.serving.values())
        assert bench.adopt(experiments, None) is None
        assert [version.watch for version in bench.serving.values()] == [None, None]
        assert list(experiments) == []
        assert asides[0].orders == [("read", 1), ("read", 2), ("close", 1), ("close", 2)]
        with pytest.raises(NotFoundError, match="model 'm' has no experiment in force"):
            experiments.get("m")
        experiments.leave("m")  # it has none: that is fine


async def test_the_process_aside_runs_the_shadow_s_candidate_and_only_reads_the_others(
    bench: Bench, asides: list[NotedAside]
) -> None:
    """And is told once of each version, however often versions of other models come and go."""
    async with running() as experiments:
        bench.adopt(experiments, SHADOWED)
        experiments.bind("m", bench.serving)
        assert asides[0].orders == [("read", 1), ("open", 2)]
        experiments.bind("m", {1: bench.serving[1]})
        assert asides[0].orders[2:] == [("close", 2)]
        experiments.bind("m", bench.serving)
        assert asides[0].orders[3:] == [("open", 2)]
        experiments.bind("unknown", bench.serving)  # a model without an experiment


async def test_the_budget_is_what_all_shadows_may_take_together(
    bench: Bench, asides: list[NotedAside]
) -> None:
    async with running() as experiments:
        bench.adopt(experiments, HALVES)
        assert asides[0].budget_cpus == AMPLE.budget_cpus
        bench.adopt(experiments, SHADOWED)
        bench.adopt(experiments, SHADOWED | {"baseline": 1}, model="n")
        assert asides[0].budget_cpus == 0.5
        experiments.leave("m")
        assert asides[0].budget_cpus == 0.25


@pytest.mark.usefixtures("asides")
async def test_experiments_are_listed_by_their_models_names(bench: Bench) -> None:
    async with running() as experiments:
        for name in ("b", "a", "c"):
            bench.adopt(experiments, HALVES, model=name)
        assert [experiment.model for experiment in experiments] == ["a", "b", "c"]


@pytest.mark.usefixtures("asides")
async def test_decisions_by_hand_are_carried_out_at_once_and_told(bench: Bench) -> None:
    told = []
    async with running(now=lambda: 50.0) as experiments:
        experiments.on_change = lambda: told.append(True)
        bench.adopt(experiments, HALVES)
        experiments.decide("m", "roll_back", 2, "slow", "alice")
        found = experiments.get("m")
        assert {found.choose(NOBODY) for _ in range(50)} == {1}
        assert told == [True]
        (decision,) = found.history
        assert (decision.by, decision.reason, decision.at) == ("alice", "slow", 50.0)
        experiments.decide("m", "resume", None, "", "alice")
        assert {found.choose(NOBODY) for _ in range(50)} == {1, 2}


@pytest.mark.usefixtures("asides")
@pytest.mark.parametrize(
    ("kind", "candidate", "words"),
    [
        ("roll_back", 7, "version 7 is no candidate: candidates of the experiment on 'm' are 2"),
        ("promote", 1, "version 1 is no candidate"),
        ("resume", 3, "version 3 is no candidate"),
        ("roll_back", None, "no version is named: candidates of the experiment on 'm' are 2"),
    ],
)
async def test_a_decision_on_what_is_no_candidate_is_refused(
    bench: Bench, kind: Any, candidate: int | None, words: str
) -> None:
    async with running() as experiments:
        bench.adopt(experiments, HALVES)
        with pytest.raises(InvalidArgumentError, match=words):
            experiments.decide("m", kind, candidate, "", "alice")
        with pytest.raises(NotFoundError, match="model 'n' has no experiment"):
            experiments.decide("n", kind, candidate, "", "alice")
        assert list(experiments.get("m").history) == []


@pytest.mark.usefixtures("asides")
async def test_experiments_are_looked_at_again_and_again_and_a_broken_one_does_not_end_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 990.0
    at = datetime.fromtimestamp(1_000, UTC).isoformat()
    ramp = {"weights": {"1": 1, "2": 0}, "ramp": [{"at": at, "weights": {"1": 0, "2": 1}}]}
    with capture_logs() as logs:
        async with running(tick_s=0.001, now=lambda: now_s) as experiments:
            broken, whole = (bench.adopt(experiments, ramp, model=name) for name in ("a", "b"))
            assert broken is not None
            assert whole is not None
            monkeypatch.setattr(broken, "tick", lambda _: 1 / 0)
            await until(lambda: any(line["event"] == "failed to judge" for line in logs))
            assert whole.choose(NOBODY) == 1
            now_s = 1_000.0
            await until(lambda: whole.choose(NOBODY) == 2)
    assert {line["model"] for line in logs if line["event"] == "failed to judge"} == {"a"}


async def test_a_candidate_that_the_process_aside_cannot_load_is_reported(bench: Bench) -> None:
    """It serves here: its file has gone since."""
    (bench.folder.path / "2" / "model.onnx").unlink()
    with capture_logs() as logs:
        async with running() as experiments:
            bench.adopt(experiments, SHADOWED)
            assert experiments.problem_of("m") == ""
            await until(lambda: experiments.problem_of("m") != "")
            assert "model.onnx" in experiments.problem_of("m")
    assert [line["model"] for line in logs if line["event"] == "shadow does not run"] == ["m"]


@pytest.mark.usefixtures("asides")
async def test_disagreements_that_nobody_can_keep_are_warned_of(bench: Bench, tmp_path: Path) -> None:
    fields = {"weights": {"1": 1}, "shadow": {"version": 2, "keep_worst": 5}}
    for options, warned in (({}, 1), ({"folder": tmp_path / "decisions"}, 0)):
        with capture_logs() as logs:
            async with running(**options) as experiments:
                bench.adopt(experiments, fields)
        assert sum(line["event"] == "nothing is kept" for line in logs) == warned


@pytest.mark.usefixtures("asides")
async def test_a_decision_outlives_the_server_in_its_folder(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    async with running(folder=folder) as experiments:
        bench.adopt(experiments, HALVES)
        experiments.decide("m", "roll_back", 2, "", "alice")
    async with running(folder=folder) as experiments:
        found = bench.adopt(experiments, HALVES)
        assert found is not None
        assert list(found.rolled_back) == [2]
        assert {found.choose(NOBODY) for _ in range(50)} == {1}


async def test_closing_leaves_no_task_no_thread_and_no_watch(bench: Bench) -> None:
    before = threading.active_count()
    async with running(tick_s=0.001) as experiments:
        bench.adopt(experiments, SHADOWED)
        await until(lambda: (found := experiments.aside_figures) is not None and found.pid is not None)
        assert len(asyncio.all_tasks()) == 2
        assert threading.active_count() > before
    assert len(asyncio.all_tasks()) == 1
    assert not any(thread.name == "naiad-aside" for thread in threading.enumerate())
    assert [version.watch for version in bench.serving.values()] == [None, None]

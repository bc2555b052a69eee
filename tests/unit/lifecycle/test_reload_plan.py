"""What a change means for versions and models: pure decisions over what was and what is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.model_control import doubling_config

from naiad.lifecycle.reload_plan import (
    ModelView,
    ReloadPlan,
    RepositoryDiff,
    Sighting,
    diff_repository,
    is_unmodified,
    plan_reload,
)
from naiad.repository.stamps import FolderStamp

PATH = Path("/repository/m")
STAMP = FolderStamp(modified=10, shared=5, versions={1: 7, 2: 8})
VIEW = ModelView(PATH, STAMP, doubling_config())


def test_nothing_served_loads_all() -> None:
    assert plan_reload(None, VIEW, serving=(), wanted=(2, 1)) == ReloadPlan(load=(1, 2))


def test_nothing_changed_keeps_all() -> None:
    touched = replace(VIEW, stamp=replace(STAMP, modified=99))
    assert plan_reload(VIEW, touched, serving=(1, 2), wanted=(1, 2)) == ReloadPlan(keep=(1, 2))


def test_only_what_changed_is_loaded_and_what_is_not_wanted_leaves() -> None:
    view = replace(VIEW, stamp=FolderStamp(20, 5, {1: 7, 2: 20, 3: 15}))
    plan = plan_reload(VIEW, view, serving=(1, 2), wanted=(2, 3))
    assert plan == ReloadPlan(load=(2, 3), unload=(1,))
    plan = plan_reload(VIEW, view, serving=(1, 2), wanted=(1, 3))
    assert plan == ReloadPlan(load=(3,), keep=(1,), unload=(2,))


def test_a_version_that_does_not_serve_is_loaded() -> None:
    assert plan_reload(VIEW, VIEW, serving=(2,), wanted=(1, 2)) == ReloadPlan(load=(1,), keep=(2,))


@pytest.mark.parametrize(
    ("served", "view"),
    [
        (VIEW, replace(VIEW, config=doubling_config(max_batch_size=8))),
        (VIEW, replace(VIEW, stamp=replace(STAMP, shared=6))),
        (VIEW, replace(VIEW, overridden=True)),
        (replace(VIEW, overridden=True), VIEW),
        (VIEW, replace(VIEW, path=Path("/other/m"))),
    ],
    ids=["config", "labels", "override", "override before", "another repository"],
)
def test_what_all_versions_share_loads_all(served: ModelView, view: ModelView) -> None:
    assert plan_reload(served, view, serving=(1, 2), wanted=(1, 2)) == ReloadPlan(load=(1, 2))


@pytest.mark.parametrize(
    ("served", "path", "modified", "unmodified"),
    [
        (VIEW, PATH, 10, True),
        (VIEW, PATH, 9, True),  # going back is no change, as in Triton
        (VIEW, PATH, 11, False),
        (VIEW, Path("/other/m"), 10, False),
        (replace(VIEW, overridden=True), PATH, 10, True),
        (None, PATH, 10, False),
    ],
)
def test_only_a_later_time_is_a_change(
    served: ModelView | None, path: Path, modified: int, unmodified: bool
) -> None:
    assert is_unmodified(served, path, FolderStamp(modified)) is unmodified


def test_models_come_change_and_go() -> None:
    before = {name: Sighting(Path("/r") / name, 10) for name in ("same", "later", "back", "moved", "gone")}
    now = {
        "same": before["same"],
        "later": Sighting(Path("/r/later"), 11),
        "back": Sighting(Path("/r/back"), 9),
        "moved": Sighting(Path("/s/moved"), 10),
        "new": Sighting(Path("/r/new"), 1),
    }
    assert diff_repository(before, now) == RepositoryDiff(("new",), ("later", "moved"), ("gone",))


def test_what_came_or_went_beside_an_old_time_is_a_change() -> None:
    """Two folders may change within one tick of a coarse clock."""
    before = Sighting(Path("/r/m"), 10, names=("1",))
    now = replace(before, names=("1", "2"))
    assert diff_repository({"m": before}, {"m": now}).changed == ("m",)
    served = replace(VIEW, stamp=replace(STAMP, names=("1", "2")))
    assert not is_unmodified(served, PATH, replace(STAMP, names=("2",)))


def test_an_experiment_is_told_apart_from_changes_and_newcomers() -> None:
    old = Sighting(Path("/r/m"), 10)
    before = {"came": old, "went": replace(old, experiment=5), "same": replace(old, experiment=5)}
    now = {
        "came": replace(old, experiment=3),
        "went": old,
        "same": before["same"],
        "new": replace(old, experiment=1),
    }
    diff = diff_repository(before, now)
    assert (diff.added, diff.changed, diff.experiments) == (("new",), (), ("came", "went"))

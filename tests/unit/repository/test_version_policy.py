"""Which versions a policy selects of those present."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.config.model_config import VersionPolicy, VersionPolicyKind
from naiad.core.errors import InvalidArgumentError
from naiad.repository.version_policy import VersionSelection, select_versions

ALL = VersionPolicy(VersionPolicyKind.ALL)


def _latest(count: int) -> VersionPolicy:
    return VersionPolicy(VersionPolicyKind.LATEST, num_versions=count)


def _specific(*versions: int) -> VersionPolicy:
    return VersionPolicy(VersionPolicyKind.SPECIFIC, versions=versions)


@pytest.mark.parametrize(
    ("policy", "present", "selected", "missing"),
    [
        (VersionPolicy(), (1, 2, 10), (10,), ()),
        (_latest(2), (10, 9, 1), (9, 10), ()),
        (_latest(5), (0, 3), (0, 3), ()),
        (ALL, (3, 0, 7), (0, 3, 7), ()),
        (_specific(3, 1), (1, 2, 3), (1, 3), ()),
        (_specific(3, 9, 5), (1, 3), (3,), (5, 9)),
    ],
)
def test_each_policy_selects_what_it_says(
    policy: VersionPolicy, present: tuple[int, ...], selected: tuple[int, ...], missing: tuple[int, ...]
) -> None:
    assert select_versions(policy, present, model_name="m") == VersionSelection(selected, missing)


@pytest.mark.parametrize(
    ("policy", "present"),
    [(VersionPolicy(), ()), (ALL, ()), (_latest(0), (1,)), (_specific(4), (1,)), (_specific(), (1,))],
)
def test_a_policy_that_selects_nothing_is_refused_in_tritons_words(
    policy: VersionPolicy, present: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        select_versions(policy, present, model_name="m")
    assert caught.value.message == (
        "at least one version must be available under the version policy of model 'm'"
    )


@given(present=st.sets(st.integers(0, 20), min_size=1), count=st.integers(1, 25))
def test_latest_selects_the_highest_and_no_more(present: set[int], count: int) -> None:
    selected = select_versions(_latest(count), present, model_name="m").selected
    assert len(selected) == min(count, len(present))
    assert all(kept > left for kept in selected for left in present - set(selected))
    assert list(selected) == sorted(selected)


def test_an_experiment_s_versions_are_loaded_beside_those_that_the_policy_selects() -> None:
    policy = VersionPolicy(VersionPolicyKind.LATEST, num_versions=1)
    selection = select_versions(policy, (1, 2, 3), model_name="m", experiment=(1, 2, 9))
    assert selection.selected == (1, 2, 3)
    assert selection.missing == (9,)

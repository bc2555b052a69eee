"""A key's version: fixed for ever, shares as stated, and no key moves that need not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from naiad.config.experiment_config import ExperimentConfig
from naiad.lifecycle.experiments.assignment import Routes, point_of

if TYPE_CHECKING:
    from collections.abc import Mapping

RAMP_AT = 1_000.0


def experiment(weights: Mapping[int, float], **fields: object) -> ExperimentConfig:
    return ExperimentConfig.model_validate({"name": "m", "weights": weights, **fields})


def routes(weights: Mapping[int, float], *, ready: tuple[int, ...] = (1, 2, 3, 4, 5, 6)) -> Routes:
    return Routes(experiment(weights, baseline=1), ready=ready, now=0.0)


def drawn(points: list[float], weights: Mapping[int, float]) -> list[int | None]:
    """Who answers requests without a key that lie at these points."""
    left = iter(points)
    subject = Routes(
        experiment(weights, baseline=1), ready=(1, 2, 3, 4, 5, 6), now=0.0, draw=lambda: next(left)
    )
    return [subject.choose(None) for _ in points]


GOLDEN = {
    ("yunet-2", "alice"): 0.1768239704219663,
    ("yunet-2", "camera-7"): 0.5238578519069083,
    ("m", ""): 0.5997104843039931,
    ("m", "ключ 👁"): 0.40682853686159504,
    ("", "a"): 0.15620637663289494,
    ("m", "a" * 300): 0.68670274261746,
}
"""Points that no release may change: who was given a version would be given another one."""


@pytest.mark.parametrize(("salt", "key"), GOLDEN)
def test_points_are_those_of_every_release(salt: str, key: str) -> None:
    assert point_of(salt, key) == GOLDEN[salt, key]


def test_the_point_is_what_other_tools_make_of_the_same_bytes() -> None:
    """The first 16 digits that b2sum gives for name, NUL and key, over 2**64."""
    assert point_of("yunet-2", "alice") == pytest.approx(0x2D4455F21C78B59F / 2**64, rel=1e-15)


def test_salt_and_key_are_not_run_together() -> None:
    assert point_of("ab", "c") != point_of("a", "bc")


def test_half_a_character_in_a_key_has_a_point_too() -> None:
    assert 0.0 <= point_of("m", "\ud800") < 1.0


def test_the_highest_point_is_below_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 ones over 2**64 would be rounded to 1, which lies in no arc."""

    class Ones:
        def __init__(self, _: bytes) -> None: ...

        def digest(self) -> bytes:
            return b"\xff" * 64

    monkeypatch.setattr("naiad.lifecycle.experiments.assignment.blake2b", Ones)
    assert point_of("m", "a") == 1.0 - 2**-53
    assert routes({2: 1}).choose("a") == 2


@pytest.fixture(scope="module")
def million() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The points of a million keys of one experiment, in the order of the keys."""
    return np.fromiter(
        (point_of("m", f"user-{number}") for number in range(1_000_000)), np.float64, 1_000_000
    )


def test_a_share_of_10_percent_of_a_million_keys_is_10_percent(
    million: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    """Within 0.1 % of all keys, at either end of 0 to 1 and in each tenth between."""
    counts, _ = np.histogram(million, bins=10, range=(0.0, 1.0))
    assert np.abs(counts / million.size - 0.1).max() < 0.001
    subject = routes({1: 80, 2: 10, 3: 10})
    assert [subject.share_of(version) for version in (1, 2, 3)] == pytest.approx([0.8, 0.1, 0.1])
    chosen = Counter(subject.choose(f"user-{number}") for number in range(20_000))
    expected = {2: (million[:20_000] < 0.1).sum(), 3: (million[:20_000] >= 0.9).sum()}
    assert {version: chosen[version] for version in expected} == expected


KEYS = [f"user-{number}" for number in range(5_000)]


def moves(before: Routes, after: Routes) -> Counter[tuple[int | None, int | None]]:
    """How many keys went from which version to which."""
    pairs = ((before.choose(key), after.choose(key)) for key in KEYS)
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def test_from_10_to_20_percent_keys_move_from_the_baseline_to_the_candidate_alone() -> None:
    moved = moves(routes({1: 90, 2: 10}), routes({1: 80, 2: 20}))
    assert set(moved) == {(1, 2)}
    assert moved[1, 2] / len(KEYS) == pytest.approx(0.1, abs=0.015)


def test_one_of_two_candidates_changes_and_no_key_of_the_other_moves() -> None:
    before = routes({1: 60, 2: 20, 3: 20})
    assert set(moves(before, routes({1: 40, 2: 40, 3: 20}))) == {(1, 2)}
    assert set(moves(before, routes({1: 40, 2: 20, 3: 40}))) == {(1, 3)}
    assert set(moves(before, routes({1: 80, 2: 0, 3: 20}))) == {(2, 1)}
    assert set(moves(before, routes({1: 80, 2: 20, 3: 0}))) == {(3, 1)}


def test_a_third_candidate_takes_keys_of_the_baseline_alone() -> None:
    assert set(moves(routes({1: 60, 2: 20, 3: 20}), routes({1: 40, 2: 20, 3: 20, 4: 20}))) == {(1, 4)}


def test_each_candidate_has_its_place_from_both_ends_inwards() -> None:
    weights = {1: 20, 2: 10, 3: 20, 4: 10, 5: 20, 6: 20}
    assert drawn([0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.7, 0.9], weights) == [2, 4, 6, 6, 1, 1, 5, 3]


def test_a_version_of_weight_0_keeps_its_place_for_later() -> None:
    assert drawn([0.05, 0.95], {1: 80, 2: 0, 3: 20}) == [1, 3]
    assert drawn([0.05, 0.95], {1: 80, 3: 20}) == [3, 1]


def test_a_shadowed_version_answers_nobody_and_holds_its_place() -> None:
    config = experiment({1: 80, 3: 20}, shadow={"version": 2})
    subject = Routes(config, ready=(1, 2, 3), now=0.0, draw=lambda: 0.95)
    assert {subject.choose(key) for key in KEYS} == {1, 3}
    assert subject.choose(None) == 3


Weights = st.dictionaries(
    st.integers(1, 6),
    st.one_of(st.integers(0, 1_000).map(float), st.floats(0, 1e9, allow_subnormal=False)),
    min_size=1,
)


@settings(max_examples=200, deadline=None)
@given(Weights, st.floats(0, 1, exclude_max=True))
def test_any_weights_leave_no_gap_and_a_version_without_weight_gets_nothing(
    weights: dict[int, float], point: float
) -> None:
    assume(any(weights.values()))
    (chosen,) = drawn([point], weights)
    assert chosen in weights
    assert weights[chosen] > 0
    subject = routes(weights)
    shares = [subject.share_of(version) for version in range(1, 7)]
    total = sum(weights.values())
    assert shares == pytest.approx([weights.get(version, 0) / total for version in range(1, 7)], abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 100), min_size=2, max_size=2),
    st.integers(0, 1),
    st.integers(0, 100),
    st.floats(0, 1, exclude_max=True),
)
def test_whatever_the_weights_of_two_candidates_a_change_of_one_leaves_the_others_keys(
    two: list[int], changed: int, to: int, point: float
) -> None:
    before, after = list(two), list(two)
    after[changed] = to
    other = 3 - changed
    (first,) = drawn([point], {1: 300 - sum(before), 2: before[0], 3: before[1]})
    (second,) = drawn([point], {1: 300 - sum(after), 2: after[0], 3: after[1]})
    assert (first == other) == (second == other)


@settings(max_examples=100, deadline=None)
@given(Weights, st.sets(st.integers(1, 6)), st.sets(st.integers(2, 6)), st.text(max_size=20))
def test_whatever_is_ready_only_that_answers_and_others_keep_their_keys(
    weights: dict[int, float], ready: set[int], excluded: set[int], key: str
) -> None:
    assume(any(weights.values()))
    config = experiment(weights, baseline=1)
    wanted = Routes(config, ready=config.answering, now=0.0).choose(key)
    chosen = Routes(config, ready=ready, now=0.0, excluded=excluded).choose(key)
    usable = (ready - excluded) & set(config.answering)
    expected = wanted if wanted in usable else 1 if 1 in usable else max(usable, default=None)
    assert chosen == expected


def test_a_listed_key_gets_its_version_whatever_the_weights() -> None:
    subject = Routes(experiment({1: 1, 2: 0}, keys={"2": ["alice"], "1": ["bob"]}), ready=(1, 2), now=0.0)
    assert (subject.choose("alice"), subject.choose("bob"), subject.choose("carol")) == (2, 1, 1)
    assert subject.share_of(2) == 0.0


def test_a_version_that_is_not_ready_or_rolled_back_leaves_its_keys_to_the_baseline() -> None:
    config = experiment({1: 0, 2: 50, 3: 50}, keys={"2": ["alice"]})
    for subject in (
        Routes(config, ready=(1, 3), now=0.0),
        Routes(config, ready=(1, 2, 3), now=0.0, excluded=(2,)),
    ):
        assert subject.choose("alice") == 1
        assert (subject.share_of(1), subject.share_of(2), subject.share_of(3)) == (0.5, 0.0, 0.5)


def test_without_the_baseline_the_highest_version_that_is_ready_stands_in_for_it() -> None:
    config = experiment({1: 100, 2: 0, 3: 0}, shadow={"version": 4})
    assert Routes(config, ready=(2, 3, 4, 9), now=0.0).choose("a") == 3
    assert Routes(config, ready=(2, 3), now=0.0, excluded=(3,)).choose("a") == 2
    nobody = Routes(config, ready=(3, 4), now=0.0, excluded=(3,))
    assert (nobody.choose("a"), nobody.choose(None), nobody.share_of(3)) == (None, None, 0.0)


def test_the_baseline_cannot_be_rolled_back() -> None:
    assert Routes(experiment({1: 1, 2: 1}), ready=(1,), now=0.0, excluded=(1,)).choose("a") == 1


def test_a_promoted_version_answers_everybody_while_it_is_ready() -> None:
    config = experiment({1: 90, 2: 10}, keys={"1": ["alice"]}, shadow={"version": 3})
    promoted = Routes(config, ready=(1, 2, 3), now=0.0, promoted=2)
    assert {promoted.choose(key) for key in (*KEYS[:100], "alice", None)} == {2}
    assert promoted.share_of(2) == 1.0
    assert Routes(config, ready=(1, 2, 3), now=0.0, promoted=3).choose("alice") == 3
    for fallen_back in (
        Routes(config, ready=(1,), now=0.0, promoted=2),
        Routes(config, ready=(1, 2), now=0.0, promoted=2, excluded=(2,)),
    ):
        assert {fallen_back.choose(key) for key in (*KEYS[:100], "alice", None)} == {1}


def test_the_ramp_is_followed_from_its_second_on() -> None:
    config = experiment(
        {1: 1, 2: 0}, ramp=[{"at": "1970-01-01T00:16:40Z", "weights": {"1": 0, "2": 1}}]
    )  # RAMP_AT
    before = Routes(config, ready=(1, 2), now=RAMP_AT - 0.001)
    after = Routes(config, ready=(1, 2), now=RAMP_AT)
    assert (before.choose("a"), before.next_change) == (1, RAMP_AT)
    assert (after.choose("a"), after.next_change) == (2, None)


def test_another_name_parts_callers_independently() -> None:
    mine = Routes(experiment({1: 50, 2: 50}), ready=(1, 2), now=0.0)
    other = Routes(experiment({1: 50, 2: 50}, name="n"), ready=(1, 2), now=0.0)
    both = Counter((mine.choose(key), other.choose(key)) for key in KEYS)
    assert all(count / len(KEYS) == pytest.approx(0.25, abs=0.03) for count in both.values())


def test_requests_without_a_key_are_parted_by_the_weights_too() -> None:
    subject = routes({1: 70, 2: 30})
    counts = Counter(subject.choose(None) for _ in range(20_000))
    assert counts[2] / 20_000 == pytest.approx(0.3, abs=0.03)  # nine standard deviations


@pytest.mark.parametrize("seed", ["0", "1"])
def test_other_processes_choose_alike(seed: str) -> None:
    code = (
        "from naiad.config.experiment_config import ExperimentConfig\n"
        "from naiad.lifecycle.experiments.assignment import Routes\n"
        "config = ExperimentConfig(name='m', weights={1: 50, 2: 30, 3: 20})\n"
        "routes = Routes(config, ready={1, 2, 3}, now=0.0)\n"
        "print(*(routes.choose(f'user-{n}') for n in range(500)))"
    )
    environment = os.environ | {"PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    subject = routes({1: 50, 2: 30, 3: 20})
    assert other.stdout.split() == [str(subject.choose(key)) for key in KEYS[:500]]

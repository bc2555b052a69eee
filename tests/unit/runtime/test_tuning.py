"""The choice of a layout: the most runs a second, the shorter run where that is a tie, never noise."""

from __future__ import annotations

import pytest

from naiad.runtime.tuning import Challenge, Outcome, Pair, Round, decide, is_clear, is_trusted, keep_rule


def challenge(
    instances: int, *ratios: float, run_ms: float = 1.0, delayed: float = 0.0, rule_rate: float = 1_000
) -> Challenge:
    pairs = tuple(Pair(Round(rule_rate, delayed), Round(rule_rate * ratio, delayed)) for ratio in ratios)
    return Challenge(instances, run_ms * 1e6, pairs)


def outcome(*challenges: Challenge, threads: int = 2, run_ms: float = 2.0) -> Outcome:
    return Outcome(threads, rule=min(threads, 4), run_ns=run_ms * 1e6, challenges=challenges)


def test_the_higher_rate_wins_and_both_are_told() -> None:
    chosen = decide(outcome(challenge(1, 0.5, 0.48, 0.52)))
    assert chosen.instances == 2
    assert chosen.reason == "measured: 2 x 1 gives 1,000/s, 1 x 2 gives 500/s (--measure-layout)"


def test_a_challenger_that_is_faster_takes_the_rules_place() -> None:
    assert decide(outcome(challenge(1, 1.2, 1.2))).instances == 1


def test_of_rates_within_five_percent_the_shorter_run_wins() -> None:
    chosen = decide(outcome(challenge(1, 0.96, 0.96, run_ms=1.1), run_ms=2.0))
    assert chosen.instances == 1
    assert "near enough for the shorter run to decide: 2 x 1 in 2 ms, 1 x 2 in 1.1 ms" in chosen.reason
    assert decide(outcome(challenge(1, 0.96, 0.96, run_ms=2.5), run_ms=2.0)).instances == 2
    assert decide(outcome(challenge(1, 0.94, 0.94, run_ms=1.1), run_ms=2.0)).instances == 2


def test_near_the_best_counts_and_not_near_each_other() -> None:
    """16, 8, 4 … instances may each be near the next; the choice stays within 5 % of the best."""
    steps = (
        challenge(16, 1.04, 1.04, run_ms=8),
        challenge(8, 0.97, 0.97, run_ms=1.5),
        challenge(2, 0.96, 0.96, run_ms=0.5),
    )
    assert decide(outcome(*steps, threads=16)).instances == 4


def test_one_round_that_was_disturbed_changes_nothing() -> None:
    assert decide(outcome(challenge(1, 0.5, 3.0, 0.5))).instances == 2


def test_only_rounds_whose_callers_had_their_cpus_count() -> None:
    quiet, busy = challenge(1, 1.3, 1.4), challenge(1, 0.2, 0.2, 0.2, 0.2, delayed=0.3)
    assert decide(outcome(Challenge(1, 1e6, (*busy.pairs, *quiet.pairs)))).instances == 1


def test_a_drifting_machine_is_compared_round_by_round() -> None:
    """The second challenger was measured when everything ran at half the speed."""
    slow = challenge(1, 1.3, 1.3, 1.3, rule_rate=500)
    assert decide(outcome(challenge(2, 1.1, 1.1, 1.1), slow, threads=4)).instances == 1


def test_callers_that_got_no_cpu_prove_nothing() -> None:
    disturbed = outcome(challenge(1, 2.0, 2.0, delayed=0.4))
    chosen = decide(disturbed)
    assert chosen.instances == 2
    assert chosen.reason == (
        "rule: 2 x 1; the measurement of 1 x 2 does not count: "
        "other work held its callers up for 40% of the time"
    )
    assert not is_trusted(disturbed)
    assert is_trusted(outcome(challenge(1, 2.0, 2.0, delayed=0.1)))


def test_several_disturbed_measurements_are_one_sentence() -> None:
    """A thread can have waited for longer than it is known to have run: more than all of the time is none."""
    disturbed = outcome(challenge(2, 1.0, 1.0, delayed=0.5), challenge(1, 1.0, 1.0, delayed=1.4), threads=4)
    assert decide(disturbed).reason.endswith(
        "; the measurements of 2 x 2 and 1 x 4 do not count: "
        "other work held their callers up for 50% to 100% of the time"
    )


def test_a_challenger_that_was_disturbed_leaves_the_choice_among_the_others() -> None:
    chosen = decide(outcome(challenge(2, 1.5, 1.5, delayed=0.5), challenge(1, 1.2, 1.2), threads=4))
    assert chosen.instances == 1
    assert "measurement of 2 x 2 does not count" in chosen.reason


def test_what_was_skipped_is_told_and_the_rule_stays() -> None:
    nothing = Outcome(2, 2, 4e8, skipped=("1 x 2 was not tried: one run takes 400 ms",))
    assert decide(nothing) == keep_rule(2, 2, "1 x 2 was not tried: one run takes 400 ms")
    assert not is_trusted(nothing)


def test_circumstances_are_told() -> None:
    assert (
        "1 x 2 gives 500/s while the server served"
        in decide(outcome(challenge(1, 0.5, 0.5)), circumstances=" while the server served").reason
    )


@pytest.mark.parametrize(
    ("ratios", "clear"),
    [((0.5, 0.5), False), ((0.5, 0.5, 0.6), True), ((1.5, 1.2, 1.3), True), ((0.5, 1.2, 0.5), False)],
)
def test_three_pairs_that_agree_are_enough(ratios: tuple[float, ...], clear: bool) -> None:
    assert is_clear(challenge(1, *ratios).pairs) is clear


def test_a_machine_that_is_busy_with_other_work_is_given_up_after_six_pairs() -> None:
    busy = challenge(1, *[0.5] * 6, delayed=0.5).pairs
    assert is_clear(busy)
    assert not is_clear(busy[:5])
    assert not is_clear((*busy, *challenge(1, 0.5).pairs)), "one that counts is a hope"

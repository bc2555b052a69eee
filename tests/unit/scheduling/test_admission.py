"""The predicted wait is a function of what waits, runs and was measured; only a sure loss is refused."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.core.errors import ResourceExhaustedError
from naiad.core.tensors import ModelKey
from naiad.scheduling.admission import ENOUGH, Admission, Ahead, Prediction, ServiceTimes, predict

MS = 1_000_000
NOW = 10**12
NOTHING = Ahead(0, 0)


class Batch(NamedTuple):
    items: int
    started_ns: int


def measured(*runs: tuple[int, float], times: int = ENOUGH) -> ServiceTimes:
    service = ServiceTimes()
    for _ in range(times):
        for items, ms in runs:
            service.measure(items, int(ms * MS))
    return service


def wait_ms(
    ahead: Ahead, service: ServiceTimes, *running: Batch, idle: int = 0, items: int = 1, merged: int = 0
) -> float:
    return prediction(ahead, service, *running, idle=idle, items=items, merged=merged).wait_ns / MS


def prediction(
    ahead: Ahead, service: ServiceTimes, *running: Batch, idle: int = 0, items: int = 1, merged: int = 0
) -> Prediction:
    return predict(ahead, items, max_batch_size=merged, idle=idle, running=running, now_ns=NOW, times=service)


def just_begun(items: int = 1) -> Batch:
    return Batch(items, NOW)


def test_an_idle_instance_and_an_empty_queue_are_no_wait() -> None:
    assert wait_ms(NOTHING, measured((1, 100)), just_begun(), idle=1) == 0


def test_the_wait_is_the_rest_of_the_batch_that_ends_first() -> None:
    service = measured((1, 100))
    assert wait_ms(NOTHING, service, Batch(1, NOW - 30 * MS)) == 70
    assert wait_ms(NOTHING, service, just_begun(), Batch(1, NOW - 30 * MS)) == 70
    assert wait_ms(NOTHING, service, Batch(1, NOW - 300 * MS)) == 0, "overdue: it may end any moment"


def test_requests_that_are_not_merged_wait_for_each_before_them() -> None:
    service = measured((1, 100))
    assert wait_ms(Ahead(3, 3), service, just_begun()) == 400
    assert wait_ms(Ahead(3, 3), service, just_begun(), just_begun()) == 200
    assert wait_ms(Ahead(4, 4), service, just_begun(), just_begun()) == 300


def test_merged_requests_wait_for_the_full_batches_before_them_and_join_the_last() -> None:
    service = measured((1, 20), (4, 40))
    one = just_begun(4)
    assert wait_ms(Ahead(3, 3), service, one, merged=4) == 40
    assert wait_ms(Ahead(4, 4), service, one, merged=4) == 80
    assert wait_ms(Ahead(7, 7), service, one, merged=4) == 80
    # Two items do not fit beside three: those three run before.
    assert wait_ms(Ahead(7, 7), service, one, merged=4, items=2) == 80 + 40


def test_without_a_measurement_nothing_is_predicted() -> None:
    assert wait_ms(Ahead(1_000, 1_000), ServiceTimes(), just_begun()) == 0


def test_a_size_never_seen_is_told_by_its_neighbours() -> None:
    service = measured((2, 10), (8, 20))
    assert service.estimate_ns(1) == 10 * MS, "a smaller batch takes no longer"
    assert service.estimate_ns(4) == 20 * MS
    assert measured((2, 10), (8, 100)).estimate_ns(4) == 20 * MS, "nor one of twice the size twice the time"
    assert service.estimate_ns(16) == 20 * MS, "nobody is refused for what never ran"


def test_a_slow_size_of_long_ago_is_not_believed_against_a_fast_one_of_now() -> None:
    """Else requests would be refused for ever: no batch of that size would form, to be measured again."""
    service = measured((1, 1_000), (8, 8_000))
    for _ in range(20):
        service.measure(1, MS)
    assert service.estimate_ns(8) < 10 * MS


def test_a_model_that_is_fast_again_is_believed_within_ten_runs() -> None:
    service = measured((1, 1_000))
    for _ in range(10):
        service.measure(1, MS)
    assert service.estimate_ns(1) < 2 * MS


def test_one_hiccup_counts_little_and_a_lasting_slowdown_is_learnt() -> None:
    service = measured((1, 1))
    service.measure(1, 10_000 * MS)
    assert service.estimate_ns(1) < 1.5 * MS
    for _ in range(30):
        service.measure(1, 100 * MS)
    assert 60 * MS < service.estimate_ns(1) <= 100 * MS


def refusal(judge: Admission, ahead: Ahead, **limits: Any) -> ResourceExhaustedError:
    with pytest.raises(ResourceExhaustedError) as caught:
        ask(judge, ahead, **limits)
    return caught.value


def ask(
    judge: Admission,
    ahead: Ahead,
    *,
    deadline_ms: float | None = None,
    timeout_ms: float | None = None,
    idle: int = 0,
) -> None:
    judge.check(
        ahead,
        1,
        deadline_ns=None if deadline_ms is None else NOW + int(deadline_ms * MS),
        timeout_ns=None if timeout_ms is None else int(timeout_ms * MS),
        idle=idle,
        running=() if idle else (just_begun(),),
        now_ns=NOW,
    )


def admission(*runs: tuple[int, float], times: int = ENOUGH) -> Admission:
    made = Admission(ModelKey("m", 1), max_batch_size=0)
    made.times = measured(*runs, times=times)
    return made


def test_a_refusal_names_the_wait_the_deadline_and_the_flag_and_when_to_try_again() -> None:
    error = refusal(admission((1, 100)), Ahead(4, 4), deadline_ms=250)
    assert error.message == (
        "a request for 'm/1' would now wait about 500.0 ms for an instance and run for 100.0 ms, and its "
        "deadline is in 250.0 ms (--admission-control)"
    )
    assert error.retry_after_ms == 350
    error = refusal(admission((1, 100)), Ahead(4, 4), timeout_ms=250)
    assert error.message == (
        "a request for 'm/1' would now wait about 500.0 ms for an instance, and its queue timeout is 250.0 ms "
        "(--admission-control)"
    )
    assert error.retry_after_ms == 250


def test_who_queues_for_a_time_needs_no_run_within_it_and_who_waits_for_the_answer_does() -> None:
    judge, one = admission((1, 100)), Ahead(1, 1)
    ask(judge, one, timeout_ms=200)
    refusal(judge, one, timeout_ms=199)
    ask(judge, one, deadline_ms=300)
    refusal(judge, one, deadline_ms=299)
    refusal(judge, one, deadline_ms=299, timeout_ms=10_000)
    refusal(judge, one, deadline_ms=10_000, timeout_ms=199)


def test_who_has_no_limit_or_finds_an_idle_instance_is_let_in() -> None:
    judge = admission((1, 100))
    ask(judge, Ahead(1_000, 1_000))
    ask(judge, NOTHING, deadline_ms=0.001, timeout_ms=0.001, idle=1)


def test_a_request_runs_with_those_that_share_its_batch() -> None:
    service = measured((1, 20), (4, 40))
    alone, joins, full = (
        prediction(Ahead(count, count), service, just_begun(4), merged=4) for count in (0, 3, 4)
    )
    assert (alone.run_ns, joins.run_ns) == (20 * MS, 40 * MS)
    assert full.run_ns == 40 * MS, "others come after it"


def test_runs_that_callers_would_not_wait_for_are_known_to_take_at_least_so_long() -> None:
    """Else a model that is too slow for all its callers would go on running for nobody."""
    service = ServiceTimes()
    for elapsed_ms in (50, 80, 1, 60):
        service.measure_at_least(1, elapsed_ms * MS)
    assert service.measured == 4
    assert 50 * MS < service.estimate_ns(1) <= 80 * MS


def test_a_deadline_that_has_passed_is_left_to_its_timer() -> None:
    ask(admission((1, 100)), Ahead(9, 9), deadline_ms=-1)


def test_nothing_is_refused_before_enough_was_measured() -> None:
    judge = admission((1, 100), times=ENOUGH - 1)
    ask(judge, Ahead(9, 9), deadline_ms=1)
    judge.times.measure(1, 100 * MS)
    refusal(judge, Ahead(9, 9), deadline_ms=1)


SIZES = st.integers(1, 64)


@given(
    runs=st.lists(st.tuples(SIZES, st.integers(0, 10**10)), max_size=40),
    requests=st.integers(0, 1_000),
    size=SIZES,
    started=st.lists(st.tuples(SIZES, st.integers(0, 10**10)), max_size=4),
    idle=st.integers(0, 3),
    merged=st.sampled_from([0, 1, 8, 64]),
)
def test_every_prediction_is_a_time_and_more_before_a_request_never_shortens_it(
    *,
    runs: list[tuple[int, int]],
    requests: int,
    size: int,
    started: list[tuple[int, int]],
    idle: int,
    merged: int,
) -> None:
    service = ServiceTimes()
    for items, ns in runs:
        service.measure(items, ns)
    running = [Batch(items, NOW - ns) for items, ns in started]
    waits = [
        wait_ms(Ahead(count, count * size), service, *running, idle=idle, merged=merged)
        for count in (requests, requests + 64)
    ]
    assert 0 <= waits[0] <= waits[1] < 10**9
    if idle:
        assert wait_ms(NOTHING, service, *running, idle=idle, merged=merged) == 0


@given(
    runs=st.lists(st.tuples(SIZES, st.integers(0, 10**9)), min_size=ENOUGH, max_size=40),
    requests=st.integers(0, 100),
    size=SIZES,
    started=st.lists(st.tuples(SIZES, st.integers(0, 10**9)), max_size=4),
    merged=st.sampled_from([0, 64]),
    limits=st.tuples(*[st.none() | st.floats(0.5, 3.0)] * 2),
)
def test_who_is_let_in_without_a_prediction_would_be_let_in_by_it(
    *,
    runs: list[tuple[int, int]],
    requests: int,
    size: int,
    started: list[tuple[int, int]],
    merged: int,
    limits: tuple[float | None, float | None],
) -> None:
    """The limits are drawn around the predicted times, where the two could differ."""
    judge = Admission(ModelKey("m", 1), max_batch_size=merged)
    for items, ns in runs:
        judge.times.measure(items, ns)
    assert all(judge.times.estimate_ns(items) <= judge.times.longest_ns() for items in range(1, 130))
    ahead, running = Ahead(requests, requests * size), [Batch(items, NOW - ns) for items, ns in started]
    wait_ns, run_ns = prediction(ahead, judge.times, *running, items=size, merged=merged)
    deadline_ns, timeout_ns = (
        None if each is None else int(each * (wait_ns + run_ns)) + 1 for each in limits
    )
    late = wait_ns > 0 and (
        (deadline_ns is not None and deadline_ns < wait_ns + run_ns)
        or (timeout_ns is not None and timeout_ns < wait_ns)
    )
    with pytest.raises(ResourceExhaustedError) if late else nullcontext():
        judge.check(
            ahead,
            size,
            deadline_ns=None if deadline_ns is None else NOW + deadline_ns,
            timeout_ns=timeout_ns,
            idle=0,
            running=running,
            now_ns=NOW,
        )

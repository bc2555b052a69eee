"""The queue keeps order within priority levels, applies their policies, and lets requests leave from anywhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.futures import lone_future

from naiad.config.model_config import DynamicBatching, QueuePolicy, TimeoutAction
from naiad.core.tensors import InferRequest
from naiad.scheduling.admission import Ahead
from naiad.scheduling.policies import PriorityLevels
from naiad.scheduling.queue import FullLevel, PendingRequest, RequestQueue

REJECT = QueuePolicy(default_timeout_us=1)
DELAY = QueuePolicy(TimeoutAction.DELAY, default_timeout_us=1)
US = 1_000


def pending(name: str, *, priority: int = 0, now_ns: int = 0, timeout_us: int = 0) -> PendingRequest:
    request = InferRequest("m", None, {}, request_id=name, priority=priority, timeout_us=timeout_us)
    return PendingRequest(request, lone_future(), arrived_ns=now_ns)


def names(requests: list[PendingRequest]) -> str:
    return "".join(item.request.request_id for item in requests)


def levels(count: int, default: int = 1, **policies: QueuePolicy) -> PriorityLevels:
    by_level = {int(name.removeprefix("level")): policy for name, policy in policies.items()}
    return PriorityLevels(
        DynamicBatching(priority_levels=count, default_priority_level=default, priority_queue_policy=by_level)
    )


def one_level(policy: QueuePolicy) -> RequestQueue:
    return RequestQueue(PriorityLevels(DynamicBatching(default_queue_policy=policy)))


def filled(queue: RequestQueue, *items: PendingRequest) -> RequestQueue:
    for item in items:
        queue.push(item)
    return queue


def test_requests_leave_in_the_order_they_came() -> None:
    queue = filled(RequestQueue(), *map(pending, "abc"))
    assert names(queue.pop(2)) == "ab"
    assert names(list(queue)) == "c"
    assert len(queue) == 1


def test_a_discarded_request_is_gone_and_only_once() -> None:
    middle = pending("b")
    queue = filled(RequestQueue(), pending("a"), middle, pending("c"))
    assert queue.discard(middle)
    assert not queue.discard(middle)
    assert not queue.discard(pending("stranger"))
    assert names(queue.pop(2)) == "ac"
    assert len(queue) == 0


def test_level_one_overtakes_and_each_level_stays_in_order() -> None:
    queue = filled(
        RequestQueue(levels(3, default=2)),
        pending("c", priority=2),
        pending("e", priority=3),
        pending("a", priority=1),
        pending("d"),
        pending("b", priority=1),
    )
    assert names(list(queue)) == "abcde"
    assert names(queue.pop(3)) == "abc"
    assert names(queue.clear()) == "de"


def test_levels_that_stand_empty_do_not_pile_up() -> None:
    """A caller may name any of many levels; what it leaves behind is bounded by what waits."""
    queue = RequestQueue(levels(2**32 - 1))
    for priority in range(1, 1_000):
        queue.push(pending("x", priority=priority))
        queue.pop(1)
    assert len(queue._levels) <= 2


def test_an_expired_request_is_rejected_wherever_it_stands() -> None:
    queue = filled(one_level(REJECT), pending("a", now_ns=5 * US), pending("b"), pending("c", now_ns=9 * US))
    assert queue.next_timeout_ns() == 1 * US
    assert names(queue.pop_timed_out(6 * US)) == "ba"
    assert names(list(queue)) == "c"
    assert queue.next_timeout_ns() == 10 * US


def test_an_expired_request_is_delayed_behind_its_level_and_before_the_next() -> None:
    policies = levels(2, default=2, level1=DELAY)
    queue = filled(RequestQueue(policies), pending("c", priority=1), pending("d"))
    assert queue.pop_timed_out(2 * US) == []
    filled(queue, pending("a", priority=1, now_ns=2 * US), pending("b", priority=1, now_ns=2 * US))
    assert names(list(queue)) == "abcd"
    assert queue.pop_timed_out(10**9) == []
    assert names(list(queue)) == "cabd"
    assert queue.next_timeout_ns() is None
    assert len(queue) == 4


def test_a_delayed_request_can_leave_and_be_taken() -> None:
    first, second = pending("a"), pending("b")
    queue = filled(one_level(DELAY), first, second)
    queue.pop_timed_out(10 * US)
    assert queue.discard(first)
    assert names(queue.pop(5)) == "b"


def test_a_full_level_is_named_with_its_limit_and_others_are_not_full() -> None:
    queue = RequestQueue(levels(2, default=2, level1=QueuePolicy(max_queue_size=1)))
    high, low = InferRequest("m", None, {}, priority=1), InferRequest("m", None, {}, priority=2)
    assert queue.full_level(high) is None
    queue.push(pending("a", priority=1))
    assert queue.full_level(high) == FullLevel(level=1, waiting=1, limit=1)
    assert queue.full_level(low) is None


def test_delayed_requests_count_towards_the_limit() -> None:
    queue = one_level(QueuePolicy(TimeoutAction.DELAY, default_timeout_us=1, max_queue_size=1))
    queue.push(pending("a"))
    queue.pop_timed_out(10 * US)
    assert queue.full_level(InferRequest("m", None, {})) is not None


moves = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 4)),
        st.tuples(st.just("pop"), st.integers(0, 3)),
        st.tuples(st.just("discard"), st.integers(0, 40)),
        st.tuples(st.just("expire"), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(moves, st.sampled_from([REJECT, DELAY, QueuePolicy()]))
def test_nothing_is_lost_doubled_or_reordered_within_a_level(
    steps: list[tuple[str, int]], policy: QueuePolicy
) -> None:
    """Whatever happens, each request leaves once, and those of a level that were not delayed in order."""
    batching = DynamicBatching(priority_levels=3, default_priority_level=2, default_queue_policy=policy)
    queue = RequestQueue(PriorityLevels(batching))
    pushed: list[PendingRequest] = []
    left: list[PendingRequest] = []
    now = 0
    for step, number in steps:
        now += 100
        if step == "push":
            pushed.append(pending(str(len(pushed)), priority=number, now_ns=now))
            queue.push(pushed[-1])
        elif step == "pop":
            left += queue.pop(number)
        elif step == "discard" and number < len(pushed):
            left += [pushed[number]] if queue.discard(pushed[number]) else []
        elif step == "expire":
            left += queue.pop_timed_out(now + number * 100)
        assert len(queue) == len(list(queue)) == len(pushed) - len(left)
        waiting = list(queue)
        assert [item.level for item in waiting] == sorted(item.level for item in waiting)
        if policy.timeout_action is TimeoutAction.REJECT:
            for level in (1, 2, 3):
                tickets = [item.ticket for item in waiting if item.level == level]
                assert tickets == sorted(tickets)
    left += queue.clear()
    assert sorted(id(item) for item in left) == sorted(id(item) for item in pushed)


def test_what_leaves_before_a_request_is_counted_by_level_without_what_was_moved_back() -> None:
    queue = RequestQueue(levels(2, default=2, level2=DELAY))
    late, first, second = pending("a"), pending("b", priority=1), pending("c", now_ns=US)
    first.batch_size = 3
    filled(queue, late, first, second)
    above, below = (InferRequest("m", None, {}, priority=number) for number in (1, 2))
    assert (queue.ahead(above), queue.ahead(below)) == (Ahead(1, 3), Ahead(3, 5))
    queue.pop_timed_out(US)
    assert queue.ahead(below) == Ahead(2, 4), "the one that came first was moved back"
    assert queue.discard(second)
    assert queue.ahead(below) == Ahead(1, 3)
    assert queue.pop(1) == [first]
    assert queue.pop(1) == [late]
    assert queue.ahead(below) == Ahead(0, 0)


def test_only_a_policy_that_rejects_limits_how_long_a_request_waits() -> None:
    request = InferRequest("m", None, {}, timeout_us=3)
    assert RequestQueue().timeout_ns(request) is None
    assert one_level(DELAY).timeout_ns(request) is None
    assert one_level(REJECT).timeout_ns(request) == US
    own = QueuePolicy(default_timeout_us=9, allow_timeout_override=True)
    assert one_level(own).timeout_ns(request) == 3 * US

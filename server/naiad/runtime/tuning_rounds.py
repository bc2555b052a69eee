"""Measures layouts of a model against each other: threads that call sessions, in rounds taken in turn."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, Self

from naiad.runtime.layout import list_layouts
from naiad.runtime.session import InstanceSessions
from naiad.runtime.thread_names import name_thread
from naiad.runtime.tuning import Challenge, Outcome, Pair, Round, is_clear

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from naiad.core.clock import Clock
    from naiad.core.tensors import Tensors
    from naiad.runtime.session import Session

_MIN_ROUND_NS = 30_000_000
_ROUNDS = 16
_MIN_PAIRS = 2
_FIRST_RUNS = 2
_TIMED_RUNS = 5
_MIN_RUNS = _FIRST_RUNS + 1 + 2 + 2 * _MIN_PAIRS
_SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    `session` is open and warm in the rule's layout of `rule` instances that share `threads`; `open_session`
    opens the same model for another number of instances, which took `open_ns` for the first one. Each run is
    given `feeds` and computes `outputs`.
    """

    session: Session
    rule: int
    threads: int
    challengers: Sequence[int]
    open_session: Callable[[int], Session]
    open_ns: int
    feeds: Tensors
    outputs: Sequence[str]


class _Calls(NamedTuple):
    """One caller's runs."""

    runs: int
    elapsed_ns: int
    delay_ns: int


def time_run(subject: Subject, session: Session, clock: Clock) -> float:
    """The median time of one run alone, in nanoseconds, after a few that are not counted."""
    for _ in range(_FIRST_RUNS):
        session.run(subject.feeds, subject.outputs)
    took: list[int] = []
    started_ns = clock.now_ns()
    while not took or (len(took) < _TIMED_RUNS and clock.now_ns() - started_ns < _MIN_ROUND_NS):
        before_ns = clock.now_ns()
        session.run(subject.feeds, subject.outputs)
        took.append(clock.now_ns() - before_ns)
    return median(took)


def measure(subject: Subject, clock: Clock, *, run_ns: float, limit_ns: int) -> Outcome:
    """Measure each challenger beside the rule's layout, two sessions open at most.

    Rounds of the two are taken in turn, until the winner is clear or the challenger's share of the time is
    used up. A challenger for which there is no time is skipped; those named first come first.

    Args:
        subject: the model.
        clock: the monotonic clock.
        run_ns: the time of one run in the rule's layout.
        limit_ns: how long all of it may take, about.

    Raises:
        NaiadError: a session does not open, or a run fails.
    """
    until_ns = clock.now_ns() + limit_ns
    challenges: list[Challenge] = []
    skipped: list[int] = []
    for index, instances in enumerate(subject.challengers):
        left_ns = until_ns - clock.now_ns()
        least_ns = subject.open_ns + _MIN_RUNS * run_ns
        if least_ns > left_ns:
            skipped.append(instances)
            continue
        end_ns = clock.now_ns() + left_ns // (len(subject.challengers) - index)
        with closing(subject.open_session(instances)) as session:
            challenges.append(_challenge(subject, session, instances, clock, end_ns))
    asides = (_no_time(subject, skipped, run_ns, limit_ns),) if skipped else ()
    return Outcome(subject.threads, subject.rule, run_ns, tuple(challenges), asides)


def _no_time(subject: Subject, skipped: Sequence[int], run_ns: float, limit_ns: int) -> str:
    takes = f"a session takes {subject.open_ns / 1e9:.2g} s to open and a run {run_ns / 1e6:.3g} ms"
    were = f"{list_layouts(skipped, subject.threads)} {'was' if len(skipped) == 1 else 'were'} not tried"
    return f"{were}, {takes}: there are {limit_ns / 1e9:g} s in all (--measure-layout-secs)"


def _challenge(subject: Subject, session: Session, instances: int, clock: Clock, end_ns: int) -> Challenge:
    run_ns = time_run(subject, session, clock)
    with (
        _Crew(subject, subject.session, subject.rule, clock) as rule,
        _Crew(subject, session, instances, clock) as challenger,
    ):
        # The engine gets its memory for that many, and the system spreads the threads over the CPUs.
        rule.work(_MIN_ROUND_NS)
        challenger.work(_MIN_ROUND_NS)
        span_ns = max(_MIN_ROUND_NS, (end_ns - clock.now_ns()) // _ROUNDS)
        pairs: list[Pair] = []
        while len(pairs) < _MIN_PAIRS or (clock.now_ns() < end_ns and not is_clear(pairs)):
            pairs.append(Pair(rule.work(span_ns), challenger.work(span_ns)))
    return Challenge(instances, run_ns, tuple(pairs))


class _Crew:
    """The callers of one layout, a thread each. A context manager, which joins them."""

    def __init__(self, subject: Subject, session: Session, callers: int, clock: Clock) -> None:
        self._subject = subject
        self._session = session
        self._callers = callers
        self._clock = clock
        self._pool = ThreadPoolExecutor(callers, "naiad-measure", initializer=name_thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def work(self, span_ns: int) -> Round:
        """Let all of them call the session until the span is over, each at least once."""
        # None begins before all have a thread of their own.
        start = threading.Barrier(self._callers)
        until_ns = self._clock.now_ns() + span_ns
        try:
            waiting = [self._pool.submit(self._call, start, until_ns) for _ in range(self._callers)]
        except BaseException:
            start.abort()  # the system has no more threads; those that wait must end
            raise
        calls = [each.result() for each in waiting]
        # Each caller's own rate: those that end first do not wait for the last one's run.
        rate = sum(each.runs * 1e9 / max(1, each.elapsed_ns) for each in calls)
        return Round(rate, sum(each.delay_ns / max(1, each.elapsed_ns) for each in calls) / self._callers)

    def _call(self, start: threading.Barrier, until_ns: int) -> _Calls:
        session, feeds, outputs = self._session, self._subject.feeds, self._subject.outputs
        own = session.for_instance() if isinstance(session, InstanceSessions) else session
        start.wait()
        delay_ns, runs, began_ns = _run_delay_ns(), 0, self._clock.now_ns()
        while True:
            own.run(feeds, outputs)
            runs += 1
            if (now_ns := self._clock.now_ns()) >= until_ns:
                return _Calls(runs, now_ns - began_ns, _run_delay_ns() - delay_ns)


def _run_delay_ns() -> int:
    """How long this thread has waited for a CPU in all, in nanoseconds; 0 where the kernel does not tell."""
    try:
        return int(_SCHEDSTAT.read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0

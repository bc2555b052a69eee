"""Schedulers step by step: timers follow the test's clock, and a run ends when the test says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from support.clock import FakeClock
from support.sessions import GatedSession

from naiad.core.errors import CancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from naiad.core.tensors import Array, Tensors
    from naiad.scheduling.base import Instance, SchedulerBase
    from naiad.scheduling.run_record import RunningBatch

_TURNS = 6
"""Turns of the loop after which nothing is left to do: a callback of a callback of a timer, and some more."""


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers fire when a clock says so that the test sets."""

    def __init__(self, clock: FakeClock) -> None:
        self._stepped_clock = clock
        super().__init__()

    def time(self) -> float:
        """The clock's time in seconds."""
        return self._stepped_clock.now_ns() / 1e9


def run_stepped(play: Callable[[FakeClock], Coroutine[None, None, None]]) -> None:
    """Run a coroutine on a loop of its own whose time is the clock that it is given."""
    clock = FakeClock()
    with asyncio.Runner(loop_factory=lambda: SteppedLoop(clock)) as runner:
        runner.run(play(clock))


class SteppedSession(GatedSession):
    """Every run waits for `Stage.finish`; remembers the inputs of each. Subclasses answer."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[dict[str, Array]] = []
        self.told_to_end = False

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Remember, wait, answer."""
        self.given.append({name: array.copy() for name, array in inputs.items()})
        self._started.release()
        if not self.open_for_all:
            self._gate.acquire()
        if self.told_to_end:
            raise CancelledError("the run was ended")
        return self.answer(self.given[-1], outputs)

    def answer(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """What a run answers."""
        raise NotImplementedError

    def open(self) -> None:
        """Let this run and every further one go on."""
        self.open_for_all = True
        self.let_go()

    def wait_began(self) -> None:
        """Block until one more run has begun; its thread needs nothing of the loop for that."""
        assert self._started.acquire(timeout=20)

    def began(self) -> bool:
        """Whether one more run has begun."""
        return self._started.acquire(blocking=False)


class EndingSession(SteppedSession):
    """A SteppedSession whose runs can be ended before their time."""

    def terminate(self) -> None:
        """Let the run end with CancelledError."""
        self.told_to_end = True
        self.let_go()

    def rearm(self) -> None:
        """Let runs go to their end again."""
        self.told_to_end = False


AnySession = TypeVar("AnySession", bound=SteppedSession)


class Stage(Generic[AnySession]):
    """One scheduler and its sessions. Between two calls nothing moves."""

    def __init__(self, scheduler: SchedulerBase, sessions: Sequence[AnySession], clock: FakeClock) -> None:
        self.scheduler = scheduler
        self.clock = clock
        self._sessions = dict(zip(scheduler._instances, sessions, strict=True))
        self._seen: dict[Instance, RunningBatch] = {}

    @property
    def instances(self) -> list[Instance]:
        """All of them, in their order."""
        return list(self._sessions)

    def session(self, instance: Instance) -> AnySession:
        """What the instance runs."""
        return self._sessions[instance]

    async def settle(self) -> list[Instance]:
        """Let everything happen that can happen now.

        Returns:
            the instances that have begun a batch since, in the order in which these were formed; it is the last
            that their session was given.
        """
        await _turns()
        while any(each.busy and each.terminated for each in self._sessions):
            await _turns()
        await _turns()
        begun = []
        running = self.scheduler._instances.running
        for instance, batch in running.items():
            if self._seen.get(instance) is not batch:
                self._sessions[instance].wait_began()
                begun.append(instance)
        self._seen = dict(running)
        return begun

    async def finish(self, instance: Instance) -> list[dict[str, Array]]:
        """Let the batch end that the instance runs.

        Returns:
            the inputs of the further runs that it took, because the batch as a whole failed.
        """
        session, batch = self._sessions[instance], self.scheduler._instances.running[instance]
        before = len(session.given)
        again = 0
        session.let_go()
        while self.scheduler._instances.running.get(instance) is batch:
            if session.began():  # it is the same batch, so this is one of its requests alone
                again += 1
                session.let_go()
            await asyncio.sleep(0)
        return session.given[before : before + again]

    def open(self) -> None:
        """Let everything run from now on."""
        for session in self._sessions.values():
            session.open()


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)

"""The instances of a version: which are idle, what each of the others runs, which of them may start now."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from naiad.runtime.instance import ModelInstance
from naiad.scheduling.execution import Execution, Executor
from naiad.scheduling.rate_limiter import InstanceGate
from naiad.scheduling.tensors import BatchBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from naiad.core.clock import Clock
    from naiad.core.tensors import InferRequest
    from naiad.runtime.session import Session
    from naiad.scheduling.rate_limiter import RateLimiter, Slot
    from naiad.scheduling.run_record import RunningBatch
    from naiad.scheduling.tensors import BatchLayout

Instance = ModelInstance["list[Execution]"]


class Instances:
    """Owns the instances of one scheduler, each with its thread and its batch buffer.

    `idle` are those that run nothing, the last used one last; `running` is what the others run; `gate` is
    where they stand at the rate limiter, None if any idle one may start. Used on the event loop's thread.
    """

    def __init__(self, sessions: Sequence[tuple[str, Session]], layout: BatchLayout, clock: Clock) -> None:
        """Start one thread for each (name, session).

        Args:
            sessions: one entry an instance; several may name the same session.
            layout: how tensors are joined and split.
            clock: the monotonic clock of what runs are timed with.
        """
        loop = asyncio.get_running_loop()
        self._all = tuple(Instance(name, session, loop) for name, session in sessions)
        self._executors = {instance: Executor(layout, BatchBuffer(layout), clock) for instance in self._all}
        self.idle = list(self._all)
        self.running: dict[Instance, RunningBatch] = {}
        self.gate: InstanceGate[Instance] | None = None

    def __repr__(self) -> str:
        return f"<Instances busy={self.busy}/{len(self)}>"

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Instance]:
        """All of them, in the order in which they were given."""
        return iter(self._all)

    @property
    def busy(self) -> int:
        """How many run a batch."""
        return len(self._all) - len(self.idle)

    def limit(self, limiter: RateLimiter, slots: Sequence[Slot], wake: Callable[[], None]) -> None:
        """Start only while the limiter lets them.

        Args:
            limiter: whose resources they need.
            slots: one an instance, given back on `close`.
            wake: called, outside of any other call, when an instance that was held back may start.
        """
        self.gate = InstanceGate(limiter, dict(zip(self._all, slots, strict=True)), wake)

    def next_idle(self) -> Instance | None:
        """The idle instance for a batch, the last used first: it is the warmest. It must be started now.

        None if the rate limiter lets none start.
        """
        if self.gate is None:
            return self.idle[-1]
        idle = self.gate.least_first(reversed(self.idle))
        return next(filter(self.gate.may_start, idle), None)

    def may_start(self, instance: Instance) -> bool:
        """Whether the rate limiter lets an idle instance run what there is; if so it must be started now."""
        return self.gate is None or self.gate.may_start(instance)

    def start(
        self,
        instance: Instance,
        batch: RunningBatch,
        requests: Sequence[InferRequest],
        *,
        left: Callable[[int], bool],
        done: Callable[[Instance, list[Execution] | BaseException], None],
    ) -> None:
        """Run a batch on the thread of an idle instance.

        Args:
            instance: one that may start.
            batch: what it runs from now on.
            requests: those of its rows.
            left: whether the caller of the request at an index has gone; it is not run again alone then.
            done: called on the loop when the batch has ended; calls `ended` first.
        """
        self.idle.remove(instance)
        self.running[instance] = batch
        instance.submit(partial(self._executors[instance].execute, requests=requests, left=left), done)

    def run_here(self, instance: Instance, request: InferRequest) -> Execution:
        """Run one request on an idle instance, and on the calling thread."""
        work = partial(self._executors[instance].execute, requests=(request,), left=_nobody)
        (execution,) = instance.run_here(work)
        return execution

    def ended(self, instance: Instance) -> RunningBatch:
        """The instance is idle again; what it ran."""
        self.idle.append(instance)
        batch = self.running.pop(instance)
        if self.gate is not None:
            self.gate.ended(instance)
        return batch

    async def close(self) -> None:
        """Let the batches that run end, join the threads and give back the places at the rate limiter."""
        for instance in self._all:
            # A join blocks for as long as the session runs; the loop must go on answering meanwhile.
            await asyncio.to_thread(instance.close)
        if self.gate is not None:
            self.gate.close()
            self.gate = None


def _nobody(_index: int) -> bool:
    """No caller of a batch of one has left: it came by the same call."""
    return False

"""What the thread of the process aside does: keeps the process going, its versions open, and its pace."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import structlog

from naiad.core.errors import NaiadError, ResourceExhaustedError
from naiad.lifecycle.experiments.aside.arena import Arena
from naiad.lifecycle.experiments.aside.child import Child, ChildEndedError, ClosingError
from naiad.lifecycle.experiments.aside.jobs import JobFailed, ModelOpened, ShadowJob, ShadowResult
from naiad.lifecycle.experiments.aside.pace import Backoff, Pace
from naiad.lifecycle.experiments.aside.sparing import SpareCpus, taken_cpu_ns
from naiad.lifecycle.experiments.aside.versions import Standing
from naiad.lifecycle.experiments.aside.wire import result_from_message

if TYPE_CHECKING:
    import threading

    from naiad.core.tensors import ModelKey
    from naiad.lifecycle.experiments.aside.jobs import AsideJob, AsideResult
    from naiad.lifecycle.experiments.aside.settings import AsideSettings
    from naiad.lifecycle.experiments.aside.versions import VersionAside
    from naiad.lifecycle.experiments.aside.wire import Message

log = structlog.get_logger(__name__)

LOAD_LIMIT_S = 600.0
"""CPU time of a start, or of opening a version, and how long it may wait for a disk."""


class Limits(TypedDict):
    """Of one question to the process: its CPU time, and how long it may be without any."""

    limit_s: float
    stall_s: float


class Keeper:
    """Owns the process and the memory shared with it. Used by one thread; its counters may be read by others.

    Every method raises ClosingError once `is_closing` is set.
    """

    def __init__(self, settings: AsideSettings, is_closing: threading.Event) -> None:
        now_ns = time.monotonic_ns()
        spare = SpareCpus(settings.cpus, taken_cpu_ns, now_ns=now_ns) if settings.is_idle else None
        self.pace = Pace(settings.budget_cpus, settings.max_jobs_per_s, now_ns=now_ns, spare=spare)
        self.starts = self.done = self.failed = self.own_cpu_ns = 0
        self._settings = settings
        self._is_closing = is_closing
        self._backoff = Backoff(*settings.backoff_s)
        self._standings: dict[ModelKey, Standing] = {}
        self._child: Child | None = None
        self._arena: Arena | None = None
        # Of the processes that have ended, and the last of them: replaced as one, for who reads meanwhile.
        self._past: tuple[int, Child | None] = (0, None)
        self._told = ""
        self._job_limits: Limits = {"limit_s": settings.timeout_s, "stall_s": settings.stall_s}
        self._load_limits: Limits = {"limit_s": LOAD_LIMIT_S, "stall_s": LOAD_LIMIT_S}

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        child = self._child
        return None if child is None else child.pid

    @property
    def cpu_ns(self) -> int:
        """The CPU time of all processes so far."""
        child = self._child
        past_ns, last = self._past
        return past_ns + (0 if child is None or child is last else child.cpu_ns)

    def open_version(self, wish: VersionAside) -> AsideResult | None:
        """Open a version that is to be run; one to be read is told to the process with its first job."""
        standing = self._standings[wish.key] = Standing(wish)
        if wish.folder is None:
            return None
        try:
            return self._opened(standing) or ModelOpened(wish.key)
        except ChildEndedError as error:
            return JobFailed(error.message, is_candidates_fault=False)

    def close_version(self, key: ModelKey) -> None:
        """Let go of a version."""
        standing = self._standings.pop(key, None)
        if standing is not None and standing.is_open and self._child is not None:
            self._ask(standing, {"do": "close", "key": list(key)}, self._load_limits)

    def prepare(self, job: AsideJob) -> Message | JobFailed:
        """Wait until the job may run, and copy its tensors; or why it cannot. It is not needed after that."""
        self._wait_for_pace()
        standing = self._standings.get(job.key)
        if standing is None:
            return JobFailed(f"version '{job.key}' was closed", is_candidates_fault=False)
        try:
            opened = self._opened(standing)
            if isinstance(opened, JobFailed):
                return opened
            return self._message(job)
        except (ChildEndedError, ResourceExhaustedError) as error:
            if self._arena is not None:
                self._arena.clear()
            return JobFailed(error.message, is_candidates_fault=False)

    def do(self, key: ModelKey, prepared: Message | JobFailed) -> AsideResult:
        """Have a job done, and count it."""
        result: AsideResult
        if isinstance(prepared, JobFailed):
            result = prepared
        else:
            result = self._ask(self._standings[key], prepared, self._job_limits)
            self._clear()
            if self._child is not None:
                self._standings[key].kills = 0
                self._backoff.reset()
        if isinstance(result, JobFailed):
            self.failed += 1
        else:
            self.done += 1
        if isinstance(result, ShadowResult):
            self._tell_once(result.not_kept)
        self._charge()
        return result

    def reset(self) -> None:
        """End the process, which is started anew with the next job: nobody knows what it waits for."""
        self._end()

    def close(self) -> None:
        """End the process and give its memory back."""
        self._end()
        if self._arena is not None:
            self._arena.close()

    def _message(self, job: AsideJob) -> Message:
        """What the process is told of a job whose tensors are copied now."""
        assert self._arena is not None
        told: Message = {"key": list(job.key), "outputs": self._arena.write(job.outputs)}
        if isinstance(job, ShadowJob):
            inputs = self._arena.write(job.inputs)
            run = {"do": "shadow", "baseline": job.baseline, "request_id": job.request_id}
            return told | run | {"inputs": inputs}
        return told | {"do": "signs", "shapes": {name: array.shape for name, array in job.inputs.items()}}

    def _opened(self, standing: Standing) -> AsideResult | None:
        """See that a version is open; what the process said, or nothing if it is open already.

        Raises:
            ChildEndedError: the process does not start.
        """
        if standing.refusal:
            return JobFailed(standing.refusal, standing.is_candidate, gave_up=True)
        self._start()
        if standing.is_open:
            return None
        assert self._arena is not None
        config = np.frombuffer(standing.wish.config_bytes(), np.uint8)
        message = standing.wish.message(self._settings)
        message["config"] = self._arena.write({"config": config})
        result = self._ask(standing, message, self._load_limits)
        self._clear()
        if isinstance(result, JobFailed):
            # If it ended the process it may try again; else it would fail in the same way.
            standing.refusal = standing.refusal or ("" if self._child is None else result.reason)
            result = replace(result, gave_up=bool(standing.refusal))
            log.warning(
                "not open aside", model=str(standing.wish.key), reason=result.reason, who="model owner"
            )
        else:
            standing.is_open = True
            log.info("open aside", model=str(standing.wish.key))
        return result

    def _ask(self, standing: Standing, message: Message, limits: Limits) -> AsideResult:
        assert self._child is not None
        try:
            return result_from_message(self._child.ask(message, **limits))
        except ChildEndedError as error:
            return self._crashed(standing, error.message)
        except ClosingError:
            raise
        except NaiadError as error:
            return JobFailed(error.message, is_candidates_fault=False)

    def _crashed(self, standing: Standing, reason: str) -> JobFailed:
        """The process has ended over a version, which is given up if that happens again and again."""
        standing.kills += 1
        gave_up = standing.kills >= self._settings.max_kills
        if gave_up:
            reason = f"given up after {standing.kills} times in a row: {reason}"
            standing.refusal = reason
        who = "model owner"
        log.warning(
            "process aside ended", model=str(standing.wish.key), reason=reason, gave_up=gave_up, who=who
        )
        self._end()
        return JobFailed(reason, standing.is_candidate, gave_up)

    def _start(self) -> None:
        """See that the process runs.

        Raises:
            ChildEndedError: it does not start.
        """
        if self._child is not None and self._child.is_running:
            return
        self._end()
        if self.starts:
            self._pause(self._backoff.take_s())
        self.starts += 1
        try:
            if self._arena is None:
                self._arena = Arena(self._settings.max_arena_bytes)
            self._child = Child(
                self._arena, self.pace, is_idle=self._settings.is_idle, is_closing=self._is_closing.is_set
            )
            self._child.ask(None, **self._load_limits)
        except (ChildEndedError, OSError) as error:
            self._end()
            reason = f"the process aside does not start: {error}"
            log.warning("no process aside", reason=str(error), who="operator")
            raise ChildEndedError(reason) from None
        log.info("process aside started", pid=self._child.pid, budget_cpus=self.pace.budget_cpus)

    def _end(self) -> None:
        if self._child is not None:
            self._past = (self.cpu_ns, self._child)
            self._child.end()
            self._child = None
        for standing in self._standings.values():
            standing.is_open = False

    def _wait_for_pace(self) -> None:
        while wait_ns := self.pace.job_wait_ns(time.monotonic_ns()):
            self._pause(wait_ns / 1e9)
        self.pace.begin_job(time.monotonic_ns())

    def _pause(self, seconds: float) -> None:
        if self._is_closing.wait(seconds):
            raise ClosingError("the server ends")

    def _charge(self) -> None:
        """What this thread takes is the server's CPU time: the budget covers it."""
        used_ns = time.thread_time_ns()
        self.pace.charge(used_ns - self.own_cpu_ns, time.monotonic_ns())
        self.own_cpu_ns = used_ns

    def _clear(self) -> None:
        assert self._arena is not None
        self._arena.clear()

    def _tell_once(self, problem: str) -> None:
        if problem and problem != self._told:
            log.warning("disagreement not kept", reason=problem, who="operator")
        self._told = problem or self._told

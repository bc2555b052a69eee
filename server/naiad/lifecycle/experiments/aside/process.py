"""The process aside as the server has it: on the loop jobs go in, never waiting, and results come out."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import structlog

from naiad.core.tensors import ModelKey
from naiad.lifecycle.experiments.aside.child import ClosingError
from naiad.lifecycle.experiments.aside.jobs import JobFailed, ShadowJob, SignsJob, held_bytes
from naiad.lifecycle.experiments.aside.keeper import Keeper
from naiad.lifecycle.experiments.aside.settings import AsideFigures, AsideSettings
from naiad.lifecycle.experiments.aside.versions import VersionAside
from naiad.runtime.thread_names import name_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.config.model_config import ModelConfig
    from naiad.lifecycle.experiments.aside.jobs import AsideJob, AsideResult, KeepWorst
    from naiad.repository.layout import ModelFolder

    Done: TypeAlias = Callable[[AsideResult], None]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Order:
    """Something for the thread: a job, a version to open or (a key) to close, and who is told."""

    key: ModelKey
    what: AsideJob | VersionAside | ModelKey
    done: Done | None = None
    held: int = 0
    is_job: bool = False


class AsideProcess:
    """Runs the candidates of shadows, and looks into answers, in a process that the system runs last.

    All methods are called on the event loop's thread, and so is whoever is told. The process and the thread
    that talks to it are started with the first version to be run, or the first job. `budget_cpus` may be
    changed at any time.
    """

    def __init__(self, settings: AsideSettings | None = None) -> None:
        """Create it for the loop that runs; nothing is started."""
        self._settings = settings or AsideSettings()
        self._loop = asyncio.get_running_loop()
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._is_closing = threading.Event()
        self._keeper = Keeper(self._settings, self._is_closing)
        self._thread: threading.Thread | None = None
        self._known: set[ModelKey] = set()
        self._given_up: dict[ModelKey, str] = {}
        self._skipped: Counter[str] = Counter()
        # Each is written by one side alone: `taken` here, `settled` and `released` by the thread.
        self._taken = self._taken_bytes = 0
        self._settled = self._released_bytes = 0

    @property
    def budget_cpus(self) -> float:
        """The CPU time that it may take, in CPUs."""
        return self._keeper.pace.budget_cpus

    @budget_cpus.setter
    def budget_cpus(self, budget_cpus: float) -> None:
        self._keeper.pace.budget_cpus = budget_cpus

    @property
    def figures(self) -> AsideFigures:
        """What it has done so far."""
        keeper = self._keeper
        return AsideFigures(
            pid=keeper.pid,
            pending=self._taken - self._settled,
            done=keeper.done,
            failed=keeper.failed,
            starts=keeper.starts,
            cpu_s=keeper.cpu_ns / 1e9,
            serving_cpu_s=keeper.own_cpu_ns / 1e9,
            skipped=dict(self._skipped),
            given_up=dict(self._given_up),
        )

    def open_model(
        self,
        key: ModelKey,
        folder: ModelFolder,
        config: ModelConfig,
        *,
        keep: KeepWorst | None = None,
        same_space: bool = True,
        done: Done | None = None,
    ) -> None:
        """Load a version that shadows run, as the server would, but on the CPU and with one thread.

        Args:
            key: the version. If it is open, it is opened anew; what was given up is tried again.
            folder: the model's.
            config: as read from the folder, not completed.
            keep: where its worst disagreements are kept.
            same_space: of an embedder, whether its vectors are meant to be like the baseline's.
            done: is told `ModelOpened`, or `JobFailed` if it does not load. Jobs may be submitted at once.
        """
        self._wish(VersionAside(key, config, folder, keep, same_space), done)
        self._start()

    def read_model(self, key: ModelKey, config: ModelConfig) -> None:
        """Learn how to look into the answers of a version: nothing is loaded, and nothing started yet.

        Args:
            key: the version. One that `open_model` was called for needs this not.
            config: complete.
        """
        self._wish(VersionAside(key, config))

    def close_model(self, key: ModelKey) -> None:
        """Let go of a version. Its jobs that wait are done before."""
        if key in self._known:
            self._known.discard(key)
            self._given_up.pop(key, None)
            self._orders.put(_Order(key, key))

    def submit(self, job: AsideJob, done: Done) -> bool:
        """Hand in a job, if there is room: it is never waited for.

        Args:
            job: of a version that was opened.
            done: is told the result. Not called once this is closed.

        Returns:
            Whether it was taken; else it is counted in `figures.skipped`, and `done` is not called.
        """
        # Under load most jobs end here, so that this is looked at first. Shadows leave room for the others:
        # a slow candidate would take every place as soon as it is free.
        most = self._settings.max_pending
        if self._taken - self._settled >= (most - most // 4 if isinstance(job, ShadowJob) else most):
            self._skipped["full"] += 1
            return False
        key, held = job.key, held_bytes(job)
        reason = self._why_not(key, held)
        if reason:
            self._skipped[reason] += 1
            return False
        self._taken += 1
        self._taken_bytes += held
        self._orders.put(_Order(key, job, done, held, is_job=True))
        if self._thread is None:
            self._start()
        return True

    async def close(self) -> None:
        """End the process and its thread; jobs that wait are dropped, nobody is told. Safe to call twice."""
        self._is_closing.set()
        self._orders.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _why_not(self, key: ModelKey, held: int) -> str:
        """Why a job is not taken, in a word; empty if it is."""
        settings = self._settings
        if key not in self._known or self._is_closing.is_set():
            return "unknown"
        if key in self._given_up:
            return "given_up"
        if held > settings.max_arena_bytes:
            return "too_large"
        # One that is larger than all that may wait goes when nothing does.
        waiting = self._taken_bytes - self._released_bytes
        return "full" if waiting and waiting + held > settings.max_pending_bytes else ""

    def _wish(self, wish: VersionAside, done: Done | None = None) -> None:
        self._known.add(wish.key)
        self._given_up.pop(wish.key, None)
        self._orders.put(_Order(wish.key, wish, done))

    def _start(self) -> None:
        if self._thread is None and not self._is_closing.is_set():
            self._thread = threading.Thread(target=self._work, name="naiad-aside")
            self._thread.start()

    def _work(self) -> None:
        """Do one order after the other, on the thread."""
        name_thread()
        try:
            while (order := self._orders.get()) is not None:
                self._obey(order)
        except ClosingError:
            pass  # nobody waits for what is left
        finally:
            self._keeper.close()

    def _obey(self, order: _Order) -> None:
        what, result = order.what, None
        try:
            if isinstance(what, ModelKey):
                self._keeper.close_version(what)
            elif isinstance(what, VersionAside):
                result = self._keeper.open_version(what)
            else:
                del what  # it holds tensors, which are to go when they have been copied
                result = self._do(order)
        except ClosingError:
            raise
        except Exception as error:
            log.exception("the thread of the process aside failed", who="naiad developers")
            self._keeper.reset()
            result = JobFailed(f"{type(error).__name__}: {error}", is_candidates_fault=False)
        if result is not None:
            self._tell(order, result)

    def _do(self, order: _Order) -> AsideResult:
        job = order.what
        assert isinstance(job, ShadowJob | SignsJob)
        key = order.key
        try:
            prepared = self._keeper.prepare(job)
        finally:
            order.what = key
            del job
            self._released_bytes += order.held
        return self._keeper.do(key, prepared)

    def _tell(self, order: _Order, result: AsideResult) -> None:
        self._settled += order.is_job
        with suppress(RuntimeError):  # a loop that is closed already has nobody to tell
            self._loop.call_soon_threadsafe(self._deliver, order, result)

    def _deliver(self, order: _Order, result: AsideResult) -> None:
        if self._is_closing.is_set():
            return
        if isinstance(result, JobFailed) and result.gave_up and order.key in self._known:
            self._given_up[order.key] = result.reason
        if order.done is not None:
            order.done(result)

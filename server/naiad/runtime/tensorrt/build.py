"""One engine's way from being asked for to serving: a small state machine, driven by the builder's thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import structlog

from naiad.core.clock import MonotonicClock
from naiad.core.errors import NaiadError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from naiad.core.clock import Clock
    from naiad.runtime.session import Session
    from naiad.runtime.tensorrt.swappable import SwappableSession

log = structlog.get_logger(__name__)

_DRAIN_S = 5.0


class BuildState(Enum):
    """How far an engine is. The last three are final."""

    WAITING = "waiting"
    BUILDING = "building"
    VERIFYING = "verifying"
    SWAPPED = "swapped"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self in _FINAL


_FINAL = frozenset({BuildState.SWAPPED, BuildState.FAILED, BuildState.CANCELLED})


@dataclass(frozen=True, slots=True)
class BuildStatus:
    """How far an engine is, why it failed, and for how many seconds: until now, or until it was done."""

    state: BuildState
    reason: str
    seconds: float


if TYPE_CHECKING:
    OpenEngines = Callable[[threading.Event], Sequence[Session]]
    Verify = Callable[[Sequence[Session], threading.Event], None]


class EngineBuild:
    """Opens the engines of one model version, compares them with what serves, and swaps them in.

    `run` is the builder's; all else may be called from any thread. Sessions are swapped all or not at all.
    What has been opened when the build fails or is cancelled is closed again.
    """

    def __init__(
        self,
        model: str,
        slots: Sequence[SwappableSession],
        *,
        open_engines: OpenEngines,
        verify: Verify,
        clock: Clock | None = None,
    ) -> None:
        """Create a build that waits.

        Args:
            model: for the log.
            slots: what the version's instances run.
            open_engines: gives a session for each of the slots, and takes as long as that takes; looks at the
                event, which says that nobody wants them any more, where it can. Raises NaiadError.
            verify: warms them and compares them with what serves; raises NaiadError if they are not as good.
            clock: the monotonic clock.
        """
        self.model = model
        self._slots = tuple(slots)
        self._open_engines: OpenEngines | None = open_engines
        self._verify: Verify | None = verify
        self._clock = clock or MonotonicClock()
        self._changed = threading.Condition()
        self._state = BuildState.WAITING
        self._reason = ""
        self._started_ns = self._clock.now_ns()
        self._ended_ns = 0
        self._cancelled = threading.Event()
        self._is_comparing = False

    def __repr__(self) -> str:
        return f"<EngineBuild {self.model} {self._state.value}>"

    @property
    def status(self) -> BuildStatus:
        """How far it is."""
        with self._changed:
            until = self._ended_ns or self._clock.now_ns()
            return BuildStatus(self._state, self._reason, (until - self._started_ns) / 1e9)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is done; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state.is_final, timeout_s)

    def cancel(self) -> None:
        """Want it no more. When this returns, what serves is not used for comparisons any more.

        The build itself cannot be interrupted: its result is dropped when it comes.
        """
        self._cancelled.set()
        self._move(BuildState.CANCELLED)
        with self._changed:
            self._changed.wait_for(lambda: not self._is_comparing)

    def run(self) -> None:
        """Do it all, in the calling thread; nothing is raised."""
        open_engines, verify = self._open_engines, self._verify
        # They hold the model's bytes and samples, which this object outlives by far.
        self._open_engines = self._verify = None
        if open_engines is None or verify is None or not self._move(BuildState.BUILDING):
            return
        engines: Sequence[Session] = ()
        failure = ""
        try:
            engines = open_engines(self._cancelled)
            self._compare(engines, verify)
            if self._swap(engines):
                self._drain()
                return
        except NaiadError as error:
            failure = error.message
        except Exception as error:  # the builder's thread goes on with other models
            log.error("engine build broke", model=self.model, who="naiad developers", exc_info=error)
            failure = f"{type(error).__name__}: {error}"
        for engine in engines:
            engine.close()
        self._move(BuildState.FAILED, failure)

    def _compare(self, engines: Sequence[Session], verify: Verify) -> None:
        with self._changed:
            # In one step with the look at the state: a cancel before it must find nothing at work.
            self._is_comparing = self._state is BuildState.BUILDING
        try:
            if self._move(BuildState.VERIFYING):
                verify(engines, self._cancelled)
        finally:
            with self._changed:
                self._is_comparing = False
                self._changed.notify_all()

    def _swap(self, engines: Sequence[Session]) -> bool:
        with self._changed:
            if self._state is not BuildState.VERIFYING:
                return False
            for slot, engine in zip(self._slots, engines, strict=True):
                slot.swap(engine)
            return self._move(BuildState.SWAPPED)

    def _drain(self) -> None:
        """Wait for the last runs on CUDA: the next build needs the memory.

        An instance that waits for work may keep it for a while longer.
        """
        for slot in self._slots:
            slot.wait_swapped(_DRAIN_S)

    def _move(self, state: BuildState, reason: str = "") -> bool:
        """Go to another state; False if it is over already."""
        with self._changed:
            if self._state.is_final:
                return False
            self._state, self._reason = state, reason
            if state.is_final:
                self._ended_ns = self._clock.now_ns()
            self._changed.notify_all()
        self._log()
        return True

    def _log(self) -> None:
        status = self.status
        told = {"model": self.model, "state": status.state.value, "took_s": round(status.seconds, 1)}
        if status.state is BuildState.FAILED:
            log.warning(
                "tensorrt engine", **told, reason=status.reason, detail="CUDA goes on", who="operator"
            )
        else:
            log.info("tensorrt engine", **told)

"""How far a lane's batch is, what may come next, and how a run is ended or a lane closed."""

from __future__ import annotations

import threading
from enum import Enum

from naiad.core.errors import CancelledError, InternalError, UnavailableError


class LaneState(Enum):
    """Where a lane's batch is."""

    IDLE = "idle"
    FILLING = "filling"  # its inputs are gathered and copied to the GPU
    QUEUED = "queued"  # it waits for the session, which another lane runs
    RUNNING = "running"
    EMPTYING = "emptying"  # its outputs are copied back
    CLOSED = "closed"


_NEXT = {
    LaneState.IDLE: LaneState.FILLING,
    LaneState.FILLING: LaneState.QUEUED,
    LaneState.QUEUED: LaneState.RUNNING,
    LaneState.RUNNING: LaneState.EMPTYING,
}


class LaneProgress:
    """One lane's state. `terminate` may be called by another thread than the one that moves it on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = LaneState.IDLE
        self._is_terminated = False

    def __repr__(self) -> str:
        return f"<LaneProgress {self._state.value}{' terminated' * self._is_terminated}>"

    @property
    def state(self) -> LaneState:
        """Where the lane is."""
        return self._state

    def advance(self, state: LaneState) -> None:
        """Go on to the next state.

        Raises:
            UnavailableError: the lane is closed.
            CancelledError: the batch was terminated before its run began; the lane is idle again.
            InternalError: this is not the next state: two threads use one lane.
        """
        with self._lock:
            if self._state is LaneState.CLOSED:
                raise UnavailableError("the session is closed")
            if _NEXT.get(self._state) is not state:
                raise InternalError(f"a lane is {self._state.value} and cannot go on to {state.value}")
            if self._is_terminated and state in (LaneState.QUEUED, LaneState.RUNNING):
                self._state = LaneState.IDLE
                raise CancelledError("the run was ended: nobody waited for it any more")
            self._state = state

    def end(self) -> None:
        """The batch is done, or has failed wherever it was."""
        with self._lock:
            if self._state is not LaneState.CLOSED:
                self._state = LaneState.IDLE

    def terminate(self) -> None:
        """End the batch at hand, or the next one, before its run begins."""
        with self._lock:
            self._is_terminated = True

    def rearm(self) -> None:
        """Let batches go to their end again."""
        with self._lock:
            self._is_terminated = False

    def close(self) -> bool:
        """Take no batch any more; whether the lane was open.

        Raises:
            InternalError: a batch is in it.
        """
        with self._lock:
            was_open = self._state is not LaneState.CLOSED
            if was_open and self._state is not LaneState.IDLE:
                raise InternalError(f"a lane is {self._state.value} and cannot be closed")
            self._state = LaneState.CLOSED
            return was_open

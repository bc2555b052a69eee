"""The process aside as its parent holds it: its start, one question at a time, its CPU time and its end.

It is no fork: a server has threads, and a fork of one of them can hang in a lock that another one held.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from naiad.core.errors import InternalError, NaiadError
from naiad.lifecycle.experiments.aside.wire import Receiver, send
from naiad.runtime.threads import bound_library_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.lifecycle.experiments.aside.arena import Arena
    from naiad.lifecycle.experiments.aside.pace import Pace
    from naiad.lifecycle.experiments.aside.wire import Message

log = structlog.get_logger(__name__)

_WORKER = "naiad.lifecycle.experiments.aside.worker"
_LOOK_MS = 20
"""How often a job that takes longer is looked at: its budget, its limits, and whether the server ends."""

_END_S = 5.0
"""How long it may take to end once it speaks no more: a core may have to be written."""

_CPU_CLOCK = 2
"""CPUCLOCK_SCHED of Linux's posix-timers.h: the CPU time of all threads, to the nanosecond."""


class ChildEndedError(NaiadError):
    """The process has ended, by itself or because it had to be; says how."""


class ClosingError(NaiadError):
    """The server ends: nobody waits for the answer."""


class Child:
    """One process. Used by one thread, which must live as long as it: the kernel ends it with that thread.

    It runs in the scheduler's idle class from its first moment, so that its threads inherit it, and stays in
    the server's session: with a session of its own it could be given a share of the CPUs of its own
    (`sched_autogroup`), in which it would be alone and not idle at all.
    """

    def __init__(self, arena: Arena, pace: Pace, *, is_idle: bool, is_closing: Callable[[], bool]) -> None:
        self.cpu_ns = 0
        self._pace = pace
        self._is_closing = is_closing
        self._is_held = False
        self._last_ns = self._moved_ns = 0
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = theirs.fileno(), arena.descriptor
            arguments = map(str, (os.getpid(), *descriptors, arena.size))
            environment = dict(os.environ)
            bound_library_threads(environment)
            # -P: what lies in the folder that the server was started in is none of its modules.
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, "-P", "-m", _WORKER, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=descriptors,
                env=environment,
                process_group=0,  # Ctrl-C is for the server, which ends it in its turn
            )
        self._socket = ours
        self._receiver = Receiver(ours)
        self._polled = select.poll()
        self._polled.register(ours, select.POLLIN)
        if is_idle:
            _make_idle(self._process.pid)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, nor is about to: its last thread may be gone later than itself."""
        return self._process.poll() is None and not _is_dying(self.pid)

    def ask(self, message: Message | None, *, limit_s: float, stall_s: float) -> Message:
        """Send a message (None waits for the first one of a start) and wait for what it answers.

        While it works it is held still whenever it has used up its budget.

        Args:
            message: what to send.
            limit_s: the CPU time that it may take.
            stall_s: how long it may be without any though it is not held still.

        Raises:
            ChildEndedError: it has ended, or was ended for taking too long.
            ResourceExhaustedError: the message is too long.
            ClosingError: the server ends.
        """
        most_ns = self._charged_ns() + int(limit_s * 1e9)
        self._moved_ns = time.monotonic_ns()
        try:
            self._hold(is_held=False)
            if message is not None:
                send(self._socket, message)
            while True:
                answer = self._receiver.receive() if self._polled.poll(_LOOK_MS) else None
                used_ns = self._charged_ns()
                if answer is not None:
                    return answer
                if self._is_closing():
                    raise ClosingError("the server ends")
                if used_ns > most_ns:
                    raise self._killed(f"it took more than {limit_s:g} s of CPU time")
                if self._has_stalled(used_ns, stall_s):
                    raise self._killed(f"it did nothing for {stall_s:g} s")
                self._hold(is_held=self._pace.run_wait_ns(time.monotonic_ns()) > 0)
        except (OSError, EOFError, InternalError) as error:
            raise ChildEndedError(self._ended(error)) from None

    def end(self) -> None:
        """Kill it, held or not, and wait for that. Safe to call twice."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._socket.close()

    def _has_stalled(self, used_ns: int, stall_s: float) -> bool:
        """Whether it waits for something: one that starves gets a little CPU time now and then."""
        now_ns = time.monotonic_ns()
        if self._is_held or used_ns > self._last_ns:
            self._moved_ns = now_ns
        self._last_ns = used_ns
        return now_ns - self._moved_ns > stall_s * 1e9

    def _hold(self, *, is_held: bool) -> None:
        if is_held != self._is_held:
            self._is_held = is_held
            self._process.send_signal(signal.SIGSTOP if is_held else signal.SIGCONT)

    def _charged_ns(self) -> int:
        """Its CPU time until now, of which what is new is taken from the budget."""
        try:
            used_ns = time.clock_gettime_ns(((-self.pid - 1) << 3) | _CPU_CLOCK)
        except OSError:  # it has ended
            return self.cpu_ns
        self._pace.charge(used_ns - self.cpu_ns, time.monotonic_ns())
        self.cpu_ns = used_ns
        return used_ns

    def _killed(self, why: str) -> ChildEndedError:
        self.end()
        return ChildEndedError(why)

    def _ended(self, error: Exception) -> str:
        """How it ended, in words."""
        if isinstance(error, InternalError):
            self.end()
            return error.message
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.end()
            return "the process aside has cut off its parent"
        if code >= 0:
            return f"the process aside ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        out_of_memory = " (it is the first that the kernel takes when memory runs out)"
        return f"the process aside was ended by {name}{out_of_memory if name == 'SIGKILL' else ''}"


def _make_idle(pid: int) -> None:
    """Let a process run when nothing else does. Its disk accesses follow: the kernel takes the class over."""
    try:
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    except ProcessLookupError:
        return  # it has ended already, which whoever asks it will find
    except OSError as error:
        detail = f"SCHED_IDLE is refused ({error.strerror}); it runs at nice 19, which is more than nothing"
        log.warning("process aside not idle", detail=detail, who="operator")
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, 19)


def _is_dying(pid: int) -> bool:
    """Whether a process has been ended and waits for its threads to be gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in {b"Z", b"X"}

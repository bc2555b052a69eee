"""Runs a command that does not outlive its parent: `python -m naiad.demo.leash PARENT_PID COMMAND…`.

A parent that is killed outright cannot stop its child. So the child asks the kernel, before it becomes the
command, to be sent SIGTERM when its parent ends; the wish survives `exec`. Elsewhere than on Linux it is
only the command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""From Linux's prctl.h."""


def leashed(command: list[str]) -> list[str]:
    """The command line that runs `command` (its program by path) as a child that ends with this process."""
    return [sys.executable, "-m", "naiad.demo.leash", str(os.getpid()), *command]


def main(arguments: list[str]) -> None:
    """Become the command."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != int(parent):
            return  # it ended before the wish was made
    os.execv(command[0], command)  # noqa: S606  # the command is what the parent would have run itself


if __name__ == "__main__":
    main(sys.argv[1:])

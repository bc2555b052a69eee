"""`naiad`, but for the process aside, which shares the CPUs like any other.

Run as a module. A test cannot wait until a machine that is busy with tests has nothing else to do.
"""

from __future__ import annotations

import os
from dataclasses import replace
from unittest import mock


def main() -> None:
    """What `naiad` does."""
    from naiad.runtime.threads import bound_library_threads  # noqa: PLC0415  # before what has threads

    bound_library_threads(os.environ)
    from naiad.__main__ import main as run  # noqa: PLC0415
    from naiad.lifecycle.experiments import director  # noqa: PLC0415
    from naiad.lifecycle.experiments.aside import AsideProcess, AsideSettings  # noqa: PLC0415

    def awake(settings: AsideSettings) -> AsideProcess:
        return AsideProcess(replace(settings, is_idle=False))

    with mock.patch.object(director, "AsideProcess", awake):
        run()


if __name__ == "__main__":
    main()

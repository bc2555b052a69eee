"""The `naiad` command's way in: it works only with an extra, and says which where none is installed."""

from __future__ import annotations

import os
import sys

EXTRAS = """error: the server is not installed, only its client ('{missing}' is missing).
       On a machine without a GPU:       pip install 'naiad[cpu]'
       On one with CUDA 13:              pip install 'naiad[gpu]'"""


def main() -> None:
    """Run the command line, or say what to install for it."""
    try:
        if sys.argv[1:2] == ["health"]:
            from naiad.cli.health import run as run_health  # noqa: PLC0415  # it loads nothing of the others

            sys.exit(run_health(sys.argv[2:]))
        from naiad.runtime.threads import bound_library_threads  # noqa: PLC0415
        from naiad.services.grpc_polling import choose_polling  # noqa: PLC0415  # after the light way out

        bound_library_threads(os.environ)
        choose_polling(os.environ)
        from naiad.cli.main import main as run  # noqa: PLC0415  # what it needs may not be there

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "naiad":
            raise
        sys.exit(EXTRAS.format(missing=error.name))
    finally:
        _let_go_of_a_lost_log()


def _let_go_of_a_lost_log() -> None:
    """Where nobody reads standard error any more, Python's last flush of it would make the exit code 120."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


if __name__ == "__main__":
    main()

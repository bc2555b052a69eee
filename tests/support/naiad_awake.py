"""`naiad`, but for the process aside, which shares the CPUs like any other.

Run as a module. A test cannot wait until a machine that is busy with tests has nothing else to do.
"""

from __future__ import annotations

import os
from functools import partial


def main() -> None:
    """What `naiad` does."""
    from naiad.runtime.threads import bound_library_threads  # noqa: PLC0415  # before what has threads

    bound_library_threads(os.environ)
    import naiad.app  # noqa: PLC0415
    from naiad.__main__ import main as run  # noqa: PLC0415
    from naiad.lifecycle.experiments.aside import AsideSettings  # noqa: PLC0415

    naiad.app.AsideSettings = partial(AsideSettings, is_idle=False)  # type: ignore[misc,assignment]
    run()


if __name__ == "__main__":
    main()

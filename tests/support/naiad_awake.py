"""`naiad`, but for the process aside, which shares the CPUs like any other.

Run as a module. A test cannot wait until a machine that is busy with tests has nothing else to do.
"""

from __future__ import annotations

from functools import partial

import naiad.app
from naiad.cli.main import main
from naiad.lifecycle.experiments.aside import AsideSettings

if __name__ == "__main__":
    naiad.app.AsideSettings = partial(AsideSettings, is_idle=False)  # type: ignore[misc,assignment]  # see above
    main()

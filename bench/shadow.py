"""Measures what a shadow costs the version that serves: `python bench/shadow.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

# A script's own folder is on the path; its modules are `bench.*`, so the folder above belongs there.
# What fetches perf_analyzer is shared with the tests.
ROOT = Path(__file__).resolve().parent.parent
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]

from bench.shadow_cli import main  # noqa: E402  # after the path is set

if __name__ == "__main__":
    main()

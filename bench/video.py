"""Measures StreamDetect beside the same pipeline without a server: `python bench/video.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

# A script's own folder is on the path; its modules are `bench.*`, so the folder above belongs there.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.video_cli import main  # noqa: E402  # after the path is set

if __name__ == "__main__":
    main()

"""Finds the faces of all photos in a folder, eight at a time, with a progress bar (needs rich)."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.progress import track

from naiad_client import Client, NaiadError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def main(argv: list[str] | None = None) -> int:
    """Print one line a photo; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", default="localhost:8001")
    arguments = parser.parse_args(argv)
    photos = sorted(path for path in arguments.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    failed = 0
    with Client(arguments.address) as client, ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.detect, photo) for photo in photos]  # the server makes batches of them
        for photo, call in track(zip(photos, calls, strict=True), "Photos", len(photos)):
            try:
                print(f"{photo.name}: {len(call.result().faces)} face(s)")
            except NaiadError as error:
                failed += 1
                print(f"{photo.name}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

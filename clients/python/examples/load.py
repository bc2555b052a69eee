"""Sends a folder's photos to a detector over and over, and counts which version answered (needs rich)."""

from __future__ import annotations

import argparse
import itertools
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

from rich.progress import Progress

from naiad_client import Client, NaiadError


def main(argv: list[str] | None = None) -> int:
    """Go on until Ctrl-C or SIGTERM, then print what each version answered; 1 if any call failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=lambda text: sorted(Path(text).glob("*.jpg")))
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--key", help="the same key gets the same version; without one, any")
    arguments = parser.parse_args(argv)
    photos, answers = [path.read_bytes() for path in arguments.folder], Counter[str]()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Client(arguments.address) as client, Progress() as progress, suppress(KeyboardInterrupt):
        task = progress.add_task("", total=None)
        for photo in itertools.cycle(photos):
            try:
                answers[f"version {client.detect(photo, key=arguments.key).version}"] += 1
            except NaiadError as error:
                answers[f"failed: {error}"] += 1
            progress.update(task, description=str(dict(answers.most_common(5))))
    for answer, count in sorted(answers.items()):
        print(f"{answer}: {count} calls, {count / answers.total():.1%}")
    return int(any(answer.startswith("failed") for answer in answers))


if __name__ == "__main__":
    raise SystemExit(main())

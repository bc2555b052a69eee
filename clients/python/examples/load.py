"""Sends the photos of a folder to a detector over and over, and counts which version answered (needs rich)."""

from __future__ import annotations

import argparse
import itertools
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from rich.progress import Progress, TextColumn

from naiad_client import Client, NaiadError


def main(argv: list[str] | None = None) -> int:
    """Go on until Ctrl-C or SIGTERM, then print what each version answered; 1 if any call failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--per-second", type=float, default=25, help="calls begun each second, at most")
    parser.add_argument("--key", default="", help="the same key gets the same version; without one, any")
    arguments = parser.parse_args(argv)
    photos = itertools.cycle([path.read_bytes() for path in sorted(arguments.folder.glob("*.jpg"))])
    ended, answers = threading.Event(), Counter[str]()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    metadata = [("x-naiad-key", arguments.key)] if arguments.key else []
    columns = TextColumn("{task.description}"), TextColumn("{task.completed} calls")
    with Client(arguments.address, metadata=metadata) as client, Progress(*columns) as progress:
        task, due = progress.add_task("", total=None), time.monotonic()
        while not ended.wait(max(0, due - time.monotonic())):
            due = max(due + 1 / arguments.per_second, time.monotonic())
            try:
                answers[f"version {client.detect(next(photos)).version}"] += 1
            except NaiadError as error:
                answers[f"failed: {error}"] += 1
            progress.update(task, advance=1, description=str(dict(answers.most_common(5))))
    for answer, count in sorted(answers.items()):
        print(f"{answer}: {count} calls, {count / answers.total():.0%}")
    return 1 if any(answer.startswith("failed") for answer in answers) else 0


if __name__ == "__main__":
    raise SystemExit(main())

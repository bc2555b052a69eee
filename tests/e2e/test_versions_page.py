"""The walk-through of docs/versions.md, typed as it stands there: a good version is promoted, a bad one goes."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from support.pages import ROOT, Place, bash_blocks, run_script

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "versions.md"
CALLS = re.compile(r"^(.+): (\d+) calls, ", re.MULTILINE)


def naiad_that_shares_the_cpu(folder: Path) -> Path:
    """A folder with a `naiad` that does not wait until this machine, which runs other tests, is idle."""
    command = folder / "bin" / "naiad"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT / "tests"}" exec "{sys.executable}" -m support.naiad_awake "$@"\n'
    )
    command.chmod(0o755)
    return command.parent


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_walk_through_promotes_version_2_and_rolls_version_3_back(tmp_path: Path) -> None:
    """Every command succeeds, and no call of the load fails while versions come and go."""
    place = Place(tmp_path, commands=[naiad_that_shares_the_cpu(tmp_path)])
    printed = run_script(place, "".join(bash_blocks(PAGE)), timeout_s=280)
    calls: Counter[str] = Counter()
    for answer, count in CALLS.findall(printed):
        calls[answer] += int(count)
    assert calls.keys() == {"version 1", "version 2", "version 3"}, printed
    assert calls["version 3"] < calls["version 2"], "the bad version was not stopped early"
    decisions = [json.loads(line) for line in (tmp_path / "experiments/audit.jsonl").read_text().splitlines()]
    assert [(each["kind"], each["candidate"], each["by"]) for each in decisions] == [
        ("promote", 2, "guard"),
        ("roll_back", 3, "guard"),
    ]
    assert "have no face" in decisions[1]["reason"]
    assert list((tmp_path / "drawn").iterdir())

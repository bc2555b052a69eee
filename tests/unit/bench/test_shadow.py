"""The benchmark of shadows: what it compares, which rounds count, and that it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from bench.docs import write_docs
from bench.shadow_cli import (
    BEGIN,
    COLUMNS,
    END,
    LOADS,
    QUIET_CPUS,
    SERVERS,
    Sample,
    Series,
    markdown,
    quiet_rounds,
    rows,
)
from bench.shadow_models import ALONE, MODEL, ROUTED, SHADOWED, SLOWER, write_case, write_repository

from naiad.config.experiment_reader import read_experiment

ROOT = Path(__file__).resolve().parents[3]
ABOUT = {"cpus": 2, "cpu": "some CPU"}
SETTINGS = {"rounds": 4, "seconds": 1.0}


def sample(p99_ms: float, others: float = 0.0) -> Sample:
    return Sample(p50_ms=1.0, p99_ms=p99_ms, rate=100.0, aside_cpus=0.5, other_cpus=others)


def measured(disturbed: dict[str, list[float]]) -> list[Series]:
    """Four rounds of every server; p99 is the round's number, ten more with a shadow."""
    return [
        Series(
            server,
            load,
            [
                sample(number + 1 + 10 * (server == SHADOWED), others)
                for number, others in enumerate(disturbed.get(server, [0.0] * 4))
            ],
        )
        for load in LOADS
        for server in SERVERS
    ]


def test_a_ratio_is_of_the_same_round() -> None:
    """Machines drift: the median of ratios is not the ratio of medians."""
    alone = Series(ALONE, "moderate", [sample(1), sample(10), sample(5)])
    beside = Series(SHADOWED, "moderate", [sample(2), sample(10), sample(5.5)])
    assert beside.ratio(alone, "p99_ms") == 1.1


def test_a_round_counts_only_if_all_its_windows_were_quiet() -> None:
    kept = quiet_rounds(measured({ROUTED: [0.0, 2 * QUIET_CPUS, 0.0, 0.0]}))
    assert {len(each.samples) for each in kept} == {3}
    assert [one.p99_ms for one in kept[0].samples] == [1, 3, 4]


def test_where_too_few_rounds_were_quiet_all_count_and_the_table_says_how_busy_others_were() -> None:
    series = measured({ROUTED: [0.7, 0.8, 0.9, 0.0]})
    assert {len(each.samples) for each in quiet_rounds(series)} == {4}
    assert "at most 0.90 CPUs" in markdown(ABOUT, SETTINGS, series)


def test_the_page_gets_the_table_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_docs(page, markdown(ABOUT, SETTINGS, measured({})), BEGIN, END)
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    for row in rows(measured({})):
        assert len(row) == len(COLUMNS)
        assert f"| {' | '.join(row)} |" in text


def test_only_what_is_compared_differs_between_the_servers(tmp_path: Path) -> None:
    """The version that serves is the same file, and the other one computes ten times as much."""
    folders = {name: write_repository(tmp_path / name, name, 0.25) / MODEL for name in SERVERS}
    first = {name: (folder / "1" / "model.onnx").read_bytes() for name, folder in folders.items()}
    assert len(set(first.values())) == 1
    assert not (folders[ALONE] / "2").exists()
    counts = [
        sum(
            node.op_type == "Conv"
            for node in onnx.load(folders[SHADOWED] / version / "model.onnx").graph.node
        )
        for version in ("1", "2")
    ]
    assert counts[1] - 1 == SLOWER * (counts[0] - 1)
    experiments = {name: read_experiment(folder) for name, folder in folders.items()}
    assert experiments[ALONE] is None
    routed, shadowed = experiments[ROUTED], experiments[SHADOWED]
    assert routed is not None
    assert routed.shadow is None
    assert shadowed is not None
    assert shadowed.shadow is not None
    assert (shadowed.shadow.version, shadowed.shadow.share, shadowed.shadow.budget) == (2, 1.0, 0.25)


def test_requests_are_pictures_of_the_model_s_size(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository", ALONE, 0.5)
    (request,) = write_case(tmp_path / "requests", repository).requests()
    assert request["INPUT"].shape == (1, 3, 224, 224)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_command_measures_and_writes_figures(tmp_path: Path) -> None:
    command = [sys.executable, "bench/shadow.py", "--rounds=1", "--seconds=0.5", "--client=asyncio"]
    done = subprocess.run(
        [*command, f"--output={tmp_path}"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "What a shadow costs" in done.stdout
    series = json.loads((tmp_path / "shadow.json").read_text())["series"]
    assert [(each["load"], each["server"]) for each in series] == [
        (load, server) for load in LOADS for server in SERVERS
    ]
    assert all(each["samples"][0]["p99_ms"] > 0 for each in series)
    assert {each["samples"][0]["aside_cpus"] for each in series if each["server"] == ALONE} == {0.0}

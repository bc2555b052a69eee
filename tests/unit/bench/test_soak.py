"""The soak: what it takes for flat and for a leak, what it reads of a process, its report, its options."""

from __future__ import annotations

import gc
import json
import os
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnxruntime
import pytest
from bench.soak_fit import MEBIBYTE, judge, slope
from bench.soak_load import Tally
from bench.soak_models import dense, model_names
from bench.soak_probe import look
from bench.soak_reload import Reload, reload_kinds
from bench.soak_report import report
from bench.soak_server import read_process
from rich.console import Console

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path


def samples(
    growth_mib: float, *, reloads: float = 1, threads: int = 0, count: int = 100
) -> list[dict[str, Any]]:
    """A sample a second, a reload each, with noise of 10 MiB and a peak of 500 MiB in every tenth."""
    random = np.random.default_rng(3)
    return [
        {
            "seconds": float(number),
            "reloads": int(number * reloads),
            "rss": int(
                (200 + growth_mib * number + 10 * random.random() + 500 * (number % 10 == 5)) * MEBIBYTE
            ),
            "threads": 30 + threads * number // count,
            "fds": 20 + number % 3,
        }
        for number in range(count)
    ]


def test_a_leak_fails_and_noise_with_peaks_does_not() -> None:
    flat, leaking = judge(samples(0), 1), judge(samples(0.5), 1)
    assert [each.passed for each in flat] == [True, True, True]
    assert [each.passed for each in leaking] == [False, True, True]
    assert leaking[0].found.startswith(("+4.", "+5."))
    assert leaking[0].wanted == "<= 1 MiB in 10 reloads"


def test_what_grows_before_the_run_has_settled_is_no_leak() -> None:
    """The first requests of each kind take memory that the process keeps."""
    found = samples(0)
    for number in range(20):
        found[number]["rss"] -= (20 - number) * 8 * MEBIBYTE
    assert judge(found, 1)[0].passed is True


def test_between_flat_and_leak_the_verdict_is_open() -> None:
    assert judge(samples(0.1), 1)[0].passed is None
    assert judge(samples(5, count=9), 1)[0].passed is None


def test_without_reloads_memory_is_laid_over_time() -> None:
    verdict = judge(samples(0.5, reloads=0), 1)[0]
    assert verdict.wanted == "<= 1 MiB a minute"
    assert verdict.found.startswith(("+28", "+29", "+30"))


def test_threads_that_stay_fail() -> None:
    assert [each.passed for each in judge(samples(0, threads=20), 1)] == [True, False, True]


def test_a_slope_needs_samples_that_differ() -> None:
    assert slope([1.0] * 20, [1.0] * 20) is None
    assert slope([1.0, 2.0], [1.0, 2.0]) is None


def test_memory_threads_and_files_of_a_process_are_read() -> None:
    """Of this one, before and after it takes 64 MiB."""
    before = read_process(os.getpid())
    taken = np.ones(64 * MEBIBYTE, np.uint8)
    after = read_process(os.getpid())
    assert after["rss"] - before["rss"] > 0.9 * taken.nbytes
    assert after["anonymous"] <= after["rss"]
    assert after["threads"] >= 1
    assert after["fds"] >= 3


def test_the_probe_counts_objects_by_type() -> None:
    class Kept:
        pass

    kept = [Kept() for _ in range(7)]
    gc.collect()
    counted = look(objects=True)["objects"]
    name = next(each for each in counted if each.endswith("<locals>.Kept"))
    assert counted[name] == len(kept)


def test_the_heavy_model_doubles_its_input() -> None:
    session = onnxruntime.InferenceSession(dense(8).SerializeToString(), providers=["CPUExecutionProvider"])
    array = np.arange(16, dtype=np.float32).reshape(2, 8)
    assert (session.run(None, {"INPUT": array})[0] == 2 * array).all()


def test_the_report_is_tables_samples_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = samples(0.5)
    tally = Tally()
    for status in ("answered", "NOT_FOUND", "answered"):
        tally.add("unary", status)
    about = {
        "cpu": "a CPU",
        "cpus": 2,
        "load_average_before": 0.5,
        "packages": {"onnxruntime": "1"},
        "calls": tally.as_dict(),
    }
    report(
        Console(width=150),
        tmp_path,
        about=about,
        settings={"seed": 1},
        samples=found,
        verdicts=judge(found, 1),
    )
    printed = capsys.readouterr().out
    assert "FAIL" in printed
    assert "NOT_FOUND 1" in printed
    written = json.loads((tmp_path / "soak.json").read_text())
    assert [each["passed"] for each in written["verdicts"]] == [False, True, True]
    assert len(written["samples"]) == len(found)
    assert cv2.imread(str(tmp_path / "soak.png")) is not None


def test_reloads_are_chosen_by_name() -> None:
    names = model_names(None)
    assert Reload("again", "face_detector") in reload_kinds(names)
    chosen = [str(each) for each in reload_kinds(names, ["dense", "version"])]
    assert chosen == ["again dense", "again versions", "override dense", "version versions", "broken dense"]
    with pytest.raises(InvalidArgumentError, match="--only=nothing: expected part of one of again add_sub"):
        reload_kinds(names, ["nothing"])


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="has none of ultraface_version"):
        model_names(tmp_path)

"""Candidates that are worse, found out and rolled back under load by a server that nobody watches.

Delays are printed with -s: how many requests of the candidate, and how many seconds, until it was rolled back.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pytest
import tritonclient.grpc as triton
from structlog.testing import capture_logs
from support.embedders import GBR, RGB, channel_embedder
from support.processes import ServerProcess
from support.repositories import add_model
from support.servers import address, server
from support.versions import (
    EMBEDDER_CONFIG,
    FACES_CONFIG,
    PLAIN_CONFIG,
    POLLING,
    WORK_CONFIG,
    WORK_SIZE,
    Reports,
    crops,
    grid_detector,
    photos,
    tells_its_version,
    worker,
    write_experiment,
)
from tritonclient.utils import InferenceServerException
from typer.testing import CliRunner

from naiad.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from naiad_protos.naiad.experiments.v1 import experiments_pb2 as pb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PATIENCE_S = 60.0
"""How long a busy machine may take to find out."""
FAILS_FROM = 243  # 13 of 256 corner pixels: 5 %
LESS_BRIGHT = 141  # 13 of the 128 levels of a face: 10 %
STEPS = 40
HALVES = {"1": 50, "2": 50}
UNTIMED = {"max_latency_ratio": None}
"""For candidates whose latency is not the point, and which are so small that the machine's noise is most of it."""


class Rig(NamedTuple):
    """A server that judges, where its decisions are written, and its repository."""

    address: str
    repository: Path
    reports: Reports
    audit: Path

    def put(self, name: str, **fields: Any) -> None:
        """Have an experiment in force."""
        self.reports.wait_until_in_force(name, write_experiment(self.repository / name, **fields))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    repository = tmp_path_factory.mktemp("models")
    good, failing, blind = (
        grid_detector(),
        grid_detector(fails_from=FAILS_FROM),
        grid_detector(bright=LESS_BRIGHT),
    )
    for name, candidate in (
        ("errors", failing),
        ("dry", failing),
        ("blind", blind),
        ("blind_shadow", blind),
        ("null", good),
    ):
        add_model(repository, name, {1: good, 2: candidate}, FACES_CONFIG)
    add_model(repository, "slow", {1: worker(STEPS), 2: worker(2 * STEPS)}, WORK_CONFIG)
    add_model(repository, "rotated", {1: channel_embedder(RGB), 2: channel_embedder(GBR)}, EMBEDDER_CONFIG)
    add_model(repository, "promoted", {1: tells_its_version(1), 2: tells_its_version(2)}, PLAIN_CONFIG)
    for folder in repository.iterdir():
        write_experiment(folder, weights={"1": 1, "2": 0})
    decisions = tmp_path_factory.mktemp("decisions")
    flags = (*POLLING, f"--experiment-directory={decisions}", "--experiment-interval-secs=0.1")
    tests = str(Path(__file__).parents[1])
    with ServerProcess(
        repository,
        *flags,
        "--allow-experiment-decisions=true",
        module="support.naiad_awake",
        PYTHONPATH=tests,
    ) as process:
        listens = process.address()
        with Reports(listens) as reports:
            yield Rig(listens, repository, reports, decisions / "audit.jsonl")


class Load:
    """Callers that name no version, for as long as it is entered; what fails is counted."""

    def __init__(
        self, listens: str, model: str, name: str, rows: npt.NDArray[Any], *, callers: int = 2
    ) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.began_s = 0.0
        self._address, self._model, self._name, self._rows = listens, model, name, rows
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(each,), daemon=True) for each in range(callers)
        ]

    def __enter__(self) -> Self:
        self.began_s = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        with triton.InferenceServerClient(self._address) as client:
            start = number * len(self._rows) // len(self._threads)
            for row in cycle(np.roll(self._rows, start, axis=0)):
                if self._stop.is_set():
                    return
                try:
                    self.answers[ask(client, self._model, self._name, row)] += 1
                except InferenceServerException as error:
                    self.failures[error.status()] += 1


def ask(client: triton.InferenceServerClient, model: str, name: str, row: npt.NDArray[Any]) -> str:
    """The version that answers."""
    tensor = triton.InferInput(name, list(row.shape), {"uint8": "UINT8", "float32": "FP32"}[row.dtype.name])
    tensor.set_data_from_numpy(np.ascontiguousarray(row))
    return str(client.infer(model, [tensor]).get_response().model_version)


class Caught(NamedTuple):
    """A decision, the report that first told it, and how long it took."""

    decision: pb.Decision
    report: pb.Report
    seconds: float


def wait_until(reports: Reports, model: str, holds: Callable[[pb.Report], bool], what: str) -> pb.Report:
    until = time.monotonic() + PATIENCE_S
    while not holds(report := reports.of(model)):
        assert time.monotonic() < until, f"{model}: not {what}: {report}"
        time.sleep(0.02)
    return report


def caught(reports: Reports, model: str, load: Load) -> Caught:
    """The first decision on the model; its delay is printed."""
    report = wait_until(reports, model, lambda report: len(report.decisions) > 0, "decided")
    seconds = time.monotonic() - load.began_s
    candidate = report.arms[1]
    seen = candidate.ok + candidate.errors or report.shadow.compared + report.shadow.failures
    looked = f" ({candidate.looked_into} looked into)" if candidate.looked_into else ""
    decision = report.decisions[0]
    print(  # noqa: T201  # with -s: the delays
        f"\n{model}: {seen} requests of the candidate{looked}, {seconds:.1f} s: {decision.reason}"
    )
    return Caught(decision, report, seconds)


def assert_rolled_back(rig: Rig, model: str, name: str, rows: npt.NDArray[Any], found: Caught) -> None:
    """By the guard, in the report, in the audit log, and in who answers."""
    assert (found.decision.by, found.decision.candidate, found.decision.dry_run) == ("guard", 2, False)
    report = wait_until(
        rig.reports, model, lambda report: report.arms[1].state == "rolled back", "rolled back"
    )
    assert report.state == "rolled back"
    assert report.arms[1].share == 0
    with triton.InferenceServerClient(rig.address) as client:
        assert {ask(client, model, name, row) for row in rows[:50]} == {"1"}
    (line,) = audited(rig.audit, model)
    assert (line["kind"], line["candidate"], line["by"]) == ("roll_back", 2, "guard")
    assert line["reason"] == found.decision.reason
    assert line["digest"] == report.digest


def audited(audit: Path, model: str) -> list[dict[str, Any]]:
    """The lines of the audit log on a model, once there are any."""
    until = time.monotonic() + PATIENCE_S
    while True:
        lines = [json.loads(line) for line in audit.read_text().splitlines()] if audit.exists() else []
        found = [line for line in lines if line["model"] == model]
        if found:
            return found
        assert time.monotonic() < until
        time.sleep(0.02)


def test_five_percent_errors_are_rolled_back(rig: Rig) -> None:
    rig.put("errors", weights=HALVES, guard=UNTIMED)
    rows = photos(512, seed=1)[:, None]
    with Load(rig.address, "errors", "image", rows) as load:
        found = caught(rig.reports, "errors", load)
    assert "error rate" in found.decision.reason
    assert "above version 1's 0 %" in found.decision.reason
    assert found.report.arms[0].errors == 0
    assert found.report.arms[1].errors > 0
    assert sum(load.failures.values()) >= found.report.arms[1].errors
    assert_rolled_back(rig, "errors", "image", rows, found)


def test_twice_the_latency_is_rolled_back(rig: Rig) -> None:
    """Twice and not 1.3 times: on a machine that does other things too the noise alone is as much."""
    rig.put("slow", weights=HALVES, guard={})
    rows = np.zeros((50, WORK_SIZE, WORK_SIZE), np.float32)
    with Load(rig.address, "slow", "INPUT", rows, callers=1) as load:
        found = caught(rig.reports, "slow", load)
    assert "typical latency" in found.decision.reason
    assert "times version 1's" in found.decision.reason
    assert_rolled_back(rig, "slow", "INPUT", rows, found)


def test_a_tenth_of_the_faces_lost_is_rolled_back_by_what_is_answered(rig: Rig) -> None:
    rig.put("blind", weights=HALVES, guard=UNTIMED)
    rows = photos(256, seed=2)[:, None]
    with Load(rig.address, "blind", "image", rows) as load:
        found = caught(rig.reports, "blind", load)
    assert "faces a picture are" in found.decision.reason
    assert "fewer than version 1's 16" in found.decision.reason
    assert found.report.arms[1].faces.value == pytest.approx(16 * 0.9, rel=0.05)
    assert_rolled_back(rig, "blind", "image", rows, found)


def test_a_tenth_of_the_faces_lost_is_rolled_back_by_a_shadow_before_anyone_gets_it(rig: Rig) -> None:
    rig.put("blind_shadow", weights={"1": 1}, shadow={"version": 2, "budget": 4}, guard=UNTIMED)
    rows = photos(256, seed=3)[:, None]
    with Load(rig.address, "blind_shadow", "image", rows) as load:
        found = caught(rig.reports, "blind_shadow", load)
    assert set(load.answers) == {"1"}
    assert not load.failures
    assert "version 2 misses" in found.decision.reason
    assert "of version 1's faces in a picture" in found.decision.reason
    assert found.report.shadow.missed.value == pytest.approx(0.1, abs=0.05)
    assert found.report.shadow.extra.value == 0
    assert_rolled_back(rig, "blind_shadow", "image", rows, found)


def test_an_embedder_of_another_space_is_rolled_back_by_a_shadow(rig: Rig) -> None:
    rig.put("rotated", weights={"1": 1}, shadow={"version": 2, "budget": 4}, guard={"min_cosine": 0.9})
    rows = crops(64, seed=4)[:, None]
    with Load(rig.address, "rotated", "crop", rows, callers=1) as load:
        found = caught(rig.reports, "rotated", load)
    assert set(load.answers) == {"1"}
    assert "the cosine of version 2's vectors with version 1's is 0" in found.decision.reason
    assert found.report.shadow.norm_ratio.value == pytest.approx(1)
    assert_rolled_back(rig, "rotated", "crop", rows, found)


def test_the_same_file_twice_is_left_alone(rig: Rig) -> None:
    """As an answering candidate and as a shadow at once, held against every limit that there is."""
    rig.put("null", weights=HALVES, shadow={"version": 2, "budget": 2}, guard={})
    rows = photos(256, seed=5)[:, None]
    with Load(rig.address, "null", "image", rows) as load:
        report = wait_until(
            rig.reports,
            "null",
            lambda report: report.arms[1].looked_into >= 110 and report.shadow.compared >= 110,
            "looked into",
        )
    assert not load.failures
    (candidate,) = report.candidates
    assert candidate.verdict.kind in {"holding", "better"}
    assert {check.state for check in candidate.verdict.checks} <= {"inside", "undecided"}
    assert len(candidate.verdict.checks) == 10
    assert list(rig.reports.of("null").decisions) == []
    checks = ", ".join(f"{check.metric} {check.state}" for check in candidate.verdict.checks)
    print(f"\nnull: {report.arms[1].ok} requests of the candidate: {candidate.verdict.kind}; {checks}")  # noqa: T201


def test_a_dry_run_tells_what_it_would_do_once_and_does_nothing(rig: Rig) -> None:
    rig.put("dry", weights=HALVES, guard=UNTIMED | {"dry_run": True, "cooldown_s": 0})
    rows = photos(512, seed=6)[:, None]
    with Load(rig.address, "dry", "image", rows) as load:
        found = caught(rig.reports, "dry", load)
        seen = found.report.arms[1].ok
        report = wait_until(rig.reports, "dry", lambda report: report.arms[1].ok > 2 * seen, "still asked")
    assert found.decision.dry_run
    assert found.decision.by == "guard"
    assert (report.arms[1].state, report.arms[1].share, report.state) == ("ready", 0.5, "running")
    assert any("would have been rolled back" in note for note in report.notes)
    (line,) = audited(rig.audit, "dry")
    assert line["dry_run"]


def test_a_candidate_within_every_limit_is_promoted_and_can_be_taken_back(rig: Rig) -> None:
    """With limits as wide as a few seconds can show to be kept."""
    guard = {
        "max_error_rate_increase": 0.15,
        "max_latency_ratio": 3,
        "min_requests": 50,
        "promote_after": 200,
    }
    rig.put("promoted", weights={"1": 70, "2": 30}, guard=guard)
    rows = np.zeros((50, 1, 1), np.float32)
    with Load(rig.address, "promoted", "INPUT", rows) as load:
        found = caught(rig.reports, "promoted", load)
    assert found.report.arms[1].ok >= 200
    assert "all 3 checks are inside their limits" in found.decision.reason
    report = rig.reports.of("promoted")
    assert report.state == "version 2 was promoted and answers all"
    assert [arm.share for arm in report.arms] == [0, 1]
    with triton.InferenceServerClient(rig.address) as client:
        assert {ask(client, "promoted", "INPUT", row) for row in rows} == {"2"}
        rig.reports.decide("promoted", "RESUME", 2)
        assert {ask(client, "promoted", "INPUT", row) for row in rows} == {"1", "2"}
    assert audited(rig.audit, "promoted")[0]["kind"] == "promote"


async def test_a_roll_back_outlives_a_restart_until_it_is_resumed_or_the_file_is_edited(
    tmp_path: Path,
) -> None:
    """Two servers after each other over the same --experiment-directory, and the `naiad ab` command."""
    repository, decisions = tmp_path / "models", tmp_path / "decisions"
    folder = add_model(
        repository, "m", {1: grid_detector(), 2: grid_detector(fails_from=FAILS_FROM)}, FACES_CONFIG
    )
    write_experiment(folder, weights=HALVES, guard=UNTIMED)
    settings = {
        "model_control_mode": "poll",
        "repository_poll_secs": 0.2,
        "repository_quiet_secs": 0.1,
        "experiment_directory": str(decisions),
        "experiment_interval_secs": 0.1,
        "allow_experiment_decisions": True,
    }
    rows = photos(512, seed=7)[:, None]
    async with server(repository, **settings) as first:
        found = await asyncio.to_thread(until_decided, address(first), rows)
    assert "error rate" in found.decision.reason
    async with server(repository, **settings) as again:
        await asyncio.to_thread(check_restarted, address(again), folder, found.decision.reason)


def until_decided(listens: str, rows: npt.NDArray[Any]) -> Caught:
    with Reports(listens) as reports, Load(listens, "m", "image", rows) as load:
        return caught(reports, "m", load)


def check_restarted(listens: str, folder: Path, reason: str) -> None:
    """What a server that has just been started does with what was decided before."""
    good = photos(60, seed=8)[:, None]
    good[:, :, 0, 0] = 0  # fails nowhere, so that nothing is decided anew

    def versions() -> set[str]:
        with triton.InferenceServerClient(listens) as client:
            return {ask(client, "m", "image", row) for row in good}

    def ab(*arguments: str) -> Any:
        with capture_logs():  # the server's, which would be the command's output
            return CliRunner().invoke(app, ["ab", *arguments, "--address", listens])

    with Reports(listens) as reports:
        (decision,) = reports.of("m").decisions
        assert (decision.reason, decision.by) == (reason, "guard")
        assert versions() == {"1"}
        report = ab("report", "m")
        assert report.exit_code == 1
        assert "rolled back" in report.stdout
        resumed = ab("resume", "m", "2", "--reason", "mended")
        assert (resumed.exit_code, resumed.stdout) == (0, "m: running\n")
        assert versions() == {"1", "2"}
        assert ab("rollback", "m", "2").exit_code == 0
        assert versions() == {"1"}
        # Who edits the file has decided otherwise.
        reports.wait_until_in_force("m", write_experiment(folder, weights={"1": 40, "2": 60}, guard=UNTIMED))
        assert versions() == {"1", "2"}
        assert [each.kind for each in reports.of("m").decisions] == [1, 3, 1]

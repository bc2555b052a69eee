"""The experiment service over the wire: a report loses nothing on its way, and decisions are taken where allowed."""

from __future__ import annotations

import asyncio
import types
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import grpc
import pytest
from support.repositories import add_model
from support.servers import address, server
from support.versions import PLAIN_CONFIG, tells_its_version, write_experiment

from naiad.cli.ab_calls import ExperimentCalls
from naiad.core.errors import NotFoundError
from naiad.lifecycle.experiments.evidence import Outcome
from naiad.lifecycle.experiments.report import ExperimentReport
from naiad.lifecycle.experiments.reporting import report_of
from naiad.services.experiments import MAX_TEXT_LENGTH
from naiad_protos.naiad.experiments.v1 import experiments_pb2 as pb
from naiad_protos.naiad.experiments.v1 import experiments_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from naiad.app import NaiadServer

ROLL_BACK, PROMOTE, RESUME = pb.DECISION_KIND_ROLL_BACK, pb.DECISION_KIND_PROMOTE, pb.DECISION_KIND_RESUME
OF_THE_MESSAGE_ALONE = {"Report": {"next_change_at", "decisions"}}
"""What programs are told and the report's notes say in words."""


def element(hint: Any) -> tuple[Any, bool, bool]:
    """What a field holds, whether there may be several, and whether it may be None."""
    if get_origin(hint) in {Union, types.UnionType}:
        (only,) = (each for each in get_args(hint) if each is not types.NoneType)
        return only, False, True
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True, False
    return hint, False, False


def compare(kind: Any, message: Any) -> Iterator[str]:
    """How a dataclass and a message differ, in words."""
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    extra = OF_THE_MESSAGE_ALONE.get(message.name, set())
    if names != set(message.fields_by_name) - extra:
        yield f"{message.name}: {sorted(names ^ (set(message.fields_by_name) - extra))}"
        return
    for name in names:
        found, (held, is_many, may_be_none) = message.fields_by_name[name], element(hints[name])
        if found.is_repeated != is_many:
            yield f"{message.name}.{name}: several in one of them"
        if is_dataclass(held):
            yield from compare(held, found.message_type)
        elif may_be_none and not found.has_presence:
            yield f"{message.name}.{name} cannot be left out"


def test_every_field_of_a_report_has_its_field_in_the_message_and_none_is_left() -> None:
    """One that may be None has presence there: 0 would be a figure."""
    assert list(compare(ExperimentReport, pb.Report.DESCRIPTOR)) == []


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("m", "n", "plain"):
        folder = add_model(
            tmp_path / "models", name, {1: tells_its_version(1), 2: tells_its_version(2)}, PLAIN_CONFIG
        )
        if name != "plain":
            fields = {
                "weights": {"1": 3, "2": 1},
                "keys": {"2": ["alice"]},
                "shadow": {"version": 2},
                "guard": {},
            }
            ramp = [{"at": "2100-01-01T00:00:00Z", "weights": {"1": 1, "2": 1}}]
            write_experiment(folder, **fields, ramp=ramp)
    return tmp_path / "models"


async def refusal(running: NaiadServer, method: str, request: Any) -> tuple[Any, str]:
    """The status and the text that a call is refused with."""
    async with grpc.aio.insecure_channel(address(running)) as channel:
        stub: Any = experiments_pb2_grpc.ExperimentServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(stub, method)(request)
    return refused.value.code(), str(refused.value.details())


async def decide(running: NaiadServer, kind: Any, candidate: int = 2, **rest: str) -> pb.Report:
    async with grpc.aio.insecure_channel(address(running)) as channel:
        stub: Any = experiments_pb2_grpc.ExperimentServiceStub(channel)
        request = pb.DecideRequest(model="m", kind=kind, candidate=candidate, **rest)
        report: pb.Report = (await stub.Decide(request)).report
        return report


async def test_a_report_comes_over_the_wire_as_it_was_made(repository: Path) -> None:
    """With figures that are known, and some that are not, which come as None and not as 0."""
    async with server(repository, experiment_interval_secs=600) as running:
        experiment = running.experiments.get("m")
        for version, outcome, count in ((1, Outcome.OK, 150), (2, Outcome.OK, 120), (2, Outcome.ERROR, 1)):
            for number in range(count):
                experiment.evidence[version].record(outcome, 0.001 + number * 1e-5)
        experiment.tick(experiment.began_s + 1)

        def called() -> ExperimentReport:
            with ExperimentCalls(address(running)) as calls:
                assert calls.models() == ["m", "n"]
                with pytest.raises(NotFoundError, match="model 'plain' has no experiment in force"):
                    calls.report("plain")
                return calls.report("m")

        found = await asyncio.to_thread(called)
        assert found == report_of(experiment, now_s=experiment.began_s + 1)
        assert len(found.candidates[0].verdict.checks) > 0
        assert found.arms[0].p50_ms is not None
        assert found.arms[0].faces is None
        assert found.shadow is not None
        assert found.shadow.missed is None


async def test_what_only_the_message_tells(repository: Path) -> None:
    async with server(repository, allow_experiment_decisions=True) as running:
        began = running.experiments.get("m").began_s
        report = await decide(running, ROLL_BACK, reason="slow", by="alice")
        assert report.next_change_at == 4_102_444_800
        assert report.state == "rolled back"
        assert [arm.share for arm in report.arms] == [1, 0]
        (decision,) = report.decisions
        assert (decision.kind, decision.candidate, decision.reason, decision.by, decision.dry_run) == (
            ROLL_BACK,
            2,
            "slow",
            "alice",
            False,
        )
        assert decision.digest == report.digest
        assert decision.at >= began
        resumed = await decide(running, RESUME, 0)
        assert [(each.kind, each.candidate) for each in resumed.decisions] == [(ROLL_BACK, 2), (RESUME, 0)]
        assert "127.0.0.1" in resumed.decisions[1].by  # who names nobody is named by the address
        promoted = await decide(running, PROMOTE)
        assert promoted.state == "version 2 was promoted and answers all"


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"model": "m", "candidate": 2}, "INVALID_ARGUMENT", "kind is 0, it must be ROLL_BACK, PROMOTE or"),
        ({"model": "m", "kind": PROMOTE, "candidate": 7}, "INVALID_ARGUMENT", "version 7 is no candidate"),
        ({"model": "m", "kind": PROMOTE}, "INVALID_ARGUMENT", "no version is named"),
        ({"model": "plain", "kind": RESUME}, "NOT_FOUND", "model 'plain' has no experiment in force"),
        (
            {"model": "m", "kind": RESUME, "reason": "x" * (MAX_TEXT_LENGTH + 1)},
            "INVALID_ARGUMENT",
            f"reason has {MAX_TEXT_LENGTH + 1} characters, the limit is {MAX_TEXT_LENGTH}",
        ),
        (
            {"model": "m", "kind": RESUME, "by": "x" * (MAX_TEXT_LENGTH + 1)},
            "INVALID_ARGUMENT",
            "by has 1001",
        ),
    ],
    ids=["kind", "candidate", "no candidate", "model", "reason", "by"],
)
async def test_a_decision_that_is_wrong_is_refused_and_decides_nothing(
    repository: Path, fields: dict[str, Any], code: str, words: str
) -> None:
    async with server(repository, allow_experiment_decisions=True) as running:
        status, text = await refusal(running, "Decide", pb.DecideRequest(**fields))
        assert (status, words in text) == (grpc.StatusCode[code], True), text
        assert list(running.experiments.get("m").history) == []


async def test_callers_decide_nothing_unless_the_operator_lets_them(repository: Path) -> None:
    async with server(repository) as running:
        request = pb.DecideRequest(model="m", kind=ROLL_BACK, candidate=2)
        status, text = await refusal(running, "Decide", request)
        assert status is grpc.StatusCode.UNAVAILABLE
        assert "--allow-experiment-decisions" in text
        assert list(running.experiments.get("m").history) == []

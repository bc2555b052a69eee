"""Experiments in `/metrics` of a server that answers, shadows and is decided on: the figures are its reports'."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections import Counter
from contextlib import closing
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from onnx import TensorProto, helper
from prometheus_client.parser import text_string_to_metric_families
from support.embedders import BGR, RGB, channel_embedder
from support.onnx_models import add_sub
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import address, metrics_address, server
from support.triton import infer_inputs
from support.vision_models import DETECTOR_CONFIG, EMBEDDER_CONFIG, brightness_detector

from naiad.lifecycle.experiments.aside import AsideSettings
from naiad_protos.naiad.experiments.v1 import experiments_pb2 as pb
from naiad_protos.naiad.experiments.v1 import experiments_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import onnx

    from naiad.app import NaiadServer

Samples = dict[str, float]
"""Values by `key`."""

EXPERIMENT = {
    "weights": {"1": 50, "2": 50},
    "shadow": {"version": 2, "budget": 8},
    # No limit is reached: what is decided is decided by hand.
    "guard": {"min_requests": 1_000_000, "min_cosine": -1},
}
REQUESTS = 60
MODELS = ("faces", "sums", "vectors")
DECISIONS = {
    pb.DECISION_KIND_ROLL_BACK: "roll_back",
    pb.DECISION_KIND_PROMOTE: "promote",
    pb.DECISION_KIND_RESUME: "resume",
}
# What metrics call a field of the report.
OUTCOMES = {"success": "ok", "failed": "errors", "callers_fault": "callers_faults", "cancelled": "cancelled"}
QUANTILES = {"0.5": "p50_ms", "0.9": "p90_ms", "0.99": "p99_ms"}
ARM_FIGURES = {
    "empty_rate": "naiad_experiment_empty_ratio",
    "faces": "naiad_experiment_faces",
    "score": "naiad_experiment_score",
    "norm": "naiad_experiment_norm",
}
SHADOW_OUTCOMES = {"compared": "compared", "failed": "failures", "skipped": "skipped"}
SHADOW_FIGURES = {
    "missed": "naiad_shadow_missed_ratio",
    "extra": "naiad_shadow_extra_ratio",
    "cosine": "naiad_shadow_cosine",
    "mismatched": "naiad_shadow_mismatch_ratio",
}


def key(name: str, **labels: object) -> str:
    """A sample's name and its labels, in one order."""
    return " ".join([name, *(f"{label}={text}" for label, text in sorted(labels.items()))])


def dim_detector() -> onnx.ModelProto:
    """The same with half the score: of the pictures used here it finds a face in some, not in all."""
    model = brightness_detector()
    for weights in model.graph.initializer:
        if weights.name == "full":
            weights.CopyFrom(helper.make_tensor("full", TensorProto.FLOAT, [], [510.0]))
    return model


def sub_sub() -> onnx.ModelProto:
    """Half of its values are wrong."""
    model = add_sub()
    for node in model.graph.node:
        node.op_type = "Sub"
    return model


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    faces = DETECTOR_CONFIG.replace(
        'score_threshold" value { string_value: "0"', 'score_threshold" value { string_value: "0.4"'
    )
    assert faces != DETECTOR_CONFIG
    folders = [
        add_model(tmp_path, "faces", {1: brightness_detector(), 2: dim_detector()}, faces),
        add_model(tmp_path, "sums", {1: add_sub(), 2: sub_sub()}, ADD_SUB_CONFIG),
        add_model(tmp_path, "vectors", {1: channel_embedder(RGB), 2: channel_embedder(BGR)}, EMBEDDER_CONFIG),
    ]
    for folder in folders:
        (folder / "experiment.json").write_text(json.dumps(EXPERIMENT))
    return tmp_path


async def scrape(running: NaiadServer) -> Samples:
    def read() -> str:
        with closing(http.client.HTTPConnection(metrics_address(running), timeout=10)) as asked:
            asked.request("GET", "/metrics")
            return asked.getresponse().read().decode()

    families = text_string_to_metric_families(await asyncio.to_thread(read))
    return {
        key(sample.name, **sample.labels): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith(("naiad_experiment", "naiad_shadow", "naiad_aside"))
    }


def pictures(index: int) -> Mapping[str, Mapping[str, Any]]:
    """Inputs of each model: every third picture is black, every third too dim for version 2."""
    light = (0, 150, 250)[index % 3]
    crop = np.zeros((1, 112, 112, 3), np.uint8)
    crop[...] = (200, 100, 10 * (index % 20))
    numbers = np.full((1, 16), index + 1, np.int32)
    return {
        "faces": {"image": np.full((1, 64, 64, 3), light, np.uint8)},
        "sums": {"INPUT0": numbers, "INPUT1": numbers},
        "vectors": {"crop": crop},
    }


def said(report: pb.Report) -> Iterator[tuple[str, float]]:
    """The samples that a report amounts to."""
    arm: Any  # its fields are asked for by name
    for arm in report.arms:
        of = {"model": report.model, "version": arm.version}
        for outcome, field in OUTCOMES.items():
            yield key("naiad_experiment_requests_total", outcome=outcome, **of), getattr(arm, field)
        yield key("naiad_experiment_share", **of), arm.share
        yield key("naiad_experiment_latency_seconds_count", **of), arm.ok
        for quantile, field in QUANTILES.items():
            if arm.HasField(field):
                seconds = getattr(arm, field) / 1_000
                yield key("naiad_experiment_latency_seconds", quantile=quantile, **of), seconds
        yield from _figures(arm, ARM_FIGURES, of)
    shadow, of = report.shadow, {"model": report.model, "version": report.shadow.version}
    for outcome, field in SHADOW_OUTCOMES.items():
        yield key("naiad_shadow_requests_total", outcome=outcome, **of), getattr(shadow, field)
    yield from _figures(shadow, SHADOW_FIGURES, of)
    for candidate in report.candidates:
        of = {"model": report.model, "version": candidate.version}
        for verdict in ("collecting", "holding", "better", "roll_back", "promote"):
            is_said = int(candidate.verdict.kind == verdict)
            yield key("naiad_experiment_verdict", verdict=verdict, **of), is_said
    made = Counter((DECISIONS[each.kind], each.by == "guard") for each in report.decisions)
    for decision, is_guard in product(DECISIONS.values(), (False, True)):
        labels = {"decision": decision, "by": "guard" if is_guard else "person"}
        if labels != {"decision": "resume", "by": "guard"}:  # guards do not
            name = key("naiad_experiment_decisions_total", model=report.model, **labels)
            yield name, made[decision, is_guard]


def _figures(part: Any, names: Mapping[str, str], of: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for field, name in names.items():
        if part.HasField(field) and getattr(part, field).HasField("value"):
            yield key(name, **of), getattr(part, field).value


async def settled(running: NaiadServer, stub: Any) -> tuple[list[pb.Report], Samples]:
    """The reports and the metrics of one moment, in which nothing is left to be done aside."""
    async with asyncio.timeout(60):
        while True:
            before = await reports(stub)
            samples = await scrape(running)
            is_judged = all(report.candidates for report in before)
            if is_judged and not samples["naiad_aside_pending"] and before == await reports(stub):
                return before, samples
            await asyncio.sleep(0.05)  # what another process does has no event


async def reports(stub: Any) -> list[pb.Report]:
    return [(await stub.GetReport(pb.GetReportRequest(model=model))).report for model in MODELS]


async def test_the_metrics_of_experiments_say_what_their_reports_say(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detector, an embedder and plain tensors, each with half of its requests to a candidate, and shadowed."""
    # The process aside would wait until no other test wants a CPU.
    monkeypatch.setattr("naiad.app.models.AsideSettings", partial(AsideSettings, is_idle=False))
    # Nor is a copy to be skipped: all three figures of shadows need some.
    settings = {"shadow_max_pending": 4 * REQUESTS * len(MODELS), "allow_experiment_decisions": True}
    async with (
        server(repository, experiment_interval_secs=0.05, **settings) as running,
        grpc.aio.insecure_channel(address(running)) as channel,
        triton.InferenceServerClient(address(running)) as client,
    ):
        stub = experiments_pb2_grpc.ExperimentServiceStub(channel)
        roll_back = pb.DecideRequest(model="faces", kind=pb.DECISION_KIND_ROLL_BACK, candidate=2, by="anna")
        resume = pb.DecideRequest(model="faces", kind=pb.DECISION_KIND_RESUME, by="anna")
        await stub.Decide(roll_back)
        await stub.Decide(resume)  # whoever is resumed begins without evidence
        for index in range(REQUESTS):
            for model, inputs in pictures(index).items():
                await client.infer(model, infer_inputs(**inputs))
        await stub.Decide(roll_back)
        found, samples = await settled(running, stub)
    expected = dict(pair for report in found for pair in said(report))
    aside = {name: samples.pop(name) for name in list(samples) if name.startswith("naiad_aside")}
    assert samples == pytest.approx(expected, rel=1e-9)
    # What was to be seen was seen: the two sides do not agree for want of figures.
    for model in MODELS:
        requests = partial(key, "naiad_experiment_requests_total", model=model, outcome="success")
        answered = [samples[requests(version=version)] for version in (1, 2)]
        assert sum(answered) == REQUESTS
        assert all(answered)
        assert samples[key("naiad_experiment_verdict", model=model, version=2, verdict="collecting")] == 1
        assert samples[key("naiad_shadow_requests_total", model=model, version=2, outcome="skipped")] == 0
    assert samples["naiad_shadow_missed_ratio model=faces version=2"] > 0
    assert samples["naiad_shadow_mismatch_ratio model=sums version=2"] == 0.5
    assert -1 < samples["naiad_shadow_cosine model=vectors version=2"] < 1
    assert samples["naiad_experiment_norm model=vectors version=1"] > 200
    assert 0 <= samples["naiad_experiment_empty_ratio model=faces version=1"] <= 1
    assert samples["naiad_experiment_share model=faces version=2"] == 0
    decisions = key("naiad_experiment_decisions_total", model="faces", decision="roll_back", by="person")
    assert samples[decisions] == 2
    assert aside.pop("naiad_aside_cpu_seconds_total") > 0
    assert aside == {"naiad_aside_starts_total": 1, "naiad_aside_pending": 0}

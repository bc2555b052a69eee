"""Experiments in `/metrics` of a server that answers, shadows and is decided on: the figures are its reports'."""

from __future__ import annotations

import asyncio
import http.client
import json
from contextlib import closing
from functools import partial
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

Samples = dict[tuple[str, ...], float]
"""Values by the sample's name and its labels' values."""

EXPERIMENT = {
    "weights": {"1": 50, "2": 50},
    "shadow": {"version": 2, "budget": 8},
    # No limit is reached: what is decided is decided by hand.
    "guard": {"min_requests": 1_000_000, "min_cosine": -1},
}
REQUESTS = 24
MODELS = ("faces", "sums", "vectors")
DECISIONS = {
    pb.DECISION_KIND_ROLL_BACK: "roll_back",
    pb.DECISION_KIND_PROMOTE: "promote",
    pb.DECISION_KIND_RESUME: "resume",
}
ASIDE = ("naiad_aside_pending",), ("naiad_aside_starts_total",), ("naiad_aside_cpu_seconds_total",)


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
        (sample.name, *sample.labels.values()): sample.value
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


def said(report: pb.Report) -> Iterator[tuple[tuple[str, ...], float]]:
    """The samples that a report amounts to."""
    model = report.model
    for arm in report.arms:
        version = str(arm.version)
        requests = partial(_labelled, "naiad_experiment_requests_total", model, version)
        yield requests("success"), arm.ok
        yield requests("failed"), arm.errors
        yield requests("callers_fault"), arm.callers_faults
        yield requests("cancelled"), arm.cancelled
        yield ("naiad_experiment_share", model, version), arm.share
        latency = "naiad_experiment_latency_seconds"
        yield (f"{latency}_count", model, version), arm.ok
        for quantile, name in (("0.5", "p50_ms"), ("0.9", "p90_ms"), ("0.99", "p99_ms")):
            if arm.HasField(name):
                yield (latency, model, version, quantile), getattr(arm, name) / 1_000
        names = {"empty_rate": "empty_ratio", "faces": "faces", "score": "score", "norm": "norm"}
        yield from _figures(arm, "naiad_experiment", names, model, version)
    yield from _said_of_shadow(model, report.shadow)
    for candidate in report.candidates:
        for verdict in ("collecting", "holding", "better", "roll_back", "promote"):
            labels = model, str(candidate.version), verdict
            yield ("naiad_experiment_verdict", *labels), candidate.verdict.kind == verdict
    for kind, by in (*((name, "person") for name in DECISIONS.values()), ("roll_back", "guard")):
        made = [each for each in report.decisions if DECISIONS[each.kind] == kind]
        count = sum((each.by == "guard") == (by == "guard") for each in made)
        yield ("naiad_experiment_decisions_total", model, kind, by), count
    yield ("naiad_experiment_decisions_total", model, "promote", "guard"), 0


def _said_of_shadow(model: str, shadow: pb.ShadowReport) -> Iterator[tuple[tuple[str, ...], float]]:
    requests = partial(_labelled, "naiad_shadow_requests_total", model, str(shadow.version))
    yield requests("compared"), shadow.compared
    yield requests("failed"), shadow.failures
    yield requests("skipped"), shadow.skipped
    names = {
        "missed": "missed_ratio",
        "extra": "extra_ratio",
        "cosine": "cosine",
        "mismatched": "mismatch_ratio",
    }
    yield from _figures(shadow, "naiad_shadow", names, model, str(shadow.version))


def _figures(
    part: Any, prefix: str, names: Mapping[str, str], *labels: str
) -> Iterator[tuple[tuple[str, ...], float]]:
    for field, name in names.items():
        if part.HasField(field) and getattr(part, field).HasField("value"):
            yield (f"{prefix}_{name}", *labels), getattr(part, field).value


def _labelled(*labels: str) -> tuple[str, ...]:
    return labels


async def settled(running: NaiadServer, stub: Any) -> tuple[list[pb.Report], Samples]:
    """The reports and the metrics of one moment, in which nothing is left to be done aside."""
    async with asyncio.timeout(60):
        while True:
            before = await reports(stub)
            samples = await scrape(running)
            is_judged = all(report.candidates for report in before)
            if is_judged and not samples[ASIDE[0]] and before == await reports(stub):
                return before, samples
            await asyncio.sleep(0.05)  # what another process does has no event


async def reports(stub: Any) -> list[pb.Report]:
    return [(await stub.GetReport(pb.GetReportRequest(model=model))).report for model in MODELS]


async def test_the_metrics_of_experiments_say_what_their_reports_say(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detector, an embedder and plain tensors, each with half of its requests to a candidate, and shadowed."""
    # The process aside would wait until no other test wants a CPU.
    monkeypatch.setattr("naiad.app.AsideSettings", partial(AsideSettings, is_idle=False))
    async with (
        server(repository, experiment_interval_secs=0.05, allow_experiment_decisions=True) as running,
        grpc.aio.insecure_channel(address(running)) as channel,
        triton.InferenceServerClient(address(running)) as client,
    ):
        stub = experiments_pb2_grpc.ExperimentServiceStub(channel)
        for index in range(REQUESTS):
            for model, inputs in pictures(index).items():
                await client.infer(model, infer_inputs(**inputs))
        for kind in (pb.DECISION_KIND_ROLL_BACK, pb.DECISION_KIND_RESUME, pb.DECISION_KIND_ROLL_BACK):
            await stub.Decide(pb.DecideRequest(model="faces", kind=kind, candidate=2, by="anna"))
        found, samples = await settled(running, stub)
    expected = dict(pair for report in found for pair in said(report))
    aside = {key: samples.pop(key) for key in ASIDE}
    assert samples == pytest.approx(expected, rel=1e-9)
    # What was to be seen was seen: the two sides do not agree for want of figures.
    for model in MODELS:
        answered = [samples["naiad_experiment_requests_total", model, each, "success"] for each in "12"]
        assert sum(answered) == REQUESTS
        assert all(answered)
        assert samples["naiad_experiment_verdict", model, "2", "collecting"] == 1
    assert samples["naiad_shadow_missed_ratio", "faces", "2"] > 0
    assert samples["naiad_shadow_mismatch_ratio", "sums", "2"] == 0.5
    assert -1 < samples["naiad_shadow_cosine", "vectors", "2"] < 1
    assert samples["naiad_experiment_norm", "vectors", "1"] > 200
    assert 0 < samples["naiad_experiment_empty_ratio", "faces", "1"] <= 1
    assert samples["naiad_experiment_share", "faces", "2"] == 0
    assert samples["naiad_experiment_decisions_total", "faces", "roll_back", "person"] == 2
    assert aside["naiad_aside_starts_total",] == 1
    assert aside["naiad_aside_cpu_seconds_total",] > 0

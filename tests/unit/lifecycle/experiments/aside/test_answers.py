"""What the process aside, a real one, answers to its jobs; one process for all of these."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import pytest_asyncio
from support.aside import AMPLE, Aside, Told, adding, of_kind, written
from support.onnx_models import add_sub
from support.vision_models import DETECTOR_CONFIG, brightness_detector

from naiad.core.tensors import ModelKey
from naiad.lifecycle.experiments.aside import (
    JobFailed,
    KeepWorst,
    ModelOpened,
    ShadowJob,
    ShadowResult,
    SignsJob,
    SignsResult,
)
from naiad.lifecycle.experiments.worst import load
from naiad.lifecycle.loading import RepositoryLoader
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.threads import CpuBudget
from naiad.vision.agreement import DetectionAgreement, TensorAgreement, agree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.lifecycle.loaded import LoadedModel
    from naiad.repository.layout import ModelFolder

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aside(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Aside]:
    async with Aside(tmp_path_factory.mktemp("aside"), replace(AMPLE, max_arena_bytes=2**20)) as opened:
        yield opened


def load_here(folder: ModelFolder, config: ModelConfig, version: int) -> LoadedModel:
    """The version, in this process."""
    environment = OrtEnvironment.detect()
    loader = RepositoryLoader(environment, CpuBudget(1, ""), auto_complete=True, default_max_batch_size=4)
    return loader.load(folder, version, config)


async def test_a_shadow_says_what_a_comparison_in_this_process_would(aside: Aside) -> None:
    opened = await aside.open()
    job = adding(rows=2, wrong=5)
    result = of_kind(await aside.ask(job), ShadowResult)
    assert of_kind(opened, ModelOpened).key == ModelKey("m", 2)
    right = adding(rows=2).outputs
    assert result.agreement == agree(None, aside.add[1], job.outputs, right, job.inputs)
    assert of_kind(result.agreement, TensorAgreement).mismatched == 5
    assert 0 < result.candidate_ms < 1000
    assert result.kept_path is None


async def test_faces_are_compared_as_they_would_be_here(aside: Aside, tmp_path: Path) -> None:
    """The heads run in the process aside, with the config that its version completed there."""
    folder, config = written(tmp_path, "faces", {1: brightness_detector()}, DETECTOR_CONFIG)
    model = load_here(folder, config, 1)
    pictures = {"image": np.random.default_rng(1).integers(0, 255, (3, 64, 64, 3), np.uint8)}
    names = [output.name for output in model.version.config.outputs]
    answer = model.version.sessions[0].run(pictures, names)
    model.version.close()
    shifted = {**answer, "boxes": np.add(answer["boxes"], np.float32(2))}
    expected = agree(model.vision, model.version.config, shifted, answer, pictures)
    told = Told()
    aside.process.open_model(ModelKey("faces", 1), folder, config)
    aside.process.submit(ShadowJob("faces", 7, 1, pictures, shifted), told)
    aside.process.submit(SignsJob("faces", 1, answer, pictures), told)
    assert of_kind(await told.next(), ShadowResult).agreement == expected
    assert of_kind(expected, DetectionAgreement).matched == 3
    signs = of_kind(await told.next(), SignsResult).signs
    assert (signs.task, signs.rows, signs.detections, signs.is_finite) == ("detect", 3, 3, True)


async def test_answers_of_a_version_that_is_not_run_are_looked_into(aside: Aside, tmp_path: Path) -> None:
    """The baseline serves elsewhere: its model is not loaded a second time, and it cannot be run."""
    folder, config = written(tmp_path, "base", {1: add_sub()}, "max_batch_size: 8")
    version = load_here(folder, config, 1).version
    version.close()
    (folder.path / "1" / "model.onnx").unlink()
    aside.process.read_model(ModelKey("base", 1), version.config)
    told, job = Told(), replace(adding(rows=3), model="base", candidate=1)
    aside.process.submit(SignsJob("base", 1, job.outputs, job.inputs), told)
    signs = of_kind(await told.next(), SignsResult).signs
    failed = of_kind(await aside.ask(job), JobFailed)
    assert (signs.task, signs.rows, signs.is_finite) == ("tensors", 3, True)
    assert "base/1" in failed.reason


async def test_faces_in_answers_of_a_version_that_is_not_run_are_seen(aside: Aside, tmp_path: Path) -> None:
    """What its `naiad.` parameters mean is read out of the completed config anew."""
    folder, config = written(tmp_path, "finder", {1: brightness_detector()}, DETECTOR_CONFIG)
    version = load_here(folder, config, 1).version
    pictures = {"image": np.full((2, 64, 64, 3), 204, np.uint8)}
    answer = version.sessions[0].run(pictures, [output.name for output in version.config.outputs])
    version.close()
    aside.process.read_model(ModelKey("finder", 1), version.config)
    told = Told()
    aside.process.submit(SignsJob("finder", 1, answer, pictures), told)
    signs = of_kind(await told.next(), SignsResult).signs
    assert (signs.task, signs.rows, signs.detections) == ("detect", 2, 2)
    assert signs.top_score == pytest.approx(0.8)


async def test_a_version_that_does_not_load_says_so_and_so_do_its_jobs(aside: Aside, tmp_path: Path) -> None:
    await aside.open()
    starts, told = aside.process.figures.starts, Told()
    folder, config = written(tmp_path, "broken", {2: b"no model"}, "max_batch_size: 8")
    aside.process.open_model(ModelKey("broken", 2), folder, config, done=told)
    early = of_kind(await aside.ask(replace(adding(), model="broken")), JobFailed)
    refused = of_kind(await told.next(), JobFailed)
    assert early == refused
    assert refused.is_candidates_fault
    assert refused.gave_up
    assert aside.process.figures.given_up[ModelKey("broken", 2)] == refused.reason
    assert not aside.process.submit(replace(adding(), model="broken"), told)
    assert aside.process.figures.starts == starts


async def test_a_request_that_the_candidate_refuses_is_its_fault_and_it_goes_on(aside: Aside) -> None:
    """The baseline has answered the same request."""
    await aside.open()
    starts, job = aside.process.figures.starts, adding()
    narrow = {**job.inputs, "INPUT0": job.inputs["INPUT0"][:, :7]}
    failed = of_kind(await aside.ask(replace(job, inputs=narrow)), JobFailed)
    assert isinstance(await aside.ask(job), ShadowResult)
    assert aside.process.figures.starts == starts
    assert failed.is_candidates_fault
    assert not failed.gave_up


async def test_texts_that_turn_out_too_large_fail_their_job_alone(aside: Aside) -> None:
    """Their size is not known on the loop, where nothing may take long."""
    await aside.open()
    text = np.array([b"x" * 2**21], np.object_)
    job = adding()
    failed = of_kind(await aside.ask(replace(job, inputs={"text": text})), JobFailed)
    assert isinstance(await aside.ask(job), ShadowResult)
    assert not failed.is_candidates_fault
    assert str(2**20) in failed.reason


async def test_jobs_that_do_not_fit_leave_nothing_behind(aside: Aside) -> None:
    """What was copied of one before it turned out too large would take the next one's room."""
    await aside.open()
    job = replace(adding(), inputs={"text": np.array([b"x" * 2**21], np.object_)})
    padded = {**job.outputs, "more": np.zeros(2**19, np.uint8)}
    reasons = {of_kind(await aside.ask(replace(job, outputs=padded)), JobFailed).reason for _ in range(3)}
    assert len(reasons) == 1
    assert isinstance(await aside.ask(adding(rows=2**11)), ShadowResult)


async def test_a_request_of_more_tensors_than_a_message_holds_fails_alone(aside: Aside) -> None:
    await aside.open()
    job = adding()
    many = {f"{index:0100}": np.zeros(1, np.uint8) for index in range(1000)}
    failed = of_kind(await aside.ask(replace(job, outputs=many)), JobFailed)
    assert isinstance(await aside.ask(job), ShadowResult)
    assert not failed.is_candidates_fault
    assert "too many tensors" in failed.reason


async def test_the_worst_disagreements_are_kept_where_that_was_asked_for(
    aside: Aside, tmp_path: Path
) -> None:
    told = Told()
    kept = KeepWorst(tmp_path / "kept", 1, "try")
    aside.process.open_model(ModelKey("m", 2), *aside.add, keep=kept, done=told)
    await told.next()
    same = of_kind(await aside.ask(adding()), ShadowResult)
    job = replace(adding(wrong=3), request_id="r7")
    other = of_kind(await aside.ask(job), ShadowResult)
    assert same.kept_path is None
    assert other.kept_path is not None
    found = load(other.kept_path)
    assert (found.model, found.baseline_version, found.candidate_version) == ("m", 1, 2)
    assert (found.experiment, found.request_id) == ("try", "r7")
    np.testing.assert_array_equal(found.baseline_outputs["OUTPUT0"], job.outputs["OUTPUT0"])
    np.testing.assert_array_equal(found.inputs["INPUT0"], job.inputs["INPUT0"])


async def test_a_folder_that_cannot_be_used_costs_no_evidence(aside: Aside, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    told = Told()
    aside.process.open_model(ModelKey("m", 2), *aside.add, keep=KeepWorst(file, 5), done=told)
    opened = of_kind(await told.next(), ModelOpened)
    result = of_kind(await aside.ask(adding(wrong=3)), ShadowResult)
    assert any("not kept" in note for note in opened.notes)
    assert of_kind(result.agreement, TensorAgreement).mismatched == 3


async def test_a_version_that_was_closed_is_not_run(aside: Aside) -> None:
    await aside.open()
    aside.process.close_model(ModelKey("m", 2))
    assert not aside.process.submit(adding(), Told())
    assert isinstance(await aside.open(), ModelOpened)
    assert isinstance(await aside.ask(adding()), ShadowResult)

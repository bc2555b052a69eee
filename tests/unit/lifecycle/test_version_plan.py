"""How a version's batching is explained: the sentence must say what the scheduler will do."""

from __future__ import annotations

from typing import Any

import pytest

from naiad.cli.check_text import plain_block
from naiad.cli.explain_text import planned_block
from naiad.config.model_config import DynamicBatching, ModelConfig, QueuePolicy, TensorConfig
from naiad.config.sequence_config import OldestStrategy, SequenceBatching
from naiad.core.datatypes import DataType
from naiad.core.tensors import TensorSpec
from naiad.lifecycle.advice import fixed_tensors, name_tensors
from naiad.lifecycle.inspection import BatchingReport, Merging, ModelReport, VersionPlan, VersionReport
from naiad.lifecycle.version_plan import describe_batching, plan_version
from naiad.runtime.layout import Instance, InstanceLayout
from naiad.runtime.loaded import InspectedVersion

FIXED = (TensorSpec("data", DataType.FP32, (1, 3)), TensorSpec("scalar", DataType.FP32, ()))


def batching(
    max_batch_size: int, dynamic: DynamicBatching | None = None, *, dims: tuple[int, ...] = (3,), **kept: Any
) -> BatchingReport:
    inputs = (TensorConfig("data", DataType.FP32, dims),)
    config = ModelConfig("m", max_batch_size, inputs, (), dynamic_batching=dynamic)
    return describe_batching(config, kept.get("fixed", ()))


def test_a_fixed_first_dimension_is_named_as_what_stops_batching() -> None:
    report = batching(0, fixed=FIXED)
    assert report.merging is Merging.NONE
    assert report.fixed_tensors == FIXED
    assert report.explanation.endswith("is fixed or absent in 'data' [1,3], 'scalar' []")


@pytest.mark.parametrize(("gpu", "buckets"), [(0, (1, 2, 4, 6)), (None, ())])
def test_the_sizes_that_batches_are_filled_up_to_are_told(gpu: int | None, buckets: tuple[int, ...]) -> None:
    tensor = TensorConfig("data", DataType.FP32, (3,))
    config = ModelConfig("m", 6, (tensor,), (tensor,), dynamic_batching=DynamicBatching())
    spec = TensorSpec("data", DataType.FP32, (-1, 3))
    inspected = InspectedVersion(
        config=config,
        inputs=(spec,),
        outputs=(spec,),
        execution_providers=("any",),
        fallbacks=(),
        notes=(),
        layout=InstanceLayout((), (Instance("m_0", gpu),), 1, 1, ()),
        instance_providers=("any",),
    )
    plan = plan_version(config, inspected, optional=())
    assert plan.batch_buckets == buckets
    shown = "\n".join(plain_block(planned_block(_report(plan), _report(plan).versions[0], 10)))
    assert ("batches run at the next of 1, 2, 4, 6 batch items" in shown) == bool(buckets)


def _report(plan: VersionPlan) -> ModelReport:
    version = VersionReport(version=1, file=None, plan=plan, problem=None)
    return ModelReport("m", None, versions=(version,))


def test_a_graph_that_could_be_batched_says_which_field_to_set() -> None:
    assert "setting max_batch_size allows batches" in batching(0).explanation


def test_without_dynamic_batching_requests_are_not_merged() -> None:
    report = batching(8)
    assert report.merging is Merging.DIRECT
    assert "up to 8 items" in report.explanation
    assert "no dynamic_batching" in report.explanation


def test_dynamic_batching_tells_preferred_sizes_and_delay() -> None:
    report = batching(8, DynamicBatching((4, 2), 500, default_queue_policy=QueuePolicy(max_queue_size=16)))
    assert (report.merging, report.preferred_batch_sizes) == (Merging.DYNAMIC, (2, 4))
    assert (report.max_queue_delay_us, report.max_queue_size) == (500, 16)
    assert "batches of up to 8, preferably 2, 4; a request waits up to 500 µs" in report.explanation


def test_dynamic_batching_without_delay_says_that_nobody_waits() -> None:
    report = batching(8, DynamicBatching())
    assert report.preferred_batch_sizes == (8,)
    assert "no request waits for others" in report.explanation


def test_a_model_of_sequences_says_how_they_share_an_instance() -> None:
    direct = describe_batching(ModelConfig("m", 8, (), (), sequence_batching=SequenceBatching()), ())
    assert (direct.merging, direct.max_queue_size) == (Merging.DYNAMIC, 0)
    assert "up to 8 sequences, each of which keeps its instance and its row" in direct.explanation
    oldest = SequenceBatching(OldestStrategy(max_candidate_sequences=64))
    explanation = describe_batching(ModelConfig("m", 8, (), (), sequence_batching=oldest), ()).explanation
    assert "up to 64 sequences an instance are merged into batches of up to 8" in explanation


def test_inputs_of_any_size_limit_what_can_be_merged() -> None:
    assert "only requests of equal shape of 'data'" in batching(8, DynamicBatching(), dims=(-1,)).explanation
    assert "equal shape" not in batching(8, DynamicBatching()).explanation


def test_ragged_inputs_are_merged_whatever_their_shapes() -> None:
    ragged = TensorConfig("data", DataType.FP32, (-1,), ragged=True)
    config = ModelConfig("m", 8, (ragged,), (), dynamic_batching=DynamicBatching())
    explanation = describe_batching(config, ()).explanation
    assert "the elements of 'data' lie end to end, whatever their shapes" in explanation
    assert "equal shape" not in explanation


def test_dynamic_batching_that_cannot_work_is_said_to_have_no_effect() -> None:
    for report in (batching(0, DynamicBatching(), fixed=FIXED), batching(1, DynamicBatching())):
        assert report.explanation.startswith("dynamic_batching has no effect")


def test_only_required_tensors_with_a_free_first_dimension_leave_batching_open() -> None:
    free = TensorSpec("free", DataType.FP32, (-1, 3))
    unranked = TensorSpec("unranked", DataType.FP32, None)
    assert fixed_tensors([free, FIXED[0]], [unranked], {"data"}) == (unranked,)


def test_a_long_list_of_tensors_is_counted_from_the_fifth_on() -> None:
    specs = tuple(TensorSpec(str(number), DataType.FP32, None) for number in range(6))
    assert name_tensors(specs[:1]) == "'0' of unknown rank"
    assert name_tensors(specs).endswith("'3' of unknown rank and 2 more")

"""What is said of a config's scheduling is what the decisions then do."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from support.runtime import config

from naiad.config.ensemble_config import EnsembleScheduling, EnsembleStep
from naiad.config.model_config import DynamicBatching, QueuePolicy, TensorConfig, TimeoutAction
from naiad.config.sequence_config import DirectStrategy, OldestStrategy, SequenceBatching
from naiad.core.datatypes import DataType
from naiad.scheduling.batching import BatchReason, Run, next_batch
from naiad.scheduling.explain import MEANINGS, explain_scheduling, possible_reasons
from naiad.scheduling.factory import batch_policy
from naiad.scheduling.sequence.rows import RowPolicy, RunRows, next_rows

if TYPE_CHECKING:
    from collections.abc import Hashable

    from naiad.config.model_config import ModelConfig

FREE = TensorConfig("X", DataType.FP32, (-1,))
FIXED = TensorConfig("X", DataType.FP32, (4,))
BY_QUEUE_ALONE = {BatchReason.RETRY.value}
"""What no look at a queue can give: it follows a run."""


@dataclass
class Waiting:
    batch_size: int
    enqueued_ns: int
    shape_key: Hashable = 0


def batching(size: int, *preferred: int, delay_us: int = 0, **fields: Any) -> ModelConfig:
    block = DynamicBatching(preferred, delay_us, **fields)
    return config(max_batch_size=size, inputs=(FIXED,), dynamic_batching=block)


def reasons_found(model: ModelConfig) -> set[str]:
    """Every reason that the decision gives for any short queue at any age."""
    found = set()
    policy = batch_policy(model)
    requests = list(product(range(1, max(1, model.max_batch_size) + 1), (0, 1)))
    queues = [queue for length in (1, 2, 3) for queue in product(requests, repeat=length)]
    for queue, age_ns in product(queues, (0, 5_000_000)):
        waiting = [Waiting(size, 0, shape) for size, shape in queue]
        decision = next_batch(waiting, age_ns, policy)
        if isinstance(decision, Run):
            found.add(decision.reason.value)
    return found


@pytest.mark.parametrize(
    "model",
    [
        config(max_batch_size=0),
        config(max_batch_size=4),
        batching(1),
        batching(1, delay_us=100),
        batching(4),
        batching(4, delay_us=100),
        batching(4, 2),
        batching(4, 2, delay_us=100),
        batching(4, 2, 4),
        batching(4, 1),
        batching(4, 3, delay_us=100),
    ],
    ids=lambda model: f"{model.max_batch_size} {model.dynamic_batching}",
)
def test_the_reasons_are_those_that_the_batcher_gives_and_no_others(model: ModelConfig) -> None:
    assert set(possible_reasons(model)) - BY_QUEUE_ALONE == reasons_found(model)
    assert (BatchReason.RETRY.value in possible_reasons(model)) == (batch_policy(model).max_batch_size > 1)


@pytest.mark.parametrize(
    ("delay_us", "utilization"), [(0, 0.0), (100, 0.0), (0, 0.5), (100, 0.5), (100, 1.0)]
)
def test_the_reasons_are_those_that_the_direct_strategy_gives(delay_us: int, utilization: float) -> None:
    strategy = DirectStrategy(delay_us, utilization)
    model = config(max_batch_size=4, inputs=(FIXED,), sequence_batching=SequenceBatching(strategy))
    policy = RowPolicy(4, delay_us * 1_000, utilization)
    found = set()
    for rows, age_ns in product(range(1, 5), (0, 5_000_000)):
        decision = next_rows({row: Waiting(1, 0) for row in range(rows)}, age_ns, policy)
        if isinstance(decision, RunRows):
            found.add(decision.reason.value)
    assert set(possible_reasons(model)) == found | {"retry"}
    assert explain_scheduling(model).max_queue_delay_us == (delay_us if utilization else 0)


def test_every_reason_has_a_meaning() -> None:
    assert {reason.value for reason in BatchReason} <= set(MEANINGS)


def test_a_dynamic_batcher_in_words_and_numbers() -> None:
    report = explain_scheduling(batching(8, 8, 4, delay_us=100))
    assert report.scheduler == "dynamic batcher"
    assert report.sizes == "up to 8; one of 4, 8 is sent as soon as it is reached"
    assert report.delay.startswith("up to 100 µs from the oldest request's coming")
    assert (report.max_batch_size, report.preferred_batch_sizes, report.max_queue_delay_us) == (
        8,
        (4, 8),
        100,
    )


def test_what_must_be_alike_to_share_a_batch() -> None:
    optional = TensorConfig("O", DataType.FP32, (2,), optional=True)
    ragged = TensorConfig("R", DataType.FP32, (-1,), ragged=True)
    model = config(max_batch_size=4, inputs=(FREE, optional, ragged), dynamic_batching=DynamicBatching())
    report = explain_scheduling(model)
    assert (
        report.merged
        == "requests in the order of the queue, of equal shape of 'X' with the same optional inputs"
    )
    assert report.batch_axis.endswith("the graph gets the elements of 'R' end to end")


def test_a_model_that_does_not_merge_says_why() -> None:
    report = explain_scheduling(config(max_batch_size=4, inputs=(FIXED,)))
    assert report.merged == "nothing: each request runs alone because the config has no dynamic_batching"
    assert report.sizes == "those of the requests, up to 4"
    assert explain_scheduling(config(max_batch_size=0)).batch_axis.startswith("none: max_batch_size is 0")


def test_sequences_by_either_strategy() -> None:
    direct = SequenceBatching(DirectStrategy(200, 0.5))
    report = explain_scheduling(config(max_batch_size=4, inputs=(FIXED,), sequence_batching=direct))
    assert report.scheduler == "sequence batcher, direct strategy"
    assert "until 50% of an instance's rows have a request" in report.delay
    assert "rows without a request are padding" in report.merged
    oldest = SequenceBatching(OldestStrategy(7, (2,), 300))
    report = explain_scheduling(config(max_batch_size=4, inputs=(FIXED,), sequence_batching=oldest))
    assert report.scheduler == "sequence batcher, oldest strategy"
    assert "up to 7 sequences an instance" in report.merged
    assert [reason.name for reason in report.reasons] == ["preferred", "full", "misfit", "delay", "retry"]


def test_queue_policies_in_words() -> None:
    reject = QueuePolicy(default_timeout_us=500, allow_timeout_override=True, max_queue_size=9)
    delay = QueuePolicy(TimeoutAction.DELAY, default_timeout_us=700)
    model = batching(
        4,
        priority_levels=2,
        default_priority_level=2,
        default_queue_policy=reject,
        priority_queue_policy={1: delay},
        preserve_ordering=True,
    )
    assert explain_scheduling(model).queue == (
        "priority levels 1 to 2, 1 first; requests that name none are in level 2",
        "at most 9 requests wait, more are refused",
        "a request that has waited 500 µs, or its own shorter timeout, is refused",
        "level 1: a request that has waited 700 µs goes behind the others",
        "answers leave in the order of the requests",
    )


def test_an_ensemble_and_a_response_cache_are_named() -> None:
    steps = (EnsembleStep("a", -1, {}, {}), EnsembleStep("b", 1, {}, {}))
    report = explain_scheduling(config(ensemble=EnsembleScheduling(steps, max_inflight_requests=3)))
    assert report.merged == "nothing here; see the models of its steps: a, b"
    assert report.queue == ("at most 3 requests are at work in each step",)
    assert [reason.name for reason in report.reasons] == ["ensemble"]
    assert possible_reasons(config(response_cache=True)) == ("lone", "cache")

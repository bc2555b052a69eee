"""How requests of a config are scheduled, in the words that an explained request reports. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.config.model_config import DynamicBatching, TimeoutAction
from naiad.config.sequence_config import DirectStrategy, OldestStrategy
from naiad.core.tensors import WILDCARD
from naiad.scheduling.batching import BatchReason
from naiad.scheduling.cached import CACHED
from naiad.scheduling.ensemble.scheduler import BATCH_REASON as ENSEMBLE
from naiad.scheduling.factory import batch_policy
from naiad.scheduling.sequence.oldest import oldest_policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.config.model_config import ModelConfig, QueuePolicy
    from naiad.config.sequence_config import SequenceBatching
    from naiad.scheduling.batching import BatchPolicy

MEANINGS = {
    BatchReason.LONE.value: "the request ran alone: its model does not merge requests",
    BatchReason.PREFERRED.value: "a preferred batch size was reached",
    BatchReason.FULL.value: "the batch was full, or beyond every preferred size",
    BatchReason.MISFIT.value: "the next request has another shape, or is too large for what was left",
    BatchReason.DELAY.value: "the oldest request had waited its max queue delay",
    BatchReason.RETRY.value: "the batch that the request was in had failed, so that it ran again alone",
    BatchReason.IDLE.value: "an instance was free, and no request waits for others",
    BatchReason.UTILIZATION.value: "as many of an instance's sequences as asked for had a request",
    CACHED: "the answer was in the response cache (--cache-config), so that nothing ran",
    ENSEMBLE: "the request is an ensemble's: its steps have batches of their own",
}
"""What each reason says about the batch that it started."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason for which batches of a model can start, as `naiad_batch_reason` reports it."""

    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class SchedulingReport:
    """How requests of one model version are scheduled: sentences, and the numbers in them.

    Sizes count batch items, the delay is in microseconds. `max_batch_size` is what one run takes, 1 for a
    model without batches; `reasons` are all for which a run can start.
    """

    scheduler: str
    batch_axis: str
    merged: str
    sizes: str
    delay: str
    queue: tuple[str, ...]
    max_batch_size: int
    preferred_batch_sizes: tuple[int, ...]
    max_queue_delay_us: int
    reasons: tuple[Reason, ...]


def explain_scheduling(config: ModelConfig) -> SchedulingReport:
    """What the schedulers make of a complete config; the server's own limits aside."""
    policy = _policy(config)
    return SchedulingReport(
        scheduler=_scheduler(config, policy),
        batch_axis=_batch_axis(config),
        merged=_merged(config, policy),
        sizes=_sizes(config, policy),
        delay=_delay(config, policy),
        queue=tuple(_queue(config)),
        max_batch_size=max(1, config.max_batch_size),
        preferred_batch_sizes=policy.preferred,
        max_queue_delay_us=_delay_us(config, policy),
        reasons=tuple(Reason(name, MEANINGS[name]) for name in possible_reasons(config)),
    )


def possible_reasons(config: ModelConfig) -> tuple[str, ...]:
    """All that `naiad_batch_reason` can be for a request of a complete config."""
    if config.ensemble is not None:
        return (ENSEMBLE,)
    started = (reason.value for reason in _starting_reasons(config))
    return (*started, CACHED) if config.response_cache else tuple(started)


def _starting_reasons(config: ModelConfig) -> Iterator[BatchReason]:
    strategy = config.sequence_batching.strategy if config.sequence_batching else None
    if not isinstance(strategy, DirectStrategy):
        yield from _merging_reasons(_policy(config))
        return
    if strategy.max_queue_delay_us and strategy.minimum_slot_utilization:
        yield BatchReason.UTILIZATION
        yield BatchReason.DELAY
    else:
        yield BatchReason.IDLE
    if config.max_batch_size > 1:
        yield BatchReason.RETRY


def _merging_reasons(policy: BatchPolicy) -> Iterator[BatchReason]:
    largest, delay_ns = policy.max_batch_size, policy.max_queue_delay_ns
    if largest < 1:
        yield BatchReason.LONE
        return
    if policy.preferred:
        yield BatchReason.PREFERRED
    if delay_ns or largest not in policy.preferred:
        yield BatchReason.FULL
    if largest > 1:
        yield BatchReason.MISFIT
        yield BatchReason.DELAY if delay_ns else BatchReason.IDLE
        yield BatchReason.RETRY


def _policy(config: ModelConfig) -> BatchPolicy:
    strategy = config.sequence_batching.strategy if config.sequence_batching else None
    return oldest_policy(config, strategy) if isinstance(strategy, OldestStrategy) else batch_policy(config)


def _delay_us(config: ModelConfig, policy: BatchPolicy) -> int:
    strategy = config.sequence_batching.strategy if config.sequence_batching else None
    if isinstance(strategy, DirectStrategy):
        return strategy.max_queue_delay_us if strategy.minimum_slot_utilization else 0
    return policy.max_queue_delay_ns // 1_000


def _scheduler(config: ModelConfig, policy: BatchPolicy) -> str:
    if config.ensemble is not None:
        steps = len(config.ensemble.steps)
        return f"ensemble of {steps} step{'s' * (steps > 1)}, each with the scheduler of its model"
    if config.sequence_batching is not None:
        direct = isinstance(config.sequence_batching.strategy, DirectStrategy)
        return f"sequence batcher, {'direct' if direct else 'oldest'} strategy"
    return "dynamic batcher" if policy.max_batch_size else "none: one request at a time on each instance"


def _batch_axis(config: ModelConfig) -> str:
    if config.max_batch_size < 1:
        return "none: max_batch_size is 0, a request is one inference"
    ragged = [f"'{tensor.name}'" for tensor in config.inputs if tensor.ragged]
    beside = f"; the graph gets the elements of {', '.join(ragged)} end to end" if ragged else ""
    return (
        f"the first dimension counts batch items, up to {config.max_batch_size} in a request and in a "
        f"run{beside}"
    )


def _merged(config: ModelConfig, policy: BatchPolicy) -> str:
    if config.ensemble is not None:
        return f"nothing here; see the models of its steps: {', '.join(config.ensemble.model_names)}"
    if config.sequence_batching is not None:
        return _merged_sequences(config, config.sequence_batching)
    if not policy.max_batch_size:
        missing = " because the config has no dynamic_batching" if config.max_batch_size > 1 else ""
        return f"nothing: each request runs alone{missing}"
    if policy.max_batch_size == 1:
        return "nothing: a batch of one is full"
    return f"requests in the order of the queue{_alike(config)}"


def _merged_sequences(config: ModelConfig, sequences: SequenceBatching) -> str:
    rows, strategy = max(1, config.max_batch_size), sequences.strategy
    if isinstance(strategy, DirectStrategy):
        return (
            f"at most one request of each of the {rows} sequences that an instance holds, each in its own "
            f"row{_alike(config)}; rows without a request are padding"
        )
    candidates = strategy.max_candidate_sequences or rows
    return (
        f"at most one request of each of up to {candidates} sequences an instance, in the order in which "
        f"they became ready{_alike(config)}"
    )


def _alike(config: ModelConfig) -> str:
    """What requests must have in common to share a batch; as `BatchLayout.shape_key` has it."""
    inputs = (*config.inputs, *(config.sequence_batching.inputs if config.sequence_batching else ()))
    free = [f"'{tensor.name}'" for tensor in inputs if WILDCARD in tensor.dims and not tensor.ragged]
    shapes = f" of equal shape of {', '.join(free)}" if free else ""
    optional = any(tensor.optional for tensor in config.inputs)
    return (
        ("," if shapes or optional else "") + shapes + (" with the same optional inputs" if optional else "")
    )


def _sizes(config: ModelConfig, policy: BatchPolicy) -> str:
    if config.sequence_batching is not None and not policy.max_batch_size:
        return f"up to {max(1, config.max_batch_size)}, as many rows as the last one in use"
    if not policy.max_batch_size:
        return f"those of the requests, up to {config.max_batch_size}" if config.max_batch_size > 1 else "1"
    if policy.max_batch_size == 1:
        return "1"
    preferred = ", ".join(map(str, policy.preferred))
    return f"up to {policy.max_batch_size}; one of {preferred} is sent as soon as it is reached"


def _delay(config: ModelConfig, policy: BatchPolicy) -> str:
    if config.ensemble is not None:
        return "none: a step starts as soon as all its inputs are there"
    delay_us = _delay_us(config, policy)
    strategy = config.sequence_batching.strategy if config.sequence_batching else None
    if not delay_us:
        return "none: what waits when an instance is free runs at once"
    if isinstance(strategy, DirectStrategy):
        return (
            f"up to {delay_us} µs, until {strategy.minimum_slot_utilization:.0%} of an instance's rows have "
            "a request"
        )
    return f"up to {delay_us} µs from the oldest request's coming, until a preferred size or no more fits"


def _queue(config: ModelConfig) -> Iterator[str]:
    if config.ensemble is not None and config.ensemble.max_inflight_requests:
        yield f"at most {config.ensemble.max_inflight_requests} requests are at work in each step"
    batching = config.dynamic_batching or DynamicBatching()
    if batching.priority_levels:
        yield (
            f"priority levels 1 to {batching.priority_levels}, 1 first; requests that name none are in level "
            f"{batching.default_priority_level}"
        )
    yield from _policy_words("", batching.default_queue_policy)
    for level, policy in sorted(batching.priority_queue_policy.items()):
        yield from _policy_words(f"level {level}: ", policy)
    if batching.preserve_ordering:
        yield "answers leave in the order of the requests"


def _policy_words(prefix: str, policy: QueuePolicy) -> Iterator[str]:
    if policy.max_queue_size:
        yield f"{prefix}at most {policy.max_queue_size} requests wait, more are refused"
    if policy.default_timeout_us:
        rejects = policy.timeout_action is TimeoutAction.REJECT
        action = "is refused" if rejects else "goes behind the others"
        own = ", or its own shorter timeout," if policy.allow_timeout_override else ""
        yield f"{prefix}a request that has waited {policy.default_timeout_us} µs{own} {action}"

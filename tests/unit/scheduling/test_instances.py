"""The instances of a scheduler: the warmest first, each idle again after its batch, held back by the limiter."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from support.sessions import POISON, DoublingSession

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.config.rate_config import RateLimit, RateResource
from naiad.core.clock import MonotonicClock
from naiad.core.datatypes import DataType
from naiad.core.tensors import InferRequest
from naiad.scheduling.instances import Instance, Instances
from naiad.scheduling.rate_limiter import RateLimiter, claim_of
from naiad.scheduling.run_record import RunningBatch
from naiad.scheduling.tensors import BatchLayout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONFIG = ModelConfig(
    name="m",
    max_batch_size=4,
    inputs=(TensorConfig("INPUT0", DataType.FP32, (2,)),),
    outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
)
ONE = RateLimit((RateResource("R", 1),))


def request(value: float = 3) -> InferRequest:
    return InferRequest("m", None, {"INPUT0": np.full((1, 2), value, np.float32)})


@asynccontextmanager
async def running(count: int = 2) -> AsyncIterator[Instances]:
    sessions = [(f"i{index}", DoublingSession()) for index in range(count)]
    instances = Instances(sessions, BatchLayout(CONFIG), MonotonicClock())
    try:
        yield instances
    finally:
        await instances.close()


async def run(instances: Instances, instance: Instance, *requests: InferRequest) -> Any:
    """Run a batch on an instance to its end; what its thread gave back."""
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    batch = RunningBatch(requests, len(requests), 0, 0)
    instances.start(
        instance, batch, requests, left=lambda _: False, done=lambda _, result: ended.set_result(result)
    )
    assert instance not in instances.idle
    assert instances.running == {instance: batch}
    result = await ended
    assert instances.ended(instance) is batch
    return result


async def test_the_instance_that_ran_last_is_the_next_one() -> None:
    async with running() as instances:
        first, second = instances
        assert instances.next_idle() is second
        await run(instances, first, request())
        assert (instances.next_idle(), instances.busy, instances.running) == (first, 0, {})


async def test_a_batch_that_fails_runs_again_one_by_one_on_its_instance() -> None:
    async with running(1) as instances:
        (instance,) = instances
        good, bad = await run(instances, instance, request(), request(POISON))
    assert (good.retried, good.failed, bad.failed) == (True, False, True)


async def test_a_run_on_the_calling_thread_leaves_the_instance_idle() -> None:
    async with running(1) as instances:
        (instance,) = instances
        execution = instances.run_here(instance, request())
        (outputs,) = execution.outcomes
        assert isinstance(outputs, dict)
        assert outputs["OUTPUT0"].tolist() == [[6, 6]]
        assert instances.idle == [instance]


async def test_of_two_that_share_one_resource_one_starts_until_they_are_closed() -> None:
    limiter = RateLimiter({("R", None): 1})
    async with running() as instances:
        slots = limiter.register([(each.name, claim_of(ONE, None)) for each in instances])
        instances.limit(limiter, slots, lambda: None)
        first = instances.next_idle()
        assert first is not None
        assert not any(instances.may_start(each) for each in instances if each is not first)
        assert set(limiter.free().values()) == {0}
    assert instances.gate is None
    assert not limiter.free()

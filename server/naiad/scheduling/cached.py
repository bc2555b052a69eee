"""A scheduler behind a response cache: what was asked before is answered at once, without a run."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import structlog

from naiad.core.errors import (
    CancelledError,
    DeadlineExceededError,
    ResourceExhaustedError,
    UnavailableError,
)
from naiad.core.tensors import InferResponse, InferTimes
from naiad.scheduling.cache import CacheEntry, RequestDigest, entry_bytes, is_heavy, make_entry
from naiad.scheduling.delivery import Delivery
from naiad.scheduling.queue import PendingRequest
from naiad.telemetry.statistics import CacheStatistics, FailureReason, RefusalReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.core.clock import Clock
    from naiad.core.tensors import Array, InferRequest, ModelKey
    from naiad.scheduling.cache import ResponseCache
    from naiad.scheduling.factory import Scheduler
    from naiad.telemetry.statistics import VersionStatistics

log = structlog.get_logger(__name__)

CACHED = "cache"
"""The batch reason of an answer from the cache; its batch size is 0."""

_NEVER_RAN = (CancelledError, DeadlineExceededError, ResourceExhaustedError, UnavailableError)


class CachedScheduler:
    """Answers from the cache, or hands on to another scheduler and keeps what that answers.

    Digests and copies of much data are made in other threads; all else happens on the event loop's thread.
    Equal requests that are there at once each run: none waits for another's fate.
    """

    defers = False  # its digest needs the values now

    def __init__(
        self,
        key: ModelKey,
        inner: Scheduler,
        *,
        cache: ResponseCache,
        output_names: Sequence[str],
        statistics: VersionStatistics,
        max_queue_size: int,
        clock: Clock,
        preserve_ordering: bool = False,
    ) -> None:
        """Stand before a scheduler, which is closed with this.

        Args:
            key: the version that answers are signed with.
            inner: runs what is not in the cache.
            cache: shared by all models.
            output_names: every output of the model.
            statistics: counts hits and misses; what runs is counted by `inner`.
            max_queue_size: large requests that may wait for their digests.
            clock: the monotonic clock.
            preserve_ordering: answer in the order in which requests came, whether they hit or not.
        """
        self._key = key
        self._inner = inner
        self._cache = cache
        self._generation = cache.new_generation()
        self._digest = RequestDigest(key, self._generation, output_names)
        self._statistics = statistics
        statistics.cache = CacheStatistics()
        self._max_queue_size = max_queue_size
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._delivery = Delivery(in_order=preserve_ordering)
        self._hashing: dict[asyncio.Future[bytes], PendingRequest] = {}
        self._copying: set[asyncio.Future[CacheEntry]] = set()
        self._asked: set[asyncio.Future[InferResponse]] = set()
        self._closing = False
        self._closed = False

    def __repr__(self) -> str:
        return f"<CachedScheduler hashing={len(self._hashing)} {self._inner!r}>"

    @property
    def queued(self) -> int:
        """Requests that wait for an instance or for their digests."""
        return self._inner.queued + len(self._hashing)

    @property
    def busy(self) -> int:
        """Instances that run a batch."""
        return self._inner.busy

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """Answer a validated request from the cache, or queue it; the future yields its response or error.

        Raises:
            UnavailableError: the version drains, or its queue is full.
            InvalidArgumentError: the request does not suit the scheduler.
        """
        if self._closing:
            return self._inner.submit(request)  # which refuses it
        pending = PendingRequest(request, self._loop.create_future(), arrived_ns=self._clock.now_ns())
        if is_heavy(request.inputs.values()):
            self._check_room(request)
            self._delivery.expect((pending,))
            self._look_up_later(pending)
        else:
            digest = self._digest(request)
            outputs = self._cache.get(self._generation, digest)
            inner = self._inner.submit(request) if outputs is None else None  # may refuse it
            self._delivery.expect((pending,))
            self._looked_up(pending, digest, outputs, inner)
        return pending.future

    async def drain(self) -> None:
        """Refuse new requests and wait until every accepted one is answered."""
        self._closing = True
        if self._hashing:
            await asyncio.wait(self._hashing)
        await self._inner.drain()
        await self._settle()

    async def close(self) -> None:
        """Fail what still waits, let running batches end, join the threads, and forget all answers."""
        self._closing = self._closed = True
        for pending in self._hashing.values():
            if pending.waiting:
                error = UnavailableError("the server stopped before this request could run")
                self._fail(pending, error, FailureReason.OTHER)
        await self._inner.close()
        await self._settle()
        for _ in iter(partial(self._cache.forget, self._generation), False):
            await asyncio.sleep(0)  # others have their turn before the next thousand

    async def _settle(self) -> None:
        """Wait until nothing is asked, hashed or copied any more."""
        while working := list(_each(self._hashing, self._asked, self._copying)):
            await asyncio.wait(working)
            await asyncio.sleep(0)  # what is to be done with them comes after this

    def _check_room(self, request: InferRequest) -> None:
        if len(self._hashing) >= self._max_queue_size:
            self._statistics.record_refused(RefusalReason.QUEUE_FULL)
            raise UnavailableError(
                f"[request id: {request.request_id or '<id_unknown>'}] Exceeds maximum queue size: "
                f"{len(self._hashing)} requests wait for '{self._key}', the limit is {self._max_queue_size} "
                "(--max-queue-size)"
            )

    def _look_up_later(self, pending: PendingRequest) -> None:
        hashing = self._loop.run_in_executor(None, self._digest, pending.request)
        self._hashing[hashing] = pending
        hashing.add_done_callback(partial(self._hashed, pending))
        pending.future.add_done_callback(partial(self._leave_if_cancelled, pending))

    def _leave_if_cancelled(self, pending: PendingRequest, future: asyncio.Future[InferResponse]) -> None:
        if future.cancelled() and pending.waiting:  # for its digest
            self._fail(pending, CancelledError("the caller went away"), FailureReason.CANCELED)

    def _fail(self, pending: PendingRequest, error: Exception, reason: FailureReason) -> None:
        """End a request that the inner scheduler has never seen."""
        pending.waiting = False
        self._statistics.record_failure(self._clock.now_ns() - pending.arrived_ns, reason)
        self._tell(pending, error)

    def _hashed(self, pending: PendingRequest, hashing: asyncio.Future[bytes]) -> None:
        del self._hashing[hashing]
        if not pending.waiting:
            hashing.exception()  # nobody is left to be told
            return
        try:
            digest = hashing.result()
            outputs = self._cache.get(self._generation, digest)
            inner = self._inner.submit(pending.request) if outputs is None else None
        except Exception as error:  # noqa: BLE001  # a refusal, or no memory: it belongs to this caller
            pending.waiting = False
            self._tell(pending, error)
            return
        self._looked_up(pending, digest, outputs, inner)

    def _looked_up(
        self,
        pending: PendingRequest,
        digest: bytes,
        outputs: dict[str, Array] | None,
        inner: asyncio.Future[InferResponse] | None,
    ) -> None:
        """Answer a hit, or see to it that what the inner scheduler answers is kept and told."""
        pending.waiting = False
        now_ns = self._clock.now_ns()
        lookup_ns = now_ns - pending.arrived_ns
        if outputs is not None:
            self._statistics.record_cache_hit(lookup_ns, 0, lookup_ns, now_ns)
            times = InferTimes(queued_ns=pending.arrived_ns)
            self._tell(pending, InferResponse(self._key, outputs, 0, CACHED, times, batch_requests=0))
            return
        assert inner is not None
        self._asked.add(inner)
        inner.add_done_callback(partial(self._answered, pending, digest, lookup_ns))
        pending.future.add_done_callback(partial(_cancel_too, inner))

    def _answered(
        self, pending: PendingRequest, digest: bytes, lookup_ns: int, inner: asyncio.Future[InferResponse]
    ) -> None:
        self._asked.discard(inner)
        if inner.cancelled():
            pending.future.cancel()
            self._tell(pending, CancelledError("the caller went away"))
            return
        error = inner.exception()
        if error is not None:
            self._tell(pending, error)
            return
        self._keep(pending, digest, lookup_ns, inner.result())

    def _keep(self, pending: PendingRequest, digest: bytes, lookup_ns: int, response: InferResponse) -> None:
        """Store the answer, then tell it: a caller that asks again at once finds it."""
        started_ns = self._clock.now_ns()
        if not self._closed and is_heavy(response.outputs.values()):
            copying = self._loop.run_in_executor(None, make_entry, response.outputs)
            self._copying.add(copying)
            copying.add_done_callback(
                partial(self._copied, pending, digest, started_ns - lookup_ns, response)
            )
            return
        if not self._closed and self._cache.fits(entry_bytes(response.outputs)):
            self._cache.put(self._generation, digest, make_entry(response.outputs))
        self._statistics.record_cache_miss(lookup_ns + self._clock.now_ns() - started_ns)
        self._tell(pending, response)

    def _copied(
        self,
        pending: PendingRequest,
        digest: bytes,
        since_ns: int,
        response: InferResponse,
        copying: asyncio.Future[CacheEntry],
    ) -> None:
        self._copying.discard(copying)
        error = copying.exception()
        if error is not None:  # no memory for a copy is no reason to fail the request
            log.warning("response not cached", model=str(self._key), reason=repr(error), who="operator")
        elif not self._closed:
            self._cache.put(self._generation, digest, copying.result())
        self._statistics.record_cache_miss(self._clock.now_ns() - since_ns)
        self._tell(pending, response)

    def _tell(self, pending: PendingRequest, outcome: InferResponse | BaseException) -> None:
        if isinstance(outcome, _NEVER_RAN) and not pending.future.done():
            pending.future.set_exception(outcome)  # what never ran waits for no other's answer
        self._delivery.deliver(pending, outcome)


def _each(*futures: Iterable[asyncio.Future[Any]]) -> Iterable[asyncio.Future[Any]]:
    return chain.from_iterable(futures)


def _cancel_too(inner: asyncio.Future[InferResponse], future: asyncio.Future[InferResponse]) -> None:
    if future.cancelled():
        inner.cancel()

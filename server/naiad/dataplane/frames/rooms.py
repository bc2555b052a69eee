"""The shares of all model versions that streams are for, and what is counted of the streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.dataplane.frames.fair_share import FairShare
from naiad.dataplane.frames.room import Capacity
from naiad.telemetry.streams import StreamStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.core.tensors import ModelKey
    from naiad.lifecycle.version import ModelHandle


class FrameRooms:
    """One `FairShare` a model version. Used on the event loop's thread."""

    def __init__(self, threads: int) -> None:
        """Begin without a share.

        Args:
            threads: those that prepare frames for all models.
        """
        self.statistics = StreamStatistics()
        self._threads = threads
        self._shares: dict[ModelKey, FairShare] = {}

    def __iter__(self) -> Iterator[tuple[ModelKey, FairShare]]:
        """The versions that streams have been for lately, and their shares."""
        return iter(self._shares.items())

    def share(self, handle: ModelHandle) -> FairShare:
        """The share of the handle's version."""
        capacity = _capacity(handle, self._threads)
        share = self._shares.get(handle.key)
        if share is None:
            # Versions come and go; what was measured of one without streams is no loss.
            self._shares = {key: other for key, other in self._shares.items() if not other.is_idle}
            share = self._shares[handle.key] = FairShare(capacity)
        else:
            share.fit(capacity)
        return share


def _capacity(handle: ModelHandle, threads: int) -> Capacity:
    config = handle.config
    merges = config.dynamic_batching is not None or config.ensemble is not None
    batching = config.dynamic_batching
    return Capacity(
        instances=max(1, handle.instance_count),  # an ensemble has none of its own
        max_batch=max(1, config.max_batch_size) if merges else 1,
        delay_ns=batching.max_queue_delay_us * 1_000 if batching is not None else 0,
        threads=threads,
    )

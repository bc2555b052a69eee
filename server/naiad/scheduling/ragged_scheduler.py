"""The scheduler of models that take ragged batches: one ends before it holds too many bytes."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from naiad.scheduling.queue import RequestQueue
from naiad.scheduling.scheduler import BatchScheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.scheduling.policies import PriorityLevels
    from naiad.scheduling.queue import PendingRequest
    from naiad.scheduling.ragged import RaggedLayout
    from naiad.scheduling.tensors import BatchLayout


class RaggedQueue(RequestQueue):
    """A queue whose requests stop fitting together once their ragged inputs hold too many bytes.

    `max_batch_size` bounds a batch of requests that are alike; of ragged ones each may be of any size.
    """

    def __init__(self, levels: PriorityLevels | None, layout: RaggedLayout, max_bytes: int) -> None:
        """Start empty.

        Args:
            levels: as for `RequestQueue`.
            layout: says what is ragged.
            max_bytes: of all ragged inputs of a batch; a request alone may have more.
        """
        super().__init__(levels)
        self._layout = layout
        self._max_bytes = max_bytes

    def __iter__(self) -> Iterator[PendingRequest]:
        """The requests in order, as far as they fit one batch, and then a stand-in that fits with none."""
        total = 0
        for place, pending in enumerate(super().__iter__()):
            total += self._layout.input_bytes(pending.request)
            if place and total > self._max_bytes:
                stranger = copy(pending)
                stranger.shape_key = object()
                yield stranger
                return
            yield pending


class RaggedScheduler(BatchScheduler):
    """A `BatchScheduler` whose batches are bounded by the bytes of their ragged inputs too."""

    def __init__(
        self,
        *args: Any,
        layout: BatchLayout,
        levels: PriorityLevels | None = None,
        max_bytes: int,
        **parts: Any,
    ) -> None:
        """Start one instance thread for each (name, session).

        Args:
            *args: as for `BatchScheduler`, like all that is not named here.
            layout: as for it.
            levels: as for it.
            max_bytes: of all ragged inputs of a batch; a request alone may have more.
            **parts: as for it.
        """
        super().__init__(*args, layout=layout, levels=levels, **parts)
        self._queue = RaggedQueue(levels, layout.ragged, max_bytes)

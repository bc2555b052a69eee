"""Handing answers to callers: as they are ready, or in the order in which their requests were started."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from naiad.scheduling.queue import PendingRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naiad.core.tensors import InferRequest, InferResponse

    Outcome = InferResponse | BaseException


class Delivery:
    """Sets futures that nobody has cancelled. Used on the event loop's thread."""

    def __init__(self, *, in_order: bool = False) -> None:
        """Start with nothing expected.

        Args:
            in_order: hold an answer back until those of all requests started before it are there.
        """
        self._in_order = in_order
        self._expected: OrderedDict[PendingRequest, Outcome | None] = OrderedDict()

    def expect(self, rows: Iterable[PendingRequest | InferRequest]) -> None:
        """These are started now; each that is a pending request will be delivered once."""
        if self._in_order:
            self._expected.update((row, None) for row in rows if isinstance(row, PendingRequest))

    def deliver(self, pending: PendingRequest, outcome: Outcome) -> None:
        """Answer a request, or, in order, keep its answer until it is its turn."""
        if pending not in self._expected:  # as they are ready, or it was never started
            _tell(pending, outcome)
            return
        self._expected[pending] = outcome
        while self._expected:
            first = next(iter(self._expected))
            ready = self._expected[first]
            if ready is None:
                return
            del self._expected[first]
            _tell(first, ready)


def _tell(pending: PendingRequest, outcome: Outcome) -> None:
    if pending.future.done():
        return
    if isinstance(outcome, BaseException):
        pending.future.set_exception(outcome)
    else:
        pending.future.set_result(outcome)

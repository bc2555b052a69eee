"""Runs one stream of the synchronous client: a bounded feed on one side, ordered results on the other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic

import grpc

from naiad_client.base import FrameOrder
from naiad_client.errors import from_rpc
from naiad_client.messages import ItemT, RequestT, ResponseT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from naiad_client.messages import StreamMessages
    from naiad_client.results import FrameResult, ResultT

_STOP_LIMIT_S = 1.0


def run_stream(
    call: Callable[[Iterator[RequestT]], grpc.CallIterator[ResponseT]],
    messages: StreamMessages[ItemT, RequestT, ResponseT, ResultT],
    items: Iterable[ItemT],
    max_in_flight: int,
) -> Generator[FrameResult[ResultT], None, None]:
    """Send `items` and yield their results in order.

    gRPC's own thread pulls from `items`, so a slow source never delays results that are there. Closing the
    generator (or dropping it, as `break` in a for loop does) cancels the call and waits for that thread; a
    source that blocks on and on is waited for at most a second.

    Args:
        call: starts the RPC on an iterator of requests.
        messages: how this kind of stream speaks.
        items: what to send, possibly without end.
        max_in_flight: most items taken from `items` whose results have not been received.

    Raises:
        NaiadError: the stream itself failed. A failed frame is a result with an `error`.
        Exception: whatever `items` raised, after the results of all earlier frames.
    """
    order = FrameOrder()
    feed = _Feed(messages, items, max_in_flight, order)
    responses = call(feed.requests())
    try:
        for response in responses:
            result = messages.parse(response)
            order.answered(result.frame_id)
            feed.slots.release()
            yield result
        order.ended()
    except grpc.RpcError as error:
        raise from_rpc(error) from error
    finally:
        responses.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs leaves it unannotated
        feed.stop()
    if feed.error is not None:
        raise feed.error


class _Feed(Generic[ItemT, RequestT]):
    """The requests of one stream, taken from the caller's items as slots come free."""

    def __init__(
        self,
        messages: StreamMessages[ItemT, RequestT, ResponseT, ResultT],
        items: Iterable[ItemT],
        max_in_flight: int,
        order: FrameOrder,
    ) -> None:
        self.slots = threading.Semaphore(max_in_flight)
        self.done = threading.Event()
        self.error: Exception | None = None
        self._opening = messages.opening
        self._frame = messages.frame
        self._items = items
        self._order = order
        self._stopped = False

    def requests(self) -> Iterator[RequestT]:
        """The opening message, then a frame for each item; runs in gRPC's thread."""
        try:
            yield self._opening
            items = iter(self._items)
            while self._take_slot():
                try:
                    item = next(items)
                except StopIteration:
                    self._order.all_sent = True
                    return
                request = self._frame(self._order.sent, item)
                self._order.sent += 1
                yield request
        except Exception as error:  # noqa: BLE001 - the caller's thread raises it; here gRPC would only log it
            self.error = error
            self._order.all_sent = True
        finally:
            self.done.set()

    def stop(self) -> None:
        """Take no more items; returns once the thread is out of the caller's iterator, within a second."""
        self._stopped = True
        self.slots.release()
        self.done.wait(_STOP_LIMIT_S)

    def _take_slot(self) -> bool:
        self.slots.acquire()
        return not self._stopped

"""A stream of the synchronous client as a generator: a thread sends what an iterable gives."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from naiad_client.images import ImageLike
    from naiad_client.options import FaceLike
    from naiad_client.results import FrameResult, ResultT
    from naiad_client.session import StreamSession

ItemT = TypeVar("ItemT")

_STOP_LIMIT_S = 1.0


def run_stream(
    open_session: Callable[[], StreamSession[ResultT]],
    items: Iterable[ItemT],
    pair: Callable[[ItemT], tuple[ImageLike, FaceLike]],
) -> Generator[FrameResult[ResultT], None, None]:
    """Send `items` and yield their results in order.

    A thread pulls from `items`, so a slow source never delays results that are there. Closing the generator
    (or dropping it, as `break` in a for loop does) cancels the stream and waits for that thread; a source
    that blocks on and on is waited for at most a second.

    Args:
        open_session: opens the stream.
        items: what to send, possibly without end.
        pair: the picture and faces of an item.

    Raises:
        NaiadError: the stream itself failed. A failed frame is a result with an `error`.
        Exception: whatever `items` raised, after the results of all earlier frames.
    """
    session = open_session()
    results = iter(session)
    feed = _Feed(session, items, pair)
    try:
        yield from results
        feed.raise_error()
    finally:
        session.cancel()
        feed.thread.join(_STOP_LIMIT_S)


class _Feed(Generic[ItemT]):
    """The thread that sends."""

    def __init__(
        self,
        session: StreamSession[Any],
        items: Iterable[ItemT],
        pair: Callable[[ItemT], tuple[ImageLike, FaceLike]],
    ) -> None:
        self._session = session
        self._items = items
        self._pair = pair
        self._error: Exception | None = None
        self.thread = threading.Thread(target=self._run, name="naiad stream source", daemon=True)
        self.thread.start()

    def raise_error(self) -> None:
        """Raise what the source, or a picture of it, has raised."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            items = iter(self._items)
            while True:
                self._session.send_next(lambda: self._pair(next(items)))
        except StopIteration:
            pass
        except Exception as error:  # noqa: BLE001 - the caller's thread raises it
            self._error = error
        finally:
            self._session.finish()

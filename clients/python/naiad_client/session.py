"""An open stream of the synchronous client: frames in, results out, from any threads."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from naiad_client.base_session import CLOSE_TIMEOUT_S, BaseSession, late, now_us
from naiad_client.errors import NaiadError, from_rpc
from naiad_client.results import FrameResult, ResultT
from naiad_client.stream_core import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from naiad_client.base_session import FrameSource
    from naiad_client.images import ImageLike
    from naiad_client.options import FaceLike
    from naiad_client.stream_core import StreamCore

ValueT = TypeVar("ValueT")


class StreamSession(BaseSession[ResultT]):
    """Send frames and iterate over their results; made by `Client.open_stream`. Use it in `with`.

    Frames may be sent from one thread and results taken in another. Where one thread does both, it takes
    what is `ready()` between two frames. A call that ends before its time is opened again, within the limits
    of `retries`.
    """

    def __init__(
        self,
        core: StreamCore[ResultT],
        start: Callable[[Iterator[Any], float | None], grpc.CallIterator[Any]],
    ) -> None:
        """Open the stream.

        Args:
            core: the stream's state.
            start: makes a call of an iterator of requests and the seconds that it may take.
        """
        super().__init__(core)
        self._start = start
        lock = threading.RLock()  # of a generator's end, too, which may come in the midst of anything
        # One lock, and a condition for each who waits: a result should not wake those who have no use for it.
        self._changed = threading.Condition(lock)
        self._room = threading.Condition(lock)
        self._outgoing = threading.Condition(lock)
        self._call: grpc.CallIterator[Any] | None = None
        self._thread = threading.Thread(target=self._run, name="naiad stream", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the stream; at once, if an error is on its way."""
        if kind is None:
            try:
                self.close()
            except KeyboardInterrupt:  # whoever interrupts the wait wants no stream that goes on
                self.cancel()
                raise
        else:
            self.cancel()

    def send(
        self,
        frame: FrameSource,
        faces: FaceLike = None,
        *,
        frame_id: int | None = None,
        capture_time_us: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Send a frame, as soon as the server has room for it.

        Args:
            frame: a picture, or what makes one when it is called, which is done only once there is room.
            faces: of a stream of "embed", the faces to embed; None if the picture is an aligned crop.
            frame_id: comes back in the result; None for the next number, from 0.
            capture_time_us: when the frame was taken, comes back in the result; None for now.
            timeout: seconds to wait for room; None for as long as it takes.

        Raises:
            DeadlineExceededError: there was no room within `timeout`.
            ResourceExhaustedError: results lie here and this thread, which is the one that takes them, waits.
            NaiadError: the stream failed, or takes no frames any more.
            TypeError, ValueError, OSError: the picture is of no use, or its file cannot be read.
        """
        taken_us = now_us(capture_time_us)
        if self._until(self._reserve, self._room, timeout) is not True:
            raise late("no room for a frame", timeout)
        self._send_reserved(lambda: self._message(frame, faces, taken_us), frame_id)

    def try_send(
        self,
        frame: FrameSource,
        faces: FaceLike = None,
        *,
        frame_id: int | None = None,
        capture_time_us: int | None = None,
    ) -> bool:
        """Send a frame if there is room for it now; else it is neither encoded nor sent: False.

        Arguments and errors are those of `send`.
        """
        taken_us = now_us(capture_time_us)
        with self._changed:
            if not self._core.reserve():
                self._core.skip()
                return False
        self._send_reserved(lambda: self._message(frame, faces, taken_us), frame_id)
        return True

    def send_next(self, pull: Callable[[], tuple[ImageLike, FaceLike]]) -> None:
        """Send the picture and faces that `pull` returns, called once there is room; errors as of both."""
        self._until(self._reserve, self._room)
        self._send_reserved(lambda: self._message(*pull(), now_us(None)), None)

    def __iter__(self) -> Iterator[FrameResult[ResultT]]:
        """The results, each as soon as it is there, until the stream is over; errors as in `ready`."""
        self._taker = self._whoever()
        return self._results()

    def ready(self) -> list[FrameResult[ResultT]]:
        """The results that are there now.

        Raises:
            NaiadError: the stream failed, and all results from before were taken.
        """
        with self._changed:
            taken = self._take_now()
            self._room.notify_all()
        return taken

    def finish(self) -> None:
        """Send no more frames; the results of those that were sent can still be taken. Waits for nothing."""
        with self._changed:
            self._core.finish()
            self._wake_all()

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Send no more frames and wait until the server has answered for all; results can still be taken.

        Raises:
            DeadlineExceededError: it has not within `timeout` seconds; the stream is cancelled.
            NaiadError: the stream failed, and nobody was told yet.
        """
        self.finish()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.cancel()
            raise late("the stream was not answered for", timeout)
        with self._changed:
            self._core.raise_untold()

    def cancel(self) -> None:
        """End the stream at once; frames in flight are lost, results that were not taken are thrown away."""
        with self._changed:
            self._core.cancel()
            call = self._call
            self._wake_all()
        if call is not None:
            call.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs leaves it unannotated
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _whoever(self) -> object:
        return threading.get_ident()

    def _results(self) -> Iterator[FrameResult[ResultT]]:
        while not isinstance(result := self._until(self._take, self._changed), Mark):
            yield result
            self._taker = self._whoever()

    def _send_reserved(self, make: Callable[[], Any], frame_id: int | None) -> None:
        try:
            message = make()
            with self._changed:
                self._core.accept(frame_id, message)
                self._outgoing.notify_all()
        except BaseException:
            with self._changed:
                self._core.unreserve()
                self._wake_all()
            raise

    def _until(
        self, ask: Callable[[], ValueT], changed: threading.Condition, timeout: float | None = None
    ) -> ValueT | Mark:
        """What `ask` returns when that is something else than WAIT, or WAIT when time is up."""
        end = None if timeout is None else time.monotonic() + timeout
        with changed:
            while (value := ask()) is Mark.WAIT:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    break
                changed.wait(left)
            return value

    def _take(self) -> FrameResult[ResultT] | Mark:
        taken = self._core.take()
        self._room.notify_all()  # where results are what takes the room
        return taken

    def _wake_all(self) -> None:
        for condition in (self._changed, self._room, self._outgoing):
            condition.notify_all()

    # --- the stream's own thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        """Call, read and call again until the stream is over."""
        try:
            while self._is_due():
                with self._changed:
                    number, left_s = self._core.begin_call(), self._core.left_s(time.monotonic())
                    self._wake_all()  # there may be room now
                error = self._read(number, left_s)
                with self._changed:
                    self._core.ended(error, time.monotonic())
                    self._call = None
                    self._wake_all()
        except Exception as error:  # noqa: BLE001 - raised where results are taken
            with self._changed:
                self._core.fail(error)
                self._wake_all()

    def _is_due(self) -> bool:
        """Wait until another call is to be opened; False if none is."""
        with self._changed:
            while not isinstance(wait_s := self._core.next_call_s(time.monotonic()), Mark):
                if wait_s <= 0:
                    return True
                self._changed.wait(wait_s)
        return False

    def _read(self, number: int, left_s: float | None) -> NaiadError | None:
        """Make one call and take in its responses; returns how it ended."""
        try:
            call = self._start(self._requests(number), left_s)
        except grpc.RpcError as error:  # of a stub that must ask the server first what it is
            return from_rpc(error)
        with self._changed:
            self._call = call
            if self._core.is_over:  # cancelled while the call began
                call.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs leaves it unannotated
        try:
            for response in call:
                with self._changed:
                    self._core.received(response)
                    self._changed.notify_all()
                    self._room.notify_all()
                    if self._core.has_unsent:  # credit may have come; or the end of the call
                        self._outgoing.notify_all()
        except grpc.RpcError as error:
            return from_rpc(error)
        except BaseException:
            call.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs leaves it unannotated
            raise
        return None

    def _requests(self, number: int) -> Iterator[Any]:
        """One call's messages; runs in a thread of gRPC's, which ends with the call."""
        while True:
            with self._changed:
                while (message := self._core.next_write(number)) is Mark.WAIT:
                    self._outgoing.wait()
            if message is Mark.END:
                return
            yield message

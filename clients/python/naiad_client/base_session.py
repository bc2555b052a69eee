"""What the sessions of both clients have in common: all but waiting."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import grpc

from naiad_client.errors import DeadlineExceededError, ResourceExhaustedError
from naiad_client.results import FrameResult, ResultT
from naiad_client.stream_core import Mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad_client.images import ImageLike
    from naiad_client.options import FaceLike
    from naiad_client.results import StreamAccount
    from naiad_client.stream_core import StreamCore

FrameSource: TypeAlias = "ImageLike | Callable[[], ImageLike]"
"""A picture, or what makes one when it is called."""

CLOSE_TIMEOUT_S = 30.0


class BaseSession(ABC, Generic[ResultT]):
    """An open stream; a subclass waits in threads or in tasks."""

    def __init__(self, core: StreamCore[ResultT]) -> None:
        self._core = core
        self._taker: object = None

    @property
    def account(self) -> StreamAccount:
        """What became of the frames so far."""
        return self._core.account

    @property
    def model(self) -> str:
        """Which model answers; "" until the server has said so."""
        return self._core.model

    @property
    def version(self) -> str:
        """Its version; "" until the server has said so."""
        return self._core.version

    @abstractmethod
    def _whoever(self) -> object:
        """The thread or task that runs this."""

    def _take_now(self) -> list[FrameResult[ResultT]]:
        """The results that are there, at least one look, which raises what there is to raise."""
        self._taker = self._whoever()
        taken = [self._core.take() for _ in range(max(1, self._core.untaken))]
        return [result for result in taken if not isinstance(result, Mark)]

    def _reserve(self) -> bool | Mark:
        """Room for a frame, or WAIT.

        Raises:
            ResourceExhaustedError: whoever waits here is the one who should take results.
        """
        if self._core.reserve():
            return True
        if self._core.is_full_of_results and self._taker in {None, self._whoever()}:
            raise ResourceExhaustedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._core.untaken} results wait to be taken, and whoever takes them is sending: "
                "take what is ready() between frames",
            )
        return Mark.WAIT

    def _message(self, frame: FrameSource, faces: FaceLike, capture_time_us: int) -> Any:
        """A frame's message, without its id; errors as in `StreamMessages.frame`."""
        image = frame() if callable(frame) else frame
        return self._core.messages.frame(capture_time_us, image, faces)


def now_us(capture_time_us: int | None) -> int:
    """When a frame was taken: as the caller says, else now; microseconds of Unix time."""
    return time.time_ns() // 1000 if capture_time_us is None else capture_time_us


def late(what: str, timeout: float | None) -> DeadlineExceededError:
    """Why a wait was given up."""
    return DeadlineExceededError(grpc.StatusCode.DEADLINE_EXCEEDED, f"{what} within {timeout:g} s")

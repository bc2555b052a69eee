"""What a kind of stream does with its frames, as the stream sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from naiad.dataplane.frames.room import Cost
    from naiad.lifecycle.version import ModelHandle
    from naiad_protos.naiad.vision.v1 import vision_pb2 as pb


class FrameWork(Protocol):
    """What one stream does with its frames. Used on the event loop's thread."""

    response_type: Any
    """The type of the stream's responses."""

    def opened(self, contract: pb.StreamContract) -> pb.StreamOpened:
        """The first message of a stream with a contract, which names the models as of now.

        Raises:
            NaiadError: there is no such model.
        """
        ...

    def acquire(self) -> ModelHandle:
        """A handle on the version that would answer a frame now: the frame takes of its room.

        Raises:
            NaiadError: there is none; frames fail with it.
        """
        ...

    def begin(self, number: int) -> None:
        """The frame of that number is begun with."""
        ...

    async def answer(self, frame: pb.Frame, number: int, deadline_ns: int | None, result: Any) -> Cost | None:
        """Answer a frame: write into `result`, which is empty, and give what it took of the model's room.

        Raises:
            NaiadError: what the frame fails with.
        """
        ...

    def end(self, number: int) -> None:
        """Nothing works on the frame any more, whatever became of it."""
        ...

    @property
    def next_track_id(self) -> int:
        """Where a stream that goes on for this one numbers its tracks from; 0 without tracks."""
        ...

    def close(self, closed: pb.StreamClosed) -> None:
        """Add to the stream's last message what only the work knows."""
        ...

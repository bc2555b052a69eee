"""Streams of frames as a client sees them: raw calls, so that tests say what is sent when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import cv2
import numpy as np

from naiad_protos.naiad.vision.v1 import vision_pb2 as pb
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

GREY = cv2.imencode(".png", np.full((64, 64, 3), 51, np.uint8))[1].tobytes()
BROKEN = b"no picture"


def latest(max_in_flight: int = 1, **rest: Any) -> pb.StreamContract:
    """A contract of the latest frame."""
    return pb.StreamContract(policy=pb.FRAME_POLICY_LATEST_WINS, max_in_flight=max_in_flight, **rest)


def every(max_in_flight: int = 1, **rest: Any) -> pb.StreamContract:
    """A contract of every frame."""
    return pb.StreamContract(policy=pb.FRAME_POLICY_EVERY_FRAME, max_in_flight=max_in_flight, **rest)


class DetectStream:
    """One call of StreamDetect."""

    def __init__(
        self, channel: grpc.aio.Channel, contract: pb.StreamContract | None = None, **options: Any
    ) -> None:
        stub: Any = vision_pb2_grpc.VisionServiceStub(channel)
        self.call = stub.StreamDetect()
        self._options = pb.StreamDetectOptions(contract=contract, **options)
        self.sent = 0

    async def open(self) -> Self:
        """Send the options."""
        await self.call.write(pb.StreamDetectRequest(options=self._options))
        return self

    async def send(self, count: int = 1, image: bytes = GREY) -> None:
        """Send frames, numbered from 1."""
        for _ in range(count):
            self.sent += 1
            frame = pb.Frame(frame_id=self.sent, image=pb.Image(encoded=image), capture_time_us=-self.sent)
            await self.call.write(pb.StreamDetectRequest(frame=frame))

    async def next(self) -> pb.StreamDetectResponse | None:
        """The next message, whatever it is; None at the end."""
        response: Any = await self.call.read()
        return response or None  # grpc's mark of the end is false, and no message is

    async def read(self, outcome: str | None) -> pb.StreamDetectResponse:
        """The next message, of that outcome; None for one that has none."""
        response = await self.next()
        assert response is not None, "the stream has ended"
        assert response.WhichOneof("outcome") == outcome, response
        return response

    async def rest(self) -> list[pb.StreamDetectResponse]:
        """Send no more, and read what is left."""
        await self.call.done_writing()
        left = []
        while (response := await self.next()) is not None:
            left.append(response)
        return left


def dropped(responses: Iterable[Any], reason: pb.DropReason.ValueType) -> list[int]:
    """The frames that were told to be dropped for that reason."""
    return [
        frame_id
        for response in responses
        for drops in response.account.dropped
        if drops.reason == reason
        for frame_id in drops.frame_ids
    ]

"""A vision server without a model: real sockets, answers that follow from the request."""

from __future__ import annotations

import threading
from collections import deque
from concurrent import futures
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from naiad_protos.naiad.vision.v1 import vision_pb2 as pb
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW = 3
"""How many frames the model "window" wants to hold before it answers the first of them."""
BAD_IMAGE = b"bad"
"""An encoded image that is refused, by calls with a status and by streams in-band."""
TIMING = pb.Timing(
    decode_us=1, preprocess_us=2, queue_us=3, infer_us=4, postprocess_us=5, total_us=15, batch_size=2
)


class FakeVisionService(vision_pb2_grpc.VisionServiceServicer):
    """Answers every image with two faces; the model's name asks for trouble.

    "missing" does not exist, "slow" answers when the caller has gone, "boxes" finds no landmarks; streams of
    "window" answer late, of "early" end after one frame, of "swapped" answer the wrong frame, of "breaks"
    fail after one frame, of "blank" answer with no outcome.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.answered = 0
        self.stream_over = threading.Event()

    def Detect(self, request: pb.DetectRequest, context: Any) -> pb.DetectResponse:  # noqa: N802 - gRPC's name
        """Two faces."""
        self._note(request, context)
        return self._detect(request.model_name, request.model_version, request.image, context)

    def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:  # noqa: N802 - gRPC's name
        """A vector a face: the first landmark's x and y, and the number of faces."""
        self._note(request, context)
        return self._embed(request.model_name, request.model_version, request.faces)

    def StreamDetect(  # noqa: N802 - gRPC's name
        self, request_iterator: Any, context: Any
    ) -> Iterator[pb.StreamDetectResponse]:
        """As `_answers` says."""
        options = next(request_iterator).options
        self._open(options, context)
        for frame in self._answers(options.model_name, request_iterator, context):
            response = pb.StreamDetectResponse(frame_id=frame.frame_id, capture_time_us=frame.capture_time_us)
            if options.model_name == "blank":
                pass
            elif frame.image.encoded == BAD_IMAGE:
                response.error.code, response.error.message = 3, "cannot decode image: 3 bytes"
            else:
                response.result.CopyFrom(
                    self._detect(options.model_name, options.model_version, frame.image, context)
                )
            self.answered += 1
            yield response

    def StreamEmbed(  # noqa: N802 - gRPC's name
        self, request_iterator: Any, context: Any
    ) -> Iterator[pb.StreamEmbedResponse]:
        """As `_answers` says."""
        options = next(request_iterator).options
        self._open(options, context)
        for frame in self._answers(options.model_name, request_iterator, context):
            result = self._embed(options.model_name, options.model_version, frame.faces)
            self.answered += 1
            yield pb.StreamEmbedResponse(
                frame_id=frame.frame_id, capture_time_us=frame.capture_time_us, result=result
            )

    def _open(self, options: Any, context: Any) -> None:
        context.add_callback(self.stream_over.set)
        self._note(options, context)

    def _note(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if request.model_name == "missing":
            context.abort(grpc.StatusCode.NOT_FOUND, "no model 'missing'")
        if request.model_name == "slow":
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait(30)

    def _answers(self, model: str, messages: Any, context: Any) -> Iterator[pb.Frame]:
        """The frames in the order and at the time in which they are to be answered."""
        held: deque[pb.Frame] = deque()
        for message in messages:
            held.append(message.frame)
            if model == "window" and len(held) < WINDOW:
                continue
            frame = held.popleft()
            if model == "swapped":
                frame.frame_id += 1
            yield frame
            if model == "early":
                return
            if model == "breaks":
                context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        yield from held

    def _detect(self, model: str, version: str, image: pb.Image, context: Any) -> pb.DetectResponse:
        if image.encoded == BAD_IMAGE:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "cannot decode image: 3 bytes")
        points = [] if model == "boxes" else [pb.Point(x=index, y=index + 0.5) for index in range(5)]
        faces = [
            pb.Face(box=pb.BoundingBox(x1=1, y1=2, x2=3, y2=4.5), score=score, landmarks=points)
            for score in (0.75, 0.5)
        ]
        return pb.DetectResponse(
            model=_model_version(model, version),
            faces=faces,
            image_width=image.raw.width or 640,
            image_height=image.raw.height or 480,
            timing=TIMING,
        )

    def _embed(self, model: str, version: str, faces: Any) -> pb.EmbedResponse:
        vectors = [[face.points[0].x, face.points[0].y, len(faces)] for face in faces] or [[0.0, 0.0, 0.0]]
        return pb.EmbedResponse(
            model=_model_version(model, version),
            embeddings=[pb.Embedding(values=vector) for vector in vectors],
            timing=TIMING,
        )


def _model_version(model: str, version: str) -> pb.ModelVersion:
    return pb.ModelVersion(name=model or "only", version=version or "1")


@contextmanager
def serving(
    service: FakeVisionService,
    *,
    health_service: health.HealthServicer | None = None,
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[str]:
    """Serve on a free port of this machine; yields the address."""
    with futures.ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=[("grpc.max_receive_message_length", -1)])
        vision_pb2_grpc.add_VisionServiceServicer_to_server(service, server)
        if health_service is not None:
            health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()

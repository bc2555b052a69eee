"""`naiad.vision.v1.VisionService`: images and frames in, faces and embeddings out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from naiad.core.errors import InvalidArgumentError
from naiad.dataplane.faces import EncodedImage, RawPixels
from naiad.services.conversion import parse_version
from naiad.services.infer_stream import deadline_ns
from naiad.services.status import code_number, rpc, status_of, work_rpc
from naiad.services.streams import OrderedStream
from naiad.vision.detector import Detector
from naiad.vision.embedder import Embedder
from naiad.vision.raw_frames import PixelFormat
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    import numpy.typing as npt
    from grpc.aio import ServicerContext

    from naiad.config.server_config import ServerConfig
    from naiad.dataplane.faces import DetectAnswer, EmbedAnswer, FacePlane, ImageSource, StageTimes
    from naiad.services.calls import Calls

    Context = ServicerContext[Any, Any]

LANDMARKS = 5
_FORMATS = {
    pb.PIXEL_FORMAT_BGR: PixelFormat.BGR,
    pb.PIXEL_FORMAT_RGB: PixelFormat.RGB,
    pb.PIXEL_FORMAT_GRAY: PixelFormat.GRAY,
    pb.PIXEL_FORMAT_NV12: PixelFormat.NV12,
    pb.PIXEL_FORMAT_I420: PixelFormat.I420,
}


class VisionService(vision_pb2_grpc.VisionServiceServicer):
    """Answers the vision RPCs from the face plane."""

    def __init__(self, faces: FacePlane, config: ServerConfig, calls: Calls) -> None:
        self._faces = faces
        self._config = config
        self.calls = calls

    @work_rpc
    async def Detect(self, request: pb.DetectRequest, context: Context) -> pb.DetectResponse:
        """Find the faces of one image."""
        return await self._detect(request, deadline_ns(context))

    @work_rpc
    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """Turn faces of one image into vectors."""
        return await self._embed(request, deadline_ns(context))

    @rpc
    async def StreamDetect(  # type: ignore[override]  # grpc.aio takes handlers that write, too
        self, request_iterator: AsyncIterator[pb.StreamDetectRequest], context: Context
    ) -> None:
        """Find the faces of each frame of a stream."""

        async def detect(options: pb.StreamDetectOptions, frame: pb.Frame, deadline: int | None) -> Any:
            request = pb.DetectRequest(
                model_name=options.model_name, model_version=options.model_version, options=options.options
            )
            return await self._detect(request, deadline, frame.image)

        await self._frames(request_iterator, context, Detector, pb.StreamDetectResponse, detect)

    @rpc
    async def StreamEmbed(  # type: ignore[override]  # grpc.aio takes handlers that write, too
        self, request_iterator: AsyncIterator[pb.StreamEmbedRequest], context: Context
    ) -> None:
        """Embed the faces of each frame of a stream."""

        async def embed(options: pb.StreamEmbedOptions, frame: pb.Frame, deadline: int | None) -> Any:
            request = pb.EmbedRequest(
                model_name=options.model_name, model_version=options.model_version, faces=frame.faces
            )
            return await self._embed(request, deadline, frame.image)

        await self._frames(request_iterator, context, Embedder, pb.StreamEmbedResponse, embed)

    async def _frames(
        self,
        requests: AsyncIterator[Any],
        context: Context,
        kind: type[Detector | Embedder],
        response_type: Any,
        work: Callable[[Any, pb.Frame, int | None], Awaitable[Any]],
    ) -> None:
        """Answer a stream's frames: options first, then each frame's result, faults in-band."""
        options = await _stream_options(requests)
        self._faces.check(options.model_name, parse_version(options.model_version), kind)
        deadline = deadline_ns(context)

        async def answer(message: Any) -> Any:
            frame = message.frame
            response = response_type(frame_id=frame.frame_id, capture_time_us=frame.capture_time_us)
            try:
                _check_frame(message)
                response.result.CopyFrom(await work(options, frame, deadline))
            except Exception as error:  # noqa: BLE001  # in-band: the stream lives on
                _set_error(response.error, error)
            return response

        stream: OrderedStream[Any, Any] = OrderedStream(
            requests, answer, limit=self._config.stream_max_in_flight, calls=self.calls
        )
        await stream.run(context.write)

    async def _detect(
        self, request: pb.DetectRequest, deadline: int | None, image: pb.Image | None = None
    ) -> pb.DetectResponse:
        options = request.options
        answer = await self._faces.detect(
            request.model_name,
            parse_version(request.model_version),
            image_source(request.image if image is None else image),
            score_threshold=options.score_threshold if options.HasField("score_threshold") else None,
            max_faces=options.max_faces or None,
            deadline_ns=deadline,
        )
        return _detect_response(answer, request.id)

    async def _embed(
        self, request: pb.EmbedRequest, deadline: int | None, image: pb.Image | None = None
    ) -> pb.EmbedResponse:
        answer = await self._faces.embed(
            request.model_name,
            parse_version(request.model_version),
            image_source(request.image if image is None else image),
            landmark_arrays(request.faces),
            deadline_ns=deadline,
        )
        return _embed_response(answer, request.id)


async def _stream_options(requests: AsyncIterator[Any]) -> Any:
    """The options that must open a stream."""
    first = await anext(requests, None)
    if first is None or first.WhichOneof("message") != "options":
        raise InvalidArgumentError("the first message of a stream must carry 'options'")
    return first.options


def _check_frame(message: pb.StreamDetectRequest | pb.StreamEmbedRequest) -> None:
    if message.WhichOneof("message") != "frame":
        raise InvalidArgumentError("each message of a stream after the first must carry a 'frame'")


def _set_error(target: pb.FrameError, error: Exception) -> None:
    status = status_of(error)
    target.code = code_number(status)
    target.message = status.message


def image_source(image: pb.Image) -> ImageSource:
    """The image of a message, in domain terms.

    Raises:
        InvalidArgumentError: there is none, or its pixel format is unknown.
    """
    kind = image.WhichOneof("source")
    if kind == "encoded":
        return EncodedImage(image.encoded)
    if kind is None:
        raise InvalidArgumentError("image is missing: set 'encoded' or 'raw'")
    raw = image.raw
    if raw.format not in _FORMATS:
        raise InvalidArgumentError(
            f"image.raw.format is {raw.format}, it must be BGR, RGB, GRAY, NV12 or I420"
        )
    return RawPixels(raw.data, _FORMATS[raw.format], raw.width, raw.height, raw.stride)


def landmark_arrays(faces: Iterable[pb.FaceLandmarks]) -> list[npt.NDArray[np.float32]]:
    """The landmarks of each face as float32 `[5, 2]`.

    Raises:
        InvalidArgumentError: a face has another number of points.
    """
    arrays = []
    for index, face in enumerate(faces):
        if len(face.points) != LANDMARKS:
            raise InvalidArgumentError(
                f"face {index} has {len(face.points)} landmarks, alignment needs {LANDMARKS}"
            )
        arrays.append(np.array([(point.x, point.y) for point in face.points], dtype=np.float32))
    return arrays


def _timing(times: StageTimes) -> pb.Timing:
    return pb.Timing(
        decode_us=times.decode_ns // 1_000,
        preprocess_us=times.preprocess_ns // 1_000,
        queue_us=times.queue_ns // 1_000,
        infer_us=times.infer_ns // 1_000,
        postprocess_us=times.postprocess_ns // 1_000,
        total_us=times.total_ns // 1_000,
        batch_size=times.batch_size,
    )


def _detect_response(answer: DetectAnswer, request_id: str) -> pb.DetectResponse:
    found = answer.detections
    response = pb.DetectResponse(
        model=pb.ModelVersion(name=answer.model.name, version=str(answer.model.version)),
        id=request_id,
        image_width=answer.image_width,
        image_height=answer.image_height,
        timing=_timing(answer.times),
    )
    for index, (box, score) in enumerate(zip(found.boxes.tolist(), found.scores.tolist(), strict=True)):
        face = response.faces.add(score=score)
        face.box.x1, face.box.y1, face.box.x2, face.box.y2 = box
        if found.landmarks is not None:
            for x, y in found.landmarks[index].tolist():
                face.landmarks.add(x=x, y=y)
        if found.labels is not None:
            face.label = int(found.labels[index])
    return response


def _embed_response(answer: EmbedAnswer, request_id: str) -> pb.EmbedResponse:
    return pb.EmbedResponse(
        model=pb.ModelVersion(name=answer.model.name, version=str(answer.model.version)),
        id=request_id,
        embeddings=[pb.Embedding(values=vector.tolist()) for vector in answer.embeddings],
        timing=_timing(answer.times),
    )

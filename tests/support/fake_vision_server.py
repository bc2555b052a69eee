"""A vision server without a model: real sockets, answers that follow from the request."""

from __future__ import annotations

import random
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
CREDIT = 4
"""How many frames more than it has read a stream with a contract may be sent."""
BAD_IMAGE = b"bad"
"""An encoded image that is refused, by calls with a status and by streams in-band."""
TIMING = pb.Timing(
    decode_us=1, preprocess_us=2, queue_us=3, infer_us=4, postprocess_us=5, total_us=15, batch_size=2
)


class FakeVisionService(vision_pb2_grpc.VisionServiceServicer):
    """Answers every image with two faces; the model's name asks for trouble.

    "missing" does not exist, "slow" answers when the caller has gone, "boxes" finds no landmarks; streams of
    "window" answer late, of "early" end after one frame, of "swapped" answer the wrong frame, of "breaks"
    fail after one frame, of "blank" answer with no outcome. Streams with a contract are `contract_stream`'s.
    A model "busy" refuses the first `refusals` calls and says when to come back, in `pushback_ms`.
    """

    def __init__(self) -> None:
        self.chance = random.Random(1)
        self.refusals = 2
        self.pushback_ms: int | None = 1
        self.refusal = grpc.StatusCode.UNAVAILABLE
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

    def Analyze(self, request: pb.AnalyzeRequest, context: Any) -> pb.AnalyzeResponse:  # noqa: N802 - gRPC's name
        """Two faces, each with a vector of its score; refuses as Detect, by the finder's name."""
        self._note(request, context)
        return self._analyze(request.finder.model_name, request.embedder_name, request.image, context)

    def Compare(self, request: pb.CompareRequest, context: Any) -> pb.CompareResponse:  # noqa: N802 - gRPC's name
        """Halfway alike; a face found in each picture."""
        self._note(request, context)
        found = [
            pb.Face(
                box=pb.BoundingBox(x2=9) if one.HasField("image") else None,
                embedding=one.embedding if one.HasField("embedding") else pb.Embedding(values=[1, 0]),
            )
            for one in (request.first, request.second)
        ]
        return pb.CompareResponse(
            embedder=_model_version(request.embedder_name, request.embedder_version),
            similarity=0.5,
            first=found[0],
            second=found[1],
            timing=TIMING,
        )

    def StreamAnalyze(  # noqa: N802 - gRPC's name
        self, request_iterator: Any, context: Any
    ) -> Iterator[pb.StreamAnalyzeResponse]:
        """With a contract only."""
        options = next(request_iterator).options
        self._open(options, context)
        finder, embedder = options.finder.model_name, options.embedder_name
        yield from self.contract_stream(
            pb.StreamAnalyzeResponse,
            options,
            request_iterator,
            context,
            lambda frame: self._analyze(finder, embedder, frame.image, context),
        )

    def contract_stream(
        self, response_type: Any, options: Any, messages: Any, context: Any, answer: Any
    ) -> Iterator[Any]:
        """A stream with a contract and room for CREDIT frames.

        Where the latest frame wins, each third one is dropped. The model "flaky" ends after up to five frames, with
        a goodbye or without, before or after it has answered; "restless" says goodbye after each frame. Each face
        of a stream with tracks has the next number.
        """
        name = getattr(options, "model_name", "") or getattr(options, "finder", pb.FaceFinder()).model_name
        life = {"flaky": self.chance.randint(1, 5), "restless": 1}.get(name, 1 << 30)
        fate = self.chance.choice(["goaway", "break", "break unanswered"]) if name == "flaky" else "goaway"
        tracked = "tracks" in options.DESCRIPTOR.fields_by_name and options.HasField("tracks")
        track = max(1, options.tracks.first_track_id) if tracked else 0
        told = {"embedder": _model_version("", "")} if response_type is pb.StreamAnalyzeResponse else {}
        yield response_type(
            opened=pb.StreamOpened(model=_model_version(name, ""), contract=options.contract, **told),
            account=pb.StreamAccount(credit_limit=CREDIT),
        )
        received = dropped = 0
        for message in messages:
            frame = message.frame
            received += 1
            account = pb.StreamAccount(
                credit_limit=received + CREDIT, times=pb.FrameTimes(received_us=1, begun_us=2, answered_us=3)
            )
            if options.contract.policy == pb.FRAME_POLICY_LATEST_WINS and received % 3 == 0:
                dropped += 1
                account.dropped.add(reason=pb.DROP_REASON_SUPERSEDED, frame_ids=[frame.frame_id])
                yield response_type(account=account)
                continue
            if received == life and fate == "break unanswered":
                context.abort(grpc.StatusCode.UNAVAILABLE, "unplugged")
            if received == life and fate == "goaway":
                yield response_type(
                    goaway=pb.StreamGoaway(reason="drain", frames_received=received, retry_after_ms=1),
                    account=pb.StreamAccount(credit_limit=received + CREDIT),
                )
            response = response_type(
                frame_id=frame.frame_id, capture_time_us=frame.capture_time_us, account=account
            )
            if frame.image.encoded == BAD_IMAGE:
                response.error.code, response.error.message = 3, "cannot decode image: 3 bytes"
            else:
                response.result.CopyFrom(answer(frame))
            for face in response.result.faces if tracked else ():
                face.track_id, track = track, track + 1
            self.answered += 1
            yield response
            if received == life:
                if fate == "break":
                    context.abort(grpc.StatusCode.UNAVAILABLE, "unplugged")
                break
        yield response_type(
            closed=pb.StreamClosed(
                frames_received=received,
                frames_answered=received - dropped,
                frames_dropped=dropped,
                next_track_id=track,
            ),
            account=pb.StreamAccount(credit_limit=received + CREDIT),
        )

    def StreamDetect(  # noqa: N802 - gRPC's name
        self, request_iterator: Any, context: Any
    ) -> Iterator[pb.StreamDetectResponse]:
        """As `_answers` says."""
        options = next(request_iterator).options
        self._open(options, context)
        if options.HasField("contract"):
            yield from self.contract_stream(
                pb.StreamDetectResponse,
                options,
                request_iterator,
                context,
                lambda frame: self._detect(options.model_name, "", frame.image, context),
            )
            return
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
        if options.HasField("contract"):
            yield from self.contract_stream(
                pb.StreamEmbedResponse,
                options,
                request_iterator,
                context,
                lambda frame: self._embed(options.model_name, "", frame.faces),
            )
            return
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
        name = getattr(request, "model_name", "")
        if name == "missing":
            context.abort(grpc.StatusCode.NOT_FOUND, "no model 'missing'")
        if name == "busy" and self.refusals:
            self.refusals -= 1
            if self.pushback_ms is not None:
                context.set_trailing_metadata([("grpc-retry-pushback-ms", str(self.pushback_ms))])
            context.abort(self.refusal, "busy")
        if name == "slow":
            gone = threading.Event()
            if context.add_callback(gone.set):  # False where the caller has gone before
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

    def _analyze(self, finder: str, embedder: str, image: pb.Image, context: Any) -> pb.AnalyzeResponse:
        found = self._detect(finder, "", image, context)
        for face in found.faces:
            face.embedding.values.append(face.score)
        return pb.AnalyzeResponse(
            detector=found.model,
            embedder=_model_version(embedder, ""),
            faces=found.faces,
            image_width=found.image_width,
            image_height=found.image_height,
            timing=TIMING,
            embedder_timing=TIMING,
            embedded=len(found.faces),
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

"""`naiad.vision.v1.VisionService`: images and frames in, faces and embeddings out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from naiad.lifecycle.caller import CALLER
from naiad.services.callers import caller_of
from naiad.services.frame_streams import FrameStream
from naiad.services.infer_stream import deadline_ns
from naiad.services.status import rpc, work_rpc
from naiad.services.stream_messages import contract_message, contract_of, stream_options
from naiad.services.stream_works import AnalyzeWork, DetectWork, EmbedWork
from naiad.services.vision_messages import (
    also_versions_of,
    analyze_response,
    check_embed_request,
    compare_response,
    compared_side,
    crop_sources,
    detect_finder,
    detect_response,
    embed_response,
    finder_of,
    image_source,
    landmark_arrays,
    model_choice,
    normalize_of,
)
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grpc.aio import ServicerContext

    from naiad.config.server_config import ServerConfig
    from naiad.dataplane.faces import EmbedAnswer, FacePlane
    from naiad.dataplane.frames.contract import Contract
    from naiad.dataplane.frames.rooms import FrameRooms
    from naiad.services.calls import Calls
    from naiad.services.frame_streams import FrameWork

    Context = ServicerContext[Any, Any]


class VisionService(vision_pb2_grpc.VisionServiceServicer):
    """Answers the vision RPCs from the face plane."""

    def __init__(self, faces: FacePlane, config: ServerConfig, calls: Calls, rooms: FrameRooms) -> None:
        self._faces = faces
        self._rooms = rooms
        self._config = config
        self.calls = calls

    @work_rpc
    async def Detect(self, request: pb.DetectRequest, context: Context) -> pb.DetectResponse:
        """Find the faces of one image."""
        _note_caller(context)
        return await self._detect(request, deadline_ns(context))

    @work_rpc
    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """Turn faces of one image, or crops, into vectors."""
        check_embed_request(request)
        _note_caller(context)
        answer = await self._embed(request, deadline_ns(context))
        return embed_response(answer, request.id, boxes_only=request.finder.options.boxes_only)

    @work_rpc
    async def Analyze(self, request: pb.AnalyzeRequest, context: Context) -> pb.AnalyzeResponse:
        """Find the faces of one image and embed each of them."""
        _note_caller(context)
        answer = await self._faces.analyze(
            image_source(request.image),
            finder_of(request.finder),
            model_choice(request.embedder_name, request.embedder_version),
            normalize=normalize_of(request),
            also=also_versions_of(request),
            deadline_ns=deadline_ns(context),
        )
        return analyze_response(answer, request.id, boxes_only=request.finder.options.boxes_only)

    @work_rpc
    async def Compare(self, request: pb.CompareRequest, context: Context) -> pb.CompareResponse:
        """Say how alike two faces are."""
        _note_caller(context)
        answer = await self._faces.compare(
            compared_side(request.first, "first"),
            compared_side(request.second, "second"),
            finder_of(request.finder),
            model_choice(request.embedder_name, request.embedder_version),
            require_space=request.require_embedding_space,
            deadline_ns=deadline_ns(context),
        )
        return compare_response(answer, request.id, boxes_only=request.finder.options.boxes_only)

    @rpc
    async def StreamDetect(  # type: ignore[override]  # grpc.aio takes handlers that write, too
        self, request_iterator: AsyncIterator[pb.StreamDetectRequest], context: Context
    ) -> None:
        """Find the faces of each frame of a stream."""
        await self._frames(request_iterator, context, partial(DetectWork, self._faces))

    @rpc
    async def StreamEmbed(  # type: ignore[override]  # grpc.aio takes handlers that write, too
        self, request_iterator: AsyncIterator[pb.StreamEmbedRequest], context: Context
    ) -> None:
        """Embed the faces of each frame of a stream."""
        await self._frames(request_iterator, context, lambda options, _: EmbedWork(self._faces, options))

    @rpc
    async def StreamAnalyze(  # type: ignore[override]  # grpc.aio takes handlers that write, too
        self, request_iterator: AsyncIterator[pb.StreamAnalyzeRequest], context: Context
    ) -> None:
        """Find and embed the faces of each frame of a stream."""
        await self._frames(request_iterator, context, partial(AnalyzeWork, self._faces))

    async def _frames(
        self,
        requests: AsyncIterator[Any],
        context: Context,
        make_work: Callable[[Any, Contract], FrameWork],
    ) -> None:
        """Answer a stream's frames: the options are checked before the first one is read."""
        _note_caller(context, is_stream=True)
        options = await stream_options(requests)
        CALLER.get().holds_on = options.HasField("contract")
        contract = contract_of(options, self._config.stream_max_in_flight)
        work = make_work(options, contract)
        opened = work.opened(contract_message(contract))
        stream = FrameStream(
            requests,
            work,
            contract,
            opened=opened if options.HasField("contract") else None,
            rooms=self._rooms,
            calls=self.calls,
            caller=CALLER.get(),
            statistics=self._rooms.statistics.of(opened.model.name),
            deadline_ns=deadline_ns(context),
        )
        await stream.run(context.write)

    async def _detect(self, request: pb.DetectRequest, deadline: int | None) -> pb.DetectResponse:
        finder = detect_finder(request.model_name, request.model_version, request.options)
        answer = await self._faces.detect(
            finder.name,
            finder.version,
            image_source(request.image),
            score_threshold=finder.score_threshold,
            max_faces=finder.max_faces,
            deadline_ns=deadline,
        )
        return detect_response(answer, request.id, boxes_only=request.options.boxes_only)

    async def _embed(self, request: pb.EmbedRequest, deadline: int | None) -> EmbedAnswer:
        model, normalize = model_choice(request.model_name, request.model_version), normalize_of(request)
        also = also_versions_of(request)
        if request.crops:
            self._faces.check_count(len(request.crops), "crops")
            return await self._faces.embed_crops(
                model, crop_sources(request), normalize=normalize, also=also, deadline_ns=deadline
            )
        source = image_source(request.image)
        if request.HasField("finder"):
            return await self._faces.embed_found(
                model,
                source,
                finder_of(request.finder),
                normalize=normalize,
                also=also,
                deadline_ns=deadline,
            )
        self._faces.check_count(len(request.faces), "faces")
        return await self._faces.embed(
            model.name,
            model.version,
            source,
            landmark_arrays(request.faces),
            normalize=normalize,
            also=also,
            deadline_ns=deadline,
        )


def _note_caller(context: Context, *, is_stream: bool = False) -> None:
    """Let the tasks that work on a call know who asks: a stream keeps to one version of each model."""
    CALLER.set(caller_of(context.invocation_metadata() or (), is_stream=is_stream))

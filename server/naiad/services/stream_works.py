"""What the vision service's three streams do with a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.dataplane.frames.contract import ResultOrder
from naiad.dataplane.frames.room import Cost
from naiad.dataplane.frames.track_line import TrackLine
from naiad.services.vision_messages import (
    also_versions_of,
    analyze_response,
    detect_finder,
    detect_response,
    embed_response,
    finder_of,
    image_source,
    landmark_arrays,
    model_choice,
    model_version,
    normalize_of,
    write_embedding,
)
from naiad.vision.detector import Detector
from naiad.vision.embedder import Embedder
from naiad.vision.track_embeddings import TrackEmbeddings
from naiad.vision.tracks import MAX_MISSED, Tracker
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.dataplane.faces import AnalyzeAnswer, FacePlane, StageTimes
    from naiad.dataplane.frames.contract import Contract
    from naiad.lifecycle.version import ModelHandle
    from naiad.vision.detections import Detections
    from naiad.vision.track_embeddings import Choice, TrackEmbedding

_ONCE = pb.EMBED_WHEN_ONCE_A_TRACK


class _Work:
    """What the three have in common: frames may pass a tracker on their way.

    A model that was chosen because it was the only one stays chosen when another one is loaded: `opened`
    fixes the names, and leaves versions open.
    """

    def __init__(self, faces: FacePlane, line: TrackLine | None = None) -> None:
        self._faces = faces
        self._line = line

    def begin(self, number: int) -> None:
        """The frame of that number is begun with."""
        if self._line is not None:
            self._line.enter(number)

    def end(self, number: int) -> None:
        """Nothing works on the frame any more."""
        if self._line is not None:
            self._line.leave(number)

    @property
    def next_track_id(self) -> int:
        """Where a stream that goes on for this one numbers its tracks from; 0 without tracks."""
        return 0 if self._line is None else self._line.tracker.next_id

    def close(self, closed: pb.StreamClosed) -> None:
        """Nothing more is known."""


class DetectWork(_Work):
    """Finds faces, and numbers them if asked to."""

    response_type = pb.StreamDetectResponse

    def __init__(self, faces: FacePlane, options: pb.StreamDetectOptions, contract: Contract) -> None:
        """Read a stream's options.

        Raises:
            InvalidArgumentError: they contradict each other, or the version is no number.
        """
        super().__init__(faces, _line_of(faces, options, contract))
        self._finder = detect_finder(options.model_name, options.model_version, options.options)
        self._boxes_only = options.options.boxes_only

    def opened(self, contract: pb.StreamContract) -> pb.StreamOpened:
        """The detector, as of now."""
        with self.acquire() as handle:
            self._finder = self._finder._replace(name=handle.key.name)
            return pb.StreamOpened(model=model_version(handle.key), contract=contract)

    def acquire(self) -> ModelHandle:
        """The detector that would answer now."""
        return self._faces.acquire(self._finder.model, Detector)

    async def answer(
        self, frame: pb.Frame, number: int, deadline_ns: int | None, result: pb.DetectResponse
    ) -> Cost | None:
        """The faces of one frame."""
        finder = self._finder
        answer = await self._faces.detect(
            finder.name,
            finder.version,
            image_source(frame.image),
            score_threshold=finder.score_threshold,
            max_faces=finder.max_faces,
            deadline_ns=deadline_ns,
        )
        ids = None if self._line is None else await self._line.track(number, answer.detections)
        detect_response(answer, boxes_only=self._boxes_only, into=result)
        if ids is not None:
            _number(result.faces, ids.tolist())
        return _cost(answer.times)


class EmbedWork(_Work):
    """Turns the faces that come with a frame into vectors."""

    response_type = pb.StreamEmbedResponse

    def __init__(self, faces: FacePlane, options: pb.StreamEmbedOptions) -> None:
        """Read a stream's options.

        Raises:
            InvalidArgumentError: the version is no number.
        """
        super().__init__(faces)
        self._model = model_choice(options.model_name, options.model_version)
        self._normalize = normalize_of(options)
        self._also = also_versions_of(options)

    def opened(self, contract: pb.StreamContract) -> pb.StreamOpened:
        """The embedder, as of now."""
        with self.acquire() as handle:
            self._model = self._model._replace(name=handle.key.name)
            self._faces.check_also(handle, self._also)
            version = model_version(handle.key, handle.embedding_space)
            return pb.StreamOpened(model=version, contract=contract)

    def acquire(self) -> ModelHandle:
        """The embedder that would answer now."""
        return self._faces.acquire(self._model, Embedder)

    async def answer(
        self, frame: pb.Frame, number: int, deadline_ns: int | None, result: pb.EmbedResponse
    ) -> Cost | None:
        """The vectors of one frame."""
        del number
        self._faces.check_count(len(frame.faces), "faces")
        answer = await self._faces.embed(
            self._model.name,
            self._model.version,
            image_source(frame.image),
            landmark_arrays(frame.faces),
            normalize=self._normalize,
            also=self._also,
            deadline_ns=deadline_ns,
        )
        embed_response(answer, into=result)
        return _cost(answer.times)


class AnalyzeWork(_Work):
    """Finds faces and embeds all of them, or each track once. Frames take the detector's room."""

    response_type = pb.StreamAnalyzeResponse

    def __init__(self, faces: FacePlane, options: pb.StreamAnalyzeOptions, contract: Contract) -> None:
        """Read a stream's options.

        Raises:
            InvalidArgumentError: they contradict each other, or a version is no number.
        """
        super().__init__(faces, _line_of(faces, options, contract, is_once=_is_once(options)))
        self._finder = finder_of(options.finder)
        self._embedder = model_choice(options.embedder_name, options.embedder_version)
        self._normalize = normalize_of(options)
        self._also = also_versions_of(options)
        self._boxes_only = options.finder.options.boxes_only
        self._embedded = self._reused = 0

    def opened(self, contract: pb.StreamContract) -> pb.StreamOpened:
        """The detector and the embedder, as of now."""
        with self.acquire() as handle, self._faces.acquire(self._embedder, Embedder) as embedder:
            self._finder = self._finder._replace(name=handle.key.name)
            self._embedder = self._embedder._replace(name=embedder.key.name)
            self._faces.check_also(embedder, self._also)
            return pb.StreamOpened(
                model=model_version(handle.key),
                embedder=model_version(embedder.key, embedder.embedding_space),
                contract=contract,
            )

    def acquire(self) -> ModelHandle:
        """The detector that would answer now."""
        return self._faces.acquire(self._finder.model, Detector)

    async def answer(
        self, frame: pb.Frame, number: int, deadline_ns: int | None, result: pb.AnalyzeResponse
    ) -> Cost | None:
        """The faces of one frame, each with its vector."""
        track_ids: list[int] = []
        choices: list[Choice] = []
        spaces: list[str] = []

        async def choose(found: Detections) -> Sequence[int]:
            line = self._line
            assert line is not None
            if line.embeddings is None:
                track_ids.extend((await line.track(number, found)).tolist())
                return range(len(found))
            choices.append(await line.choose(number, frame.frame_id, found, " ".join(spaces)))
            track_ids.extend(choices[0].ids.tolist())
            indices: list[int] = choices[0].indices.tolist()
            return indices

        answer = await self._faces.analyze(
            image_source(frame.image),
            self._finder,
            self._embedder,
            normalize=self._normalize,
            choose=None if self._line is None else choose,
            also=self._also,
            # A track has vectors of all of them or of none: another one of any is another space.
            on_embedders=lambda embedders: spaces.extend(each.embedding_space for each in embedders),
            deadline_ns=deadline_ns,
        )
        analyze_response(answer, boxes_only=self._boxes_only, into=result)
        _number(result.faces, track_ids)
        if choices:
            assert self._line is not None
            indices = choices[0].indices.tolist()
            others = [other.vectors_of(indices) for other in answer.also]
            vectors = answer.vectors_of(indices)
            if spaces != [answer.embedding_space, *(other.embedding_space for other in answer.also)]:
                raise UnavailableError("the models of an embedder changed meanwhile: send the frame again")
            made = await self._line.absorb(number, vectors, list(zip(*others, strict=True)))
            _reuse(result, made, answer)
        self._embedded += result.embedded
        self._reused += result.reused
        spent_ns = 0 if answer.embedder_times is None else answer.embedder_times.total_ns
        return _cost(answer.times, spent_ns)

    def close(self, closed: pb.StreamClosed) -> None:
        """Tell how many vectors were made, and how many were not needed."""
        closed.embedded, closed.reused = self._embedded, self._reused


def _is_once(options: pb.StreamAnalyzeOptions) -> bool:
    when = options.embed_when
    if when not in pb.EmbedWhen.values():
        raise InvalidArgumentError(f"embed_when is {when}, it must be EVERY_FACE or ONCE_A_TRACK")
    if when == _ONCE and not options.HasField("tracks"):
        raise InvalidArgumentError("embed_when is ONCE_A_TRACK and 'tracks' is not set: it needs tracks")
    return when == _ONCE


def _line_of(
    faces: FacePlane,
    options: pb.StreamDetectOptions | pb.StreamAnalyzeOptions,
    contract: Contract,
    *,
    is_once: bool = False,
) -> TrackLine | None:
    """The stream's tracker; None if it wants none."""
    if not options.HasField("tracks"):
        return None
    if contract.order is ResultOrder.READY:
        raise InvalidArgumentError(
            "contract.order is READY and 'tracks' is set: tracks need the order FRAMES"
        )
    wanted = options.tracks
    tracker = Tracker(first_id=wanted.first_track_id or 1, max_missed=wanted.max_missed or MAX_MISSED)
    return TrackLine(tracker, faces.pool, TrackEmbeddings() if is_once else None)


def _number(faces: Sequence[pb.Face], ids: Sequence[int]) -> None:
    """Tell each face's track."""
    for face, track_id in zip(faces, ids, strict=False):  # no ids where there are no tracks
        face.track_id = track_id


def _reuse(result: pb.AnalyzeResponse, found: Sequence[TrackEmbedding | None], answer: AnalyzeAnswer) -> None:
    """Give faces that were not embedded what their tracks have."""
    for index, (face, made) in enumerate(zip(result.faces, found, strict=True)):
        if made is None or face.HasField("embedding"):
            continue
        write_embedding(face.embedding, made.vector, answer.embedding_space)
        for message, other, vector in zip(result.also, answer.also, made.also, strict=True):
            if vector is not None:
                write_embedding(message.embeddings[index], vector, other.embedding_space)
        face.embedding_frame_id = made.frame_id
        result.reused += 1


def _cost(times: StageTimes, more_ns: int = 0) -> Cost | None:
    """What a frame took of its model; None where nothing ran."""
    if not times.batch_size:
        return None
    other_ns = times.decode_ns + times.preprocess_ns + times.postprocess_ns
    if times.is_one_run:
        return Cost(times.batch_size, times.infer_ns + other_ns, more_ns)
    return Cost(times.batch_size, times.infer_ns, other_ns + more_ns)

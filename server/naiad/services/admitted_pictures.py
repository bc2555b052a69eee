"""A request with image files between its admission and its answer: decoded, run, read by the head."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from naiad.core.tensors import InferRequest
from naiad.dataplane.pictures import PictureTimes
from naiad.services.admitted import Admitted
from naiad.services.encoded import FACE_OUTPUTS, face_arrays
from naiad.vision.detector import Detector

if TYPE_CHECKING:
    from tritonclient.grpc import service_pb2 as pb

    from naiad.core.tensors import InferResponse, Parameter
    from naiad.dataplane.pictures import PictureBatch, PicturePlane
    from naiad.lifecycle.version import ModelHandle
    from naiad.services.answer import InferAnswer, Placements
    from naiad.services.encoded import EncodedRequest
    from naiad.telemetry.tracing import RequestTrace


class AdmittedPictures(Admitted):
    """As `Admitted`; its pictures are decoded, and its model asked, when the answer is waited for."""

    __slots__ = ("_asked", "_pictures", "_times")

    added_outputs = FACE_OUTPUTS

    def __init__(
        self,
        message: pb.ModelInferRequest,
        handle: ModelHandle,
        placements: Placements,
        trace: RequestTrace | None,
        *,
        asked: EncodedRequest,
        pictures: PicturePlane,
    ) -> None:
        super().__init__(
            message, handle, placements, None, trace, request=None, explain=asked.parameters.explain
        )
        self._asked = asked
        self._pictures = pictures
        self._times = PictureTimes()

    async def _answer(self) -> InferAnswer:
        answer = await super()._answer()
        answer.parameters = {**(answer.parameters or {}), **_told(self._times)}
        return answer

    async def _respond(self) -> InferResponse:
        asked, vision = self._asked, self._handle.vision
        config = self._handle.config.vision
        assert vision is not None
        assert config is not None
        batch = await self._pictures.prepare(vision, asked.files, self._times, tensor=config.input.tensor)
        request = self._request(batch)
        if self._trace is not None:
            self._trace.start(request, self._handle.key)
        response = await self._handle.submit(request)
        if asked.face_outputs == () or not isinstance(vision, Detector):
            return response
        found = await self._pictures.faces(
            vision,
            response.outputs,
            batch.transforms,
            self._times,
            score_threshold=asked.score_threshold,
            max_faces=asked.max_faces,
        )
        outputs = {name: response.outputs[name] for name in asked.graph_outputs or ()}
        outputs |= face_arrays(found, asked.face_outputs)
        # A copy: a response cache may keep the other.
        return replace(response, outputs=dict(sorted(outputs.items())))

    def _request(self, batch: PictureBatch) -> InferRequest:
        asked, config, vision = self._asked, self._handle.config, self._handle.vision
        assert config.vision is not None
        assert vision is not None
        outputs = asked.graph_outputs
        if outputs is not None and asked.face_outputs != ():
            outputs = tuple(sorted({*outputs, *vision.output_names}))
        count = len(asked.files)
        parameters = asked.parameters
        return InferRequest(
            model_name=config.name,
            version=None,
            inputs={config.vision.input.tensor: batch.tensor if config.max_batch_size else batch.tensor[0]},
            outputs=outputs,
            batch_size=count if config.max_batch_size else 1,
            request_id=self._message.id,
            deadline_ns=asked.deadline_ns,
            priority=parameters.priority,
            timeout_us=parameters.timeout_us,
            parameters=asked.custom,
        )


def _told(times: PictureTimes) -> dict[str, Parameter]:
    """The answer's parameters, in microseconds."""
    return {
        "naiad_decode_us": times.decode_ns // 1_000,
        "naiad_preprocess_us": times.preprocess_ns // 1_000,
        "naiad_postprocess_us": times.postprocess_ns // 1_000,
    }

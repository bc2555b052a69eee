"""Calls the demo's models with NVIDIA's own client, unchanged: raw tensors in, raw tensors out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import cv2
import numpy as np
import tritonclient.grpc as triton

from naiad.core.errors import InternalError

if TYPE_CHECKING:
    import numpy.typing as npt

    from naiad.demo.picture import Picture

_TIMEOUT_S = 30.0
# The server is on this machine: a proxy of the environment has no part in it.
_CHANNEL = [("grpc.enable_http_proxy", 0)]


class RawDetection(NamedTuple):
    """The best face of one picture, as the caller of a bare model works it out.

    `box` is float32 [4] in pixels of the picture: x1, y1, x2, y2.
    """

    version: str
    score: float
    box: npt.NDArray[np.float32]


class TritonCalls:
    """A Triton client with what the demo asks of it; use it in `with`."""

    def __init__(self, address: str) -> None:
        self._client = triton.InferenceServerClient(address, channel_args=_CHANNEL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def detect(self, picture: Picture, model: str, version: str = "") -> RawDetection:
        """Find the faces in a BGR picture: letterbox it, run the model, scale the best box back.

        Raises:
            InferenceServerException: the call failed.
            InternalError: no face came back.
        """
        metadata = self._client.get_model_metadata(model, version, client_timeout=_TIMEOUT_S)
        (tensor,) = metadata.inputs
        height, width = tensor.shape[1:3]
        pixels, scale = letterbox(picture, height, width)
        result = self._infer(model, version, {tensor.name: pixels[np.newaxis]})
        answered = result.get_response().model_version
        count = int(result.as_numpy("count")[0, 0])
        if count < 1:
            raise InternalError(f"tritonclient got no face from {model} version {answered}, one was due")
        box = result.as_numpy("boxes")[0, 0] / scale
        return RawDetection(answered, float(result.as_numpy("scores")[0, 0]), box)

    def add_sub(self, left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> tuple[Any, Any]:
        """Their sum and difference, worked out by the model `add_sub`; each float32 [N,16].

        Raises:
            InferenceServerException: the call failed.
        """
        result = self._infer("add_sub", "", {"INPUT0": left, "INPUT1": right})
        return result.as_numpy("OUTPUT0"), result.as_numpy("OUTPUT1")

    def batch_runs(self, model: str, version: str) -> dict[int, int]:
        """How often a batch of each size ran since the model was loaded, from ModelStatistics.

        Raises:
            InferenceServerException: the call failed.
        """
        answer = self._client.get_inference_statistics(model, version, client_timeout=_TIMEOUT_S)
        (statistics,) = answer.model_stats
        return {row.batch_size: row.compute_infer.count for row in statistics.batch_stats}

    def _infer(self, model: str, version: str, tensors: dict[str, npt.NDArray[Any]]) -> Any:
        inputs = []
        for name, array in tensors.items():
            tensor = triton.InferInput(name, list(array.shape), triton.np_to_triton_dtype(array.dtype))
            inputs.append(tensor.set_data_from_numpy(array))
        return self._client.infer(model, inputs, model_version=version, client_timeout=_TIMEOUT_S)


def letterbox(picture: Picture, height: int, width: int) -> tuple[Picture, float]:
    """A BGR picture as RGB in the top left corner of `height` x `width` black pixels, and its scale there."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    fitted_width, fitted_height = (int(side * scale) for side in (picture.shape[1], picture.shape[0]))
    fitted = cv2.resize(picture, (fitted_width, fitted_height), interpolation=cv2.INTER_LINEAR)
    whole = np.zeros((height, width, 3), np.uint8)
    whole[:fitted_height, :fitted_width] = fitted[:, :, ::-1]
    return whole, scale

"""What the face plane answers, in domain terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from naiad.core.tensors import ModelKey
    from naiad.dataplane.faces.times import StageTimes
    from naiad.vision.arrays import Floats
    from naiad.vision.detections import Detections


@dataclass(frozen=True, slots=True)
class DetectAnswer:
    """The faces of one image, in pixels of the upright original."""

    model: ModelKey
    detections: Detections
    image_width: int
    image_height: int
    times: StageTimes


@dataclass(frozen=True, slots=True)
class OtherVectors:
    """What one more version made of the faces of an answer.

    `rows`, int64 `[n]`, are the faces that have a vector, `embeddings` float32 `[n, d]` those vectors, of
    `embedding_space`. `times` are None if nothing was embedded.
    """

    model: ModelKey
    embedding_space: str
    rows: npt.NDArray[np.int64]
    embeddings: Floats
    times: StageTimes | None

    def vectors_of(self, indices: Iterable[int]) -> list[Floats | None]:
        """The vector of each face at `indices`, None where it was not embedded."""
        return _vectors_of(self.rows, self.embeddings, indices)

    def at(self, indices: npt.NDArray[np.int64]) -> OtherVectors:
        """The same of those faces alone, int64 `[m]`, which are then called 0 to m - 1."""
        places = {row: place for place, row in enumerate(self.rows.tolist())}
        kept = [index for index, face in enumerate(indices.tolist()) if face in places]
        picked = self.embeddings[[places[int(indices[index])] for index in kept]]
        return OtherVectors(self.model, self.embedding_space, np.array(kept, np.int64), picked, self.times)


@dataclass(frozen=True, slots=True)
class EmbedAnswer:
    """One vector a face, float32 `[n, d]`, in the order that they were asked for, all of `embedding_space`.

    `also` is what further versions made of the same faces.
    Where they were found first, `found` are the faces, one a vector, and who found them; its times have no
    decoding, which is in `times`, and end with the detection.
    """

    model: ModelKey
    embeddings: Floats
    times: StageTimes
    found: DetectAnswer | None = None
    embedding_space: str = ""
    also: tuple[OtherVectors, ...] = ()


@dataclass(frozen=True, slots=True)
class AnalyzeAnswer:
    """The faces of one image and the vectors of those that were embedded.

    `rows` are the indices of the embedded faces, in the order of `embeddings`, float32 `[len(rows), d]`:
    those that were chosen, but for faces whose landmarks give no alignment. `times` are the detector's, but
    the total is the whole request's; `embedder_times` are the embedder's, None if nothing was embedded.
    The vectors are of `embedding_space`; `also` is what further versions made of the same faces.
    """

    detector: ModelKey
    embedder: ModelKey
    detections: Detections
    image_width: int
    image_height: int
    rows: npt.NDArray[np.int64]
    embeddings: Floats
    times: StageTimes
    embedder_times: StageTimes | None
    embedding_space: str = ""
    also: tuple[OtherVectors, ...] = ()

    def vectors_of(self, indices: Iterable[int]) -> list[Floats | None]:
        """The vector of each face at `indices`, None where it was not embedded."""
        return _vectors_of(self.rows, self.embeddings, indices)


@dataclass(frozen=True, slots=True)
class FoundFace:
    """One of two compared faces: its vector, float32 `[d]`, and, where it was found, that one face.

    `embedding_space` is empty where the vector was given and did not tell its own.
    """

    embedding: Floats
    detection: Detections | None = None
    embedding_space: str = ""


@dataclass(frozen=True, slots=True)
class CompareAnswer:
    """How alike two faces are: the cosine of their vectors, -1..1."""

    embedder: ModelKey
    similarity: float
    first: FoundFace
    second: FoundFace
    times: StageTimes
    embedding_space: str = ""


def _vectors_of(
    rows: npt.NDArray[np.int64], embeddings: Floats, indices: Iterable[int]
) -> list[Floats | None]:
    vectors = dict(zip(rows.tolist(), embeddings, strict=True))
    return [vectors.get(index) for index in indices]

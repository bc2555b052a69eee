"""How alike two vectors are, without a server; vectors of two embedding spaces are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad_client.results import Embedding, Face

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy.typing as npt

    VectorLike: TypeAlias = Embedding | Face | npt.NDArray[np.floating]


class EmbeddingSpaceError(ValueError):
    """Two vectors are of different embedding spaces: nothing can be said of how alike they are."""


def similarity(first: VectorLike, second: VectorLike) -> float:
    """The cosine of the angle between two vectors, -1 to 1.

    Args:
        first: an Embedding, a Face that was embedded, or a vector, float [D], whose space is unknown.
        second: the same.

    Raises:
        EmbeddingSpaceError: both tell their space, and these differ; names both.
        ValueError: a face was not embedded, or a vector is empty, has no direction or another length.
    """
    one, other = _embedding("first", first), _embedding("second", second)
    if one.space and other.space and one.space != other.space:
        raise EmbeddingSpaceError(
            f"first is of embedding space '{one.space}' and second of '{other.space}': vectors of two spaces "
            "cannot be compared, so embed one of the faces anew with the version that made the other"
        )
    vectors = [each.values.astype(np.float64) for each in (one, other)]
    if len(vectors[0]) != len(vectors[1]):
        raise ValueError(f"first has {len(vectors[0])} values and second {len(vectors[1])}")
    lengths = [float(np.linalg.norm(vector)) for vector in vectors]
    for name, length in zip(("first", "second"), lengths, strict=True):
        if not np.isfinite(length) or not length:
            raise ValueError(f"{name} has no direction: its values must be finite and not all zero")
    return float(np.clip(vectors[0] @ vectors[1] / (lengths[0] * lengths[1]), -1, 1))


def _embedding(name: str, given: VectorLike) -> Embedding:
    if isinstance(given, Face):
        found = given.embedded
        if found is None:
            raise ValueError(f"{name} is a face that was not embedded")
        return found
    embedding = given if isinstance(given, Embedding) else Embedding(np.asarray(given))
    if embedding.values.ndim != 1 or not embedding.values.size:
        raise ValueError(f"{name} has shape {list(embedding.values.shape)}: [D] is wanted")
    return embedding

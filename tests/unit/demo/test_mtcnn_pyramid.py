"""The pyramid's levels have the package's sizes, and are shrunk by area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from naiad.demo import mtcnn_pyramid
from naiad.demo.graph import GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from naiad.demo.graph import Output

    Array = npt.NDArray[Any]

LEVELS = 12
SCALES = np.array([12 / 20 * 0.709**level for level in range(LEVELS)])


def area_weights(full: int, small: int) -> Array:
    """[small, full]: how much of each input pixel an output pixel is the mean of."""
    ratio = full / small
    out, pixel = np.arange(small)[:, None], np.arange(full)[None]
    overlap = np.minimum(pixel + 1, (out + 1) * ratio) - np.maximum(pixel, out * ratio)
    weights: Array = np.clip(overlap, 0, None) / ratio
    return weights


@pytest.mark.parametrize(
    ("size", "smalls"),
    [
        ((480, 640), [(288, 384), (204, 272), (18, 24), (13, 17)]),
        ((101, 333), [(60, 199), (42, 141), (12, 12)]),
        ((9, 7), [(12, 12), (12, 13)]),
    ],
)
def test_a_picture_is_shrunk_by_area(
    prepare: Callable[..., Any], size: tuple[int, int], smalls: list[tuple[int, int]]
) -> None:
    graph = GraphBuilder()
    image = graph.input("image", np.float32, ["N", 3, "H", "W"])
    heights, widths = (graph.input(name, np.int64, [len(smalls)]) for name in ("heights", "widths"))
    images = mtcnn_pyramid._resize(graph, image, heights, widths, len(smalls))
    outputs: dict[str, Output] = {
        str(i): (value, np.float32, ["N", 3, f"h{i}", f"w{i}"]) for i, value in enumerate(images)
    }
    run = prepare(graph.model(outputs, doc=""))
    pixels = np.random.default_rng(3).integers(0, 256, (2, 3, *size)).astype(np.float32)
    wanted = np.array(smalls)
    result = run(image=pixels, heights=wanted[:, 0], widths=wanted[:, 1])
    for index, (rows, columns) in enumerate(smalls):
        expected = area_weights(size[0], rows) @ pixels @ area_weights(size[1], columns).T
        np.testing.assert_allclose(result[str(index)], expected, atol=0.02)


@pytest.mark.parametrize(
    "size", [(480, 640), (512, 512), (148, 199), (1080, 1920), (20, 500), (50, 33), (33, 47)]
)
def test_levels_are_those_of_the_package(prepare: Callable[..., Any], size: tuple[int, int]) -> None:
    """As many as its formula says, each of the truncated size."""
    graph = GraphBuilder()
    height, width = (graph.input(name, np.int64, [1]) for name in ("height", "width"))
    values = mtcnn_pyramid._level_sizes(graph, height, width, SCALES, 0.709)
    kinds = {"rows": np.int64, "columns": np.int64, "usable": np.bool_}
    outputs: dict[str, Output] = {
        name: (value, kind, [LEVELS]) for (name, kind), value in zip(kinds.items(), values, strict=True)
    }
    result = prepare(graph.model(outputs, doc=""))(height=np.array(size[:1]), width=np.array(size[1:]))
    count = max(0, round(-((np.log(min(size) / 12) / np.log(0.709)) + 1)))
    assert result["usable"].tolist() == [level < count for level in range(LEVELS)]
    assert result["rows"][:count].tolist() == [int(size[0] * scale) for scale in SCALES[:count]]
    assert result["columns"][:count].tolist() == [int(size[1] * scale) for scale in SCALES[:count]]
    assert min(result["rows"].min(), result["columns"].min()) >= 12

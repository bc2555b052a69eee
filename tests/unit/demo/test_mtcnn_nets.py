"""The three networks compute what the plain Keras layers compute, and what TensorFlow computed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from naiad.demo.graph import GraphBuilder
from naiad.demo.mtcnn_nets import probability, run_net
from naiad.demo.mtcnn_weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from naiad.demo.mtcnn_weights import Layer

    Array = npt.NDArray[Any]

SIDES = {"pnet": (31, 40), "rnet": (24, 24), "onet": (48, 48)}
POOLS: dict[str, tuple[tuple[int, bool] | None, ...]] = {
    "pnet": ((2, True), None, None),
    "rnet": ((3, True), (3, False), None),
    "onet": ((3, True), (3, False), (2, True), None),
}


def make(prepare: Callable[..., Any], net: str, **folded: float) -> Callable[[Array], Array]:
    graph = GraphBuilder()
    image = graph.input("image", np.float32, ["M", 3, "h", "w"])
    output = run_net(graph, net, load_weights(net), image, **folded)
    shape: list[int | str] = ["M", "C", "y", "x"] if net == "pnet" else ["M", "C"]
    run = prepare(graph.model({"output": (output, np.float32, shape)}, doc=""))

    def call(image: Array) -> Array:
        result: Array = run(image=image)["output"]
        return result

    return call


def convolve(x: Array, layer: Layer) -> Array:
    windows = np.lib.stride_tricks.sliding_window_view(x, layer.weight.shape[2:], axis=(2, 3))
    result: Array = np.einsum("ncyxhw,ochw->noyx", windows, layer.weight, optimize=True)
    return result + layer.bias[:, None, None]


def pool(x: Array, size: int, same: bool) -> Array:
    """Keras' max pool of stride 2; "same" pads with what never wins, more at the end."""
    if same:
        pads = [max((-(-side // 2) - 1) * 2 + size - side, 0) for side in x.shape[2:]]
        around = [(pad // 2, pad - pad // 2) for pad in pads]
        x = np.pad(x, ((0, 0), (0, 0), *around), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    result: Array = windows[:, :, ::2, ::2].max(axis=(4, 5))
    return result


def prelu(x: Array, slope: Array | None) -> Array:
    assert slope is not None
    shaped = slope.reshape(-1, *[1] * (x.ndim - 2))
    return np.where(x > 0, x, x * shaped)


def reference(net: str, x: Array) -> tuple[Array, ...]:
    """The network as Keras states it, layer by layer."""
    weights = load_weights(net)
    for layer, pooling in zip(weights.hidden, POOLS[net], strict=False):
        x = prelu(convolve(x, layer), layer.slope)
        x = x if pooling is None else pool(x, *pooling)
    if net == "pnet":
        return tuple(convolve(x, head) for head in weights.heads)
    dense = weights.hidden[-1]
    x = prelu(x.reshape(len(x), -1) @ dense.weight + dense.bias, dense.slope)
    return tuple(x @ head.weight + head.bias for head in weights.heads)


@pytest.mark.parametrize("net", SIDES)
def test_the_rearranged_network_equals_the_plain_one(prepare: Callable[..., Any], net: str) -> None:
    image = np.random.default_rng(1).uniform(-1, 1, (3, 3, *SIDES[net])).astype(np.float32)
    *others, classes = reference(net, image.astype(np.float64))
    expected = np.concatenate([*others, np.diff(classes, axis=1)], axis=1)
    np.testing.assert_allclose(make(prepare, net)(image), expected, atol=2e-5)


def test_offset_and_scale_are_folded_into_the_first_layer(prepare: Callable[..., Any]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (1, 3, 24, 24)).astype(np.float32)
    folded = make(prepare, "rnet", offset=127.5, scale=1 / 128)(pixels)
    np.testing.assert_allclose(folded, make(prepare, "rnet")((pixels - 127.5) / 128), atol=2e-5)


def test_a_sure_face_is_rounded_like_a_softmax(prepare: Callable[..., Any]) -> None:
    """Two logits that a float32 softmax cannot tell apart give equal probabilities."""
    graph = GraphBuilder()
    logit = graph.input("logit", np.float32, ["N"])
    run = prepare(graph.model({"p": (probability(graph, logit), np.float32, ["N"])}, doc=""))
    logits = np.array([-40, 0, 2, 17.5, 18, 40], np.float32)
    p = run(logit=logits)["p"]
    np.testing.assert_allclose(p, 1 / (np.exp(-logits.astype(np.float64)) + 1), rtol=3e-7)
    assert p[3] == p[4] == p[5] == 1


@pytest.mark.assets
@pytest.mark.parametrize("net", SIDES)
def test_networks_give_the_golden_outputs(prepare: Callable[..., Any], assets: Path, net: str) -> None:
    """The reference inputs are a formula; the outputs come from the original weights in other hands."""
    golden = json.loads((assets / "golden" / "mtcnn.json").read_text())["io_check"][net]
    run = make(prepare, net)
    for check in golden["checks"]:
        index = np.arange(np.prod(check["input_shape"]), dtype=np.uint64)
        unit = ((index * 2654435761) % 2**32) / 2**32
        output = run((unit * 2 - 1).astype(np.float32).reshape(check["input_shape"]))
        logit = output[:, -1:]
        face = 1 / (1 + np.exp(-logit))
        named = {
            "bbox": output[:, :4],
            "landmarks": output[:, 4:14],
            "prob": np.concatenate([1 - face, face], axis=1),
        }
        for expected in check["outputs"]:
            actual = named[expected["name"]]
            assert list(actual.shape) == expected["shape"]
            first = expected["first8"]
            np.testing.assert_allclose(actual.reshape(-1)[: len(first)], first, atol=1e-5)
            assert actual.mean() == pytest.approx(expected["mean"], abs=1e-5)
            assert np.linalg.norm(actual) == pytest.approx(expected["l2"], rel=1e-5)

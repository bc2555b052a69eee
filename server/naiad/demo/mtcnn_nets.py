"""The three networks of MTCNN as ONNX nodes, arranged to run fast without changing what they compute.

ONNX Runtime's PRelu costs 5 ns an element on a CPU, more than the convolutions around it, so a PReLU of
slope `a` is written `max(z, a*z)`, which holds for a <= 1; a channel of a > 1 is computed negated, for which
the same expression gives the negated result, and the next layer's weights take the sign back. Where a max
pool follows, the pool comes first, on the plain values (four times fewer PReLUs): rising functions commute
with it. Channels of negative slope are V-shaped, so for them the convolution yields `a*z` too, as further
channels: max(pool(z), pool(a*z)) is pool(max(z, a*z)).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from naiad.demo.mtcnn_weights import Layer

if TYPE_CHECKING:
    import numpy.typing as npt

    from naiad.demo.graph import GraphBuilder, Value
    from naiad.demo.mtcnn_weights import NetWeights

    Floats = npt.NDArray[np.float32]

POOLS: dict[str, tuple[int, ...]] = {"pnet": (2, 0, 0), "rnet": (3, 3, 0), "onet": (3, 3, 2, 0)}
"""Kernel of the max pool behind each convolution, 0 for none; strides are 2."""
_VALID_POOLS = {("rnet", 1), ("onet", 1)}
"""The others are Keras' "same", which pads here by one at the end, or by one that no window reaches.

That equals `ceil_mode`, but ONNX Runtime's fast layout knows only padding.
"""
_BLOCK = 16
"""ONNX Runtime pools in its fast layout only whole blocks of channels; it computes whole blocks anyway."""
PIXEL_OFFSET = 127.5
PIXEL_SCALE = 1 / 128
"""The networks see (pixel - 127.5) / 128."""


class _Feature(NamedTuple):
    """A layer's output: entry i is channel `order[i]` of the original network times `sign[i]`."""

    value: Value
    order: npt.NDArray[np.int64]
    sign: Floats


def run_net(
    graph: GraphBuilder,
    name: str,
    weights: NetWeights,
    image: Value,
    *,
    offset: float = 0.0,
    scale: float = 1.0,
) -> Value:
    """Append the network `name` ("pnet", "rnet", "onet").

    Args:
        graph: where the nodes go.
        name: which network.
        weights: its weights.
        image: FP32 [M, 3, h, w].
        offset: what is to be taken from `image` first, and
        scale: what that is to be multiplied with; both are folded into the first convolution.

    Returns:
        P-Net: FP32 [M, 5, h', w']; R-Net [M, 5]; O-Net [M, 15]. The first 4 are the box offsets, then O-Net's
        10 landmark coordinates (5 x, 5 y), the last the probability's logit: softmax over two classes is the
        sigmoid of their difference.
    """
    feature = _Feature(image, np.arange(3), np.full(3, scale, np.float32))
    convolutions = len(POOLS[name])
    first = weights.hidden[0]
    first = replace(first, bias=first.bias - offset * scale * first.weight.sum(axis=(1, 2, 3)))
    for index, layer in enumerate((first, *weights.hidden[1:convolutions])):
        kernel = POOLS[name][index]
        if kernel:
            feature = _pooled(graph, feature, layer, kernel, padded=(name, index) not in _VALID_POOLS)
        else:
            feature = _plain(graph, feature, layer)
    outputs = _heads(weights)
    if name == "pnet":
        taken = _take(feature, outputs)
        return graph.op("Conv", feature.value, taken.weight, taken.bias)
    dense = weights.hidden[convolutions]
    return graph.op("Gemm", *_dense(graph, feature, dense, outputs))


def probability(graph: GraphBuilder, logit: Value) -> Value:
    """The probability of a face, rounded as a softmax over the two classes rounds it.

    Sure faces differ in the last bit or not at all, and which of them counts as the better one decides which
    is suppressed. ONNX Runtime's Sigmoid is off by a few bits there.
    """
    return graph.op("Reciprocal", graph.op("Exp", graph.op("Neg", logit)) + 1.0)


def _heads(weights: NetWeights) -> Layer:
    """All output layers as one, the two class outputs as their difference."""
    dense = weights.heads[0].weight.ndim == 2
    channel_axis = 1 if dense else 0
    *others, classes = weights.heads
    difference = np.diff(classes.weight, axis=channel_axis)
    return Layer(
        np.concatenate([*(head.weight for head in others), difference], axis=channel_axis),
        np.concatenate([*(head.bias for head in others), np.diff(classes.bias)]),
    )


def _take(feature: _Feature, layer: Layer) -> Layer:
    """A convolution's weights rearranged for `feature` as its input."""
    weight = layer.weight[:, feature.order] * feature.sign[:, None, None]
    return replace(layer, weight=weight)


def _plain(graph: GraphBuilder, feature: _Feature, layer: Layer) -> _Feature:
    """Convolution and PReLU."""
    layer, slope, sign = _signed(_take(feature, layer))
    z = graph.op("Conv", feature.value, layer.weight, layer.bias)
    return _Feature(graph.op("Max", z, z * slope[:, None, None]), np.arange(slope.size), sign)


def _signed(layer: Layer, axis: int = 0) -> tuple[Layer, Floats, Floats]:
    """The layer with its channels of slope > 1 negated; the slopes; +1 or -1 for each channel."""
    slope = layer.slope
    assert slope is not None
    sign = np.where(slope > 1, -1, 1).astype(np.float32)
    shape = [1] * layer.weight.ndim
    shape[axis] = -1
    return replace(layer, weight=layer.weight * sign.reshape(shape), bias=layer.bias * sign), slope, sign


def _pooled(graph: GraphBuilder, feature: _Feature, layer: Layer, kernel: int, *, padded: bool) -> _Feature:
    """Convolution, PReLU and max pool, the pool before the PReLU."""
    layer = _take(feature, layer)
    slope = layer.slope
    assert slope is not None
    rising, falling = np.flatnonzero(slope >= 0), np.flatnonzero(slope < 0)
    steep = slope[falling]
    weight = np.concatenate([
        layer.weight[rising], layer.weight[falling], layer.weight[falling] * steep[:, None, None, None],
    ])  # fmt: skip
    bias = np.concatenate([layer.bias[rising], layer.bias[falling], layer.bias[falling] * steep])
    spare = -bias.size % _BLOCK
    weight, bias = np.pad(weight, ((0, spare), (0, 0), (0, 0), (0, 0))), np.pad(bias, (0, spare))
    z = graph.op("Conv", feature.value, weight, bias)
    pad = int(padded)
    z = graph.op("MaxPool", z, kernel_shape=[kernel, kernel], strides=[2, 2], pads=[0, 0, pad, pad])
    sizes = [rising.size, falling.size, falling.size]
    plain, v, scaled_v = z.split([*sizes, spare] if spare else sizes, axis=1)[:3]
    gentle = slope[rising][:, None, None]
    sign = np.where(gentle > 1, -1, 1).astype(np.float32)
    other = plain * (gentle * sign)
    if (sign < 0).any():
        plain = plain * sign
    value = graph.concat(graph.op("Max", plain, other), graph.op("Max", v, scaled_v), axis=1)
    signs = np.concatenate([sign.reshape(-1), np.ones(falling.size, np.float32)])
    return _Feature(value, np.concatenate([rising, falling]), signs)


def _dense(
    graph: GraphBuilder, feature: _Feature, layer: Layer, outputs: Layer
) -> tuple[Value, Floats, Floats]:
    """Flatten, dense, PReLU; gives the operands of the output layer's Gemm."""
    wide = layer.weight.reshape(feature.order.size, -1, layer.weight.shape[1])
    wide = wide[feature.order] * feature.sign[:, None, None]
    signed, slope, sign = _signed(replace(layer, weight=wide.reshape(layer.weight.shape)), axis=1)
    z = graph.op("Gemm", graph.op("Flatten", feature.value), signed.weight, signed.bias)
    return graph.op("Max", z, z * slope), outputs.weight * sign[:, None], outputs.bias

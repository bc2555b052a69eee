"""Embedders of different weights: what each makes of a crop is its mean colour, in an order of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, helper
from support.onnx_models import info, model

if TYPE_CHECKING:
    import onnx

RGB = (0, 1, 2)
BGR = (2, 1, 0)
GBR = (1, 2, 0)


def channel_embedder(order: tuple[int, ...] = RGB) -> onnx.ModelProto:
    """The mean red, green and blue of a crop, in that order, 0..255: alike in everything but its weights."""
    return model(
        [
            helper.make_node("Cast", ["crop"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
            helper.make_node("Gather", ["mean", "order"], ["embedding"], axis=1),
        ],
        [info("crop", TensorProto.UINT8, ["N", 112, 112, 3])],
        [info("embedding", TensorProto.FLOAT, ["N", len(order)])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("order", TensorProto.INT64, [len(order)], order),
        ],
    )

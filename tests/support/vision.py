"""Input configs for tests of the vision layer."""

from __future__ import annotations

from typing import Any

from naiad.config.vision_config import ColorOrder, InputConfig, Layout, Resize


def make_input(**changes: Any) -> InputConfig:
    """A letterbox of 64 x 48 in BGR planes of plain values, but for `changes` (fields of InputConfig)."""
    settings: dict[str, Any] = {
        "tensor": "input",
        "resize": Resize.LETTERBOX,
        "width": 64,
        "height": 48,
        "color": ColorOrder.BGR,
        "layout": Layout.NCHW,
        "mean": (0.0, 0.0, 0.0),
        "scale": (1.0, 1.0, 1.0),
    }
    return InputConfig(**(settings | changes))

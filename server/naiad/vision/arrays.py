"""Names for the arrays that this layer passes around. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""uint8 `[height, width, 3]` in BGR order unless said otherwise."""

Floats = npt.NDArray[np.float32]
"""float32 of any shape."""

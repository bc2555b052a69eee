"""The picture of a run: one bar a row, its length the requests/s as a share of the case's largest."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import cv2
import numpy as np
from bench.results import BARE, OURS

if TYPE_CHECKING:
    from pathlib import Path

    from bench.results import Row

_ROW, _HEAD, _MARGIN = 26, 40, 20
_LABEL, _BAR, _FIGURES = 280, 460, 330
_INK = (40, 40, 40)  # BGR, like all colours here
_BARE, _SERVED, _PEER = (190, 190, 190), (170, 110, 40), (90, 130, 190)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_plot(path: Path, rows: list[Row], caption: str) -> None:
    """Write a PNG: bare ONNX Runtime grey, our server blue, others brown. Failed rows are left out."""
    drawn = [row for row in rows if row.requests_per_s is not None]
    cases = [(name, list(group)) for name, group in groupby(drawn, key=lambda row: row.title)]
    height = 2 * _MARGIN + _HEAD + sum(_HEAD + _ROW * len(group) for _, group in cases)
    canvas = np.full((height, 2 * _MARGIN + _LABEL + _BAR + _FIGURES, 3), 255, np.uint8)
    y = _MARGIN + _ROW
    write_text(canvas, caption, _MARGIN, y, 0.5)
    for name, group in cases:
        y += _HEAD
        write_text(canvas, name, _MARGIN, y, 0.6)
        largest = max(row.requests_per_s or 0.0 for row in group)
        for row in group:
            y += _ROW
            _draw_row(canvas, row, y, (row.requests_per_s or 0.0) / largest)
    cv2.imwrite(str(path), canvas)


def _draw_row(canvas: np.ndarray, row: Row, y: int, share: float) -> None:
    left = _MARGIN + _LABEL
    right = left + max(2, round(_BAR * share))
    colour = _BARE if row.target == BARE else _SERVED if row.target == OURS else _PEER
    write_text(canvas, f"{row.target}, {row.load}", _MARGIN + 16, y, 0.45)
    cv2.rectangle(canvas, (left, y - 14), (right, y + 3), colour, cv2.FILLED)
    figures = f"{row.requests_per_s:,.0f}/s  p99 {row.p99_ms:,.2f} ms"
    if row.ratio is not None:
        figures += f"  {row.ratio:.2f} of bare"
    write_text(canvas, figures, right + 8, y, 0.4)


def write_text(canvas: np.ndarray, text: str, x: int, y: int, size: float) -> None:
    """Write a line of text onto a picture, its left lower corner at (x, y)."""
    cv2.putText(canvas, text, (x, y), _FONT, size, _INK, 1, cv2.LINE_AA)

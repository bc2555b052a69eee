"""Puts the demo's numbers into tables that somebody new can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.demo.figures import percentile
from naiad.demo.repository import COARSE, FINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.demo.figures import BatchFigures, PhotoFigures, StreamFigures
    from naiad.demo.screen import Screen

MIN_FACE_SIZES = {"1": COARSE.min_face_size, "2": FINE.min_face_size}
"""The smallest face that each version of the demo's detector looks for, in pixels of its 640x480 input."""
_PART_MEANINGS = {
    "decode": "from JPEG to pixels",
    "preprocess": "into the model's input",
    "queue": "waiting for a batch to start",
    "infer": "running the model on the batch",
    "postprocess": "from raw outputs to faces",
    "total": "all of that on the server",
}


def show_photo(screen: Screen, findings: Sequence[PhotoFigures]) -> None:
    """The faces of the photo, a row each, version by version."""
    columns = ("version", "looks for faces", ">score", ">x1", ">y1", ">x2", ">y2", ">server ms")
    rows = [
        (
            finding.version,
            f"from {MIN_FACE_SIZES.get(finding.version, '?')} pixels",
            f"{face.score:.4f}",
            *(f"{edge:.0f}" for edge in face.box),
            f"{finding.server_ms:.1f}",
        )
        for finding in findings
        for face in finding.faces
    ]
    calls = findings[0].calls if findings else 0
    screen.table(f"Faces in the photo (box in pixels; server ms: median of {calls} calls)", columns, rows)


def show_stream(screen: Screen, stream: StreamFigures, batches: BatchFigures, in_flight: int) -> None:
    """Frames a second, what a frame took, and the batches."""
    rows = [_row("client", "a frame sent until its faces are back", stream.client_ms)]
    rows += [_row(f"  {part}", _PART_MEANINGS[part], stream.server_ms[part]) for part in _PART_MEANINGS]
    screen.table(
        f"Stream: {stream.frames} frames by version {stream.version}, up to {in_flight} at a time: "
        f"{stream.frames_per_second:.1f} frames/s",
        ("milliseconds", "what it is", ">p50", ">p99"),
        rows,
    )
    screen.line()
    screen.line(
        f"Batches: {batches.pictures} frames ran in {sum(batches.runs.values())} batches, "
        f"{batches.average:.1f} on average, {batches.largest} in the largest."
    )
    screen.line("p50: half of the frames took no longer; p99: 99 of 100 took no longer.")


def _row(name: str, meaning: str, values: Sequence[float]) -> tuple[str, str, str, str]:
    return name, meaning, f"{percentile(values, 50):.1f}", f"{percentile(values, 99):.1f}"

"""Puts the demo's numbers into tables that somebody new can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.demo.figures import percentile
from naiad.demo.repository import COARSE, FINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.demo.figures import PhotoFigures, StreamFigures
    from naiad.demo.screen import Screen

MIN_FACE_SIZES = {"1": COARSE.min_face_size, "2": FINE.min_face_size}
"""The smallest face that each version of the demo's detector looks for, in pixels of its 640x480 input."""
_PART_MEANINGS = {
    "total": "of these on the server",
    "decode": "  decode the JPEG",
    "preprocess": "  fit it into the model's input",
    "queue": "  wait for a batch to start",
    "infer": "  run the model on the batch",
    "postprocess": "  turn raw outputs into faces",
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


def show_streams(screen: Screen, streams: Sequence[StreamFigures], in_flight: int) -> None:
    """What a frame took, how many there were a second, and their batches; a column a version."""
    rows = [
        ("frames a second", *(f"{stream.frames_per_second:.1f}" for stream in streams)),
        ("frames in which a face was found", *(f"{each.with_face} of {each.frames}" for each in streams)),
        (
            "frames in a batch: average / largest",
            *(f"{each.batches.average:.1f} / {each.batches.largest}" for each in streams),
        ),
        ("ms from sending a frame to its faces", *(_pair(stream.client_ms) for stream in streams)),
    ]
    for part, meaning in _PART_MEANINGS.items():
        rows.append((f"  {meaning}", *(_pair(stream.server_ms[part]) for stream in streams)))
    columns = ["", *(f">version {stream.version}" for stream in streams)]
    screen.table(f"Video of {streams[0].frames} frames, up to {in_flight} under way at once", columns, rows)
    screen.line("ms: p50 / p99. Half of the frames took no longer than p50, 99 of 100 no longer than p99.")


def _pair(values: Sequence[float]) -> str:
    return f"{percentile(values, 50):.1f} / {percentile(values, 99):.1f}"

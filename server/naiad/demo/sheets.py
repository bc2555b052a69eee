"""The demo's two pictures: the photo version beside version, and frames of the video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.demo import picture

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.demo.figures import PhotoFigures
    from naiad.demo.picture import Picture
    from naiad_client import DetectResult

SHEET_COLUMNS = 4
_SHEET_FRAMES = 6
_COLORS = {"1": picture.WARM, "2": picture.ACCENT}


def sheet_frames(count: int) -> set[int]:
    """The frames of the contact sheet, evenly spread over `count`."""
    cells = min(count, _SHEET_FRAMES)
    return {index * count // cells for index in range(cells)}


def draw_photo(pixels: Picture, findings: Sequence[PhotoFigures]) -> Picture:
    """What each version found, side by side."""
    panels = []
    for finding in findings:
        color = _COLORS[finding.version]
        drawn = picture.with_faces(pixels, finding.faces, 720, color)
        note = f"{counted(len(finding.faces), 'face')}, {finding.server_ms:.0f} ms"
        panels.append(picture.captioned(drawn, f"{finding.model} version {finding.version}", note, color))
    return picture.side_by_side(panels, len(panels))


def draw_frames(frames: Sequence[bytes], found: Mapping[int, DetectResult], version: str) -> list[Picture]:
    """Frames, by their place in the stream, with what a version found in them."""
    cells = []
    for index, result in sorted(found.items()):
        drawn = picture.with_faces(picture.decode(frames[index]), result.faces, 400, _COLORS[version])
        note = counted(len(result.faces), "face")
        cells.append(picture.captioned(drawn, f"frame {index}, version {version}", note, _COLORS[version]))
    return cells


def counted(number: int, noun: str) -> str:
    """`no face`, `1 face`, `2 faces`."""
    return f"{number or 'no'} {noun}" if number < 2 else f"{number} {noun}s"

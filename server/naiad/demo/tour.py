"""The demo's calls against a server, each judged by what it should give."""

from __future__ import annotations

import time
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InternalError
from naiad.demo import picture
from naiad.demo.figures import BatchFigures, PhotoFigures, StreamFigures
from naiad.demo.sheets import SHEET_COLUMNS, counted, draw_frames, draw_photo, sheet_frames

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from naiad.demo.screen import Screen
    from naiad.demo.triton_calls import TritonCalls
    from naiad_client import Client, DetectResult

DETECTOR, EMBEDDER = "face_detector", "face_embedder"
VERSIONS = (1, 2)
IN_FLIGHT = 8
"""Frames of the stream that are under way at once."""
_PHOTO_CALLS = 5
_LEAST_WITH_FACE = {1: 0.25, 2: 0.9}
"""The face is in every frame, at times too small for version 1; a smaller share: something is broken."""
_SAME_BOX_PIXELS = 1.0
"""How far apart the edges may lie that two ways to the same model find."""
_LENGTH_TOLERANCE = 1e-3


class Tour:
    """The calls of the demo, each judged by what it should give."""

    def __init__(self, client: Client, triton: TritonCalls, screen: Screen, output: Path) -> None:
        self._client = client
        self._triton = triton
        self._screen = screen
        self._output = output

    def photo(self, jpeg: bytes) -> list[PhotoFigures]:
        """Find the photo's face with each version, embed it, draw it.

        Raises:
            InternalError: a version finds no face, or the embedding is none.
        """
        (self._output / "photo.jpg").write_bytes(jpeg)
        findings = []
        for version in VERSIONS:
            results = [self._client.detect(jpeg, version=version) for _ in range(_PHOTO_CALLS)]
            findings.append(checked_photo(results, version))
        found = ", ".join(
            f"version {each.version} finds {counted(len(each.faces), 'face')}" for each in findings
        )
        self._screen.step("Photo", f"naiad_client sends a JPEG: {found}")
        drawing = draw_photo(picture.decode(jpeg), findings)
        picture.save(self._output / "astronaut.jpg", drawing)
        self._screen.step("", f"drawn side by side: {self._output / 'astronaut.jpg'}")
        self._embed(jpeg, findings[-1])
        return findings

    def _embed(self, jpeg: bytes, finding: PhotoFigures) -> None:
        (embedding,) = self._client.embed(jpeg, finding.faces[0]).embeddings
        length = float(np.linalg.norm(embedding))
        if not abs(length - 1) < _LENGTH_TOLERANCE:
            raise InternalError(f"the embedding's length is {length}, 1 was due")
        self._screen.step(
            "Embedding",
            f"the face, aligned by its landmarks, becomes {embedding.size} numbers that describe edges",
        )
        self._screen.step("", "(they show the way through the server; they do not recognise people)")

    def streams(self, frames: list[bytes]) -> list[StreamFigures]:
        """Send the video through a stream to each version, and draw some of its frames.

        Raises:
            InternalError: frames are lost or fail, or faces are not found.
        """
        wanted = sheet_frames(len(frames))
        streams, cells = [], []
        for version in VERSIONS:
            figures, found = self._stream(frames, version, wanted)
            streams.append(figures)
            cells.append(draw_frames(frames, found, str(version)))
        path = self._output / "stream.jpg"
        paired = [cell for pair in zip(*cells, strict=True) for cell in pair]
        picture.save(path, picture.side_by_side(paired, SHEET_COLUMNS))
        self._screen.step("", f"{counted(len(wanted), 'frame')} of it drawn, version beside version: {path}")
        return streams

    def _stream(
        self, frames: list[bytes], version: int, wanted: set[int]
    ) -> tuple[StreamFigures, dict[int, DetectResult]]:
        """One stream, several frames of it at a time: its figures, and the results of the `wanted` frames."""
        before = self._triton.batch_runs(DETECTOR, str(version))
        figures, found = StreamFigures(str(version)), {}
        started = time.monotonic()
        with self._screen.counting("Video") as count:
            for frame in self._client.stream_detect(frames, version=version, max_in_flight=IN_FLIGHT):
                figures.add(frame, now_us=time.time_ns() // 1000, seconds=time.monotonic() - started)
                count(
                    figures.frames,
                    len(frames),
                    f"version {version}: {figures.frames_per_second:.1f} frames/s",
                )
                if frame.frame_id in wanted:
                    found[frame.frame_id] = frame.unwrap()
        check_stream(figures, len(frames), _LEAST_WITH_FACE[version])
        figures.batches = BatchFigures.between(before, self._triton.batch_runs(DETECTOR, str(version)))
        self._screen.step(
            "Video",
            f"version {version} finds a face in {figures.with_face} of {figures.frames} frames "
            f"at {figures.frames_per_second:.1f} frames/s",
        )
        return figures, found

    def triton_client(self, jpeg: bytes, findings: Sequence[PhotoFigures]) -> None:
        """Call the same detector, and add_sub, with NVIDIA's client.

        Raises:
            InternalError: it gets another answer than naiad_client, or a wrong sum.
        """
        pixels = picture.decode(jpeg)
        newest, first = (self._triton.detect(pixels, DETECTOR, version) for version in ("", "1"))
        for raw in (newest, first):
            check_same(raw.box.tolist(), raw.version, findings)
        left = np.arange(16, dtype=np.float32)[np.newaxis]
        total, difference = self._triton.add_sub(left, np.ones_like(left))
        if not (np.array_equal(total, left + 1) and np.array_equal(difference, left - 1)):
            raise InternalError(f"add_sub answered {total} and {difference} for {left} and 1")
        release = installed_version("tritonclient")
        self._screen.step(
            "Triton client",
            f"NVIDIA's tritonclient {release} sends raw tensors to the same server and gets the same faces:",
        )
        self._screen.step(
            "",
            f"version {newest.version} answers, or version {first.version} if asked for. add_sub adds, too",
        )


def checked_photo(results: Sequence[DetectResult], version: int) -> PhotoFigures:
    """The figures of calls to one version.

    Raises:
        InternalError: another version answered, or there is no face.
    """
    figures = PhotoFigures.of(results)
    if figures.version != str(version):
        raise InternalError(f"version {version} of {DETECTOR} was asked, version {figures.version} answered")
    if not figures.faces:
        raise InternalError(f"{DETECTOR} version {version} finds no face in the photo, one was due")
    return figures


def check_stream(figures: StreamFigures, sent: int, least_with_face: float) -> None:
    """Judge a stream of `sent` frames; `least_with_face` is a share of them, 0 to 1.

    Raises:
        InternalError: frames are missing, or too few have a face.
    """
    if figures.frames != sent:
        raise InternalError(f"{sent} frames were sent, {figures.frames} came back")
    if figures.with_face < least_with_face * sent:
        raise InternalError(
            f"{DETECTOR} version {figures.version} found a face in {figures.with_face} of {sent} frames, "
            f"at least {least_with_face:.0%} were due"
        )


def check_same(box: Sequence[float], version: str, findings: Sequence[PhotoFigures]) -> None:
    """Compare what the raw tensors say with what the vision service said.

    Raises:
        InternalError: that version was never asked before, or its best box was another.
    """
    known = next((finding for finding in findings if finding.version == version), None)
    if known is None:
        raise InternalError(
            f"tritonclient was answered by version {version} of {DETECTOR}, which is none of the demo's"
        )
    expected = known.faces[0].box
    if max(abs(one - other) for one, other in zip(box, expected, strict=True)) > _SAME_BOX_PIXELS:
        raise InternalError(
            f"{DETECTOR} version {version}: tritonclient gets the box {[round(edge, 1) for edge in box]}, "
            f"naiad_client {[round(edge, 1) for edge in expected]}"
        )

"""Finds the faces in each frame of a video (needs opencv-python-headless)."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import cv2

from naiad_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


def frames_of(video: str) -> Iterator[Any]:
    """The frames of a video file or stream, uint8 [H,W,3] BGR."""
    capture = cv2.VideoCapture(video)
    while (read := capture.read())[0]:
        yield read[1]


def main(argv: list[str] | None = None) -> int:
    """Print one line a frame."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", help="a file, or anything else that OpenCV opens")
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--model", default="", help="the detector, if there are several")
    arguments = parser.parse_args(argv)
    with Client(arguments.address, detector=arguments.model, color="bgr") as client:
        for frame in client.stream_detect(frames_of(arguments.video)):
            ms = (time.time_ns() // 1000 - frame.capture_time_us) / 1000
            found = frame.error or f"{(faces := len(frame.unwrap().faces))} face{'s' * (faces != 1)}"
            print(f"frame {frame.frame_id}: {found} after {ms:.1f} ms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Draws a video's faces, numbered from frame to frame, into another .avi (needs opencv-python-headless)."""

from __future__ import annotations

import argparse
from collections import deque
from typing import Any

import cv2

from naiad_client import Client


def main(argv: list[str] | None = None) -> int:
    """Write the video: `python annotate_video.py in.mp4 out.avi`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs=2, metavar="VIDEO", help="what to read, what to write")
    parser.add_argument("--address", default="localhost:8001")
    arguments = parser.parse_args(argv)
    capture, waiting = cv2.VideoCapture(arguments.files[0]), deque[Any]()
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    writer = cv2.VideoWriter(arguments.files[1], cv2.VideoWriter.fourcc(*"MJPG"), 25, size)

    def frames() -> Any:
        while (read := capture.read())[0]:
            waiting.append(read[1])
            yield read[1]

    with Client(arguments.address, color="bgr") as client:
        for result in client.stream_detect(frames(), tracks=True):
            for face in result.unwrap().faces:
                left, top, right, bottom = map(round, face.box)
                cv2.rectangle(waiting[0], (left, top), (right, bottom), (190, 220, 60), 2)
                cv2.putText(waiting[0], f"#{face.track_id}", (left, top - 4), 0, 0.6, (190, 220, 60))
            writer.write(waiting.popleft())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

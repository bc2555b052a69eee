"""Counts the faces before a camera: the newest frame, never an old one (needs opencv-python-headless)."""

from __future__ import annotations

import argparse

import cv2

from naiad_client import Client


def main(argv: list[str] | None = None) -> int:
    """Print one line a result, until the camera ends or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camera", type=int, default=0)
    parser.add_argument("--address", default="localhost:8001")
    arguments = parser.parse_args(argv)
    capture = cv2.VideoCapture(arguments.camera)
    with (
        Client(arguments.address, color="bgr", encode="jpeg") as client,
        client.open_stream("detect", policy="latest", max_age_ms=200, tracks=True) as stream,
    ):
        while (read := capture.read())[0]:
            stream.try_send(read[1])  # encoded only if the server has room for it
            for result in stream.ready():
                faces = [face.track_id for face in result.unwrap().faces]
                print(f"frame {result.frame_id}: {len(faces)} face(s) {faces}")
        stream.finish()
        for result in stream:
            print(f"frame {result.frame_id}: {len(result.unwrap().faces)} face(s)")
    print(stream.account)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Finds faces in image files with NVIDIA's client, unchanged (needs tritonclient[grpc]), in one call."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton


def main(argv: list[str] | None = None) -> int:
    """Print one line a face: its picture, score and box."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", help="JPEG, PNG, WebP or BMP files")
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--model", default="face_detector", help='its config says naiad.accepts: "encoded"')
    parser.add_argument("--input", default="image", help="the name of its input")
    parser.add_argument("--threshold", type=float, default=0.7, help="leave out faces below this score")
    arguments = parser.parse_args(argv)
    files = np.array([Path(photo).read_bytes() for photo in arguments.photos], dtype=np.object_)
    pictures = triton.InferInput(arguments.input, list(files.shape), "BYTES")
    pictures.set_data_from_numpy(files)
    with triton.InferenceServerClient(arguments.address) as client:
        result = client.infer(
            arguments.model, [pictures], parameters={"naiad_score_threshold": arguments.threshold}
        )
    boxes, scores = result.as_numpy("naiad_boxes"), result.as_numpy("naiad_scores")
    for number, score, box in zip(result.as_numpy("naiad_image"), scores, boxes, strict=True):
        print(f"{arguments.photos[number]}: {score:.3f} ", *(f"{side:.0f}" for side in box))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

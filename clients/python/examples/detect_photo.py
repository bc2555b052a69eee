"""Finds the faces of one photo: `python detect_photo.py photo.jpg --model yunet`."""

from __future__ import annotations

import argparse
import sys

from naiad_client import Client, NaiadError


def main(argv: list[str] | None = None) -> int:
    """Print one line a face; 1 if the call failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", help="a JPEG, PNG, WebP or BMP file")
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--model", default="", help="the detector; may be left out if there is just one")
    parser.add_argument("--mode", default="naiad", choices=("naiad", "triton", "auto"), help="who answers")
    arguments = parser.parse_args(argv)
    with Client(arguments.address, detector=arguments.model, mode=arguments.mode) as client:
        try:
            client.wait_until_ready(timeout=30)
            result = client.detect(arguments.photo)
        except (NaiadError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    found = f"{len(result.faces)} face{'s' * (len(result.faces) != 1)}"
    print(f"{found} by {result.model}/{result.version} in {result.timing.total_us} us")
    for face in result.faces:
        print(f"{face.score:.3f}  " + "  ".join(f"{edge:.0f}" for edge in face.box))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

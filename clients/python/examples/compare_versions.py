"""Asks several versions of a detector about one photo: `python compare_versions.py photo.jpg 1 2`."""

from __future__ import annotations

import argparse

from naiad_client import Client


def main(argv: list[str] | None = None) -> int:
    """Print one line a version, and one for the version that the server chooses by itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo")
    parser.add_argument("versions", nargs="+", type=int)
    parser.add_argument("--address", default="localhost:8001")
    arguments = parser.parse_args(argv)
    with Client(arguments.address) as client:
        for version in [*arguments.versions, None]:
            result = client.detect(arguments.photo, version=version)
            best = max((face.score for face in result.faces), default=0.0)
            asked = "none" if version is None else version
            print(
                f"asked {asked}, answered {result.model}/{result.version}: {len(result.faces)} face(s), "
                f"best {best:.3f}, {result.timing.infer_us / 1000:.1f} ms"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

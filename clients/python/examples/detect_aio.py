"""Finds the faces of many photos at once, so that the server can batch them (asyncio)."""

from __future__ import annotations

import argparse
import asyncio

from naiad_client import NaiadError, aio


async def report(client: aio.Client, photo: str) -> bool:
    """Print one line for a photo; True if it worked."""
    try:
        result = await client.detect(photo)
    except (NaiadError, OSError) as error:
        print(f"{photo}: {error}")
        return False
    found = f"{len(result.faces)} face{'s' * (len(result.faces) != 1)}"
    print(f"{photo}: {found}, in a batch of {result.timing.batch_size}")
    return True


async def detect_all(address: str, model: str, photos: list[str]) -> bool:
    """Send every photo at the same time; True if all worked."""
    async with aio.Client(address, detector=model) as client:
        return all(await asyncio.gather(*(report(client, photo) for photo in photos)))


def main(argv: list[str] | None = None) -> int:
    """Print one line a photo; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", help="JPEG, PNG, WebP or BMP files")
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--model", default="", help="the detector; may be left out if there is just one")
    arguments = parser.parse_args(argv)
    return 0 if asyncio.run(detect_all(arguments.address, arguments.model, arguments.photos)) else 1


if __name__ == "__main__":
    raise SystemExit(main())

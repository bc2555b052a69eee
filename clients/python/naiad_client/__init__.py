"""Python clients of Naiad: `Client`, and `aio.Client` for asyncio.

with Client("localhost:8001") as client:
    for face in client.detect("photo.jpg").faces:
        print(face.score, face.box)
"""

from __future__ import annotations

from naiad_client import aio
from naiad_client.client import Client
from naiad_client.errors import (
    AlreadyExistsError,
    CancelledError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NaiadError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    UnsupportedError,
)
from naiad_client.results import Box, DetectResult, EmbedResult, Face, FrameResult, Timing

__all__ = [
    "AlreadyExistsError",
    "Box",
    "CancelledError",
    "Client",
    "DeadlineExceededError",
    "DetectResult",
    "EmbedResult",
    "Face",
    "FrameResult",
    "InternalError",
    "InvalidArgumentError",
    "NaiadError",
    "NotFoundError",
    "ResourceExhaustedError",
    "Timing",
    "UnavailableError",
    "UnsupportedError",
    "aio",
]

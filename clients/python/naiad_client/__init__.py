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
from naiad_client.images import RawFrame
from naiad_client.options import Crop, FaceIn, Finder
from naiad_client.results import (
    AnalyzeResult,
    Box,
    CompareResult,
    DetectResult,
    Embedding,
    EmbedResult,
    Face,
    FrameResult,
    FrameTimes,
    StreamAccount,
    Timing,
    VersionEmbeddings,
)
from naiad_client.session import StreamSession
from naiad_client.similarity import EmbeddingSpaceError, similarity

__all__ = [
    "AlreadyExistsError",
    "AnalyzeResult",
    "Box",
    "CancelledError",
    "Client",
    "CompareResult",
    "Crop",
    "DeadlineExceededError",
    "DetectResult",
    "EmbedResult",
    "Embedding",
    "EmbeddingSpaceError",
    "Face",
    "FaceIn",
    "Finder",
    "FrameResult",
    "FrameTimes",
    "InternalError",
    "InvalidArgumentError",
    "NaiadError",
    "NotFoundError",
    "RawFrame",
    "ResourceExhaustedError",
    "StreamAccount",
    "StreamSession",
    "Timing",
    "UnavailableError",
    "UnsupportedError",
    "VersionEmbeddings",
    "aio",
    "similarity",
]

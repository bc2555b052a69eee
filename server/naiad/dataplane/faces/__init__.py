"""Faces of pictures: detect, embed, analyze, compare. `FacePlane` is the one door."""

from naiad.dataplane.faces.answers import (
    AnalyzeAnswer,
    CompareAnswer,
    DetectAnswer,
    EmbedAnswer,
    FoundFace,
    OtherVectors,
)
from naiad.dataplane.faces.compare import ComparedSide
from naiad.dataplane.faces.images import EncodedImage, ImageSource, RawPixels
from naiad.dataplane.faces.models import Finder, ModelChoice
from naiad.dataplane.faces.plane import FacePlane
from naiad.dataplane.faces.times import StageTimes

__all__ = [
    "AnalyzeAnswer",
    "CompareAnswer",
    "ComparedSide",
    "DetectAnswer",
    "EmbedAnswer",
    "EncodedImage",
    "FacePlane",
    "Finder",
    "FoundFace",
    "ImageSource",
    "ModelChoice",
    "OtherVectors",
    "RawPixels",
    "StageTimes",
]

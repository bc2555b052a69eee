"""The one door below the services: inference on tensors, and faces on top of it."""

from naiad.dataplane.inference import DataPlane

__all__ = ["DataPlane"]

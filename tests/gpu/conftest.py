"""Every test of this folder needs an NVIDIA GPU and an ONNX Runtime built for it; elsewhere it is skipped."""

from __future__ import annotations

import pytest

from naiad.core.errors import UnavailableError
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.providers import CUDA


@pytest.fixture(scope="session", autouse=True)
def gpu_environment() -> OrtEnvironment:
    """What the installed engine offers, with at least one GPU."""
    try:
        environment = OrtEnvironment.detect()
    except UnavailableError as error:
        pytest.skip(error.message)
    if CUDA not in environment.available:
        pytest.skip("this onnxruntime is built without CUDA (the extra `gpu` brings one that is)")
    if environment.gpu_count < 1:
        pytest.skip("no NVIDIA GPU is visible")
    return environment

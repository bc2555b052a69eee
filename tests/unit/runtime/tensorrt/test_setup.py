"""The cache lies where a user's caches are; a machine without TensorRT has no service, and needs none."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.providers import CPU, CUDA, TENSORRT
from naiad.runtime.tensorrt.builder import EngineBuilder
from naiad.runtime.tensorrt.setup import default_cache_root, open_engine_service

ALL = (TENSORRT, CUDA, CPU)


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"XDG_CACHE_HOME": "/c", "HOME": "/home"}, "/c/naiad/tensorrt"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home"}, "/home/.cache/naiad/tensorrt"),
        ({"HOME": "/home"}, "/home/.cache/naiad/tensorrt"),
        ({"HOME": "/"}, "/var/cache/naiad/tensorrt"),
        ({}, "/var/cache/naiad/tensorrt"),
    ],
)
def test_default_cache_root(environment: dict[str, str], root: str) -> None:
    assert default_cache_root(environment) == Path(root)


@pytest.mark.parametrize(
    "environment",
    [
        OrtEnvironment("1", (CPU,)),
        OrtEnvironment("1", (CUDA, CPU), gpu_count=1),
        OrtEnvironment("1", ALL, gpu_count=0),
    ],
)
def test_without_tensorrt_or_a_gpu_there_is_no_service_and_no_folder(
    environment: OrtEnvironment, tmp_path: Path
) -> None:
    root = tmp_path / "cache"
    assert open_engine_service(environment, EngineBuilder(), root=root, max_bytes=1) is None
    assert not root.exists()


def test_a_cache_that_cannot_be_used_is_one_warning_and_engines_are_built_all_the_same(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    with capture_logs() as log:
        service = open_engine_service(
            OrtEnvironment("1", ALL, gpu_count=1), EngineBuilder(), root=tmp_path / "file", max_bytes=1
        )
    assert service is not None
    [warning] = log
    assert "--tensorrt-cache-directory" in warning["detail"]
    assert warning["who"] == "operator"

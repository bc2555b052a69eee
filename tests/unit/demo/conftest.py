"""Running graphs, and the detector and photo that several tests of the demo share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime
import pytest

from naiad.demo.media import photo
from naiad.demo.mtcnn import MtcnnSettings, build_mtcnn

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    import onnx

    Arrays = dict[str, npt.NDArray[Any]]
    Run = Callable[..., Arrays]
    Prepare = Callable[[onnx.ModelProto], Run]


def _prepare(model: onnx.ModelProto) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Where a graph has thousands of nodes, to plan which of them share memory takes longer than all that is run here.
    options.enable_mem_reuse = False
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]

    def run(**inputs: npt.NDArray[Any]) -> Arrays:
        return dict(zip(names, session.run(names, inputs), strict=True))

    return run


@pytest.fixture(scope="session")
def prepare() -> Prepare:
    """Turns a model into a function from named input arrays to named output arrays."""
    return _prepare


@pytest.fixture(scope="session")
def detector() -> Run:
    """The detector with the package's own settings."""
    return _prepare(build_mtcnn(MtcnnSettings()))


@pytest.fixture(scope="session")
def portrait() -> npt.NDArray[np.uint8]:
    """The demo photo, UINT8 [512, 512, 3] RGB."""
    return photo()

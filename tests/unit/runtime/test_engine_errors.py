"""The engine's texts reach callers without C++ places, under the right error."""

from __future__ import annotations

import pytest

from naiad.core.errors import InternalError
from naiad.runtime.engine_errors import clean_message, open_error, run_error

PREFIX = "[ONNXRuntimeError] : 1 : FAIL : "
BROADCAST = (
    "/onnxruntime_src/onnxruntime/core/providers/cpu/math/element_wise_ops.h:583 "
    "void onnxruntime::BroadcastIterator::Append(ptrdiff_t, ptrdiff_t) "
)
TEMPLATE = "/src/a/b.cc:12 T f(const T&) const [with T = float] "
BARE = "tensorprotoutils.cc:434 ValidateExternalDataPathFromDir "


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (
            f"{PREFIX}Status Message: {BROADCAST}axis was false.\n",
            "onnx runtime error 1: Status Message: axis was false.",
        ),
        (
            f"{PREFIX}Error: {BARE}Absolute path not allowed",
            "onnx runtime error 1: Error: Absolute path not allowed",
        ),
        (
            f"{PREFIX}Exception: {TEMPLATE}it broke (twice)",
            "onnx runtime error 1: Exception: it broke (twice)",
        ),
        ("Got: 3 Expected: 16\n Please fix", "Got: 3 Expected: 16 Please fix"),
        ("file /data/model.onnx is bad", "file /data/model.onnx is bad"),
    ],
)
def test_clean_message(raw: str, clean: str) -> None:
    assert clean_message(raw) == clean


def test_whatever_the_engine_says_of_a_model_is_internal_as_in_triton() -> None:
    error = open_error(RuntimeError("[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from m failed"))
    assert isinstance(error, InternalError)
    assert error.message == "onnx runtime error 10: Load model from m failed"


def test_text_output_that_cannot_be_read_is_the_models_fault_not_the_callers() -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\xff".decode()
    assert isinstance(run_error(caught.value), InternalError)

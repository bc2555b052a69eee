"""The engine's texts reach callers without C++ places, under the right error."""

from __future__ import annotations

import pytest

from naiad.core.errors import InternalError, InvalidArgumentError, UnsupportedError
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
        (f"{PREFIX}Status Message: {BROADCAST}axis was false.\n", "Status Message: axis was false."),
        (f"{PREFIX}Error: {BARE}Absolute path not allowed", "Error: Absolute path not allowed"),
        (f"{PREFIX}Exception: {TEMPLATE}it broke (twice)", "Exception: it broke (twice)"),
        ("Got: 3 Expected: 16\n Please fix", "Got: 3 Expected: 16 Please fix"),
        ("file /data/model.onnx is bad", "file /data/model.onnx is bad"),
    ],
)
def test_clean_message(raw: str, clean: str) -> None:
    assert clean_message(raw) == clean


class NotImplemented(Exception):  # noqa: A001, N818  # the engine's own name for it
    """Stands for the engine's class, which is told by its name."""


def test_a_missing_operator_is_unsupported_and_any_other_refusal_the_files_fault() -> None:
    assert isinstance(open_error(NotImplemented("no kernel for Foo(9)")), UnsupportedError)
    assert isinstance(open_error(RuntimeError("bad graph")), InvalidArgumentError)


def test_text_output_that_cannot_be_read_is_the_models_fault_not_the_callers() -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\xff".decode()
    assert isinstance(run_error(caught.value), InternalError)

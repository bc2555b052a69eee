"""The narrow waist to an engine: what ONNX Runtime, a remote server or a test's fake implements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Array, Tensors, TensorSpec


class Session(Protocol):
    """A loaded graph that can be run.

    `run` is called from instance threads and may be called from several at once; the other methods
    are called by the owner that created the session. After `close` nothing may be called.
    """

    def inputs(self) -> Sequence[TensorSpec]:
        """The graph's inputs, in graph order, full shapes."""
        ...

    def outputs(self) -> Sequence[TensorSpec]:
        """The graph's outputs, in graph order, full shapes."""
        ...

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph once and return the named outputs.

        Args:
            inputs: every required input by name. BYTES as object arrays of `bytes`, BF16 as uint16 bits.
            outputs: the names to compute.

        Raises:
            InvalidArgumentError: the engine refused the inputs (for example text that is not UTF-8).
            InternalError: the engine failed while running.
        """
        ...

    def close(self) -> None:
        """Free what the session holds. Safe to call twice."""
        ...

"""The narrow waist to an engine: what ONNX Runtime, a remote server or a test's fake implements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

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


@runtime_checkable
class TerminableSession(Session, Protocol):
    """What one instance runs, where the engine can end a run before its time.

    `terminate` may be called from another thread than `run`, `rearm` only while nothing runs.
    """

    def terminate(self) -> None:
        """Let the run at work, or the next one, end as soon as the engine looks, with CancelledError."""
        ...

    def rearm(self) -> None:
        """Let runs go to their end again."""
        ...


@runtime_checkable
class InstanceSessions(Protocol):
    """A session whose instances can each end their own run, though they share the graph."""

    def for_instance(self) -> TerminableSession:
        """What one instance runs. It lives no longer than the session, which stays its owner's to close."""
        ...


@runtime_checkable
class BatchSlots(Protocol):
    """A session that has a place for its inputs and runs a few batch sizes only. Of one instance's thread.

    What lies in a place already is not copied once more when it runs.
    """

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes that ever run, ascending; empty where batches run at the size they have."""
        ...

    def slot(
        self, name: str, rows: int, row_shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> Array | None:
        """The place of an input of the next batch, `[rows, *row_shape]`; None if it has none for such.

        It is valid until the next `run` is over. The rows may have another shape of as many elements than
        the graph's.
        """
        ...

    def bucket_for(self, rows: int) -> int:
        """The batch size that the last batch, of `rows`, ran at; the rows between were padding."""
        ...

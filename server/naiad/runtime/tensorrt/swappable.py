"""A session whose engine can be exchanged between two runs, while it serves."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError
from naiad.runtime.session import BatchSlots, InstanceSessions, Session, TerminableSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from naiad.core.tensors import Array, Tensors, TensorSpec
    from naiad.runtime.tensorrt.shapes import ShapeRange


@dataclass(slots=True, eq=False)
class _Held:
    """A session, what the instance runs of it, and how many uses of it are at work."""

    session: Session
    runner: Session
    uses: int = 0


class SwappableSession:
    """What one instance runs: one session, and from a swap on another one.

    A run, and all that belongs to it, goes to one session from its beginning to its end. The old session is
    disposed of when its last use has ended. `swap` may be called from any thread.
    """

    def __init__(
        self,
        session: Session,
        *,
        dispose: Callable[[Session], None],
        declared: Mapping[str, ShapeRange] | None = None,
        batched: bool = True,
    ) -> None:
        """Serve a session.

        Args:
            session: what runs until a swap; closed with this, or disposed of after the swap.
            dispose: closes a session that is not needed any more, and should take no time of the caller's.
            declared: the shapes that an input may have, without the batch dimension.
            batched: whether shapes start with a batch dimension.
        """
        self._dispose = dispose
        self._declared = dict(declared or {})
        self._skip = int(batched)
        self._quiet = threading.Condition()
        self._serving = _held(session)
        self._alive = [self._serving]
        self._gathering: _Held | None = None
        self._terminated = False

    def inputs(self) -> Sequence[TensorSpec]:
        """Those of the session that serves."""
        return self._serving.session.inputs()

    def outputs(self) -> Sequence[TensorSpec]:
        """Those of the session that serves."""
        return self._serving.session.outputs()

    @property
    def sizes(self) -> tuple[int, ...]:
        """See `BatchSlots.sizes`."""
        runner = (self._gathering or self._serving).runner
        return runner.sizes if isinstance(runner, BatchSlots) else ()

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Run the session that serves; see `Session.run`.

        Raises:
            InvalidArgumentError: an input's shape is outside of what the config declares.
        """
        if self._declared:
            self._check(inputs)
        held = self._begin()
        try:
            return held.runner.run(inputs, outputs)
        finally:
            self._end(held)

    def terminate(self) -> None:
        """End the run at work, or the next one; see `TerminableSession`."""
        with self._quiet:
            self._terminated = True
            alive = tuple(self._alive)
        for held in alive:
            if isinstance(held.runner, TerminableSession):
                held.runner.terminate()

    def rearm(self) -> None:
        """Let runs go to their end again."""
        with self._quiet:
            self._terminated = False
            alive = tuple(self._alive)
        for held in alive:
            if isinstance(held.runner, TerminableSession):
                held.runner.rearm()

    def slot(
        self, name: str, rows: int, row_shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> Array | None:
        """See `BatchSlots.slot`. The batch that is gathered runs where its places are."""
        with self._quiet:
            if self._gathering is None:
                self._gathering = self._serving
                self._serving.uses += 1
            held = self._gathering
        return held.runner.slot(name, rows, row_shape, dtype) if isinstance(held.runner, BatchSlots) else None

    def bucket_for(self, rows: int) -> int:
        """See `BatchSlots.bucket_for`."""
        runner = (self._gathering or self._serving).runner
        return runner.bucket_for(rows) if isinstance(runner, BatchSlots) else rows

    def swap(self, session: Session) -> None:
        """Let every run that begins from now on go to another session, which is this one's to close."""
        new = _held(session)
        with self._quiet:
            old, self._serving = self._serving, new
            self._alive.append(new)
            if self._terminated and isinstance(new.runner, TerminableSession):
                new.runner.terminate()
            gone = self._gone(old)
        if gone:
            self._dispose(old.session)

    def wait_swapped(self, timeout_s: float) -> bool:
        """Wait until nothing uses the old session any more; whether that is so."""
        with self._quiet:
            return self._quiet.wait_for(lambda: len(self._alive) < 2, timeout_s)

    def close(self) -> None:
        """Wait for the run at work, then free all. Safe to call twice."""
        with self._quiet:
            if self._gathering is not None:
                self._gathering.uses -= 1
                self._gathering = None
            self._quiet.wait_for(lambda: not any(held.uses for held in self._alive))
            alive, self._alive = self._alive, []
        for held in alive:
            held.session.close()

    def _begin(self) -> _Held:
        with self._quiet:
            if self._gathering is not None:
                held, self._gathering = self._gathering, None
                return held
            self._serving.uses += 1
            return self._serving

    def _end(self, held: _Held) -> None:
        with self._quiet:
            held.uses -= 1
            gone = self._gone(held)
            self._quiet.notify_all()
        if gone:
            self._dispose(held.session)

    def _gone(self, held: _Held) -> bool:
        """Whether nothing needs the session any more; it is then the caller's to dispose of."""
        if held is self._serving or held.uses or held not in self._alive:
            return False
        self._alive.remove(held)
        return True

    def _check(self, inputs: Tensors) -> None:
        for name, declared in self._declared.items():
            if name in inputs and not declared.holds(inputs[name].shape[self._skip :]):
                raise InvalidArgumentError(
                    f"input '{name}' has shape {list(inputs[name].shape)}, this model takes {declared} "
                    f"{'beside the batch dimension ' if self._skip else ''}(naiad.tensorrt_shapes)"
                )


def _held(session: Session) -> _Held:
    return _Held(session, session.for_instance() if isinstance(session, InstanceSessions) else session)

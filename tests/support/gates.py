"""A gate in front of ONNX Runtime: what a test holds runs as long as the test wants, however busy the machine is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from naiad.runtime.onnx_session import OnnxSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from naiad.core.tensors import Array, Tensors

GATE_S = 30.0


class RunGate:
    """Stands before every run of this process's ONNX Runtime sessions; open until it is shut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._changed = threading.Condition()
        self._is_open = True
        self._may_go = 0
        real = OnnxSession.run_with

        def run_with(session: OnnxSession, inputs: Tensors, outputs: Sequence[str], options: Any) -> Any:
            self._pass()
            found: dict[str, Array] = real(session, inputs, outputs, options)
            return found

        monkeypatch.setattr(OnnxSession, "run_with", run_with)

    def shut(self) -> None:
        """Let further runs wait."""
        with self._changed:
            self._is_open = False

    def let_one_go(self) -> None:
        """Let the run that waits go on, or the next one."""
        with self._changed:
            self._may_go += 1
            self._changed.notify_all()

    def open(self) -> None:
        """Let this and every further run go on."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def _pass(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._is_open or self._may_go, GATE_S)
            if not self._is_open:
                self._may_go -= 1

"""One thread runs a session, in order; it is joined, and nobody waits for ever."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.gpu import HostDriver

from naiad.core.errors import InternalError, UnavailableError
from naiad.runtime.cuda.compute import ComputeThread

if TYPE_CHECKING:
    from naiad.core.tensors import Array


def answer(number: int) -> dict[str, Array]:
    return {"x": np.array([number])}


def test_all_work_is_done_on_one_thread_that_has_entered_the_gpu() -> None:
    driver = HostDriver()
    compute = ComputeThread("m_0", driver)
    seen: set[int] = set()

    def work() -> dict[str, Array]:
        seen.add(threading.get_ident())
        return answer(1)

    callers = [threading.Thread(target=compute.run, args=(work,)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    compute.close()
    assert len(seen) == 1
    assert seen == driver.entered
    assert threading.get_ident() not in seen


def test_it_gives_what_the_work_gives_and_goes_on_after_a_failure() -> None:
    compute = ComputeThread("m_0", None)

    def fail() -> dict[str, Array]:
        raise InternalError("the GPU is gone")

    with pytest.raises(InternalError, match="the GPU is gone"):
        compute.run(fail)
    assert compute.run(lambda: answer(3))["x"][0] == 3
    compute.close()


def test_a_gpu_that_cannot_be_entered_fails_every_piece_of_work() -> None:
    class Broken(HostDriver):
        def enter(self) -> None:
            raise InternalError("cudaSetDevice failed")

    compute = ComputeThread("m_0", Broken())
    for _ in range(2):
        with pytest.raises(InternalError, match="cudaSetDevice failed"):
            compute.run(lambda: answer(1))
    compute.close()


def test_closing_joins_the_thread_after_what_was_handed_over() -> None:
    compute = ComputeThread("m_0", None)
    began, go_on, done = threading.Event(), threading.Event(), []

    def slow() -> dict[str, Array]:
        began.set()
        go_on.wait()
        done.append(True)
        return answer(1)

    caller = threading.Thread(target=compute.run, args=(slow,))
    caller.start()
    began.wait()
    closer = threading.Thread(target=compute.close)
    closer.start()
    go_on.set()
    closer.join()
    caller.join()
    assert done
    assert "naiad-gpu-m_0" not in {thread.name for thread in threading.enumerate()}
    compute.close()
    with pytest.raises(UnavailableError, match="closed"):
        compute.run(lambda: answer(1))

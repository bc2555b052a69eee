"""Tensors in shared memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from naiad.core.errors import ResourceExhaustedError
from naiad.lifecycle.experiments.aside.arena import KEPT_BYTES, Arena, ArenaView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.core.tensors import Array

SIZE = 64 * 2**20


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(SIZE)
    yield made
    made.close()


def texts(*values: bytes) -> Array:
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array


TENSORS: dict[str, Array] = {
    "floats": np.arange(12, dtype=np.float32).reshape(3, 4),
    "turned": np.arange(12, dtype=np.int64).reshape(3, 4).T,
    "half": np.array([1.5, np.nan, np.inf], np.float16),
    "flags": np.array([[True], [False]]),
    "bf16 bits": np.array([16256, 65535], np.uint16),
    "nothing": np.zeros((0, 5), np.uint8),
    "scalar": np.array(3.0),
    "spread": np.broadcast_to(np.float32(7), (2, 3)),
    "texts": texts(b"", b"\xff\x00", "größer".encode(), b"x" * 1000).reshape(2, 2),
    "no texts": texts(),
}


def test_tensors_of_every_kind_arrive_as_they_were_sent(arena: Arena) -> None:
    view = ArenaView(arena.descriptor, SIZE)
    arrived = view.read(arena.write(TENSORS))
    assert list(arrived) == list(TENSORS)
    for name, sent in TENSORS.items():
        assert (arrived[name].dtype, arrived[name].shape) == (sent.dtype, sent.shape), name
        np.testing.assert_array_equal(arrived[name], sent, err_msg=name)
        assert arrived[name].dtype.hasobject or arrived[name].flags.aligned, name


def test_what_is_read_cannot_be_written_and_a_copy_outlives_the_next_job(arena: Arena) -> None:
    view = ArenaView(arena.descriptor, SIZE)
    refs = arena.write({"x": np.ones(4, np.float32)})
    seen, copied = view.read(refs)["x"], view.read(refs, copy=True)["x"]
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 2
    arena.clear()
    arena.write({"x": np.full(4, 5, np.float32)})
    assert (seen.tolist(), copied.tolist()) == ([5.0] * 4, [1.0] * 4)


def test_a_job_that_does_not_fit_is_refused_with_the_limit(arena: Arena) -> None:
    arena.write({"x": np.ones(SIZE // 2, np.uint8)})
    with pytest.raises(ResourceExhaustedError, match=str(SIZE)):
        arena.write({"y": np.ones(SIZE // 2 + 1, np.uint8)})
    with pytest.raises(ResourceExhaustedError):
        arena.write({"texts": texts(b"x" * (SIZE // 2))})


def test_what_a_large_job_took_goes_back_to_the_system_when_it_is_done(arena: Arena) -> None:
    arena.write({"x": np.ones(SIZE - 4096, np.uint8)})
    taken = os.fstat(arena.descriptor).st_blocks * 512
    arena.clear()
    assert taken > KEPT_BYTES
    assert os.fstat(arena.descriptor).st_blocks * 512 <= KEPT_BYTES


def test_nobody_can_cut_off_the_memory_under_the_other_process(arena: Arena) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(arena.descriptor, 1)


def test_closing_gives_the_descriptor_back() -> None:
    arena = Arena(4096)
    descriptor = arena.descriptor
    arena.close()
    arena.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)

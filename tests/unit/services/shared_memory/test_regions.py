"""The one door to both kinds of shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from naiad.core.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    UnsupportedError,
)
from naiad.services.shared_memory.regions import Regions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from naiad.services.shared_memory.cuda import CudaDriver

DISABLED = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."


def no_cuda() -> CudaDriver:
    raise UnavailableError("no CUDA here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "obj").write_bytes(bytes(range(200)))
    return tmp_path


@pytest.fixture
def regions(folder: Path) -> Iterator[Regions]:
    made = Regions(allow_client_shm=True, max_regions=2, folder=folder, load_cuda_driver=no_cuda)
    yield made
    made.close()


def test_without_permission_registers_are_refused_and_status_answers(folder: Path) -> None:
    regions = Regions(allow_client_shm=False, folder=folder)
    refusals: tuple[Callable[[], None], ...] = (
        lambda: regions.register_system("r", "/obj", 0, 64),
        lambda: regions.unregister_system(""),
        lambda: regions.register_cuda("r", bytes(64), 0, 64),
        lambda: regions.unregister_cuda(""),
    )
    for refused in refusals:
        with pytest.raises(UnsupportedError) as error:
            refused()
        assert error.value.message == DISABLED
    assert regions.system_status("") == []
    assert regions.cuda_status("") == []
    with pytest.raises(NotFoundError, match="^Unable to find system shared memory region: 'r'$"):
        regions.system_status("r")
    with pytest.raises(NotFoundError, match="^Unable to find cuda shared memory region: 'r'$"):
        regions.cuda_status("r")
    with pytest.raises(NotFoundError, match="^Unable to find shared memory region: 'r'$"):
        regions.lease("r", 0, 1)


def test_a_region_is_registered_leased_and_unregistered(regions: Regions) -> None:
    regions.register_system("r", "/obj", 0, 128)
    with regions.lease("r", 10, 4) as lease:
        lease.write(b"abcd")
    with regions.lease("r", 9, 6) as lease:
        assert bytes(lease.read()) == b"\x09abcd\x0e"
    regions.unregister_system("r")
    with pytest.raises(NotFoundError):
        regions.lease("r", 9, 6)


def test_a_read_that_fails_leaves_the_region_unused(regions: Regions, folder: Path) -> None:
    regions.register_system("r", "/obj", 0, 128)
    (folder / "obj").write_bytes(b"")
    with regions.lease("r", 0, 1) as lease, pytest.raises(InvalidArgumentError, match="no longer as large"):
        lease.read()
    regions.unregister_system("r")
    assert regions.system_status("") == []


def test_both_kinds_share_names_and_one_limit(regions: Regions) -> None:
    regions.register_system("a", "/obj", 0, 128)
    with pytest.raises(AlreadyExistsError):
        regions.register_cuda("a", bytes(64), 0, 64)
    regions.register_system("b", "/obj", 0, 128)
    with pytest.raises(ResourceExhaustedError, match="--max-shared-memory-regions"):
        regions.register_cuda("c", bytes(64), 0, 64)


def test_a_machine_without_cuda_answers_as_triton_does(regions: Regions) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        regions.register_cuda("c", bytes(64), 0, 64)
    assert error.value.message == "failed to register shared memory region: invalid args"
    regions.unregister_cuda("nope")
    assert regions.cuda_status("") == []

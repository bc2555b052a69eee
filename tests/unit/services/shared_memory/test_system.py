"""System shared memory: what may be opened, what is refused how, and what a hostile client cannot do."""

from __future__ import annotations

import mmap
import os
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest

from naiad.core.errors import (
    AlreadyExistsError,
    CallerFaultError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from naiad.services.shared_memory.system import SystemRegions
from naiad.services.shared_memory.table import RegionTable

PAGE = mmap.PAGESIZE


class Setup:
    """A register over a folder that stands for `/dev/shm`, with one object `obj` of two pages and 100 bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = RegionTable(100)
        self.regions = SystemRegions(self.table, folder=folder)
        self.object = folder / "obj"
        self.size = 2 * PAGE + 100
        # Random, so that no other offset holds the same bytes.
        self.object.write_bytes(np.random.default_rng(0).bytes(self.size))


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def open_descriptors() -> set[tuple[str, str]]:
    """Descriptors and what they stand for, to be compared as sets: another test's may be closed meanwhile."""
    return {
        (path.name, str(path.readlink())) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()
    }


@pytest.mark.parametrize("key", ["obj", "/obj", "//obj", "///obj"])
def test_leading_slashes_of_a_key_do_not_count_and_status_shows_the_key_as_given(
    setup: Setup, key: str
) -> None:
    setup.regions.register("r", key, PAGE, 64)
    assert setup.regions.status("r") == [("r", key, PAGE, 64)]


def test_names_may_be_empty_and_two_names_may_share_an_object(setup: Setup) -> None:
    setup.regions.register("", "/obj", 0, 64)
    setup.regions.register("again", "/obj", 0, 64)
    assert [status.name for status in setup.regions.status("")] == ["", "again"]
    setup.regions.unregister("")
    assert setup.regions.status("") == []


def test_regions_leave_descriptors_for_connections(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a free one accepts no connection, and so could not be told to unregister."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (4, 4))
    before = open_descriptors()
    with pytest.raises(ResourceExhaustedError, match=r"half of the 4 files .* \(ulimit -n\)"):
        setup.regions.register("r", "/obj", 0, 64)
    assert open_descriptors() <= before
    assert setup.regions.status("") == []


def test_a_taken_name_is_refused_also_for_the_same_region(setup: Setup) -> None:
    setup.regions.register("ga", "/obj", 0, 64)
    with pytest.raises(AlreadyExistsError) as error:
        setup.regions.register("ga", "/obj", 0, 64)
    assert error.value.message == "shared memory region 'ga' already in manager"


def test_status_of_an_unknown_region_is_not_found_and_unregistering_it_is_fine(setup: Setup) -> None:
    setup.regions.unregister("nope")
    with pytest.raises(NotFoundError) as error:
        setup.regions.status("nope")
    assert error.value.message == "Unable to find system shared memory region: 'nope'"


@pytest.mark.parametrize(
    ("offset", "byte_size"),
    [
        (0, 2 * PAGE + 101),
        (2 * PAGE, 101),
        (4 * PAGE, 64),
        (4 * PAGE, 0),
        (2**64 - 64, 128),
        (2**64 - PAGE, PAGE),
        (2**200, 2**200),
        (-PAGE, PAGE),
        (0, -1),
        (PAGE, -PAGE),
    ],
)
def test_a_range_beyond_the_object_is_refused_whatever_its_numbers(
    setup: Setup, offset: int, byte_size: int
) -> None:
    before = open_descriptors()
    with pytest.raises(InvalidArgumentError) as error:
        setup.regions.register("g", "/obj", offset, byte_size)
    assert error.value.message == "failed to register shared memory region 'g': invalid args"
    assert setup.regions.status("") == []
    assert open_descriptors() <= before


@pytest.mark.parametrize(("offset", "byte_size"), [(0, 0), (64, 64), (PAGE + 1, 1)])
def test_what_triton_could_not_map_is_refused_in_its_words(setup: Setup, offset: int, byte_size: int) -> None:
    before = open_descriptors()
    with pytest.raises(InvalidArgumentError) as error:
        setup.regions.register("g", "/obj", offset, byte_size)
    assert error.value.message == (
        "failed to register shared memory region 'g': unable to process address spaceInvalid argument"
    )
    assert open_descriptors() <= before


@pytest.mark.parametrize("key", ["/", "//", "///"])
def test_a_key_of_slashes_is_refused(setup: Setup, key: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        setup.regions.register("g", key, 0, 64)
    assert error.value.message == f"cannot register shared memory region 'g' - invalid shm key '{key}'"


@pytest.mark.parametrize("slashes", ["", "/", "//", "///"])
def test_the_reserved_prefix_is_refused_behind_any_number_of_slashes(setup: Setup, slashes: str) -> None:
    key = slashes + "triton_python_backend_shm_region_1"
    (setup.folder / "triton_python_backend_shm_region_1").write_bytes(b"x" * PAGE)
    with pytest.raises(InvalidArgumentError) as error:
        setup.regions.register("g", key, 0, 64)
    assert error.value.message == (
        f"cannot register shared memory region 'g' with key '{key}' as the key contains the reserved prefix "
        "'triton_python_backend_shm_region_'"
    )


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/missing",
        "/sub/obj",
        "sub/../obj",
        ".",
        "..",
        "/..",
        "../obj",
        "obj/",
        "obj\0",
        "\0",
        "\ud800",
        "x" * 300,
        "link",
        "fifo",
        "sub",
    ],
)
def test_what_is_no_object_is_not_opened_and_leaks_nothing(setup: Setup, key: str) -> None:
    (setup.folder / "sub").mkdir()
    (setup.folder / "sub" / "obj").write_bytes(b"x" * PAGE)
    (setup.folder / "link").symlink_to(setup.object)
    os.mkfifo(setup.folder / "fifo")
    before = open_descriptors()
    with pytest.raises(InternalError) as error:
        setup.regions.register("g", key, 0, 64)
    assert error.value.message == f"Unable to open shared memory region: '{key}'"
    assert open_descriptors() <= before


def test_offsets_of_a_lease_count_from_the_region_s_start(setup: Setup) -> None:
    setup.regions.register("r", "/obj", PAGE, 128)
    content = setup.object.read_bytes()
    with setup.table.lease("r", 64, 64) as lease:
        assert bytes(lease.read()) == content[PAGE + 64 : PAGE + 128]
        lease.write(b"\xee" * 10)
    expected = content[: PAGE + 64] + b"\xee" * 10 + content[PAGE + 74 :]
    assert setup.object.read_bytes() == expected


def test_what_was_read_does_not_change_when_the_client_writes(setup: Setup) -> None:
    setup.regions.register("r", "/obj", 0, 128)
    with setup.table.lease("r", 0, 64) as lease:
        data = lease.read()
        before = bytes(data)
        setup.object.write_bytes(b"\xff" * setup.size)
        assert bytes(data) == before
        assert bytes(lease.read()) == b"\xff" * 64


@pytest.mark.parametrize("size", [0, 10, PAGE])
def test_reading_a_shrunk_object_is_an_error_and_not_a_crash(setup: Setup, size: int) -> None:
    setup.regions.register("r", "/obj", 0, setup.size)
    os.truncate(setup.object, size)
    with setup.table.lease("r", 0, setup.size) as lease, pytest.raises(InvalidArgumentError) as error:
        lease.read()
    assert error.value.message == (
        "shared memory region 'r' is no longer as large as it was registered: "
        f"'/obj' has {size} bytes and {setup.size} are needed"
    )


def test_writing_never_extends_a_shrunk_object(setup: Setup) -> None:
    setup.regions.register("r", "/obj", 0, 2 * PAGE)
    os.truncate(setup.object, PAGE)
    with (
        setup.table.lease("r", 0, 2 * PAGE) as lease,
        pytest.raises(InvalidArgumentError, match=f"'/obj' has {PAGE} bytes and {PAGE + 1} are needed"),
    ):
        lease.write(b"x" * (PAGE + 1))
    assert setup.object.stat().st_size == PAGE
    assert b"x" * 10 not in setup.object.read_bytes()


def test_a_region_outlives_the_name_of_its_object(setup: Setup) -> None:
    setup.regions.register("r", "/obj", 0, 128)
    content = setup.object.read_bytes()
    setup.object.unlink()
    with setup.table.lease("r", 0, 16) as lease:
        assert bytes(lease.read()) == content[:16]


def test_unregistering_closes_the_descriptor_when_the_last_lease_is_released(setup: Setup) -> None:
    before = open_descriptors()
    setup.regions.register("r", "/obj", 0, 128)
    lease = setup.table.lease("r", 0, 16)
    setup.regions.unregister("r")
    assert len(open_descriptors() - before) == 1
    assert setup.regions.status("") == [("r", "/obj", 0, 128)]
    lease.release()
    assert open_descriptors() <= before
    assert setup.regions.status("") == []


def test_a_read_on_a_closed_region_never_reaches_another_file(setup: Setup) -> None:
    setup.regions.register("r", "/obj", 0, 128)
    lease = setup.table.lease("r", 0, 16)
    setup.table.close()
    with setup.object.open("rb"), pytest.raises(InternalError, match="region 'r' is closed"):
        lease.read()
    with pytest.raises(InternalError, match="region 'r' is closed"):
        lease.range()


def test_a_range_is_read_and_written_when_its_region_has_gone_and_closes_its_descriptor_then(
    setup: Setup,
) -> None:
    """Another thread may be at it while the request's caller leaves and the client unregisters."""
    before, content = open_descriptors(), setup.object.read_bytes()
    setup.regions.register("r", "/obj", PAGE, 128)
    with setup.table.lease("r", 4, 16) as lease:
        own = lease.range()
    assert own is not None
    setup.regions.unregister("r")
    assert len(open_descriptors() - before) == 1
    read = np.empty((4, 4), np.uint8)
    own.read_into(read)
    assert read.tobytes() == content[PAGE + 4 : PAGE + 20]
    own.write(b"wxyz")
    assert setup.object.read_bytes()[PAGE + 4 : PAGE + 10] == b"wxyz" + content[PAGE + 8 : PAGE + 10]
    with pytest.raises(CallerFaultError, match="17 bytes do not fit the 16 bytes"):
        own.write(bytes(17))
    del own
    assert open_descriptors() <= before


def test_a_range_of_an_object_that_shrank_is_an_error(setup: Setup) -> None:
    setup.regions.register("r", "/obj", 0, PAGE)
    with setup.table.lease("r", 0, PAGE) as lease:
        own = lease.range()
    assert own is not None
    os.truncate(setup.object, 100)
    with pytest.raises(InvalidArgumentError, match=f"has 100 bytes and {PAGE} are needed"):
        own.read_into(np.empty(PAGE, np.uint8))
    with pytest.raises(InvalidArgumentError, match=f"has 100 bytes and {PAGE} are needed"):
        own.write(bytes(PAGE))


def test_objects_of_the_machine_s_shared_memory_are_served() -> None:
    """The real folder: an object made as tritonclient makes it, read and written."""
    memory = shared_memory.SharedMemory(create=True, size=PAGE)
    table = RegionTable(1)
    assert memory.buf is not None
    try:
        memory.buf[:4] = b"abcd"
        SystemRegions(table).register("r", "/" + memory.name, 0, PAGE)
        with table.lease("r", 0, 4) as lease:
            assert bytes(lease.read()) == b"abcd"
            lease.write(b"wxyz")
        assert bytes(memory.buf[:4]) == b"wxyz"
    finally:
        table.close()
        memory.close()
        memory.unlink()

"""Names, bounds and leases of regions of either kind."""

from __future__ import annotations

import numpy as np
import pytest

from naiad.core.errors import (
    AlreadyExistsError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from naiad.services.shared_memory.table import (
    MAX_LEASE_BYTES,
    MAX_NAME_LENGTH,
    Bytes,
    Data,
    Region,
    RegionTable,
    flat_bytes,
)


class HostRegion(Region):
    word = "host"
    title = "host"

    def __init__(self, name: str, byte_size: int) -> None:
        super().__init__(name, byte_size)
        self.memory = np.arange(min(byte_size, 256), dtype=np.uint8)
        self.closed = 0

    def read(self, offset: int, byte_size: int) -> Bytes:
        return self.memory[offset : offset + byte_size].copy()

    def write(self, offset: int, data: Bytes) -> None:
        self.memory[offset : offset + data.size] = data

    def close(self) -> None:
        self.closed += 1


class OtherRegion(HostRegion):
    word = "other"
    title = "OTHER"


def test_a_name_of_megabytes_is_not_kept() -> None:
    table = RegionTable(10)
    table.check_free("a" * MAX_NAME_LENGTH)
    with pytest.raises(InvalidArgumentError, match="has 1025 characters, at most 1024 are taken"):
        table.check_free("a" * (MAX_NAME_LENGTH + 1))


def table_with(*regions: HostRegion, max_regions: int = 10) -> RegionTable:
    table = RegionTable(max_regions)
    for region in regions:
        table.add(region)
    return table


@pytest.mark.parametrize(
    ("offset", "byte_size", "message"),
    [
        (256, 64, "Invalid offset for shared memory region: 'ga'"),
        (-64, 64, "Invalid offset for shared memory region: 'ga'"),
        (2**64, 64, "Invalid offset for shared memory region: 'ga'"),
        (224, 64, "Invalid offset + byte size for shared memory region: 'ga'"),
        (0, 257, "Invalid offset + byte size for shared memory region: 'ga'"),
        (0, 0, "Invalid offset + byte size for shared memory region: 'ga'"),
        (0, -64, "Invalid offset + byte size for shared memory region: 'ga'"),
        (
            32,
            2**64 - 32,
            "Integer overflow detected: byte_size (18446744073709551584) + offset (32) exceeds maximum value "
            "(18446744073709551615) for region 'ga'",
        ),
        (
            32,
            -32,
            "Integer overflow detected: byte_size (18446744073709551584) + offset (32) exceeds maximum value "
            "(18446744073709551615) for region 'ga'",
        ),
    ],
)
def test_a_range_outside_its_region_is_refused_in_triton_s_words(
    offset: int, byte_size: int, message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        table_with(HostRegion("ga", 256)).lease("ga", offset, byte_size)
    assert error.value.message == message


@pytest.mark.parametrize(("offset", "byte_size"), [(0, 256), (255, 1), (0, 1)])
def test_a_range_that_just_fits_is_leased(offset: int, byte_size: int) -> None:
    with table_with(HostRegion("ga", 256)).lease("ga", offset, byte_size) as lease:
        assert bytes(lease.read()) == bytes(range(offset, offset + byte_size))


@pytest.mark.parametrize("name", ["nope", ""])
def test_an_unknown_region_is_not_found(name: str) -> None:
    with pytest.raises(NotFoundError) as error:
        table_with().lease(name, 0, 1)
    assert error.value.message == f"Unable to find shared memory region: '{name}'"


def test_one_tensor_cannot_ask_for_more_memory_than_a_message_could_bring() -> None:
    """A sparse object of any size costs its client nothing, and would cost the server all its memory."""
    table = table_with(HostRegion("huge", 2**40))
    with pytest.raises(ResourceExhaustedError, match=f"{MAX_LEASE_BYTES + 1} bytes .* {MAX_LEASE_BYTES}$"):
        table.lease("huge", 0, MAX_LEASE_BYTES + 1)


def test_a_region_unregistered_in_use_lives_until_its_last_lease_is_released() -> None:
    region = HostRegion("r", 16)
    table = table_with(region)
    first, second = table.lease("r", 0, 4), table.lease("r", 4, 4)
    table.unregister(HostRegion, "r")
    with pytest.raises(NotFoundError):
        table.lease("r", 0, 4)
    with pytest.raises(AlreadyExistsError):
        table.check_free("r")
    assert table.select(HostRegion, "") == [region]
    assert bytes(second.read()) == bytes([4, 5, 6, 7])
    first.release()
    first.release()  # counts once
    assert region.closed == 0
    assert table.select(HostRegion, "r") == [region]
    second.release()
    assert region.closed == 1
    assert table.select(HostRegion, "") == []
    table.check_free("r")


def test_an_unused_region_is_closed_at_once_and_its_name_is_free() -> None:
    region = HostRegion("r", 16)
    table = table_with(region)
    table.lease("r", 0, 4).release()
    table.unregister(HostRegion, "r")
    assert region.closed == 1
    table.check_free("r")


def test_unregistering_touches_one_kind_only_and_forgives_unknown_names() -> None:
    host, other = HostRegion("h", 16), OtherRegion("o", 16)

    class Third(HostRegion):
        word = "third"

    table = table_with(host, Third("t", 16), other)
    table.unregister(OtherRegion, "h")
    table.unregister(OtherRegion, "nope")
    assert [region.name for region in table.select(Region, "")] == ["h", "t", "o"]  # type: ignore[type-abstract]  # only an isinstance check
    table.unregister(OtherRegion, "")
    assert [region.name for region in table.select(Region, "")] == ["h", "t"]  # type: ignore[type-abstract]  # only an isinstance check


def test_status_of_the_other_kind_says_which_kind_it_is() -> None:
    table = table_with(HostRegion("h", 16))
    with pytest.raises(NotFoundError) as error:
        table.select(OtherRegion, "h")
    assert error.value.message == (
        "The region named 'h' is registered as host shared memory, not OTHER shared memory"
    )


def test_the_number_of_regions_is_limited_and_the_message_names_value_limit_and_flag() -> None:
    table = table_with(HostRegion("a", 1), HostRegion("b", 1), max_regions=2)
    with pytest.raises(ResourceExhaustedError, match=r"2 regions .* maximum is 2 \(--max-shared-memory-regi"):
        table.check_free("c")
    with pytest.raises(AlreadyExistsError, match="^shared memory region 'a' already in manager$"):
        table.check_free("a")


def test_a_lease_writes_its_start_and_leaves_the_rest() -> None:
    region = HostRegion("r", 16)
    with table_with(region).lease("r", 4, 8) as lease:
        lease.write(np.array([9, 8], dtype=np.uint8))
    assert region.memory.tolist() == [0, 1, 2, 3, 9, 8, *range(6, 16)]


def test_data_larger_than_the_lease_is_not_written() -> None:
    region = HostRegion("r", 16)
    with (
        table_with(region).lease("r", 0, 2) as lease,
        pytest.raises(InternalError, match="3 bytes do not fit the 2 bytes .* 'r'"),
    ):
        lease.write(b"\xff\xff\xff")
    assert region.memory.tolist() == list(range(16))


def test_a_released_lease_touches_nothing() -> None:
    """By then the descriptor behind it may be another file's."""
    lease = table_with(HostRegion("r", 16)).lease("r", 0, 2)
    lease.release()
    with pytest.raises(InternalError, match="released"):
        lease.read()
    with pytest.raises(InternalError, match="released"):
        lease.write(b"a")


def test_closing_the_table_closes_leased_regions_too() -> None:
    region = HostRegion("r", 16)
    table = table_with(region)
    lease = table.lease("r", 0, 4)
    table.close()
    lease.release()
    assert region.closed == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x02\x03\x04",
        bytearray(b"\x01\x02\x03\x04"),
        memoryview(b"\x01\x02\x03\x04"),
        np.array([[1, 2], [3, 4]], dtype=np.uint8),
        np.array([[1, 3], [2, 4]], dtype=np.uint8).T,
        np.array([[0x0201], [0x0403]], dtype="<u2"),
        np.array([b"\x01\x02\x03\x04"], dtype="V4"),
    ],
)
def test_bytes_of_any_data_are_row_major(data: Data) -> None:
    assert flat_bytes(data).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("data", [b"", np.empty((0, 3), np.float32)])
def test_no_data_is_no_bytes(data: Data) -> None:
    assert flat_bytes(data).size == 0

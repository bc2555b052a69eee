"""A GPU sees few batch sizes: the default ones, or those that a config names and that make sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runtime import config

from naiad.config.model_config import DynamicBatching, TensorConfig
from naiad.config.sequence_config import SequenceBatching
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.buckets import MAX_BUCKETS, Buckets, batch_buckets


def named(value: str, max_batch_size: int = 8) -> tuple[int, ...]:
    parameters = {"naiad.batch_buckets": value}
    return batch_buckets(config(max_batch_size=max_batch_size, parameters=parameters), on_gpu=True).sizes


@pytest.mark.parametrize(
    ("largest", "preferred", "sizes"),
    [
        (1, (), (1,)),
        (8, (), (1, 2, 4, 8)),
        (12, (), (1, 2, 4, 8, 12)),
        (16, (6, 16), (1, 2, 4, 6, 8, 16)),
        (64, tuple(range(1, 64)), (1, 2, 4, 8, 16, 32, 64)),
    ],
)
def test_by_default_a_gpu_has_powers_of_two_the_preferred_sizes_and_the_largest(
    largest: int, preferred: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    """Preferred sizes without end would fill the GPU's memory with graphs: then powers of two must do."""
    batching = DynamicBatching(preferred_batch_sizes=preferred)
    assert (
        batch_buckets(config(max_batch_size=largest, dynamic_batching=batching), on_gpu=True).sizes == sizes
    )
    assert len(sizes) <= MAX_BUCKETS


def test_the_cpu_has_none_and_pads_nothing() -> None:
    buckets = batch_buckets(config(max_batch_size=8), on_gpu=False)
    assert (buckets.sizes, buckets.bucket_for(3), buckets.padding_for(3)) == ((), 3, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_batch_size": 0},
        {"max_batch_size": 4, "sequence_batching": SequenceBatching()},
        {"max_batch_size": 4, "inputs": (TensorConfig("x", DataType.FP32, (-1,), ragged=True),)},
    ],
    ids=["no batches", "sequences", "ragged"],
)
def test_what_cannot_be_padded_has_none(fields: dict[str, object]) -> None:
    assert batch_buckets(config(**fields), on_gpu=True) == Buckets()


def test_the_config_names_its_own() -> None:
    assert named(" 1, 3,8 ") == (1, 3, 8)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "positive whole numbers"),
        ("1,two,8", "positive whole numbers"),
        ("1;8", "positive whole numbers"),
        ("-1,8", "positive whole numbers"),
        ("1,9999999999", "positive whole numbers"),
        ("0,8", "ascending order"),
        ("1,4,2,8", "ascending order"),
        ("1,1,8", "ascending order"),
        ("1,2,4", "max_batch_size, which is 8"),
        ("1,16", "max_batch_size, which is 8"),
    ],
)
@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_wrong_value_is_refused_by_key_and_value_on_every_machine(
    value: str, expected: str, *, on_gpu: bool
) -> None:
    wrong = config(max_batch_size=8, parameters={"naiad.batch_buckets": value})
    with pytest.raises(InvalidArgumentError, match="'naiad.batch_buckets' is") as caught:
        batch_buckets(wrong, on_gpu=on_gpu)
    assert f"'{value}'" in caught.value.message
    assert expected in caught.value.message


def test_buckets_of_a_model_without_batches_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="max_batch_size is 0"):
        named("1,2", max_batch_size=0)


def test_too_many_are_refused_by_their_number() -> None:
    with pytest.raises(InvalidArgumentError, match=f"at most {MAX_BUCKETS} sizes, there are 40"):
        named(",".join(map(str, range(1, 41))), max_batch_size=40)


@given(st.sets(st.integers(1, 300), min_size=1), st.integers(1, 400))
def test_a_batch_runs_at_the_smallest_bucket_that_holds_it(sizes: set[int], rows: int) -> None:
    buckets = Buckets(tuple(sorted(sizes)))
    fitting = [size for size in sizes if size >= rows]
    assert buckets.bucket_for(rows) == min(fitting, default=rows)
    assert buckets.padding_for(rows) == min(fitting, default=rows) - rows

"""Batch buckets: the few batch sizes that a GPU ever sees, each of them warm, bound and captured. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from naiad.config.runtime_keys import BATCH_BUCKETS
from naiad.config.sequence_config import OldestStrategy
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.model_config import ModelConfig

MAX_BUCKETS = 32
"""Each is run before a version is ready, and may hold a CUDA graph."""

_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Buckets:
    """Ascending batch sizes; empty where batches run at the size they have."""

    sizes: tuple[int, ...] = ()

    def bucket_for(self, rows: int) -> int:
        """The smallest bucket that holds `rows` batch items; `rows` itself where none does."""
        index = bisect_left(self.sizes, rows)
        return self.sizes[index] if index < len(self.sizes) else rows

    def padding_for(self, rows: int) -> int:
        """The rows of that bucket that stand empty."""
        return self.bucket_for(rows) - rows


def batch_buckets(config: ModelConfig, *, on_gpu: bool) -> Buckets:
    """The buckets of a model version.

    `naiad.batch_buckets` names them. Otherwise a GPU has the powers of two up to `max_batch_size`, the
    preferred batch sizes and `max_batch_size`; the CPU has none, because there each row of padding costs as
    much as a real one. Models whose rows cannot be padded have none either: those without a batch dimension,
    of sequences, and with ragged inputs.

    Args:
        config: complete.
        on_gpu: whether the instances run on a GPU.

    Raises:
        InvalidArgumentError: `naiad.batch_buckets` is wrong; names the key, the value and what is expected.
    """
    named = named_buckets(config)
    if not on_gpu or not can_pad(config):
        return Buckets()
    return Buckets(named or default_buckets(config))


def can_pad(config: ModelConfig) -> bool:
    """Whether a batch may be filled up with rows that nobody asked for."""
    ragged = any(tensor.ragged for tensor in config.inputs) or config.batch_inputs or config.batch_outputs
    return config.max_batch_size > 0 and config.sequence_batching is None and not ragged


def default_buckets(config: ModelConfig) -> tuple[int, ...]:
    """Powers of two, the preferred sizes and the largest; `(1,)` for a model without batches."""
    largest = max(1, config.max_batch_size)
    powers = {1 << exponent for exponent in range(largest.bit_length())}
    preferred = {size for size in _preferred(config) if 0 < size <= largest}
    if len(powers) + len(preferred) > MAX_BUCKETS:
        preferred = set()
    return tuple(sorted({*powers, *preferred, largest}))


def named_buckets(config: ModelConfig) -> tuple[int, ...]:
    """The value of `naiad.batch_buckets`, empty without one.

    Raises:
        InvalidArgumentError: it is no ascending list of sizes that ends with `max_batch_size`.
    """
    value = config.parameters.get(BATCH_BUCKETS)
    if value is None:
        return ()
    texts = [text.strip() for text in value.split(",")]
    if not all(text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS for text in texts):
        raise _wrong(value, "positive whole numbers between commas, such as 1,2,4,8")
    sizes = tuple(map(int, texts))
    if config.max_batch_size < 1:
        raise _wrong(value, "none: max_batch_size is 0, so the model has no batches")
    if sizes[0] < 1 or any(left >= right for left, right in pairwise(sizes)):
        raise _wrong(value, "positive sizes in ascending order, each once")
    if sizes[-1] != config.max_batch_size:
        raise _wrong(value, f"max_batch_size, which is {config.max_batch_size}, as the last size")
    if len(sizes) > MAX_BUCKETS:
        raise _wrong(value, f"at most {MAX_BUCKETS} sizes, there are {len(sizes)}")
    return sizes


def _preferred(config: ModelConfig) -> Sequence[int]:
    if config.dynamic_batching is not None:
        return config.dynamic_batching.preferred_batch_sizes
    strategy = config.sequence_batching.strategy if config.sequence_batching is not None else None
    return strategy.preferred_batch_sizes if isinstance(strategy, OldestStrategy) else ()


def _wrong(value: str, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"parameter '{BATCH_BUCKETS}' is '{value}', expected {expected}")

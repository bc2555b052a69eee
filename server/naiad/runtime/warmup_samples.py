"""The samples of a config's `model_warmup`: their tensors, checked against the model, and their runs."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from naiad.config.data_files import DataFiles, read_data_file
from naiad.config.warmup_config import NO_REQUEST, WARMUP_FOLDER, WarmupData
from naiad.core.datatypes import DataType, zeros
from naiad.core.errors import InvalidArgumentError, NaiadError
from naiad.core.tensors import WILDCARD
from naiad.runtime.ragged import as_ragged
from naiad.runtime.warmup import Outcome, not_finite, output_names, server_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.config.warmup_config import WarmupInput, WarmupSample
    from naiad.core.tensors import Array
    from naiad.runtime.session import Session

MAX_SAMPLE_BYTES = 1024 * 1024 * 1024
"""Bytes of one sample's batch; a text counts the eight bytes of the reference to it."""

WARMUP_FILES = DataFiles("warm-up", WARMUP_FOLDER, MAX_SAMPLE_BYTES)
_LENGTH = struct.Struct("<I")
_SEED = 0


@dataclass(frozen=True, slots=True)
class PreparedSample:
    """A sample and what the graph gets of it in each of its runs."""

    sample: WarmupSample
    feeds: dict[str, Array]


def prepare_samples(config: ModelConfig) -> tuple[PreparedSample, ...]:
    """Read and make the tensors of each sample.

    Zeros are empty texts for BYTES, and random data too, as in Triton. Random floats are in [0, 1), other
    random numbers anything that their type holds. A sequence's control tensors and states that a sample does
    not name are zeros.

    Args:
        config: complete.

    Raises:
        InvalidArgumentError: a sample does not suit the model, or its file is not as it should be; in
            Triton's words where it has them.
    """
    return tuple(PreparedSample(sample, _feeds(sample, config)) for sample in config.warmup)


def run_samples(
    session: Session, config: ModelConfig, samples: Sequence[PreparedSample]
) -> tuple[Outcome, ...]:
    """Run each sample as often as it says; the outcomes of the first runs. Takes as long as the runs do.

    Args:
        session: an instance's.
        config: complete.
        samples: from `prepare_samples`.

    Raises:
        InvalidArgumentError: the first run that fails, in Triton's words.
    """
    outputs = output_names(session, config)
    outcomes: list[Outcome] = []
    for prepared in samples:
        sample = prepared.sample
        for run in range(sample.count):
            try:
                answer = session.run(prepared.feeds, outputs)
            except NaiadError as error:
                raise _failed(sample, error.message) from error
            if run == 0:
                outcomes.append(Outcome(sample, f"sample '{sample.name}'", not_finite(answer, config)))
    return tuple(outcomes)


def _failed(sample: WarmupSample, reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"failed to run warmup sample '{sample.name}': {reason}; ")


def _feeds(sample: WarmupSample, config: ModelConfig) -> dict[str, Array]:
    if sample.batch_size > max(1, config.max_batch_size):
        raise _failed(
            sample,
            f"batch size {sample.batch_size} for '{config.name}', max allowed is {config.max_batch_size}",
        )
    specs = {tensor.name: tensor for tensor in config.inputs}
    given = {tensor.name: tensor for tensor in sample.inputs}
    _check_names(given, config)
    _check_size(sample, config)
    feeds = server_inputs(config, sample.batch_size)
    for name, tensor in given.items():
        if name in specs:
            _check_fits(tensor, specs[name], config)
        feeds[name] = _batch(_item(tensor, config), specs.get(name), sample.batch_size, config)
    return as_ragged(config, feeds)


def _check_names(given: dict[str, WarmupInput], config: ModelConfig) -> None:
    required = [tensor.name for tensor in config.inputs if not tensor.optional]
    missing = sorted(set(required).difference(given))
    if missing:
        raise InvalidArgumentError(
            f"{NO_REQUEST}expected {len(required)} inputs but got {len(given)} inputs for model "
            f"'{config.name}'. Got input(s) [{_quoted(sorted(given))}], but missing required input(s) "
            f"[{_quoted(missing)}]. Please provide all required input(s)."
        )
    known = {tensor.name for tensor in config.inputs}
    if config.sequence_batching is not None:
        known |= {tensor.name for tensor in config.sequence_batching.inputs}
    for name in given:
        if name not in known:
            raise InvalidArgumentError(f"unexpected inference input '{name}' for model '{config.name}'")


def _quoted(names: Sequence[str]) -> str:
    return ",".join(f"'{name}'" for name in names)


def _check_size(sample: WarmupSample, config: ModelConfig) -> None:
    sizes = (tensor.elements * (tensor.datatype.itemsize or 8) for tensor in sample.inputs)
    total = sample.batch_size * sum(sizes)
    if total > MAX_SAMPLE_BYTES:
        raise InvalidArgumentError(
            f"warmup sample '{sample.name}' of model '{config.name}' has {total} bytes, "
            f"the limit is {MAX_SAMPLE_BYTES}"
        )


def _check_fits(tensor: WarmupInput, spec: TensorConfig, config: ModelConfig) -> None:
    if tensor.datatype is not spec.datatype:
        raise InvalidArgumentError(
            f"{NO_REQUEST}inference input '{tensor.name}' data-type is '{tensor.datatype.value}', but model "
            f"'{config.name}' expects '{spec.datatype.value}'"
        )
    fits = len(tensor.dims) == len(spec.dims) and all(
        wanted in (WILDCARD, dim) for wanted, dim in zip(spec.dims, tensor.dims, strict=True)
    )
    if not fits:
        batch = ("-1", "1") if config.max_batch_size > 0 else ("", "")
        wanted, got = (
            ",".join(filter(None, (first, *map(str, dims))))
            for first, dims in zip(batch, (spec.dims, tensor.dims), strict=True)
        )
        raise InvalidArgumentError(
            f"{NO_REQUEST}unexpected shape for input '{tensor.name}' for model '{config.name}'. "
            f"Expected [{wanted}], got [{got}]"
        )


def _item(tensor: WarmupInput, config: ModelConfig) -> Array:
    """One item's values, of the sample's own dims."""
    if tensor.data is WarmupData.FILE:
        setting = f"input_data_file of the warmup input '{tensor.name}'"
        return _from_file(tensor, read_data_file(config, WARMUP_FILES, tensor.data_file, setting=setting))
    if tensor.data is WarmupData.RANDOM and tensor.datatype is not DataType.BYTES:
        return _random(tensor)
    return zeros(tensor.datatype, tensor.dims)


def _from_file(tensor: WarmupInput, data: bytes) -> Array:
    if tensor.datatype is DataType.BYTES:
        return _texts(tensor, data)
    needed = tensor.elements * tensor.datatype.itemsize
    if len(data) != needed:
        only = "only " if len(data) < needed else ""
        raise InvalidArgumentError(
            f"{NO_REQUEST}warmup setting expects {needed} bytes, but the data provided from "
            f"{tensor.data_file} {only}has {len(data)} bytes"
        )
    array: Array = np.frombuffer(data, dtype=tensor.datatype.numpy).reshape(tensor.dims)
    return array


def _texts(tensor: WarmupInput, data: bytes) -> Array:
    """Texts as they lie in a request: each after its length, four bytes, little-endian."""
    texts: list[bytes] = []
    position = 0
    while position < len(data):
        if position + _LENGTH.size > len(data):
            raise _wrong_texts(tensor, f"its last {len(data) - position} bytes are no length")
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if position + length > len(data):
            raise _wrong_texts(tensor, f"element {len(texts)} of {length} bytes is cut short")
        texts.append(data[position : position + length])
        position += length
    if len(texts) != tensor.elements:
        raise _wrong_texts(tensor, f"it holds {len(texts)}")
    array = np.empty(len(texts), dtype=np.object_)
    array[:] = texts
    return array.reshape(tensor.dims)


def _wrong_texts(tensor: WarmupInput, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{NO_REQUEST}warmup setting expects {tensor.elements} string elements of input '{tensor.name}' from "
        f"{tensor.data_file}, each after its length in 4 bytes: {what}"
    )


def _random(tensor: WarmupInput) -> Array:
    # The same in each load: a model that fails on a value fails every time.
    source = np.random.default_rng(_SEED)
    dtype: np.dtype[Any] = tensor.datatype.numpy
    if tensor.datatype is DataType.BF16:  # a float's upper half
        bits = source.random(tensor.dims, dtype=np.float32).view(np.uint32) >> 16
        return bits.astype(np.uint16)
    if dtype.kind == "f":
        return source.random(tensor.dims, dtype=np.float32).astype(dtype)
    if dtype.kind == "b":
        return source.integers(0, 2, tensor.dims).astype(np.bool_)
    limits = np.iinfo(dtype)
    return source.integers(limits.min, limits.max, tensor.dims, dtype=dtype.type, endpoint=True)


def _batch(item: Array, spec: TensorConfig | None, batch_size: int, config: ModelConfig) -> Array:
    """The item as often as the batch has items, in the shape that the graph wants."""
    if spec is not None and spec.reshape is not None:
        item = item.reshape(spec.reshape)
    if config.max_batch_size < 1:
        return item
    return np.repeat(item[np.newaxis], batch_size, axis=0)

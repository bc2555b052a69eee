"""The response cache: what models have answered, by a digest of what they were asked; bounded by bytes."""

from __future__ import annotations

import struct
from collections import OrderedDict, defaultdict
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from naiad.core.tensors import Array, InferRequest, ModelKey

DIGEST_BYTES = 32
"""So long that nobody can make two requests of one digest."""

ENTRY_OVERHEAD_BYTES = 512
"""What an entry takes beside its tensors: its key, its place in the order, its dictionaries."""

TENSOR_OVERHEAD_BYTES = 256
TEXT_OVERHEAD_BYTES = 48

HEAVY_BYTES = 64 * 1024
"""Bytes that take more time (about 0.1 ms) than handing them to another thread."""

HEAVY_TEXTS = 1_024

MAX_LEAVING = 1_000
"""Entries that are let go at once: a million small ones would hold up the event loop for seconds."""


class RequestDigest:
    """What a request of one loaded version asks for, as a digest. Immutable, shared by threads.

    All that the answer depends on is in it: the version and when it was loaded, each input's name, datatype,
    shape and bytes, and the outputs asked for. Ids, priorities, deadlines and the caller's own parameters
    reach no model.
    """

    def __init__(self, key: ModelKey, generation: int, output_names: Sequence[str]) -> None:
        """Prepare it.

        Args:
            key: the version.
            generation: of the load; no two loads have the same.
            output_names: every output of the model, for requests that ask for all.
        """
        self._output_names = tuple(sorted(output_names))
        self._seed = blake2b(digest_size=DIGEST_BYTES)
        self._seed.update(_text(key.name) + struct.pack("<qq", key.version, generation))

    def __call__(self, request: InferRequest) -> bytes:
        """The digest. Every field is preceded by its length, so that no two requests look alike."""
        hasher = self._seed.copy()
        names = self._output_names if request.outputs is None else sorted(request.outputs)
        hasher.update(struct.pack("<qq", len(names), len(request.inputs)))
        hasher.update(b"".join(map(_text, names)))
        for name in sorted(request.inputs):
            array = request.inputs[name]
            hasher.update(_text(name) + _text(array.dtype.str))
            hasher.update(struct.pack(f"<q{array.ndim}q", array.ndim, *array.shape))
            if array.dtype.hasobject:
                texts = array.reshape(-1).tolist()
                hasher.update(struct.pack(f"<{len(texts)}q", *map(len, texts)))
                for text in texts:
                    hasher.update(text)
            else:
                hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return hasher.digest()


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return struct.pack("<q", len(data)) + data


def is_heavy(arrays: Iterable[Array]) -> bool:
    """Whether hashing or copying the arrays belongs off the event loop."""
    total = 0
    for array in arrays:
        if array.dtype.hasobject and array.size > HEAVY_TEXTS:
            return True
        total += _data_bytes(array)
    return total > HEAVY_BYTES


def entry_bytes(outputs: Mapping[str, Array]) -> int:
    """What an entry of these outputs takes in the cache."""
    return ENTRY_OVERHEAD_BYTES + sum(
        TENSOR_OVERHEAD_BYTES + len(name) + _data_bytes(array) for name, array in outputs.items()
    )


def _data_bytes(array: Array) -> int:
    if array.dtype.hasobject:
        # The bytes of a pointer are in the overhead.
        return array.size * TEXT_OVERHEAD_BYTES + sum(map(len, array.reshape(-1).tolist()))
    return array.nbytes


class CacheEntry(NamedTuple):
    """Outputs that nobody else holds or writes to, and what they take."""

    outputs: Mapping[str, Array]
    size: int


def make_entry(outputs: Mapping[str, Array]) -> CacheEntry:
    """Copy the outputs of a run, which may be views of a whole batch."""
    copies = {name: array.copy(order="C") for name, array in outputs.items()}
    for copy in copies.values():
        copy.flags.writeable = False
    return CacheEntry(copies, entry_bytes(copies))


class ResponseCache:
    """Entries of every model's versions, the least recently used leaving first. Used on the loop's thread.

    A version's entries go with it: `forget` its generation when it closes. No call lets go of more than
    `MAX_LEAVING` entries.
    """

    def __init__(self, max_bytes: int) -> None:
        """Start empty.

        Args:
            max_bytes: what all entries together may take.
        """
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.evictions = 0
        self._entries: OrderedDict[tuple[int, bytes], CacheEntry] = OrderedDict()
        self._digests: defaultdict[int, set[bytes]] = defaultdict(set)  # of the entries, by generation
        self._generations = 0

    def __len__(self) -> int:
        return len(self._entries)

    def new_generation(self) -> int:
        """A number for one load of one version."""
        self._generations += 1
        return self._generations

    def get(self, generation: int, digest: bytes) -> dict[str, Array] | None:
        """The outputs, read-only, or None. They are the most recently used from now on."""
        entry = self._entries.get((generation, digest))
        if entry is None:
            return None
        self._entries.move_to_end((generation, digest))
        return dict(entry.outputs)

    def fits(self, size: int) -> bool:
        """Whether an entry of that many bytes may be stored at all."""
        return size <= self.max_bytes

    def put(self, generation: int, digest: bytes, entry: CacheEntry) -> None:
        """Store an entry, for which others may have to leave. One that does not fit is dropped.

        One for which more than `MAX_LEAVING` would have to leave is dropped too, but those have left.
        """
        if not self.fits(entry.size):
            return
        if (generation, digest) in self._entries:
            self._remove(generation, digest)
        room = self.max_bytes - entry.size
        for _ in range(MAX_LEAVING):
            if self.used_bytes <= room:
                break
            self._remove(*next(iter(self._entries)))
            self.evictions += 1
        if self.used_bytes <= room:
            self.used_bytes += entry.size
            self._entries[generation, digest] = entry
            self._digests[generation].add(digest)

    def forget(self, generation: int) -> bool:
        """Let go of what one load of a version has answered; True if there is more, for another call."""
        digests = self._digests.pop(generation, set())
        for _ in range(min(len(digests), MAX_LEAVING)):
            self.used_bytes -= self._entries.pop((generation, digests.pop())).size
        if digests:
            self._digests[generation] = digests
        return bool(digests)

    def _remove(self, generation: int, digest: bytes) -> None:
        self.used_bytes -= self._entries.pop((generation, digest)).size
        digests = self._digests[generation]
        digests.remove(digest)
        if not digests:
            del self._digests[generation]

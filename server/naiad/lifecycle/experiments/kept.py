"""One request on which two versions disagreed, as a file.

It is a `.npz` archive (numpy opens it, no pickles in it) with one more member, `meta.json`:

    meta.json             who answered, when, how far they agree, and the name and shape of each tensor
    inputs_0.npy, …       the tensors in the order in which `meta.json` names them
    baseline_0.npy, …
    candidate_0.npy, …

Texts (BYTES) are uint8: of each element its length, a little-endian uint32, then its bytes.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from naiad.core.errors import InvalidArgumentError, NaiadError
from naiad.vision.agreement import agreement_from_dict, agreement_to_dict

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.core.tensors import Array, Tensors
    from naiad.vision.agreement import Agreement

FORMAT = 1
"""Of the files; another number once a key is renamed or removed."""
META = "meta.json"
MAX_UNPACKED_BYTES = 1 << 30
"""What one file may unpack to: deflate makes a gigabyte of zeros a megabyte."""
_MAX_META_BYTES = 1 << 20
_GROUPS = ("inputs", "baseline", "candidate")
_LENGTH = struct.Struct("<I")
_NPY_VERSION = (1, 0)
_COMPRESSION = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True, eq=False)
class Disagreement:
    """One request, what two versions answered, and how far they agreed.

    `at` is when, with a time zone. The arrays are of the full request shape. `same_space` is what `agree` was
    told.
    """

    model: str
    baseline_version: int
    candidate_version: int
    agreement: Agreement
    at: datetime
    inputs: Tensors
    baseline_outputs: Tensors
    candidate_outputs: Tensors
    request_id: str = ""
    experiment: str = ""
    same_space: bool = True


def load(path: Path) -> Disagreement:
    """Read one back. Nothing of the file is run.

    Raises:
        InvalidArgumentError: it cannot be read, or is no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {path}: {error.strerror or error}") from None
    except (
        zipfile.BadZipFile,
        NaiadError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    ) as error:
        raise InvalidArgumentError(f"{path} is no kept disagreement: {error}") from None


def raw_bytes(found: Disagreement) -> int:
    """What its tensors take in memory, texts aside."""
    return sum(array.nbytes for _, tensors in _groups(found) for array in tensors.values())


def pack(file: Any, found: Disagreement) -> None:
    """Write it to a file that is open for bytes.

    Raises:
        OSError: it cannot be written.
    """
    # The fastest level: pictures as floats shrink to a third already.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(META, json.dumps(_meta(found), indent=1))
        for group, tensors in _groups(found):
            for index, array in enumerate(tensors.values()):
                with archive.open(f"{group}_{index}.npy", "w", force_zip64=True) as member:
                    plain = _packed_texts(array) if array.dtype == np.object_ else array
                    np.lib.format.write_array(
                        member, np.asarray(plain, order="C"), _NPY_VERSION, allow_pickle=False
                    )


def _groups(found: Disagreement) -> tuple[tuple[str, Tensors], ...]:
    return tuple(zip(_GROUPS, (found.inputs, found.baseline_outputs, found.candidate_outputs), strict=True))


def _meta(found: Disagreement) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model": found.model,
        "experiment": found.experiment,
        "baseline_version": found.baseline_version,
        "candidate_version": found.candidate_version,
        "request_id": found.request_id,
        "at": found.at.isoformat(),
        "agreement": agreement_to_dict(found.agreement),
        "same_space": found.same_space,
        "tensors": {
            group: [
                {"name": name, "shape": list(array.shape), "texts": array.dtype == np.object_}
                for name, array in tensors.items()
            ]
            for group, tensors in _groups(found)
        },
    }


def _read(archive: zipfile.ZipFile) -> Disagreement:
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_UNPACKED_BYTES or archive.getinfo(META).file_size > _MAX_META_BYTES:
        raise InvalidArgumentError(f"it unpacks to {unpacked} bytes, more than {MAX_UNPACKED_BYTES}")
    if any(member.compress_type not in _COMPRESSION for member in archive.infolist()):
        raise InvalidArgumentError("it is packed in another way than deflate")
    meta = json.loads(archive.read(META))
    if meta["format"] != FORMAT:
        raise InvalidArgumentError(f"its format is {meta['format']}, this version reads {FORMAT}")
    inputs, baseline, candidate = (
        {
            told["name"]: _array(archive, f"{group}_{index}.npy", told)
            for index, told in enumerate(meta["tensors"][group])
        }
        for group in _GROUPS
    )
    return Disagreement(
        model=str(meta["model"]),
        baseline_version=int(meta["baseline_version"]),
        candidate_version=int(meta["candidate_version"]),
        agreement=agreement_from_dict(meta["agreement"]),
        at=datetime.fromisoformat(meta["at"]),
        inputs=inputs,
        baseline_outputs=baseline,
        candidate_outputs=candidate,
        request_id=str(meta["request_id"]),
        experiment=str(meta["experiment"]),
        same_space=bool(meta["same_space"]),
    )


def _array(archive: zipfile.ZipFile, member: str, told: dict[str, Any]) -> Array:
    """One tensor, a read-only view of what was unpacked: its header alone cannot ask for memory."""
    stream = io.BytesIO(archive.read(member))
    if np.lib.format.read_magic(stream) != _NPY_VERSION:
        raise InvalidArgumentError(f"{member} is no array as they are written here")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    array: Array = np.frombuffer(stream.getbuffer()[stream.tell() :], dtype)
    if told["texts"]:
        array, shape = _unpacked_texts(array.tobytes()), tuple(told["shape"])
    elif list(shape) != told["shape"]:
        raise InvalidArgumentError(f"{member} has shape {list(shape)}, {META} says {told['shape']}")
    return array.reshape(shape)


def _packed_texts(array: Array) -> Array:
    texts = [text if isinstance(text, bytes) else str(text).encode() for text in array.ravel()]
    return np.frombuffer(b"".join(_LENGTH.pack(len(text)) + text for text in texts), np.uint8)


def _unpacked_texts(data: bytes) -> Array:
    texts, place = [], 0
    while place < len(data):
        (length,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        if place + length > len(data):
            raise InvalidArgumentError(f"a text of {length} bytes begins {len(data) - place} before the end")
        texts.append(data[place : place + length])
        place += length
    array = np.empty(len(texts), np.object_)
    array[:] = texts
    return array

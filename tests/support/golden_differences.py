"""Recorded answers that this server does not repeat, each with what it answers instead and why."""

from __future__ import annotations

from typing import Any, NamedTuple

from support.differences import Difference

IA = "INVALID_ARGUMENT"


class Other(NamedTuple):
    """What is answered instead of the recorded answer; the row is one of docs/compatibility.md."""

    code: str
    message: str
    row: Difference
    response: Any = None


EMPTY_LIST = Difference(
    "too many inputs",
    "prints `missing required input(s) ]`",
    "`missing required input(s) []`",
    "newer Triton mended it",
    is_older=True,
)
DUPLICATE_OUTPUT = Difference(
    "an output requested twice",
    "answers it once",
    "INVALID_ARGUMENT `output 'X' already exists in request`",
    "newer Triton refuses it: the list could be made as long as one likes",
    is_older=True,
)
OVERFLOW = Difference(
    "a shape whose bytes exceed 64 bits",
    "wraps around and tells of 0 bytes",
    "INVALID_ARGUMENT `byte size for tensor 'X' exceeds maximum size of 9223372036854775807`",
    "newer Triton refuses it so",
    is_older=True,
)
EMPTY_BATCH = Difference(
    "a batch of 0 with the bytes of a batch of 1",
    "reaches the model with the batch size of another dimension: INTERNAL `batch size 16 …, max allowed is 8`",
    "INVALID_ARGUMENT `inference request batch-size must be >= 1`",
    "the fault is the request's, and is told before the model",
    is_older=True,
)
NUL = Difference(
    "BYTES elements with a NUL byte",
    "cut at the first NUL: the backend hands them on as C strings",
    "kept whole",
    "nothing of a caller's data is lost",
)
WRAPPED_REGION = Difference(
    "registering a region whose offset + size exceeds 64 bits",
    "tells of the address space",
    "`failed to register shared memory region 'N': invalid args`",
    "it is beyond the object, and is told like that",
    is_older=True,
)
EMPTY_NAME = Difference(
    "loading a model of no name",
    "INTERNAL `failed to load '', failed to poll from model repository`",
    "INVALID_ARGUMENT `Model name cannot be empty. Please enter a valid name to deploy.`",
    "newer Triton says so",
    is_older=True,
)
NO_FILE = Difference(
    "a version folder without its model file",
    "`Internal: failed to stat file …`",
    "`Unavailable: unable to find '…' for model instance '…'`",
    "newer Triton says so",
    is_older=True,
)
DEADLINE_IN_QUEUE = Difference(
    "a caller whose deadline passes in the queue, or that leaves while its request runs",
    "the request still runs, and counts as a success",
    "it leaves the queue at once, and counts as a failure with reason REJECTED; a run whose callers have all "
    "left is ended, and counts as a failure with reason CANCELED",
    "nobody waits for the answer",
    is_older=True,
)

DIFFERENCES: dict[str, Other] = {
    "extra input": Other(
        IA,
        "[request id: <id_unknown>] expected 2 inputs but got 3 inputs for model 'simple'. Got input(s) "
        "['INPUT0','INPUT1','INPUTX'], but missing required input(s) []. Please provide all required input(s).",
        EMPTY_LIST,
    ),
    "duplicate requested output": Other(
        IA, "[request id: <id_unknown>] output 'OUTPUT0' already exists in request", DUPLICATE_OUTPUT
    ),
    "shape whose product overflows int64": Other(
        IA, "byte size for tensor 'INPUT0' exceeds maximum size of 9223372036854775807", OVERFLOW
    ),
    "batch 0, but 64 bytes each": Other(
        IA,
        "[request id: <id_unknown>] inference request batch-size must be >= 1 for 'simple', got 0",
        EMPTY_BATCH,
    ),
    "string tensor, not UTF-8": Other(
        "OK",
        "",
        NUL,
        {
            "model_name": "identity_str",
            "model_version": "1",
            "outputs": [{"name": "OUTPUT0", "datatype": "BYTES", "shape": ["1", "2"]}],
            "raw_output_contents": ["AwAAAP8A/gEAAABi"],
        },
    ),
    "shm register, offset+byte_size wraps around 64 bits": Other(
        IA, "failed to register shared memory region 'g4': invalid args", WRAPPED_REGION
    ),
    "load, empty name": Other(
        IA, "Model name cannot be empty. Please enter a valid name to deploy.", EMPTY_NAME
    ),
    "load, broken model bad_nofile": Other(
        IA,
        "load failed for model 'bad_nofile': version 1 is at UNAVAILABLE state: Unavailable: unable to find "
        "'<repository>/bad_nofile/1/model.onnx' for model instance 'bad_nofile_0';\n",
        NO_FILE,
    ),
    "model statistics after cancellations and rejections, slow_plain": Other("OK", "", DEADLINE_IN_QUEUE),
}

ROWS = tuple({id(other.row): other.row for other in DIFFERENCES.values()}.values())
"""Each difference once."""

PICKS_AN_INPUT = ("batch 0", "both inputs wrong shape", "rank too large", "negative dimension")
"""Both inputs have the fault, and Triton tells of the one that its hash map gives first."""

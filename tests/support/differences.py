"""What differs from Triton on purpose: the hand-written rows of docs/compatibility.md."""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """One row: where, what Triton does, what Naiad does, and why; `is_older` if only Triton 2.51 does so."""

    where: str
    triton: str
    naiad: str
    why: str
    is_older: bool = False


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "models that are served",
        "every backend",
        "ONNX models by ONNX Runtime; others fail to load with the reason",
        "one engine, known well",
    ),
    Difference(
        "a config that is wrong",
        "one fixed sentence to the client",
        "the same sentence to the client; the reason in the log, and advice from `naiad check`",
        "the operator can mend it without guessing",
    ),
    Difference(
        "ready",
        "loaded; warmed only by `model_warmup`",
        "loaded and run once at every batch size it prefers",
        "the first caller is not the one who waits",
    ),
    Difference(
        "a batch whose run fails",
        "every request of the batch fails",
        "each request runs again alone; only the bad one fails",
        "one caller's bad value costs nobody else",
    ),
    Difference(
        "queue without a limit in the config",
        "unbounded",
        "`--max-queue-size` requests, then UNAVAILABLE; the text names the value, the limit and the flag",
        "a queue that only grows ends in memory",
    ),
    Difference(
        "a request that cannot be answered by its deadline, or would wait beyond its queue timeout",
        "waits until then, and fails",
        "refused at once: RESOURCE_EXHAUSTED with `grpc-retry-pushback-ms`, HTTP 429 with `Retry-After`; "
        "`--admission-control=false` does as Triton",
        "its caller can still go elsewhere, and nothing is computed for nobody",
    ),
    Difference(
        "version folders",
        "`1abc` is read as 1",
        "passed over, as other folders are",
        "a typing error should not make a version",
    ),
    Difference(
        "a load that failed, in mode poll",
        "tried again at each look",
        "tried again when its folder changes; at once as often as `--model-load-retry-count` says",
        "the same files fail in the same way, and the log would hide the rest",
    ),
    Difference(
        "a new folder without a version, in mode poll",
        "a model that does not load: the server is not ready",
        "passed over until it changes",
        "it is being copied",
    ),
    Difference(
        "a folder that changes, in mode poll",
        "loaded as it is at the look",
        "loaded when two looks `--repository-quiet-secs` apart found the same",
        "half a copy fails to load, or worse, loads",
    ),
    Difference(
        "`ServerReady` while a new version loads or after it failed, in mode poll",
        "false",
        "true as long as every model that served does; `--ready-while-loading=false` does as Triton",
        "a broken new folder must not take a server that serves out of service",
    ),
    Difference(
        "a new version with other inputs or outputs than the one that serves",
        "takes its place",
        "refused unless [allowed](model-control.md#what-a-new-version-must-hold-to)",
        "requests that name no version would fail from then on",
    ),
    Difference(
        "a version that answers the warm-up with NaN where the one that serves did not",
        "takes its place",
        "refused unless allowed",
        "it is broken in a way that no load shows",
    ),
    Difference(
        "`lost+found`, and hidden folders without a config or a version",
        "models that do not load: the server does not start",
        "passed over",
        "they are the file system's, or some tool's",
    ),
    Difference(
        "loads and unloads that wait",
        "unbounded",
        "256, then UNAVAILABLE",
        "each holds the files of its request",
    ),
    Difference(
        "parameters of a request",
        "unbounded",
        "1,000, then INVALID_ARGUMENT",
        "a request must not hold up the others",
    ),
    Difference(
        "errors that list names or dimensions",
        "list them all",
        "list the first 100",
        "a client drops a call whose error does not fit its trailers",
    ),
    Difference(
        "regions of shared memory",
        "as many, and with names as long, as clients like",
        "`--max-shared-memory-regions`, and no more than half of the files that the process may open; names of "
        "1,024 characters",
        "callers need descriptors too",
    ),
    Difference(
        "files that a config names",
        "may lie outside the model's folder",
        "must lie in it",
        "a config must not read the server's other files",
    ),
    Difference(
        "custom operator libraries and repository agents",
        "loaded",
        "refused",
        "they are code, and a model folder should be data",
    ),
    Difference(
        "instances on the CPU",
        "2, each with a session and threads of its own",
        "as many as the container's CPU quota gives (4 at most), sharing one session",
        "weights are held once, and threads are not oversubscribed",
    ),
    Difference(
        "settings",
        "flags only",
        "flags, and `NAIAD_…` variables",
        "containers are told by their environment",
    ),
    Difference(
        "the version in the server's metadata",
        "Triton's",
        "Naiad's",
        "it is Naiad that answers: a client that asks for a version of Triton should be told",
    ),
    Difference(
        "`--log-format`",
        "`default` unless given",
        "`text` unless given; `json`, `default` and `ISO8601` too",
        "one line an event, for people or for programs",
    ),
    Difference(
        "`--exit-timeout-secs=0`",
        "ends at once",
        "refused: above 0",
        "what was accepted is answered",
    ),
    Difference(
        "an execution accelerator that is not there",
        "the model does not load",
        "the next execution provider takes its place; a warning, and `naiad.runtime.fallbacks` in its config",
        "the same folder serves on another machine",
    ),
    Difference(
        "batches on a GPU",
        "run at the size they have; `cudnn_conv_algo_search` is exhaustive",
        "are filled up to the next of a few sizes, all of them warm, from pinned buffers, as CUDA graphs where the "
        "model allows it; the search is heuristic ([gpu.md](gpu.md))",
        "each new batch size stalls CUDA, for seconds where the search is exhaustive",
    ),
    Difference(
        "`gpu_execution_accelerator` `tensorrt`",
        "builds at load or at the first request of a shape; a config names the cache's folder",
        "CUDA serves while the engine is built for all shapes, then the engine; the cache is the server's own; "
        "`naiad.tensorrt_build` `blocking` waits ([gpu.md](gpu.md))",
        "no caller waits for a build, and a config that a client sends chooses no files",
    ),
    Difference(
        "TLS flags without `--grpc-use-ssl`",
        "pass without a word",
        "refused",
        "who names a certificate believes that there is TLS",
    ),
    Difference(
        "headers that open restricted protocols",
        "forwarded if the pattern matches them",
        "never forwarded",
        "they are secrets",
    ),
    Difference(
        "two names on one shared memory object",
        "INTERNAL for the second",
        "both are registered",
        "the limit is Triton's own defect",
        is_older=True,
    ),
    Difference(
        "shared memory of clients",
        "always allowed",
        "off unless `--allow-client-shm=true`: register and unregister are refused until then",
        "newer Triton has it off",
        is_older=True,
    ),
)

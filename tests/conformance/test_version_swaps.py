"""Versions that come and go under load, good and broken ones: no stock client ever notices but by the answers."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper
from support.onnx_models import info, model
from support.processes import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SWAPS = 50
BROKEN_EACH = 5  # every so many swaps bring a version that must never serve
CALLERS = 3
PATIENCE_S = 30.0
RSS_MARGIN_KIB = 16 * 1024  # an allocator's, not a model's: 32 versions that stayed would be twice that

FLAGS = (
    "--model-control-mode=poll",
    "--repository-poll-secs=0.2",
    "--repository-quiet-secs=0.1",
    "--allow-http=false",
    "--allow-metrics=false",
)


def _tells_its_version(number: float, size: int = 1) -> bytes:
    """OUTPUT = INPUT + number over FP32 `[N, size]`, with a megabyte of weights to be missed or leaked."""
    weights = np.zeros((1024, 256), np.float32)
    built = model(
        [
            helper.make_node("Mul", ["INPUT", "nothing"], ["first"]),
            helper.make_node("Cast", ["first"], ["row"], to=TensorProto.INT64),
            helper.make_node("Gather", ["weights", "row"], ["rows"]),
            helper.make_node("ReduceMax", ["rows", "last"], ["little"], keepdims=0),
            helper.make_node("Add", ["INPUT", "little"], ["almost"]),
            helper.make_node("Add", ["almost", "number"], ["OUTPUT"]),
        ],
        [info("INPUT", TensorProto.FLOAT, ["N", size])],
        [info("OUTPUT", TensorProto.FLOAT, ["N", size])],
        [
            helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True),
            helper.make_tensor("last", TensorProto.INT64, [1], [2]),
            helper.make_tensor("number", TensorProto.FLOAT, [1], [number]),
        ],
    )
    return built.SerializeToString()


def _broken(number: int) -> tuple[bytes | None, str]:
    """The file of a version that must not serve, None for none, and what its reason says."""
    whole = _tells_its_version(number)
    kinds: list[tuple[bytes | None, str]] = [
        (whole[: len(whole) // 2], "model.onnx"),
        (_tells_its_version(number, size=2), "has dims [2], had [1]"),
        (None, "unable to find"),
        (_tells_its_version(float("nan")), "NaN or infinity in 'OUTPUT'"),
    ]
    return kinds[number // BROKEN_EACH % len(kinds)]


def _is_broken(number: int) -> bool:
    return number % BROKEN_EACH == 0


@dataclass
class Load:
    """Callers that ask without naming a version for as long as it is entered, and one that asks for readiness."""

    address: str
    answers: list[list[tuple[float, int]]] = field(default_factory=lambda: [[] for _ in range(CALLERS)])
    failures: list[str] = field(default_factory=list)
    unready: list[str] = field(default_factory=list)
    looks: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [
            threading.Thread(target=self._call, args=(answers,), daemon=True) for answers in self.answers
        ]
        self._threads.append(threading.Thread(target=self._watch, daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, answers: list[tuple[float, int]]) -> None:
        with triton.InferenceServerClient(self.address) as client:
            value = np.zeros((1, 1), np.float32)
            tensor = triton.InferInput("INPUT", [1, 1], "FP32")
            while not self._stop.is_set():
                value += 1
                value %= 1_000
                tensor.set_data_from_numpy(value)
                try:
                    result = client.infer("m", [tensor])
                    added = float(result.as_numpy("OUTPUT")[0, 0] - value[0, 0])
                    answers.append((added, int(result.get_response().model_version)))
                except Exception as error:  # noqa: BLE001  # any is what must not happen
                    self.failures.append(str(error))

    def _watch(self) -> None:
        with triton.InferenceServerClient(self.address) as client:
            while not self._stop.wait(0.02):
                self.looks += 1
                self.unready += ["server"] * (not client.is_server_ready())
                self.unready += ["model"] * (not client.is_model_ready("m"))


def _until_seen(client: triton.InferenceServerClient, number: int, state: str) -> str:
    """Wait until a version is in that state; its reason."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for entry in client.get_model_repository_index().models:
            if entry.version == str(number) and entry.state == state:
                return str(entry.reason)
        time.sleep(0.02)
    raise AssertionError(f"version {number} is not {state}: {client.get_model_repository_index()}")


def _bring(repository: Path, staging: Path, number: int, content: bytes | None) -> None:
    """Put a version there: by renaming or, every third time, file by file."""
    folder = staging / str(number)
    folder.mkdir()
    if content is not None:
        (folder / "model.onnx").write_bytes(content)
    target = repository / "m" / str(number)
    if number % 3:
        folder.rename(target)
    else:
        shutil.copytree(folder, target)


def _rss_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123  # not a file of any disk
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "m"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text('backend: "onnxruntime"\nmax_batch_size: 4\ndynamic_batching {}\n')
    (folder / "1" / "model.onnx").write_bytes(_tells_its_version(1))
    (tmp_path / "staging").mkdir()
    return tmp_path / "models"


@pytest.fixture
def served(repository: Path) -> Iterator[ServerProcess]:
    with ServerProcess(repository, *FLAGS) as server:
        yield server


def _swap(
    client: triton.InferenceServerClient, repository: Path, staging: Path, number: int, serving: int
) -> int:
    """Bring version `number` and wait until it serves, or is refused; the version that serves then."""
    folder = repository / "m"
    if not _is_broken(number):
        _bring(repository, staging, number, _tells_its_version(number))
        _until_seen(client, number, "READY")
        if number % 2:  # the folders of versions that served are the owner's to keep or to remove
            shutil.rmtree(folder / str(serving))
        return number
    content, words = _broken(number)
    _bring(repository, staging, number, content)
    assert words in _until_seen(client, number, "UNAVAILABLE")
    shutil.rmtree(folder / str(number))
    return serving


def _freed(served: ServerProcess) -> set[str]:
    """The versions that the server has let go of, by its log."""
    return {line["model"] for line in served.log if line["event"] == "model version unloaded"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fifty_swaps_under_load_lose_no_request_and_no_memory(
    repository: Path, served: ServerProcess, tmp_path: Path
) -> None:
    """Ten of them are to versions that are cut short, of another shape, empty, or that answer NaN.

    The server is ready all the while; each answer is of the version that it names; no caller is ever sent back
    to an older one; what was replaced is freed.
    """
    address = served.address()
    began = time.monotonic()
    serving, rss = 1, {0: _rss_kib(served.process.pid)}
    with triton.InferenceServerClient(address) as client, Load(address) as load:
        for swap in range(1, SWAPS + 1):
            serving = _swap(client, repository, tmp_path / "staging", swap + 1, serving)
            if swap in (10, SWAPS):
                rss[swap] = _rss_kib(served.process.pid)
        deadline = time.monotonic() + PATIENCE_S
        counts = [len(answers) for answers in load.answers]
        while time.monotonic() < deadline and any(
            len(answers) == count for answers, count in zip(load.answers, counts, strict=True)
        ):
            time.sleep(0.02)
    took_s = time.monotonic() - began
    good = {number for number in range(1, SWAPS + 2) if not _is_broken(number)}
    while len(freed := _freed(served)) < len(good) - 1 and time.monotonic() < deadline:
        time.sleep(0.02)  # the last one answers what it has accepted first
    answered = sum(map(len, load.answers))
    print(  # noqa: T201  # with -s: the figures
        f"\n{SWAPS} swaps, {SWAPS + 1 - len(good)} to broken versions, in {took_s:.1f} s on {os.cpu_count()} CPUs: "
        f"{answered} requests ({answered / took_s:.0f}/s), {len(load.failures)} failed, "
        f"{load.looks} looks at readiness, {len(load.unready)} not ready; resident KiB {rss}; {len(freed)} freed"
    )
    assert load.failures == []
    assert load.unready == []
    assert load.looks > 0
    for answers in load.answers:
        assert all(added == version for added, version in answers)
        versions = [version for _, version in answers]
        assert versions == sorted(versions)
        assert set(versions) <= good
        assert versions[-1] == serving == max(good)
    assert freed == {f"m/{number}" for number in good - {serving}}
    assert rss[SWAPS] - rss[10] < RSS_MARGIN_KIB

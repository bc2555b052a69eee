"""Which version answers whom, as Triton's own clients and Naiad's see it: versions that tell themselves apart."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from queue import Queue
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pytest
import tritonclient.grpc as triton
from support.processes import ServerProcess
from support.repositories import add_model
from support.sequences import STATE
from support.servers import address, server
from support.stock_clients import CLIENTS, PATIENCE_S, Endpoints, StockClient, connect
from support.versions import (
    FACES_CONFIG,
    PLAIN_CONFIG,
    POLLING,
    Reports,
    grid_detector,
    photos,
    sums_from,
    tells_its_version,
    write_experiment,
    write_raw_experiment,
)
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm
from typer.testing import CliRunner

from naiad.cli.main import app
from naiad.config.experiment_reader import read_experiment
from naiad.lifecycle.experiments.assignment import Routes
from naiad_client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from naiad.app import NaiadServer

SEQUENCE_CONFIG = f"""
max_batch_size: 4
input [ {{ name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
sequence_batching {{ max_sequence_idle_microseconds: 60000000 {STATE % ""} }}
"""
ANY_INTERFACE = 'parameters { key: "naiad.allow_interface_change" value { string_value: "true" } }\n'
CACHED_CONFIG = f"{PLAIN_CONFIG}response_cache {{ enable: true }}\n"
PLAIN_MODELS = (
    "shares",
    "three",
    "keys",
    "moves",
    "listed",
    "named",
    "ramp",
    "stream",
    "shared",
    "spoilt",
    "ends",
)
ALL_TO_1 = {"weights": {"1": 100, "2": 0}}
ALL_TO_2 = {"weights": {"1": 0, "2": 100}}
SIGMAS = 5.5
"""A share that strays further from its weight than so many standard deviations does so once in 26 million runs."""


class Answer(NamedTuple):
    """What was added to the input, and the version that the answer names."""

    added: float
    version: int


class Rig(NamedTuple):
    """A server in mode poll, what it tells of experiments, and its repository."""

    endpoints: Endpoints
    repository: Path
    reports: Reports
    process: ServerProcess

    def put(self, name: str, **fields: Any) -> None:
        """Have an experiment in force."""
        self.reports.wait_until_in_force(name, write_experiment(self.repository / name, **fields))

    def expected(self, name: str, key: str) -> int:
        """The version that a key gets by what the file says."""
        config = read_experiment(self.repository / name)
        assert config is not None
        version = Routes(config, ready=config.versions, now=time.time()).choose(key)
        assert version is not None
        return version

    def key_of(self, name: str, version: int, start: int = 0) -> str:
        """Some key that gets that version."""
        keys = (f"caller-{number}" for number in range(start, start + 10_000))
        return next(key for key in keys if self.expected(name, key) == version)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    repository = tmp_path_factory.mktemp("versions")
    for name in PLAIN_MODELS:
        add_model(repository, name, {number: tells_its_version(number) for number in (1, 2, 3)}, PLAIN_CONFIG)
    # The second one takes rows of any length, so that its config is another one.
    unlike = {1: tells_its_version(1), 2: tells_its_version(2, size=None)}
    add_model(repository, "unlike", unlike, PLAIN_CONFIG + ANY_INTERFACE)
    add_model(repository, "cached", {1: tells_its_version(1), 2: tells_its_version(2)}, CACHED_CONFIG)
    add_model(repository, "sequence", {1: sums_from(1), 2: sums_from(1_000)}, SEQUENCE_CONFIG)
    add_model(repository, "faces", {1: grid_detector(score=0.9), 2: grid_detector(score=0.7)}, FACES_CONFIG)
    for folder in repository.iterdir():
        write_experiment(folder, **ALL_TO_1)
    flags = (
        *POLLING,
        "--allow-client-shm=true",
        "--cache-config=local,size=1048576",
        "--experiment-interval-secs=0.2",
        "--allow-experiment-decisions=true",
    )
    with ServerProcess(repository, *flags) as process:
        endpoints = Endpoints.of(process)
        with Reports(endpoints.grpc) as reports:
            yield Rig(endpoints, repository, reports, process)


@pytest.fixture
def client(rig: Rig) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(rig.endpoints.grpc) as connected:
        yield connected


@pytest.fixture(params=CLIENTS)
async def stock(request: pytest.FixtureRequest, rig: Rig) -> AsyncIterator[StockClient]:
    """Each of the four clients."""
    async with connect(request.param, rig.endpoints) as connected:
        yield connected


def tensor(value: float = 0.0) -> Any:
    made = triton.InferInput("INPUT", [1, 1], "FP32")
    made.set_data_from_numpy(np.full((1, 1), value, np.float32))
    return made


def told(result: Any, value: float = 0.0) -> Answer:
    """An answer of either module of Triton's client; both of its parts tell the version."""
    response = result.get_response()
    version = response["model_version"] if isinstance(response, dict) else response.model_version
    return Answer(float(result.as_numpy("OUTPUT").flat[0]) - value, int(version))


def ask(client: triton.InferenceServerClient, model: str, value: float = 0.0, **options: Any) -> int:
    """The version that answers a request; both of its parts must name the same one."""
    answer = told(client.infer(model, [tensor(value)], **options), value)
    assert answer.added == answer.version
    return answer.version


async def asked(client: StockClient, model: str, **options: Any) -> int:
    answer = told(await client.infer(model, {"INPUT": np.zeros((1, 1), np.float32)}, **options))
    assert answer.added == answer.version
    return answer.version


def assert_shares(found: Sequence[int], weights: dict[int, float]) -> None:
    """Each version has as many of the answers as its weight says, as far as draws can tell."""
    counts = Counter(found)
    assert set(counts) <= set(weights)
    for version, weight in weights.items():
        spread = (len(found) * weight * (1 - weight)) ** 0.5
        assert abs(counts[version] - len(found) * weight) <= SIGMAS * spread, (counts, weights)


# --- who gets which version -------------------------------------------------------------------------------------------


async def test_requests_without_a_key_are_shared_out_by_the_weights(rig: Rig, stock: StockClient) -> None:
    rig.put("three", weights={"1": 5, "2": 3, "3": 2})
    found = [await asked(stock, "three") for _ in range(300)]
    assert_shares(found, {1: 0.5, 2: 0.3, 3: 0.2})


@pytest.mark.parametrize("model", ["shares", "unlike"])
def test_the_short_way_and_the_long_one_share_out_alike(
    rig: Rig, client: triton.InferenceServerClient, model: str
) -> None:
    """From its second request on, a kind goes the short way; one that asks for an explanation never does.

    The versions of `unlike` have other configs: what was learnt of one does not hold for the other, and a
    request that is handed over to the long way must not be drawn for twice for ever.
    """
    rig.put(model, weights={"1": 80, "2": 20})
    short = [ask(client, model) for _ in range(500)]
    long = [ask(client, model, parameters={"naiad_explain": True}) for _ in range(500)]
    assert_shares(short, {1: 0.8, 2: 0.2})
    assert_shares(long, {1: 0.8, 2: 0.2})


async def test_a_key_gets_the_version_that_its_hash_says(rig: Rig, stock: StockClient) -> None:
    """In metadata or headers, or as a parameter of the request, also one that no header can hold."""
    rig.put("keys", weights={"1": 60, "2": 40})
    keys = [f"caller-{number}" for number in range(40)]
    expected = {key: rig.expected("keys", key) for key in keys}
    assert set(expected.values()) == {1, 2}
    by_header = {key: await asked(stock, "keys", headers={"x-naiad-key": key}) for key in keys}
    assert by_header == expected
    by_parameter = {key: await asked(stock, "keys", parameters={"naiad_key": key}) for key in keys}
    assert by_parameter == expected
    for key in ("Jürgen", "漢字", "a b\tc", "42"):
        assert await asked(stock, "keys", parameters={"naiad_key": key}) == rig.expected("keys", key)
    assert await asked(stock, "keys", parameters={"naiad_key": 42}) == rig.expected("keys", "42")


async def test_the_call_s_key_goes_before_the_request_s(rig: Rig, stock: StockClient) -> None:
    rig.put("keys", weights={"1": 60, "2": 40})
    first, second = rig.key_of("keys", 1), rig.key_of("keys", 2)
    for header, parameter, version in ((first, second, 1), (second, first, 2)):
        options = {"headers": {"x-naiad-key": header}, "parameters": {"naiad_key": parameter}}
        assert await asked(stock, "keys", **options) == version
    assert await asked(stock, "keys", parameters={"naiad_key": second}) == 2


async def test_a_key_s_version_is_the_same_on_a_second_server_and_after_a_restart(
    rig: Rig, tmp_path: Path
) -> None:
    """The replica has a copy of the folder in a place of its own, and nothing else in common."""
    rig.put("keys", weights={"1": 70, "2": 30})
    shutil.copytree(rig.repository / "keys", tmp_path / "keys")
    keys = [f"camera-{number}" for number in range(150)]
    expected = {key: rig.expected("keys", key) for key in keys}
    async with connect("grpc.aio", rig.endpoints) as first:
        assert await by_key(first, keys) == expected
    for _ in range(2):
        async with server(tmp_path) as replica, connect("grpc.aio", endpoints_of(replica)) as second:
            assert await by_key(second, keys) == expected


def endpoints_of(running: NaiadServer) -> Endpoints:
    return Endpoints(address(running), "", "", 0)


async def by_key(client: StockClient, keys: Sequence[str], model: str = "keys") -> dict[str, int]:
    found = (asked(client, model, headers={"x-naiad-key": key}) for key in keys)
    return dict(zip(keys, await asyncio.gather(*found), strict=True))


async def test_a_larger_share_moves_keys_from_the_baseline_to_the_candidate_alone(rig: Rig) -> None:
    keys = [f"user-{number}" for number in range(500)]
    async with connect("grpc.aio", rig.endpoints) as client:
        rig.put("moves", weights={"1": 90, "2": 10})
        before = await by_key(client, keys, "moves")
        rig.put("moves", weights={"1": 80, "2": 20})
        after = await by_key(client, keys, "moves")
    moved = {(before[key], after[key]) for key in keys if before[key] != after[key]}
    assert moved == {(1, 2)}
    assert_shares(list(before.values()), {1: 0.9, 2: 0.1})
    assert_shares(list(after.values()), {1: 0.8, 2: 0.2})


def test_listed_keys_get_their_version_whatever_the_weights(
    rig: Rig, client: triton.InferenceServerClient
) -> None:
    rig.put("listed", weights={"1": 100, "2": 0}, keys={"2": ["alice", "camera-7"]})
    for key, version in (("alice", 2), ("camera-7", 2), ("bob", 1)):
        assert {ask(client, "listed", headers={"x-naiad-key": key}) for _ in range(5)} == {version}
        assert ask(client, "listed", parameters={"naiad_key": key}) == version


async def test_the_version_that_a_call_names_goes_before_weights_and_keys(
    rig: Rig, stock: StockClient
) -> None:
    """For all models, or for one of them by its name; also one that the experiment gives nothing."""
    rig.put("named", weights={"1": 100, "2": 0}, keys={"1": ["alice"]})
    for text, version in (
        ("2", 2),
        ("named=2", 2),
        ("other=3, named=2", 2),
        ("other=2", 1),
        ("named=1,2", 1),
    ):
        assert await asked(stock, "named", headers={"x-naiad-version": text}) == version
    assert await asked(stock, "named", headers={"x-naiad-version": "2", "x-naiad-key": "alice"}) == 2
    # What the request itself names is asked for more plainly still.
    assert await asked(stock, "named", headers={"x-naiad-version": "2"}, model_version="1") == 1


async def test_a_version_that_is_not_there_or_is_none_is_refused(rig: Rig, stock: StockClient) -> None:
    rig.put("named", **ALL_TO_1)
    for text, grpc_code, http_code, words in (
        ("7", "NOT_FOUND", 404, "version 7 is not found"),
        (
            "two",
            "INVALID_ARGUMENT",
            400,
            "x-naiad-version is 'two', it must be a version such as 2, or NAME=2",
        ),
    ):
        with pytest.raises(InferenceServerException, match=words) as refusal:
            await asked(stock, "named", headers={"x-naiad-version": text})
        assert refusal.value.status() == stock.status(grpc_code, http_code)
    assert await asked(stock, "named") == 1  # the connection lives on


def test_a_step_of_the_ramp_is_in_force_at_its_time(rig: Rig, client: triton.InferenceServerClient) -> None:
    at_s = time.time() + 2.0
    at = datetime.fromtimestamp(at_s, UTC).isoformat()
    rig.put("ramp", weights={"1": 100, "2": 0}, ramp=[{"at": at, "weights": {"1": 0, "2": 100}}])
    assert rig.reports.of("ramp").next_change_at == pytest.approx(at_s, abs=1e-3)
    until = time.monotonic() + PATIENCE_S
    began, version = time.time(), ask(client, "ramp")
    assert (version, began < at_s) == (1, True)
    while version == 1:
        assert time.monotonic() < until
        began, version = time.time(), ask(client, "ramp")
    assert time.time() >= at_s
    print(f"\nthe step was in force {1_000 * max(0.0, began - at_s):.0f} ms after its time")  # noqa: T201  # with -s
    assert {ask(client, "ramp") for _ in range(20)} == {2}
    assert not rig.reports.of("ramp").HasField("next_change_at")


# --- what never changes midway ----------------------------------------------------------------------------------------


class Stream:
    """A stream of a stock client, which is asked one request after the other. A context manager."""

    def __init__(self, rig: Rig, **options: Any) -> None:
        self._client = triton.InferenceServerClient(rig.endpoints.grpc)
        self._answers: Queue[tuple[Any, Any]] = Queue()
        self._options = options

    def __enter__(self) -> Self:
        self._client.start_stream(lambda result, error: self._answers.put((result, error)), **self._options)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_stream()
        self._client.close()

    def infer(self, model: str, inputs: list[Any], **options: Any) -> Any:
        """The answer to a request."""
        self._client.async_stream_infer(model, inputs, **options)
        result, error = self._answers.get(timeout=PATIENCE_S)
        assert error is None, error
        return result

    def ask(self, model: str = "stream", **options: Any) -> int:
        """The version that answers one; both of its parts must name the same one."""
        answer = told(self.infer(model, [tensor()], **options))
        assert answer.added == answer.version
        return answer.version


def test_a_stream_of_requests_never_changes_its_version_and_a_new_one_does(rig: Rig) -> None:
    rig.put("stream", **ALL_TO_1)
    with Stream(rig) as old, Stream(rig, headers={"x-naiad-key": "alice"}) as named:
        before = {each.ask() for each in (old, named) for _ in range(5)}
        rig.put("stream", **ALL_TO_2)
        with Stream(rig) as new:
            assert {new.ask() for _ in range(5)} == {2}
            assert {each.ask() for each in (old, named) for _ in range(5)} == before == {1}
            # A request that says who asks does not follow the stream that it came by.
            assert old.ask(parameters={"naiad_key": "bob"}) == 2
            assert old.ask() == 1
        rig.put("stream", **ALL_TO_1)
        assert old.ask() == 1


def test_a_stream_leaves_a_version_that_is_rolled_back(rig: Rig) -> None:
    rig.put("stream", **ALL_TO_2)
    with Stream(rig) as stream:
        assert stream.ask() == 2
        rig.reports.decide("stream", "ROLL_BACK", 2)
        assert stream.ask() == 1
        rig.reports.decide("stream", "RESUME", 2)
        assert stream.ask() == 1


def test_a_video_stream_leaves_a_version_that_is_rolled_back_and_loses_no_frame(rig: Rig) -> None:
    (picture,) = photos(1, seed=1)
    rig.put("faces", **ALL_TO_2)
    with (
        Client(rig.endpoints.grpc, color="rgb") as client,
        client.open_stream("detect", model="faces") as stream,
    ):
        results = iter(stream)
        found = []
        for number in range(8):
            stream.send(picture)
            found.append(next(results).unwrap().version)
            if number == 3:
                rig.reports.decide("faces", "ROLL_BACK", 2)
    assert found[:4] == ["2"] * 4
    assert found[-1] == "1"
    assert found == sorted(found, reverse=True)
    rig.reports.decide("faces", "RESUME", 2)


def test_streams_are_shared_out_by_the_weights(rig: Rig) -> None:
    rig.put("stream", weights={"1": 50, "2": 50})
    found = []
    for _ in range(60):
        with Stream(rig) as stream:
            first, *more = (stream.ask() for _ in range(4))
            assert set(more) == {first}
            found.append(first)
    assert_shares(found, {1: 0.5, 2: 0.5})


def test_a_video_stream_never_changes_its_version_and_a_new_one_does(rig: Rig) -> None:
    """Every frame tells it twice: by the version of its result and by the scores of its faces."""
    (picture,) = photos(1, seed=1)

    def frame(stream: Any, results: Iterator[Any]) -> str:
        stream.send(picture)
        found = next(results).unwrap()
        assert {round(face.score, 2) for face in found.faces} == {{"1": 0.9, "2": 0.7}[found.version]}
        return str(found.version)

    rig.put("faces", **ALL_TO_1)
    with (
        Client(rig.endpoints.grpc, color="rgb") as client,
        client.open_stream("detect", model="faces") as old,
    ):
        old_results = iter(old)
        assert {frame(old, old_results) for _ in range(4)} == {"1"}
        rig.put("faces", **ALL_TO_2)
        with client.open_stream("detect", model="faces") as new:
            new_results = iter(new)
            for _ in range(4):
                assert (frame(old, old_results), frame(new, new_results)) == ("1", "2")
        assert client.detect(picture, model="faces").version == "2"


class Sequence7:
    """One sequence of the model that sums, by whatever sends its steps."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self.last = 0

    def step(self, **flags: bool) -> int:
        """The version that answers the next step; its sum has gone on from that of the step before."""
        value = triton.InferInput("INPUT", [1, 1], "INT32")
        value.set_data_from_numpy(np.zeros((1, 1), np.int32))
        result = self._send("sequence", [value], sequence_id=7, **flags)
        total, before = int(result.as_numpy("OUTPUT").item()), 0 if "sequence_start" in flags else self.last
        self.last = total
        version = int(result.get_response().model_version)
        assert total - before == {1: 1, 2: 1_000}[version]
        return version


@pytest.mark.parametrize("by_stream", [False, True], ids=["calls", "stream"])
def test_a_sequence_never_changes_its_version_and_a_new_one_does(
    rig: Rig, client: triton.InferenceServerClient, *, by_stream: bool
) -> None:
    rig.put("sequence", **ALL_TO_1)
    with Stream(rig) as stream:
        sequence = Sequence7(stream.infer if by_stream else client.infer)
        before = [sequence.step(sequence_start=True), sequence.step()]
        rig.put("sequence", **ALL_TO_2)
        assert [*before, sequence.step(), sequence.step(sequence_end=True)] == [1, 1, 1, 1]
        assert [sequence.step(sequence_start=True), sequence.step(sequence_end=True)] == [2, 2]


# --- other ways of asking ---------------------------------------------------------------------------------------------


def test_requests_in_shared_memory_are_shared_out_and_answered_by_the_version_that_they_name(
    rig: Rig, client: triton.InferenceServerClient
) -> None:
    """Also while a shadow is sent copies of them: their memory is the client's again once it is answered."""
    rig.put("shared", weights={"1": 60, "2": 40}, shadow={"version": 2, "budget": 4})
    name = f"naiad_{uuid.uuid4().hex}"
    handle = shm.create_shared_memory_region(name, f"/{name}", 8)
    client.register_system_shared_memory(name, f"/{name}", 8)
    try:
        source = triton.InferInput("INPUT", [1, 1], "FP32")
        source.set_shared_memory(name, 4)
        target = triton.InferRequestedOutput("OUTPUT")
        target.set_shared_memory(name, 4, 4)
        found = []
        for value in range(400):
            shm.set_shared_memory_region(handle, [np.array([value], np.float32)])
            answer = client.infer("shared", [source], outputs=[target]).get_response()
            added = shm.get_contents_as_numpy(handle, np.float32, [1], 4)[0] - value
            found.append(int(answer.model_version))
            assert added == found[-1]
        assert_shares(found, {1: 0.6, 2: 0.4})
    finally:
        client.unregister_system_shared_memory(name)
        shm.destroy_shared_memory_region(handle)


def test_a_cached_answer_is_of_the_version_that_it_names(
    rig: Rig, client: triton.InferenceServerClient
) -> None:
    """The same few inputs over and over: each version has answers of its own, and hits are shared out too."""
    rig.put("cached", weights={"1": 50, "2": 50})
    found = [ask(client, "cached", value=number % 5) for number in range(300)]
    assert_shares(found, {1: 0.5, 2: 0.5})
    hits = {
        int(each.version): each.inference_stats.cache_hit.count
        for each in client.get_inference_statistics("cached").model_stats
    }
    assert min(hits.values()) > 0
    assert sum(hits.values()) >= 300 - 2 * 5


# --- files that are broken, and gone ----------------------------------------------------------------------------------


async def test_a_broken_candidate_at_the_start_leaves_the_baseline_serving(tmp_path: Path) -> None:
    """The report says that it is not ready; when its file is mended, it gets its share."""
    whole = tells_its_version(2).SerializeToString()
    folder = add_model(tmp_path, "m", {1: tells_its_version(1), 2: whole[: len(whole) // 2]}, PLAIN_CONFIG)
    write_experiment(folder, weights={"1": 50, "2": 50})
    polling = {"model_control_mode": "poll", "repository_poll_secs": 0.2, "repository_quiet_secs": 0.1}
    async with server(tmp_path, **polling) as running, connect("grpc.aio", endpoints_of(running)) as client:
        assert await client.call("is_model_ready", "m")
        assert {await asked(client, "m") for _ in range(30)} == {1}
        assert await asked(client, "m", headers={"x-naiad-key": "alice"}) == 1
        command = ["ab", "report", "m", "--address", address(running)]
        report = await asyncio.to_thread(CliRunner().invoke, app, command)
        assert report.exit_code == 0
        assert "not ready" in report.stdout
        (folder / "2" / "model.onnx").write_bytes(whole)
        until = time.monotonic() + PATIENCE_S
        while await asked(client, "m") == 1:
            assert time.monotonic() < until
        assert_shares([await asked(client, "m") for _ in range(100)], {1: 0.5, 2: 0.5})


def test_a_broken_file_leaves_the_old_one_in_force_and_the_log_says_why(
    rig: Rig, client: triton.InferenceServerClient
) -> None:
    rig.put("spoilt", **ALL_TO_1)
    digest = rig.reports.of("spoilt").digest
    for text, reason in (
        ('{"weights": {"1": 0, "2": 100}', "experiment.json"),
        ('{"wieghts": {"1": 0, "2": 100}}', "did you mean weights"),
        ('{"weights": {"1": 0, "2": -1}}', "weights.2 is -1, it must be 0 or more"),
    ):
        write_raw_experiment(rig.repository / "spoilt", text)
        refusal = next_refusal(rig, "spoilt", reason)
        assert reason in refusal["reason"]
        assert {ask(client, "spoilt") for _ in range(10)} == {1}
        assert rig.reports.of("spoilt").digest == digest
    assert client.is_model_ready("spoilt")
    rig.put("spoilt", **ALL_TO_2)
    assert {ask(client, "spoilt") for _ in range(10)} == {2}


def next_refusal(rig: Rig, model: str, reason: str) -> dict[str, Any]:
    """The log line that tells why a file of that model is not in force."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        for line in rig.process.log:
            if line.get("model") == model and reason in line.get("reason", ""):
                return line
        time.sleep(0.02)
    raise AssertionError([line for line in rig.process.log if line.get("model") == model])


def test_an_experiment_ends_with_its_file_and_the_latest_version_answers(
    rig: Rig, client: triton.InferenceServerClient
) -> None:
    """As in Triton: the version policy counts again, which keeps the latest one."""
    rig.put("ends", weights={"1": 100, "2": 0})
    assert "ends" in rig.reports.models()
    assert {ask(client, "ends", headers={"x-naiad-key": str(number)}) for number in range(20)} == {1}
    (rig.repository / "ends" / "experiment.json").unlink()
    until = time.monotonic() + PATIENCE_S
    while "ends" in rig.reports.models():
        assert time.monotonic() < until
        time.sleep(0.02)
    assert {ask(client, "ends", headers={"x-naiad-key": str(number)}) for number in range(20)} == {3}
    assert {entry.version for entry in ready(client, "ends")} == {"3"}


def ready(client: triton.InferenceServerClient, model: str) -> list[Any]:
    """The index's lines of a model's versions that serve."""
    index = client.get_model_repository_index().models
    return [entry for entry in index if entry.name == model and entry.state == "READY"]

"""One set of calls, three ways: Naiad; Naiad's client with a plain Triton; Naiad in front of a Triton.

Triton is a second Naiad here, of which only Triton's own protocol is used. A real one is asked in
`tests/conformance/test_real_triton.py`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import structlog
from support.onnx_models import add_sub
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import address, server
from support.vision_models import (
    BOX,
    DETECTOR_CONFIG,
    EMBEDDER_CONFIG,
    LANDMARKS,
    brightness_detector,
    color_embedder,
)
from tritonclient.grpc import aio as triton

import naiad_client
from naiad.core.errors import CancelledError, InvalidArgumentError
from naiad.runtime.remote.fleet import Fleet
from naiad.runtime.remote.loader import RemoteEngine
from naiad_client import aio
from naiad_client.triton.models import TritonModels, Wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from naiad.app import NaiadServer
    from naiad_client.modes import Mode

WAYS = ("naiad", "client", "auto", "engine")
SMALL_REQUEST_BYTES = 64 * 1024


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The client takes the service's log off stdout, for the whole process."""
    yield
    structlog.reset_defaults()


def picture(red: int, green: int, blue: int, width: int = 128, height: int = 128) -> np.ndarray:
    """One colour all over, BGR."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = (blue, green, red)
    return pixels


def add_models(folder: Path, *, with_files: bool = True) -> None:
    folder.mkdir()
    files: Any = {1: brightness_detector()} if with_files else {}
    add_model(folder, "detector", files, DETECTOR_CONFIG)
    files = {1: color_embedder()} if with_files else {}
    add_model(folder, "embedder", files, EMBEDDER_CONFIG)


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    """What stands for Triton; it lets clients share memory."""
    add_models(tmp_path / "models")
    async with server(tmp_path / "models", allow_client_shm=True) as started:
        yield started


@pytest.fixture(params=WAYS)
async def client(
    request: pytest.FixtureRequest, behind: NaiadServer, tmp_path: Path
) -> AsyncIterator[aio.Client]:
    async with AsyncExitStack() as stack:
        target = behind
        if request.param == "engine":
            add_models(tmp_path / "configs", with_files=False)
            front = server(tmp_path / "configs", engine=f"triton://{address(behind)}")
            target = await stack.enter_async_context(front)
        modes: dict[str, Mode] = {"client": "triton", "auto": "auto"}
        mode = modes.get(request.param, "naiad")
        yield await stack.enter_async_context(aio.Client(address(target), color="bgr", mode=mode))


async def test_each_way_finds_the_same_faces(client: aio.Client) -> None:
    """Boxes and landmarks in pixels of the original, scores of the picture's own brightness."""
    answers = await asyncio.gather(*(client.detect(picture(v, v, v)) for v in range(10, 250, 10)))
    for value, answer in zip(range(10, 250, 10), answers, strict=True):
        [face] = answer.faces
        assert face.box == tuple(2 * side for side in BOX)
        assert face.landmarks is not None
        np.testing.assert_allclose(face.landmarks, [(2 * x, 2 * y) for x, y in LANDMARKS])
        assert face.score == pytest.approx(value / 255, abs=0.01)
        assert (answer.model, answer.version) == ("detector", "1")
        assert (answer.image_width, answer.image_height) == (128, 128)


async def test_each_way_embeds_the_same_vectors(client: aio.Client) -> None:
    """Eleven faces of a model of four a batch, in their order."""
    image = picture(10, 20, 30, 400, 400)
    landmarks = np.array(LANDMARKS, np.float32) + np.arange(50, 160, 10, dtype=np.float32)[:, None, None]
    answer = await client.embed(image, list(landmarks))
    assert answer.embeddings.shape == (11, 3)
    np.testing.assert_allclose(answer.embeddings, [[10, 20, 30]] * 11, atol=1)


async def test_each_way_streams(client: aio.Client) -> None:
    """Frames in their order, with options, each frame's own answer."""
    values = list(range(20, 220, 20))
    frames = [picture(v, v, v) for v in values]
    scores = [frame.unwrap().faces[0].score async for frame in client.stream_detect(frames)]
    assert scores == pytest.approx([value / 255 for value in values], abs=0.01)


async def test_each_way_analyzes_and_compares(client: aio.Client) -> None:
    """Two models in one call: found, aligned, embedded; and a face compared with another and with itself."""
    red, blue = picture(200, 20, 20), picture(20, 20, 200)
    answer = await client.analyze(red)
    assert (answer.detector, answer.embedder, answer.embedded) == ("detector", "embedder", 1)
    [face] = answer.faces
    assert face.embedding is not None
    assert face.embedding[0] > 5 * face.embedding[2]
    same, other = await client.compare(red, red), await client.compare(red, blue)
    assert same.similarity == pytest.approx(1, abs=1e-5)
    assert other.similarity < 0.5


async def test_each_way_keeps_a_streams_contract(client: aio.Client) -> None:
    """Tracks, credit and the account of frames: all of a stream with a contract."""
    async with client.open_stream("analyze", tracks=True) as stream:
        for value in range(20, 120, 20):
            await stream.send(picture(value, value, value))
        stream.finish()
        results = [result async for result in stream]
    assert [result.frame_id for result in results] == list(range(5))
    assert {face.track_id for result in results for face in result.unwrap().faces} == {1}
    assert stream.account.answered == 5


async def test_each_way_refuses_alike(client: aio.Client) -> None:
    with pytest.raises(naiad_client.NotFoundError):
        await client.detect(picture(1, 1, 1), model="nobody")
    with pytest.raises(naiad_client.InvalidArgumentError, match="has no naiad.task 'detect'"):
        await client.detect(picture(1, 1, 1), model="embedder")
    with pytest.raises(naiad_client.InvalidArgumentError, match="unknown format"):
        await client.detect(b"this is no picture")


async def test_tensors_to_a_triton_of_this_machine_go_by_shared_memory(behind: NaiadServer) -> None:
    """An embedding's crops are larger than what gRPC carries as fast; the answers are those of gRPC."""
    image = picture(10, 20, 30, 400, 200)
    faces = [np.array(LANDMARKS, np.float32) + 50] * 4
    async with aio.Client(address(behind), color="bgr", mode="triton") as client:
        first = await client.embed(image, faces)
        second = await client.embed(image[:, :, ::-1].copy(), faces)
        assert client.transports() == {address(behind): "system shared memory"}
        async with triton.InferenceServerClient(address(behind)) as stock:
            regions = (await stock.get_system_shared_memory_status()).regions
    assert len(regions) >= 1
    assert all(region.byte_size > SMALL_REQUEST_BYTES for region in regions.values())
    np.testing.assert_allclose(first.embeddings, [[10, 20, 30]] * 4, atol=1)
    np.testing.assert_allclose(second.embeddings, [[30, 20, 10]] * 4, atol=1)
    async with triton.InferenceServerClient(address(behind)) as stock:
        assert not (await stock.get_system_shared_memory_status()).regions  # given back


async def test_a_triton_that_shares_no_memory_gets_the_tensors_by_grpc(tmp_path: Path) -> None:
    """And says why."""
    add_models(tmp_path / "models")
    async with (
        server(tmp_path / "models") as behind,
        aio.Client(address(behind), color="bgr", mode="triton") as client,
    ):
        answer = await client.embed(picture(10, 20, 30, 112, 112))
        [transport] = client.transports().values()
    np.testing.assert_allclose(answer.embeddings, [[10, 20, 30]], atol=1)
    assert transport.startswith("gRPC: ")
    assert "--allow-client-shm" in transport


async def test_a_client_sees_that_triton_has_another_version_now(tmp_path: Path) -> None:
    """Its version is unloaded: the call that meets this is tried again, and the new one answers."""
    models = tmp_path / "models"
    add_models(models)
    async with (
        server(models, model_control_mode="explicit", load_model=("detector",)) as behind,
        aio.Client(address(behind), color="bgr", mode="triton", retries=3) as client,
        triton.InferenceServerClient(address(behind)) as stock,
    ):
        assert (await client.detect(picture(5, 5, 5))).version == "1"
        (models / "detector" / "2").mkdir()
        (models / "detector" / "2" / "model.onnx").write_bytes(brightness_detector().SerializeToString())
        await stock.load_model("detector")
        while (await client.detect(picture(5, 5, 5))).version == "1":
            pass
        with pytest.raises(naiad_client.NotFoundError):
            await client.detect(picture(5, 5, 5), version=1, retries=0)


def test_threads_use_a_triton_too(tmp_path: Path) -> None:
    """The synchronous client, whose loop is a thread of its own."""
    add_models(tmp_path / "models")

    def use(target: str) -> None:
        with naiad_client.Client(target, color="bgr", mode="triton") as client:
            assert client.detect(picture(51, 51, 51)).faces[0].score == pytest.approx(0.2, abs=0.01)
            frames = [picture(51, 51, 51)] * 5
            results = list(client.stream_detect(frames))
            assert [frame.frame_id for frame in results] == list(range(5))
            assert all(len(frame.unwrap().faces) == 1 for frame in results)
            with pytest.raises(naiad_client.NotFoundError):
                client.detect(picture(1, 1, 1), model="nobody")

    async def serve() -> None:
        async with server(tmp_path / "models") as behind:
            await asyncio.to_thread(use, address(behind))

    asyncio.run(serve())


async def test_models_of_folders_without_versions_are_those_of_the_engine(tmp_path: Path) -> None:
    """A repository of nothing but configs; tensors are passed on as they are, by the stock client too."""
    (tmp_path / "models").mkdir()
    add_model(
        tmp_path / "models",
        "simple",
        {3: add_sub(), 7: add_sub()},
        ADD_SUB_CONFIG + "version_policy { all {} }",
    )
    (tmp_path / "configs").mkdir()
    add_model(tmp_path / "configs", "simple", {}, "version_policy { all {} }")
    left, right = np.arange(32, dtype=np.int32).reshape(2, 16), np.full((2, 16), 5, np.int32)
    async with (
        server(tmp_path / "models") as behind,
        server(tmp_path / "configs", engine=f"triton://{address(behind)}") as front,
        triton.InferenceServerClient(address(front)) as stock,
    ):
        metadata = await stock.get_model_metadata("simple")
        config = (await stock.get_model_config("simple")).config
        result = await stock.infer("simple", _inputs(left, right), model_version="3")
    assert list(metadata.versions) == ["3", "7"]
    assert config.max_batch_size == 8  # the engine's own, where the config is silent
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)


def _inputs(left: np.ndarray, right: np.ndarray) -> list[Any]:
    tensors = []
    for name, array in (("INPUT0", left), ("INPUT1", right)):
        tensor = triton.InferInput(name, list(array.shape), "INT32")
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return tensors


async def test_a_fleet_goes_on_without_one_of_its_servers(tmp_path: Path) -> None:
    """Of two engines one stops: its turns go to the other, and no call fails."""
    add_models(tmp_path / "models")
    add_models(tmp_path / "configs", with_files=False)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(server(tmp_path / "models"))
        second = server(tmp_path / "models")
        await second.__aenter__()
        engine = f"triton://{address(first)},{address(second)}"
        front = await stack.enter_async_context(server(tmp_path / "configs", engine=engine))
        client = await stack.enter_async_context(aio.Client(address(front), color="bgr", retries=0))
        for _ in range(4):
            await client.detect(picture(51, 51, 51))
        await second.__aexit__(None, None, None)
        answers = await asyncio.gather(*(client.detect(picture(51, 51, 51)) for _ in range(20)))
    assert all(len(answer.faces) == 1 for answer in answers)


async def test_a_model_is_unavailable_with_a_reason_while_its_engine_is_not_there(tmp_path: Path) -> None:
    add_models(tmp_path / "configs", with_files=False)
    async with (
        server(tmp_path / "configs", engine="triton://127.0.0.1:1", exit_on_error=False) as front,
        triton.InferenceServerClient(address(front)) as stock,
    ):
        index = (await stock.get_model_repository_index()).models
        assert {entry.state for entry in index} <= {"UNAVAILABLE", ""}
        assert not await stock.is_model_ready("detector")
    assert all("127.0.0.1:1" in entry.reason for entry in index if entry.reason)


async def test_a_config_that_wants_more_than_the_engine_gives_is_refused(
    behind: NaiadServer, tmp_path: Path
) -> None:
    """Batches larger than the engine takes would fail one by one, when it is busy."""
    (tmp_path / "configs").mkdir()
    add_model(
        tmp_path / "configs",
        "embedder",
        {},
        EMBEDDER_CONFIG.replace("max_batch_size: 4", "max_batch_size: 5"),
    )
    with pytest.raises(InvalidArgumentError, match="not every model could be loaded") as refused:
        async with server(tmp_path / "configs", engine=f"triton://{address(behind)}"):
            pass
    assert "naiad check" not in refused.value.message  # it looks at files, of which there are none


def test_the_mode_needs_its_extra_and_none_of_a_servers_packages() -> None:
    """The extra `triton` has no engine and no front end; without it the error names it.

    In a process where none of them can be imported; one process, because it imports for seconds.
    """
    program = (
        "import sys\n"
        "for name in 'onnx onnxruntime hpack httptools starlette uvicorn typer prometheus_client pynvml'.split():\n"
        "    sys.modules[name] = None\n"
        "sys.modules['tritonclient'] = None\n"
        "import naiad_client\n"
        "try: naiad_client.Client('localhost:1', mode='triton')\n"
        "except naiad_client.UnsupportedError as error: print(error)\n"
        "del sys.modules['tritonclient']\n"
        "naiad_client.Client('localhost:1', mode='triton').close()\n"
        "print('opened')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'naiad[triton]'" in done.stdout
    assert done.stdout.endswith("opened\n")


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
_FRAME_HEAD_BYTES = 9
_HEADERS = 1


async def test_a_stream_that_ends_before_it_begins_is_over(behind: NaiadServer) -> None:
    """Closed in the same turn of the loop as it was opened: nobody waits for it. A closed client opens none."""
    client = aio.Client(address(behind), color="bgr", mode="triton")
    stream = client.open_stream("detect")
    await asyncio.sleep(0)  # the session begins its call
    await client.close()
    with pytest.raises(naiad_client.CancelledError, match="is closed: it makes no more calls"):
        client.open_stream("detect")
    with pytest.raises(naiad_client.CancelledError, match="Channel closed!"):
        async with asyncio.timeout(5):
            await anext(aiter(stream))


def test_threads_that_call_while_another_closes_are_told() -> None:
    """Each call ends, whenever it comes; none waits for a loop that is gone. `close` may be called by several."""
    for _ in range(3):
        client = naiad_client.Client("127.0.0.1:1", color="bgr", mode="triton", retries=0)
        begin = threading.Barrier(6)

        def call(client: naiad_client.Client = client, begin: threading.Barrier = begin) -> str:
            begin.wait()
            for _ in range(200):
                try:
                    client.detect(picture(1, 1, 1, 8, 8))
                except naiad_client.CancelledError:
                    return "told"
                except naiad_client.UnavailableError:
                    continue
            return "never told"

        def close(client: naiad_client.Client = client, begin: threading.Barrier = begin) -> str:
            begin.wait()
            client.close()
            return "closed"

        with ThreadPoolExecutor(6) as pool:
            ends = [pool.submit(work) for work in (call, call, call, call, close, close)]
            assert [end.result(10) for end in ends] == ["told"] * 4 + ["closed"] * 2


async def test_what_is_asked_for_while_the_program_ends_is_cancelled() -> None:
    """Threads take no work any more then: no error of Naiad's own, and nothing is logged as one."""
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    fleet = Fleet(["127.0.0.1:1"])
    with pytest.raises(CancelledError, match="Channel closed!"):
        await TritonModels(RemoteEngine(fleet), threads).prepare(Wanted("detector", None))
    fleet.close()


async def test_closing_a_client_ends_the_calls_under_way() -> None:
    """Of a server that answers nothing: neither the call nor `close` waits for its limit."""
    called, gone = asyncio.Event(), asyncio.Event()

    async def answer_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_SETTINGS)  # until these have come gRPC keeps a connection for 20 s, used or not
        await reader.readexactly(len(_PREFACE))
        try:
            while True:
                head = await reader.readexactly(_FRAME_HEAD_BYTES)
                await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == _HEADERS:
                    called.set()
        except asyncio.IncompleteReadError:
            writer.close()
            gone.set()

    listening = await asyncio.start_server(answer_nothing, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    client = aio.Client(f"127.0.0.1:{port}", color="bgr", mode="triton", timeout=None)
    call = asyncio.create_task(client.detect(picture(1, 1, 1)))
    await called.wait()
    await client.close()
    with pytest.raises(naiad_client.CancelledError):
        await call
    await gone.wait()
    listening.close()
    await listening.wait_closed()


async def test_a_deadline_holds_in_the_client_too(behind: NaiadServer) -> None:
    async with aio.Client(address(behind), color="bgr", mode="triton") as client:
        with pytest.raises(naiad_client.DeadlineExceededError):
            await client.detect(picture(1, 1, 1), timeout=1e-6)
        assert (await client.detect(picture(1, 1, 1))).faces


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="'naiad', 'triton' or 'auto'"):
        naiad_client.Client("localhost:1", mode="other")  # type: ignore[arg-type]  # the mistake


async def test_who_finds_nobody_is_told_so(tmp_path: Path) -> None:
    """Neither a Naiad nor a Triton: an error of the call, not of the client."""
    modes: tuple[Mode, ...] = ("auto", "triton")
    for mode in modes:
        async with aio.Client("127.0.0.1:1", color="bgr", mode=mode, retries=0) as client:
            with pytest.raises(naiad_client.UnavailableError):
                await client.detect(picture(1, 1, 1))

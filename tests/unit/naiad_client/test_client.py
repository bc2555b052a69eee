"""Single calls of both clients over real sockets."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health, health_pb2
from support.either_client import call
from support.fake_vision_server import BAD_IMAGE, FakeVisionService, serving

import naiad_client
from naiad_client import Client, Timing, aio
from naiad_client.retries import RetryPlan

if TYPE_CHECKING:
    from pathlib import Path

Either = Client | aio.Client
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TIMING = Timing(
    decode_us=1, preprocess_us=2, queue_us=3, infer_us=4, postprocess_us=5, total_us=15, batch_size=2
)


async def closed(client: Either) -> None:
    """Close either kind."""
    await call(client, "close")


async def test_detect_returns_all_that_the_server_said(client: Either) -> None:
    result = await call(client, "detect", np.zeros((20, 30, 3), np.uint8), version=4)
    assert (result.model, result.version) == ("only", "4")
    assert (result.image_width, result.image_height) == (30, 20)
    assert result.timing == TIMING
    assert [face.score for face in result.faces] == [0.75, 0.5]
    assert result.faces[0].box == (1, 2, 3, 4.5)
    np.testing.assert_array_equal(result.faces[0].landmarks, [(i, i + 0.5) for i in range(5)])
    assert result.faces[0].landmarks.dtype == np.float32


async def test_a_detector_of_boxes_gives_no_landmarks(client: Either) -> None:
    result = await call(client, "detect", b"x", model="boxes")
    assert result.faces[0].landmarks is None


async def test_faces_found_can_be_embedded(client: Either) -> None:
    """Detect, then embed what was found: one float32 row a face."""
    faces = (await call(client, "detect", b"x")).faces
    result = await call(client, "embed", b"x", faces, model="mobilefacenet")
    assert result.embeddings.dtype == np.float32
    np.testing.assert_array_equal(result.embeddings, [[0, 0.5, 2], [0, 0.5, 2]])
    assert (result.model, result.version, result.timing) == ("mobilefacenet", "1", TIMING)


async def test_an_aligned_crop_is_embedded_without_a_face(client: Either, service: FakeVisionService) -> None:
    result = await call(client, "embed", np.zeros((112, 112, 3), np.uint8), color="rgb")
    assert result.embeddings.shape == (1, 3)
    assert len(service.requests[0].faces) == 0


async def test_a_picture_is_analyzed(client: Either, service: FakeVisionService, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"x")
    result = await call(client, "analyze", path, finder="yunet", model="mobilefacenet")
    assert (result.detector, result.embedder, result.embedded) == ("yunet", "mobilefacenet", 2)
    assert [face.embedding.tolist() for face in result.faces] == [[0.75], [0.5]]


async def test_two_faces_are_compared(client: Either, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"x")
    result = await call(client, "compare", path, np.array([0.0, 1.0]), model="mobilefacenet", version=2)
    assert (result.similarity, result.model, result.version) == (0.5, "mobilefacenet", "2")
    assert result.first is not None
    assert result.second is None
    np.testing.assert_array_equal(result.embeddings, [[1, 0], [0, 1]])


async def test_crops_are_embedded_together(client: Either, service: FakeVisionService) -> None:
    await call(client, "embed_crops", [np.zeros((112, 112, 3), np.uint8)] * 3)
    assert len(service.requests[0].crops) == 3


@pytest.mark.parametrize(
    ("refusal", "pushback_ms"),
    [
        (grpc.StatusCode.UNAVAILABLE, None),
        (grpc.StatusCode.UNAVAILABLE, 1),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 1),
    ],
)
async def test_a_busy_server_is_asked_again(
    client: Either, service: FakeVisionService, refusal: grpc.StatusCode, pushback_ms: int | None
) -> None:
    """Two refusals and an answer; larger than gRPC's own policy would ever try again."""
    service.refusal, service.pushback_ms = refusal, pushback_ms
    result = await call(client, "detect", np.zeros((400, 400, 3), np.uint8), model="busy")
    assert (result.model, len(service.requests)) == ("busy", 3)


@pytest.mark.parametrize(
    ("refusal", "pushback_ms", "options"),
    [
        (grpc.StatusCode.UNAVAILABLE, 1, {"retries": 0}),
        (grpc.StatusCode.UNAVAILABLE, -1, {}),
        (grpc.StatusCode.UNAVAILABLE, 60_000, {"timeout": 5.0}),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, None, {}),
        (grpc.StatusCode.INVALID_ARGUMENT, 1, {}),
    ],
    ids=["switched off", "asked not to", "not in time", "no word of when", "wrong"],
)
async def test_what_is_not_asked_again(
    client: Either,
    service: FakeVisionService,
    refusal: grpc.StatusCode,
    pushback_ms: int | None,
    options: dict[str, Any],
) -> None:
    service.refusal, service.pushback_ms = refusal, pushback_ms
    with pytest.raises(naiad_client.NaiadError, match="busy") as caught:
        await call(client, "detect", b"x", model="busy", **options)
    assert (caught.value.code, caught.value.retry_after_ms) == (refusal, pushback_ms)
    assert len(service.requests) == 1


async def test_a_photo_s_path_is_sent_as_its_bytes(
    client: Either, service: FakeVisionService, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8")
    await call(client, "detect", path)
    await call(client, "embed", str(path))
    assert [request.image.encoded for request in service.requests] == [b"\xff\xd8"] * 2


async def test_metadata_travels_with_every_call(client: Either, service: FakeVisionService) -> None:
    await call(client, "detect", b"x")
    await call(client, "embed", b"x")
    assert [metadata["tenant"] for metadata in service.metadata] == ["blue", "blue"]


async def test_a_message_beyond_grpc_s_default_limit_passes(client: Either) -> None:
    """4 MiB is gRPC's default; a 4K frame is 25 MB."""
    result = await call(client, "detect", np.zeros((1500, 1500, 3), np.uint8))
    assert result.image_width == 1500


@pytest.mark.parametrize("method", ["detect", "embed"])
async def test_an_unknown_model_is_not_found(client: Either, method: str) -> None:
    with pytest.raises(naiad_client.NotFoundError, match="no model 'missing'") as caught:
        await call(client, method, b"x", model="missing")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


async def test_a_refused_picture_is_an_invalid_argument(client: Either) -> None:
    with pytest.raises(naiad_client.InvalidArgumentError, match="cannot decode image"):
        await call(client, "detect", BAD_IMAGE)


async def test_a_useless_picture_is_refused_before_anything_is_sent(
    client: Either, service: FakeVisionService
) -> None:
    with pytest.raises(TypeError, match="float32"):
        await call(client, "detect", np.zeros((2, 2, 3), np.float32))
    assert service.requests == []


@pytest.mark.parametrize("method", ["detect", "embed"])
async def test_a_call_s_own_timeout_is_kept(client: Either, method: str) -> None:
    with pytest.raises(naiad_client.DeadlineExceededError):
        await call(client, method, b"x", model="slow", timeout=0.1)


async def test_the_client_s_timeout_is_the_default(kind: type[Either], address: str) -> None:
    client = kind(address, timeout=0.1, detector="slow")
    with pytest.raises(naiad_client.DeadlineExceededError):
        await call(client, "detect", b"x")
    await closed(client)


async def test_a_cancelled_task_cancels_its_call(address: str, service: FakeVisionService) -> None:
    """The asyncio client leaves cancellation alone: it is not an error of the call."""
    async with aio.Client(address, detector="slow") as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.detect(b"x")
        assert (await client.detect(b"x", model="")).model == "only"


async def test_nobody_there_is_unavailable(kind: type[Either]) -> None:
    with serving(FakeVisionService()) as address:
        pass
    client = kind(address)
    with pytest.raises(naiad_client.UnavailableError):
        await call(client, "detect", b"x")
    await closed(client)


async def test_closing_twice_is_harmless(kind: type[Either], address: str) -> None:
    client = kind(address)
    await call(client, "detect", b"x")
    await closed(client)
    await closed(client)


@pytest.mark.parametrize("mode", ["naiad", "triton", "auto"])
async def test_a_closed_client_says_that_it_is_whatever_it_is_asked(
    kind: type[Either], address: str, mode: Any
) -> None:
    """Nothing of gRPC's own comes through: neither its ValueError nor its UsageError."""
    client = kind(address, mode=mode)
    await closed(client)
    words = rf"^CANCELLED: this client of {address} is closed: it makes no more calls$"
    for method, arguments in (
        ("detect", (b"x",)),
        ("embed", (b"x",)),
        ("embed_crops", ([b"x"],)),
        ("analyze", (b"x",)),
        ("compare", (b"x", b"y")),
        ("wait_until_ready", ()),
        ("open_stream", ("detect",)),
        ("stream_detect", ([b"x"],)),
    ):
        with pytest.raises(naiad_client.CancelledError, match=words):
            await call(client, method, *arguments)


@pytest.mark.parametrize("method", ["detect", "wait_until_ready"])
async def test_a_call_under_way_ends_with_its_client(kind: type[Either], method: str) -> None:
    """With an error of ours, also where asyncio would have its task look cancelled."""
    begun = threading.Event()

    class Slow(FakeVisionService):
        def _note(self, request: Any, context: Any) -> None:
            begun.set()
            super()._note(request, context)

    class NeverReady(health.HealthServicer):
        def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:  # noqa: N802
            begun.set()
            return super().Watch(request, context, send_response_callback)

    checks = NeverReady()
    checks.set("", NOT_SERVING)
    with serving(Slow(), health_service=checks) as address:
        client = kind(address, detector="slow")
        arguments: dict[str, Any] = {"image": b"x"} if method == "detect" else {"timeout": 30}
        waiting = asyncio.create_task(in_background(client, method, **arguments))
        assert await asyncio.to_thread(begun.wait, 30)
        await closed(client)
        with pytest.raises(naiad_client.CancelledError):
            await waiting


async def test_a_call_that_waits_for_its_next_try_ends_with_its_client(
    kind: type[Either], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is made after that: there is no next try."""
    waits = threading.Event()

    def pause_s(*_: object) -> float:
        waits.set()
        return 0.2

    monkeypatch.setattr(RetryPlan, "pause_s", pause_s)
    with serving(FakeVisionService()) as nobody:
        pass
    client = kind(nobody)
    waiting = asyncio.create_task(in_background(client, "detect", image=b"x"))
    assert await asyncio.to_thread(waits.wait, 30)
    await closed(client)
    with pytest.raises(naiad_client.CancelledError, match="is closed: it makes no more calls"):
        await waiting


async def test_both_clients_are_context_managers(address: str) -> None:
    with Client(address) as client:
        assert client.detect(b"x").model == "only"
    async with aio.Client(address) as client_aio:
        assert (await client_aio.detect(b"x")).model == "only"


async def test_ready_at_once_where_no_health_service_is(client: Either) -> None:
    """Any gRPC server that can be reached is as ready as can be known."""
    await call(client, "wait_until_ready", timeout=30)


async def test_waits_until_the_server_says_it_serves(kind: type[Either]) -> None:
    checks = health.HealthServicer()
    checks.set("", NOT_SERVING)
    with serving(FakeVisionService(), health_service=checks) as address:
        client = kind(address)
        with pytest.raises(
            naiad_client.DeadlineExceededError, match=r"after 2 s: connected, but not serving"
        ):
            await call(client, "wait_until_ready", timeout=2)
        waiting = asyncio.create_task(in_background(client, "wait_until_ready", timeout=30))
        checks.set("", SERVING)
        await waiting
        await closed(client)


async def in_background(client: Either, method: str, **kwargs: Any) -> None:
    """Call without blocking the test's loop."""
    if isinstance(client, Client):
        await asyncio.to_thread(getattr(client, method), **kwargs)
    else:
        await call(client, method, **kwargs)


async def test_waiting_for_nobody_ends_in_time(kind: type[Either]) -> None:
    with serving(FakeVisionService()) as address:
        pass
    client = kind(address)
    with pytest.raises(naiad_client.DeadlineExceededError, match=rf"{address} not ready.*no connection"):
        await call(client, "wait_until_ready", timeout=0.5)
    await closed(client)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[bytes, bytes]:
    """A fresh key and self-signed certificate for "localhost"."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run(
        [*command, "-keyout", key, "-out", certificate, *names], check=True, capture_output=True, timeout=30
    )
    return key.read_bytes(), certificate.read_bytes()


async def test_tls_with_the_caller_s_credentials(
    kind: type[Either], certificate: tuple[bytes, bytes]
) -> None:
    server = grpc.ssl_server_credentials([certificate])
    with serving(FakeVisionService(), credentials=server) as address:
        client = kind(
            address,
            credentials=grpc.ssl_channel_credentials(certificate[1]),
            options=[("grpc.ssl_target_name_override", "localhost")],
        )
        assert (await call(client, "detect", b"x")).model == "only"
        await closed(client)


def test_importing_the_client_pulls_in_nothing_heavy() -> None:
    """Neither the server nor its engine, OpenCV or NVIDIA's client: `pip install naiad` has none of them."""
    program = (
        "import sys, naiad_client, naiad_client.aio\n"
        "heavy = {'naiad', 'cv2', 'onnx', 'onnxruntime', 'tritonclient'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert output.stdout.strip() == b"[]"

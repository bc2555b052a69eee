"""Every vector tells its space; two spaces are never compared, nor mixed in a stream; two versions answer at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import cv2
import grpc
import numpy as np
import pytest
from support.embedders import BGR, GBR, RGB, channel_embedder
from support.repositories import add_model
from support.servers import address, server
from support.vision_models import EMBEDDER_CONFIG, QUARTER_LANDMARKS, QUARTERS_CONFIG, quarters_detector
from tritonclient.grpc import service_pb2 as triton_pb
from tritonclient.grpc import service_pb2_grpc as triton_grpc
from typer.testing import CliRunner

from naiad.cli.main import app
from naiad.lifecycle.embedding_space import UNVERIFIED
from naiad_client import aio
from naiad_client.embedding_file import read_embeddings
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.app import NaiadServer

ALL = "version_policy { all {} }\n"
UNALIGNED = 'parameters { key: "naiad.embed.alignment" value { string_value: "none" } }\n'
COLORS = np.array([(10, 20, 30), (200, 20, 30), (10, 200, 30), (10, 20, 200)])
"""Red, green and blue of the quarters of PICTURE, in each of which a face is found."""


def plain(color: Any, side: int = 112) -> np.ndarray:
    image = np.empty((side, side, 3), np.uint8)
    image[:] = color[::-1]
    return image


def png(pixels: np.ndarray) -> pb.Image:
    return pb.Image(encoded=cv2.imencode(".png", pixels)[1].tobytes())


def four(side: int = 400) -> np.ndarray:
    quarters = [plain(color, side // 2) for color in COLORS]
    return np.vstack([np.hstack(quarters[:2]), np.hstack(quarters[2:])])


PICTURE = png(four())
CROP = png(plain(COLORS[0]))


def add_models(folder: Path) -> None:
    """A detector; `embedder` with versions 1 to 3, of which 1 and 3 are the same file; `unaligned` likewise."""
    add_model(folder, "detector", quarters_detector(), QUARTERS_CONFIG)
    versions = {1: channel_embedder(RGB), 2: channel_embedder(BGR), 3: channel_embedder(RGB)}
    add_model(folder, "embedder", versions, EMBEDDER_CONFIG + ALL)
    add_model(folder, "unaligned", channel_embedder(RGB), EMBEDDER_CONFIG + UNALIGNED)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    add_models(tmp_path / "models")
    async with server(tmp_path / "models", allow_client_shm=True) as started:
        yield started


@pytest.fixture
async def channel(running: NaiadServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address(running)) as opened:
        yield opened


@pytest.fixture
def stub(channel: Any) -> Any:
    return vision_pb2_grpc.VisionServiceStub(channel)


async def embed(stub: Any, version: int, model: str = "embedder", **fields: Any) -> pb.EmbedResponse:
    fields = fields or {"crops": [CROP]}
    request = pb.EmbedRequest(model_name=model, model_version=str(version), **fields)
    answer: pb.EmbedResponse = await stub.Embed(request)
    return answer


async def space(stub: Any, version: int, model: str = "embedder") -> str:
    return (await embed(stub, version, model)).model.embedding_space


async def refused(call: Any, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() is code
    return str(raised.value.details())


def compare(first: Any, second: Any, **fields: Any) -> pb.CompareRequest:
    sides = [pb.ComparedFace(**{kind: value}) for kind, value in (first, second)]
    return pb.CompareRequest(first=sides[0], second=sides[1], embedder_name="embedder", **fields)


# What carries it


async def test_every_vector_of_every_call_tells_its_space(stub: Any) -> None:
    crops = await embed(stub, 2)
    own = crops.model.embedding_space
    assert len(own) == 32
    assert [each.space for each in crops.embeddings] == [own]
    found = await embed(stub, 2, image=PICTURE, finder=pb.FaceFinder())
    assert [each.space for each in found.embeddings] == [own] * 4
    assert not found.detector.embedding_space
    request = pb.AnalyzeRequest(image=PICTURE, embedder_name="embedder", embedder_version="2")
    analyzed = await stub.Analyze(request)
    assert [face.embedding.space for face in analyzed.faces] == [own] * 4
    assert analyzed.embedder.embedding_space == own
    compared = await stub.Compare(compare(("image", PICTURE), ("crop", CROP), embedder_version="2"))
    assert {compared.first.embedding.space, compared.second.embedding.space} == {own}
    assert compared.embedder.embedding_space == own
    nobody = pb.FaceFinder(options=pb.DetectOptions(score_threshold=1.0))
    empty = await embed(stub, 2, image=PICTURE, finder=nobody)
    assert (len(empty.embeddings), empty.model.embedding_space) == (0, own)


async def test_spaces_are_of_weights_and_preparation_and_not_of_names(stub: Any) -> None:
    first, second, third = [await space(stub, version) for version in (1, 2, 3)]
    assert first == third  # the same file under another number
    assert len({first, second, await space(stub, 1, "unaligned")}) == 3


async def test_replicas_and_restarts_agree(stub: Any, tmp_path: Path) -> None:
    """A copy of the repository, elsewhere, served by another server; then the first folder again."""
    add_models(tmp_path / "copy")
    told = [[await space(stub, version) for version in (1, 2)]]
    for folder in ("copy", "models"):
        async with (
            server(tmp_path / folder) as other,
            grpc.aio.insecure_channel(address(other)) as channel,
        ):
            again = vision_pb2_grpc.VisionServiceStub(channel)
            told.append([await space(again, version) for version in (1, 2)])
    assert told == [told[0]] * 3


async def test_other_weights_under_the_same_number_are_another_space(tmp_path: Path) -> None:
    folder = add_model(tmp_path, "embedder", channel_embedder(RGB), EMBEDDER_CONFIG)
    async with (
        server(tmp_path, model_control_mode="explicit", load_model=["*"]) as running,
        grpc.aio.insecure_channel(address(running)) as channel,
    ):
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        before = await space(stub, 1)
        (folder / "1" / "model.onnx").write_bytes(channel_embedder(BGR).SerializeToString())
        await running.manager.load("embedder")
        assert await space(stub, 1) != before


async def test_stock_clients_read_it_in_the_models_config(channel: Any, stub: Any) -> None:
    triton = triton_grpc.GRPCInferenceServiceStub(channel)
    for version in (1, 2):
        request = triton_pb.ModelConfigRequest(name="embedder", version=str(version))
        parameters = (await triton.ModelConfig(request)).config.parameters
        told = parameters["naiad.runtime.embedding_space"].string_value
        assert told == await space(stub, version)
        assert len(parameters["naiad.runtime.weights"].string_value) == 32
    detector = (await triton.ModelConfig(triton_pb.ModelConfigRequest(name="detector"))).config
    assert not any(key.startswith("naiad.runtime.") for key in detector.parameters)


async def test_an_ensemble_has_the_space_of_the_models_that_it_is_composed_of(tmp_path: Path) -> None:
    """And another one when one of them is replaced."""
    folder = add_model(
        tmp_path, "step", channel_embedder(RGB), EMBEDDER_CONFIG.split("parameters", maxsplit=1)[0]
    )
    config = EMBEDDER_CONFIG.replace("dynamic_batching { }", "") + (
        'platform: "ensemble" ensemble_scheduling { step [ { model_name: "step" model_version: -1 '
        'input_map { key: "crop" value: "crop" } output_map { key: "embedding" value: "embedding" } } ] }'
    )
    (add_model(tmp_path, "embedder", {}, config) / "1").mkdir()
    async with (
        server(tmp_path, model_control_mode="explicit", load_model=["*"]) as running,
        grpc.aio.insecure_channel(address(running)) as channel,
    ):
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        before = await space(stub, 1)
        (folder / "2").mkdir()
        (folder / "2" / "model.onnx").write_bytes(channel_embedder(BGR).SerializeToString())
        await running.manager.load("step")
        after = await space(stub, 1)
    assert len(before) == len(after) == 32
    assert before != after


# Compare


async def test_a_vector_of_another_space_is_refused_with_both_spaces_and_the_way_out(stub: Any) -> None:
    old = (await embed(stub, 1)).embeddings[0]
    words = await refused(stub.Compare(compare(("embedding", old), ("crop", CROP), embedder_version="2")))
    assert words == (
        f"first.embedding is of embedding space '{old.space}', embedder 'embedder' version 2 makes "
        f"'{await space(stub, 2)}': vectors of two spaces cannot be compared, so name version 3, which makes that "
        "space, or embed that face anew with version 2"
    )
    foreign = pb.Embedding(values=old.values, space="f" * 32)
    words = await refused(stub.Compare(compare(("crop", CROP), ("embedding", foreign), embedder_version="2")))
    assert words.endswith("cannot be compared, so embed that face anew with version 2")
    endless = pb.Embedding(values=old.values, space="f" * 10_000)
    assert len(await refused(stub.Compare(compare(("crop", CROP), ("embedding", endless))))) < 500


async def test_two_vectors_of_two_spaces_are_refused_whatever_the_version(stub: Any) -> None:
    old, new = [(await embed(stub, version)).embeddings[0] for version in (1, 2)]
    words = await refused(stub.Compare(compare(("embedding", old), ("embedding", new))))
    assert (
        f"first.embedding is of embedding space '{old.space}' and second.embedding of '{new.space}'" in words
    )


async def test_a_vector_is_compared_by_the_version_that_made_it_where_none_is_named(stub: Any) -> None:
    """Else, while two versions share the requests, stored vectors would be refused by chance."""
    for version, answers in ((1, "3"), (2, "2"), (3, "3")):
        stored = (await embed(stub, version)).embeddings[0]
        answer = await stub.Compare(compare(("crop", CROP), ("embedding", stored)))
        assert answer.embedder.version == answers
        assert answer.similarity == pytest.approx(1)


async def test_a_vector_without_a_space_is_taken_unless_the_caller_wants_proof(stub: Any) -> None:
    """What is not known is not made known: the answer does not tell a space of it either."""
    bare = pb.Embedding(values=(await embed(stub, 2)).embeddings[0].values)
    answer = await stub.Compare(compare(("embedding", bare), ("crop", CROP), embedder_version="2"))
    assert answer.similarity == pytest.approx(1)
    assert (answer.first.embedding.space, answer.second.embedding.space) == ("", await space(stub, 2))
    request = compare(("crop", CROP), ("embedding", bare), require_embedding_space=True)
    assert "second.embedding tells no embedding space and require_embedding_space is set" in await refused(
        stub.Compare(request)
    )


async def test_an_unverified_space_is_no_proof_and_the_error_says_so(stub: Any) -> None:
    values = (await embed(stub, 2)).embeddings[0].values
    unverified = pb.Embedding(values=values, space=UNVERIFIED + "0" * 32)
    words = await refused(stub.Compare(compare(("embedding", unverified), ("crop", CROP))))
    assert words.endswith("does not tell its weights, so nothing shows that they are the same")


# Several versions at once


def rounded(embeddings: Any) -> list[list[int]]:
    return [[round(value) for value in each.values] for each in embeddings]


async def test_further_versions_embed_the_same_crops(stub: Any) -> None:
    """Each as if it had been asked alone, with its own version, space and times; also the one that answers."""
    crops = [png(plain(color)) for color in COLORS]
    answer = await embed(stub, 1, crops=crops, also_versions=["2", "1"])
    assert rounded(answer.embeddings) == COLORS.tolist()
    second, same = answer.also
    assert (second.model.version, same.model.version) == ("2", "1")
    assert rounded(second.embeddings) == COLORS[:, ::-1].tolist()
    assert rounded(same.embeddings) == COLORS.tolist()
    assert second.model.embedding_space == await space(stub, 2)
    assert {each.space for each in second.embeddings} == {second.model.embedding_space}
    assert same.model.embedding_space == answer.model.embedding_space
    assert second.timing.batch_size == 4


async def runs(channel: Any, name: str) -> dict[str, int]:
    """How many items each version of a model ran."""
    statistics = triton_grpc.GRPCInferenceServiceStub(channel)
    answer = await statistics.ModelStatistics(triton_pb.ModelStatisticsRequest(name=name))
    return {stats.version: stats.inference_count for stats in answer.model_stats}


async def test_faces_are_found_once_and_each_version_runs_once_a_face(stub: Any, channel: Any) -> None:
    before, detector = await runs(channel, "embedder"), await runs(channel, "detector")
    request = pb.AnalyzeRequest(
        image=PICTURE, embedder_name="embedder", embedder_version="1", also_versions=["1", "2"]
    )
    answer = await stub.Analyze(request)
    assert rounded(face.embedding for face in answer.faces) == COLORS.tolist()
    assert rounded(answer.also[0].embeddings) == COLORS.tolist()
    assert rounded(answer.also[1].embeddings) == COLORS[:, ::-1].tolist()
    after = await runs(channel, "embedder")
    assert {version: after[version] - before[version] for version in after} == {"1": 4, "2": 4, "3": 0}
    assert (await runs(channel, "detector"))["1"] - detector["1"] == 1


async def test_landmarks_and_a_finder_give_further_versions_what_they_would_get_alone(stub: Any) -> None:
    """Bit for bit: crops that are cut out once for all are those that each would cut out."""
    noise = np.random.default_rng(1).integers(0, 255, (400, 400, 3), np.uint8)
    found = (await stub.Detect(pb.DetectRequest(image=png(noise)))).faces
    faces = [pb.FaceLandmarks(points=face.landmarks) for face in found]
    for how in ({"faces": faces}, {"finder": pb.FaceFinder()}):
        alone = [await embed(stub, version, image=png(noise), **how) for version in (1, 2)]
        both = await embed(stub, 1, image=png(noise), also_versions=["2"], **how)
        assert both.embeddings == alone[0].embeddings
        assert both.also[0].embeddings == alone[1].embeddings
        assert len(both.embeddings) == 4


async def test_vectors_of_further_versions_stay_with_their_faces_where_one_has_none(tmp_path: Path) -> None:
    """The landmarks of the second face are no face's: Analyze has an empty place for it, Embed has no face."""
    add_model(tmp_path, "detector", quarters_detector(flat=1), QUARTERS_CONFIG)
    add_model(
        tmp_path,
        "embedder",
        {1: channel_embedder(RGB), 2: channel_embedder(RGB)},
        EMBEDDER_CONFIG + ALL,
    )
    async with server(tmp_path) as running, grpc.aio.insecure_channel(address(running)) as channel:
        stub = vision_pb2_grpc.VisionServiceStub(channel)
        request = pb.AnalyzeRequest(image=PICTURE, also_versions=["1"])
        answer = await stub.Analyze(request)
        embedded = await stub.Embed(
            pb.EmbedRequest(image=PICTURE, finder=pb.FaceFinder(), also_versions=["1"])
        )
    assert [len(each.values) for each in answer.also[0].embeddings] == [3, 0, 3, 3]
    assert [face.HasField("embedding") for face in answer.faces] == [True, False, True, True]
    assert [len(each.values) for each in embedded.also[0].embeddings] == [3] * 3


@pytest.mark.parametrize(
    ("versions", "code", "words"),
    [
        (["1", "2", "3", "4", "5"], grpc.StatusCode.RESOURCE_EXHAUSTED, "names 5 versions, the limit is 4"),
        (["2", "2"], grpc.StatusCode.INVALID_ARGUMENT, "also_versions names version 2 more than once"),
        (["2", ""], grpc.StatusCode.INVALID_ARGUMENT, r"also_versions\[1\] is empty"),
        (["two"], grpc.StatusCode.INVALID_ARGUMENT, "version string 'two'"),
        (["9"], grpc.StatusCode.NOT_FOUND, "'embedder' version 9 is not found"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused_in_words(
    stub: Any, versions: list[str], code: grpc.StatusCode, words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=words) as raised:
        await embed(stub, 1, crops=[CROP], also_versions=versions)
    assert raised.value.code() is code
    with pytest.raises(grpc.aio.AioRpcError, match=words):
        await stub.Analyze(pb.AnalyzeRequest(image=PICTURE, embedder_name="embedder", also_versions=versions))
    options = pb.StreamEmbedOptions(model_name="embedder", also_versions=versions)
    with pytest.raises(grpc.aio.AioRpcError, match=words):
        async for _ in stub.StreamEmbed(iter([pb.StreamEmbedRequest(options=options)])):
            pass


# Streams


class Analysis:
    """A stream with tracks, of which one frame is sent at a time."""

    def __init__(self, stub: Any, **options: Any) -> None:
        self.call = stub.StreamAnalyze()
        self.options = pb.StreamAnalyzeOptions(
            tracks=pb.TrackOptions(),
            embed_when=pb.EMBED_WHEN_ONCE_A_TRACK,
            embedder_name="embedder",
            contract=pb.StreamContract(),
            **options,
        )
        self.frame_id = 0

    async def open(self) -> pb.StreamOpened:
        await self.call.write(pb.StreamAnalyzeRequest(options=self.options))
        opened: pb.StreamOpened = (await self.call.read()).opened
        return opened

    async def frame(self) -> pb.AnalyzeResponse:
        """The answer to the next frame, each of which shows the same four faces."""
        self.frame_id += 1
        frame = pb.Frame(frame_id=self.frame_id, image=PICTURE)
        await self.call.write(pb.StreamAnalyzeRequest(frame=frame))
        while True:
            message = await self.call.read()
            if message.HasField("result"):
                result: pb.AnalyzeResponse = message.result
                return result


async def test_a_track_is_embedded_anew_when_another_version_takes_over(tmp_path: Path) -> None:
    """No face of the new version is given a vector of the old one, nor told its space."""
    add_model(tmp_path, "detector", quarters_detector(), QUARTERS_CONFIG)
    folder = add_model(tmp_path, "embedder", channel_embedder(RGB), EMBEDDER_CONFIG)
    async with (
        server(tmp_path, model_control_mode="explicit", load_model=["*"]) as running,
        grpc.aio.insecure_channel(address(running)) as channel,
    ):
        stream = Analysis(vision_pb2_grpc.VisionServiceStub(channel))
        opened = await stream.open()
        old = [await stream.frame() for _ in range(2)]
        (folder / "2").mkdir()
        (folder / "2" / "model.onnx").write_bytes(channel_embedder(BGR).SerializeToString())
        await running.manager.load("embedder")
        new = [await stream.frame() for _ in range(2)]
        stream.call.cancel()
    assert [(each.embedded, each.reused) for each in (*old, *new)] == [(4, 0), (0, 4), (4, 0), (0, 4)]
    for answers, version, colors in ((old, "1", COLORS), (new, "2", COLORS[:, ::-1])):
        for answer in answers:
            assert answer.embedder.version == version
            assert rounded(face.embedding for face in answer.faces) == colors.tolist()
            assert {face.embedding.space for face in answer.faces} == {answer.embedder.embedding_space}
    assert opened.embedder.embedding_space == old[0].embedder.embedding_space
    assert old[0].embedder.embedding_space != new[0].embedder.embedding_space
    assert [face.embedding_frame_id for face in new[1].faces] == [3] * 4


async def test_a_stream_writes_two_spaces_and_reuses_both(stub: Any) -> None:
    stream = Analysis(stub, embedder_version="1", also_versions=["2"])
    await stream.open()
    first, second = [await stream.frame() for _ in range(2)]
    stream.call.cancel()
    assert (second.embedded, second.reused) == (0, 4)
    for answer in (first, second):
        assert rounded(face.embedding for face in answer.faces) == COLORS.tolist()
        [other] = answer.also
        assert rounded(other.embeddings) == COLORS[:, ::-1].tolist()
        assert {each.space for each in other.embeddings} == {other.model.embedding_space}
    assert not second.also[0].HasField("timing")


async def test_a_stream_of_embeddings_writes_two_spaces_too(stub: Any) -> None:
    options = pb.StreamEmbedOptions(model_name="embedder", model_version="1", also_versions=["2", "3"])
    points = [pb.Point(x=6 * x, y=6 * y) for x, y in QUARTER_LANDMARKS]
    frame = pb.Frame(image=PICTURE, faces=[pb.FaceLandmarks(points=points)])
    messages = [pb.StreamEmbedRequest(options=options), pb.StreamEmbedRequest(frame=frame)]
    [answer] = [message.result async for message in stub.StreamEmbed(iter(messages))]
    assert [other.model.version for other in answer.also] == ["2", "3"]
    assert rounded(answer.also[0].embeddings) == [COLORS[0][::-1].tolist()]
    assert answer.also[1].embeddings == answer.embeddings


# A folder moved to another version


@pytest.mark.parametrize("mode", ["naiad", "triton"])
async def test_a_folder_of_crops_is_moved_to_another_version(
    running: NaiadServer, stub: Any, tmp_path: Path, mode: str
) -> None:
    """By the command, through either mode: the vectors and the space are those of a call for each crop."""
    (tmp_path / "crops").mkdir()
    for index, color in enumerate(COLORS):
        cv2.imwrite(str(tmp_path / "crops" / f"{index}.png"), plain(color))
    output = tmp_path / "new.jsonl"
    command = [
        "embed",
        "--migrate",
        tmp_path / "crops",
        "--to-version",
        2,
        "--output",
        output,
        "--mode",
        mode,
    ]
    command += ["--server", address(running), "--embedder", "embedder"]
    result = await asyncio.to_thread(CliRunner().invoke, app, [str(each) for each in command])
    assert result.exit_code == 0
    header, pictures = read_embeddings(output)
    assert header is not None
    assert (header.embedding_space, header.version) == (await space(stub, 2), "2")
    found = [pictures[f"{index}.png"].faces[0].embedding for index in range(4)]
    np.testing.assert_allclose(found, COLORS[:, ::-1])


# Where another server runs the models


async def test_a_client_that_prepares_faces_itself_tells_the_servers_space(
    running: NaiadServer, stub: Any
) -> None:
    """Made of the weights' digest, which the server tells, and of what the client does itself."""
    async with aio.Client(address(running), color="bgr", mode="triton", embedder="embedder") as client:
        answer = await client.embed(plain(COLORS[0]), version=1, also_versions=[2])
        analyzed = await client.analyze(four(), version=2)
    assert answer.embedding_space == await space(stub, 1)
    assert [other.embedding_space for other in answer.also] == [await space(stub, 2)]
    assert {face.embedding_space for face in analyzed.faces} == {await space(stub, 2)}


async def test_further_versions_of_the_only_embedder_need_no_name(tmp_path: Path) -> None:
    versions = {1: channel_embedder(RGB), 2: channel_embedder(GBR)}
    add_model(tmp_path, "embedder", versions, EMBEDDER_CONFIG + ALL)
    async with (
        server(tmp_path) as running,
        aio.Client(address(running), color="bgr", mode="triton") as client,
    ):
        answer = await client.embed(plain(COLORS[0]), also_versions=[1])
    assert (answer.version, answer.also[0].version) == ("2", "1")


async def test_a_naiad_before_another_tells_its_space_and_before_a_plain_triton_that_it_saw_no_weights(
    running: NaiadServer, stub: Any, tmp_path: Path
) -> None:
    plain_config = EMBEDDER_CONFIG.split("parameters", maxsplit=1)[0]
    add_model(tmp_path / "plain", "embedder", channel_embedder(RGB), plain_config)
    add_model(tmp_path / "configs", "embedder", {}, EMBEDDER_CONFIG)
    told = []
    async with server(tmp_path / "plain") as triton:
        for engine in (running, triton, triton):
            async with (
                server(tmp_path / "configs", engine=f"triton://{address(engine)}") as front,
                grpc.aio.insecure_channel(address(front)) as channel,
            ):
                answer = await vision_pb2_grpc.VisionServiceStub(channel).Embed(pb.EmbedRequest(crops=[CROP]))
                told.append(answer.model.embedding_space)
    assert told[0] == await space(stub, 3)  # what the engine chooses
    assert told[1].startswith(UNVERIFIED)
    assert told[1] == told[2]

"""Graphs that are told by their inputs and outputs alone: to which family they belong, and how sure that is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.heads import out

from naiad.config.message_view import RUNTIME_PREFIX
from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.config.vision_config import Alignment, ColorOrder, Resize
from naiad.config.vision_parameters import KNOWN_HEADS, read_vision_config
from naiad.core.datatypes import DataType
from naiad.vision.recognise import Certainty, GraphFacts, Proposal, recognise
from naiad.vision.recognise.families import FAMILIES

YUNET = [
    out(f"{kind}_{stride}", (640 // stride) ** 2, size)
    for kind, size in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
    for stride in (8, 16, 32)
]
MTCNN = [
    out("boxes", 9, 4),
    out("scores", 9),
    out("landmarks", 9, 5, 2),
    out("count", datatype=DataType.INT32),
]
SCRFD = [
    out(f"{kind}{stride}", 2 * (640 // stride) ** 2, size)
    for kind, size in ((4, 1), (5, 4), (6, 10))
    for stride in (8, 16, 32)
]
CENTERFACE = [
    out("537", 1, 160, 160),
    out("538", 2, 160, 160),
    out("539", 2, 160, 160),
    out("540", 10, 160, 160),
]


def model(*outputs: TensorConfig, side: int = 640, datatype: DataType = DataType.FP32) -> ModelConfig:
    return ModelConfig("m", 8, (TensorConfig("image", datatype, (3, side, side)),), outputs)


SURE = {
    "yunet": model(*YUNET),
    "mtcnn": model(*MTCNN, datatype=DataType.UINT8),
    "scrfd": model(*SCRFD),
    "retinaface": model(out("a", 16800, 2), out("b", 16800, 4), out("c", 16800, 10)),
    "centerface": model(*CENTERFACE),
    "blazeface": model(out("a", 896, 1), out("b", 896, 16), side=128),
    "ultraface": model(out("scores", 23500, 2), out("boxes", 23500, 4)),
    "yolov5_face": model(*(out(f"s{size}", 3, size, size, 16) for size in (80, 40, 20))),
    "yolov8_face": model(*(out(f"s{size}", 80, size, size) for size in (80, 40, 20))),
    "yolo": model(out("output0", 84, 8400)),
}
"""A graph of each family that nothing else could be."""
UNSURE = {
    "mogface": model(out("p", 34125, 2), out("q", 34125, 4)),
    "boxes": model(out("output0", 300, 6)),
}


def test_every_head_has_a_block_and_a_graph_here() -> None:
    assert set(FAMILIES) == set(KNOWN_HEADS) == set(SURE) | set(UNSURE)


@pytest.mark.parametrize("family", SURE)
def test_a_graph_as_its_family_publishes_it_is_recognised_and_nothing_else_is_proposed(family: str) -> None:
    (proposal,) = recognise(SURE[family])
    assert (proposal.family, proposal.certainty) == (family, Certainty.SURE)


@pytest.mark.parametrize("family", UNSURE)
def test_a_graph_that_others_resemble_is_proposed_with_doubt(family: str) -> None:
    (proposal, *_) = recognise(UNSURE[family])
    assert proposal.family == family
    assert proposal.certainty is not Certainty.SURE


@pytest.mark.parametrize("family", [*SURE, *UNSURE])
def test_the_order_of_the_outputs_does_not_matter(family: str) -> None:
    config = (SURE | UNSURE)[family]
    turned = replace(config, outputs=config.outputs[::-1])
    assert [entry.family for entry in recognise(turned)] == [entry.family for entry in recognise(config)]


@pytest.mark.parametrize("family", [*SURE, *UNSURE])
def test_what_is_proposed_is_what_a_load_accepts(family: str) -> None:
    config = (SURE | UNSURE)[family]
    for proposal in recognise(config):
        vision = read_vision_config(replace(config, parameters=dict(proposal.parameters)))
        assert vision is not None
        assert vision.detect is not None
        assert vision.detect.head == proposal.family


def test_the_evidence_names_the_outputs_that_the_head_reads() -> None:
    assert recognise(SURE["yunet"])[0].evidence == (
        "12 outputs cls_8 … kps_32, their last dimension 1, 4, 10"
    )
    assert recognise(SURE["blazeface"])[0].evidence == "outputs b [896, 16], a [896, 1]"


def families(*outputs: TensorConfig, facts: GraphFacts | None = None) -> dict[str, Certainty]:
    return {entry.family: entry.certainty for entry in recognise(model(*outputs), facts)}


def test_rows_of_16_numbers_may_be_of_a_face_or_of_eleven_classes_and_both_are_named() -> None:
    assert families(out("o", 25200, 16)) == {
        "yolov5_face": Certainty.LIKELY,
        "yolo": Certainty.POSSIBLE,
    }


def test_columns_of_20_numbers_are_told_apart_by_what_the_exporter_left_in_the_file() -> None:
    columns = out("o", 20, 8400)
    assert families(columns) == {"yolov8_face": Certainty.LIKELY, "yolo": Certainty.POSSIBLE}
    assert families(columns, facts=GraphFacts(metadata={"kpt_shape": "[5, 3]"})) == {
        "yolov8_face": Certainty.SURE
    }
    assert families(columns, facts=GraphFacts(metadata={"task": "detect"})) == {"yolo": Certainty.SURE}


def test_scores_and_boxes_of_another_count_than_ultrafaces_are_no_sure_ultraface() -> None:
    assert families(out("scores", 34125, 2), out("boxes", 34125, 4)) == {
        "mogface": Certainty.LIKELY,
        "ultraface": Certainty.POSSIBLE,
    }


@pytest.mark.parametrize(
    "config",
    [
        model(out("logits", 1000)),
        model(out("o", 1, 10)),
        model(out("map", 21, 640, 640)),
        model(out("a", 100, 3), out("b", 100, 7)),
        model(*YUNET[:-1]),
        model(out("o", 128), side=111),
        model(out("o", 2048), side=112),
        model(out("o", 128), out("p", 128), side=112),
        replace(SURE["yunet"], inputs=SURE["yunet"].inputs * 2),
        replace(SURE["yunet"], inputs=(TensorConfig("text", DataType.BYTES, (1,)),)),
        replace(SURE["yunet"], inputs=()),
        model(),
    ],
)
def test_what_is_of_no_family_is_proposed_nothing(config: ModelConfig) -> None:
    assert recognise(config) == ()


def embedder(length: int = 512, datatype: DataType = DataType.FP32, **names: str) -> ModelConfig:
    image = TensorConfig(names.get("input", "input.1"), datatype, (3, 112, 112))
    return ModelConfig("m", 8, (image,), (out(names.get("output", "683"), length),))


def only(config: ModelConfig, facts: GraphFacts | None = None) -> Proposal:
    (proposal,) = recognise(config, facts)
    return proposal


def test_an_aligned_face_in_and_a_vector_out_is_an_embedder_and_the_guess_is_told() -> None:
    proposal = only(embedder())
    assert (proposal.family, proposal.certainty) == ("embedder", Certainty.LIKELY)
    assert "one vector of 512 numbers" in proposal.evidence
    assert "does not tell colour, mean and scale" in proposal.notes[0]
    vision = read_vision_config(replace(embedder(), parameters=dict(proposal.parameters)))
    assert vision is not None
    assert vision.embed is not None
    assert (vision.embed.alignment, vision.embed.normalize) == (Alignment.ARCFACE, True)
    assert (vision.input.color, vision.input.mean) == (ColorOrder.RGB, (127.5,) * 3)


def test_an_embedder_named_as_a_published_file_gets_that_files_numbers() -> None:
    values = dict(only(embedder(128, input="input0", output="output0")).parameters)
    assert values["naiad.input.mean"] == "123.675,116.28,103.53"


def test_an_embedder_without_a_batch_dimension_is_one_too() -> None:
    image = TensorConfig("i", DataType.FP32, (1, 3, 112, 112))
    assert only(ModelConfig("m", 0, (image,), (out("o", 1, 512),))).family == "embedder"


@pytest.mark.parametrize("config", [embedder(), SURE["scrfd"], SURE["yolo"]])
def test_a_graph_that_normalises_pixels_itself_gets_them_plain(config: ModelConfig) -> None:
    assert "naiad.input.scale" in dict(only(config).parameters)
    plain = only(config, GraphFacts(normalises=True))
    assert not {"naiad.input.mean", "naiad.input.scale"} & set(dict(plain.parameters))
    assert plain.notes[0].startswith("the graph takes plain pixels")


def test_a_graph_of_bytes_gets_them_plain() -> None:
    of_bytes = only(embedder(datatype=DataType.UINT8))
    assert not {"naiad.input.mean", "naiad.input.scale"} & set(dict(of_bytes.parameters))


@pytest.mark.parametrize("family", ["yunet", "scrfd", "yolov8_face"])
def test_a_graph_of_any_size_is_proposed_one_and_told_so(family: str) -> None:
    outputs = tuple(
        replace(
            output,
            dims=tuple(
                size if size in {1, 4, 10, 80} and axis else -1 for axis, size in enumerate(output.dims)
            ),
        )
        for output in SURE[family].outputs
    )
    if family == "yolov8_face":
        outputs = tuple(replace(output, dims=(80, -1, -1)) for output in outputs)
    proposal = only(replace(model(*outputs), inputs=(TensorConfig("image", DataType.FP32, (3, -1, -1)),)))
    assert proposal.family == family
    assert dict(proposal.parameters)["naiad.input.size"] == "640x640"
    assert any("takes any size" in note for note in proposal.notes)


def test_other_parameters_of_a_config_do_not_hinder() -> None:
    parameters = {"intra_op_thread_count": "2", f"{RUNTIME_PREFIX}x": "y"}
    assert only(replace(SURE["yunet"], parameters=parameters)).family == "yunet"


def test_the_text_is_a_line_for_each_parameter() -> None:
    lines = only(SURE["yunet"]).config.splitlines()
    assert lines[0] == 'parameters { key: "naiad.task" value { string_value: "detect" } }'
    assert len(lines) == len(only(SURE["yunet"]).parameters)


def test_published_files_that_want_no_letterbox_in_the_corner_get_what_they_want() -> None:
    def resize(family: str) -> Resize:
        config = SURE[family]
        vision = read_vision_config(replace(config, parameters=dict(only(config).parameters)))
        assert vision is not None
        return vision.input.resize

    assert resize("yolov5_face") is Resize.LETTERBOX_CENTER
    assert resize("centerface") is Resize.STRETCH
    assert resize("yunet") is Resize.LETTERBOX


DIMS = st.lists(
    st.sampled_from([-1, 0, 1, 2, 3, 4, 5, 6, 10, 16, 20, 64, 84, 112, 640, 8400, 25200, 10**9]), max_size=5
)
NAMES = st.sampled_from(
    ["cls_8", "score_8", "bbox_8", "scores", "boxes", "count", "rows", "537", "538", "a", "b"]
)
TENSORS = st.builds(TensorConfig, NAMES, st.sampled_from(DataType), DIMS.map(tuple))


@given(
    st.lists(TENSORS, max_size=2),
    st.lists(TENSORS, max_size=6, unique_by=lambda tensor: tensor.name),
    st.integers(0, 8),
)
def test_whatever_a_graph_looks_like_a_proposal_is_found_or_not_and_nothing_is_raised(
    inputs: list[TensorConfig], outputs: list[TensorConfig], batch: int
) -> None:
    for proposal in recognise(ModelConfig("m", batch, tuple(inputs), tuple(outputs))):
        assert proposal.parameters
        assert hash(proposal)

"""The built repository is what a Triton model repository is, and building it twice does nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from naiad.core.errors import AlreadyExistsError, InvalidArgumentError
from naiad.demo import repository
from naiad.demo.media import PERIOD, video_frames
from naiad.demo.repository import build_repository

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[Any]

FILES = {
    "face_detector/config.pbtxt", "face_detector/1/model.onnx", "face_detector/2/model.onnx",
    "face_embedder/config.pbtxt", "face_embedder/1/model.onnx", "add_sub/config.pbtxt", "add_sub/1/model.onnx",
}  # fmt: skip
TYPES = {
    "TYPE_FP32": onnx.TensorProto.FLOAT,
    "TYPE_UINT8": onnx.TensorProto.UINT8,
    "TYPE_INT32": onnx.TensorProto.INT32,
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("demo") / "deep" / "models"
    build_repository(target)
    return target


def files(target: Path) -> set[str]:
    return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}


def config_of(folder: Path) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def stamps(target: Path) -> dict[str, int]:
    return {name: (target / name).stat().st_mtime_ns for name in files(target)}


def test_the_folder_holds_the_models_and_nothing_else(built: Path) -> None:
    assert files(built) == FILES
    assert not [path for path in built.iterdir() if path.name.startswith(".")]


def test_configs_name_the_graphs_own_tensors(built: Path) -> None:
    """Triton's own message parses them; dims only narrow the graph's, behind a batch dimension."""
    for folder in built.iterdir():
        config = config_of(folder)
        assert config.name == folder.name
        assert all(key.startswith("naiad.") for key in config.parameters)
        for path in folder.glob("*/model.onnx"):
            graph = onnx.load(path).graph
            for declared, actual in ((config.input, graph.input), (config.output, graph.output)):
                assert {tensor.name for tensor in declared} == {tensor.name for tensor in actual}
                for tensor in declared:
                    check_tensor(tensor, next(value for value in actual if value.name == tensor.name))


def check_tensor(tensor: Any, value: onnx.ValueInfoProto) -> None:
    kind = model_config_pb2.DataType.Name(tensor.data_type)
    assert value.type.tensor_type.elem_type == TYPES[kind]
    batch, *shape = (dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)
    dims = list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)
    assert batch == -1
    assert len(dims) == len(shape)
    assert all(graph in (-1, mine) for mine, graph in zip(dims, shape, strict=True))


def test_a_second_build_leaves_everything_alone(built: Path) -> None:
    before = stamps(built)
    assert build_repository(built) == [built / name for name in ("face_detector", "face_embedder", "add_sub")]
    assert stamps(built) == before


def test_progress_counts_every_version(built: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    build_repository(built, progress=lambda *call: calls.append(call))
    names = ["face_detector/1", "face_detector/2", "face_embedder/1", "add_sub/1"]
    assert calls == [(name, index, 4) for index, name in enumerate(names, 1)]


def test_what_is_missing_or_cut_short_is_built_again(tmp_path: Path) -> None:
    build_repository(tmp_path)
    before = stamps(tmp_path)
    (tmp_path / "add_sub" / "1" / "model.onnx").unlink()
    build_repository(tmp_path)
    changed = {name for name, stamp in stamps(tmp_path).items() if stamp != before[name]}
    assert changed == {"add_sub/1/model.onnx", "add_sub/config.pbtxt"}


def test_other_inputs_make_another_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_repository(tmp_path)
    old = repository._read_fingerprint(tmp_path / "add_sub" / "1" / "model.onnx")
    monkeypatch.setattr(repository, "_fingerprint", lambda config: f"{len(config)} changed")
    build_repository(tmp_path)
    new = repository._read_fingerprint(tmp_path / "add_sub" / "1" / "model.onnx")
    assert old is not None
    assert new is not None
    assert new.endswith("changed")
    assert files(tmp_path) == FILES
    assert repository._fingerprint(b"a") != repository._fingerprint(b"bc")


def test_a_folder_of_configs_is_completed_in_place(tmp_path: Path) -> None:
    """The source tree's own model repository is such a folder."""
    folder = tmp_path / "add_sub"
    folder.mkdir()
    (folder / "config.pbtxt").write_text("# mine")
    build_repository(tmp_path)
    assert config_of(folder).name == "add_sub"
    assert (folder / "1" / "model.onnx").is_file()


def test_a_strangers_model_of_the_same_name_is_not_touched(tmp_path: Path) -> None:
    mine = tmp_path / "face_embedder" / "1" / "model.onnx"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"not a model at all")
    with pytest.raises(
        AlreadyExistsError, match=r"face_embedder/1/model.onnx' was not made by the demo build"
    ):
        build_repository(tmp_path)
    assert mine.read_bytes() == b"not a model at all"


def test_other_models_in_the_target_stay(tmp_path: Path) -> None:
    other = tmp_path / "other" / "config.pbtxt"
    other.parent.mkdir()
    other.write_text('name: "other"')
    build_repository(tmp_path)
    assert other.read_text() == 'name: "other"'


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("")
    with pytest.raises(InvalidArgumentError, match="is a file, a folder is needed"):
        build_repository(target)


def test_a_target_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'/proc/naiad-demo' cannot be written to: "):
        build_repository(Path("/proc/naiad-demo"))


def test_version_2_finds_the_face_in_every_frame_and_version_1_only_when_it_is_near(
    built: Path, prepare: Callable[..., Any], portrait: Array
) -> None:
    """In the configured input: the letterboxed photo, a near and a far frame of the demo's video."""
    letterbox = np.zeros((480, 640, 3), np.uint8)
    letterbox[:, :480] = cv2.resize(portrait, (480, 480), interpolation=cv2.INTER_AREA)
    frames = list(video_frames(PERIOD // 2 + 1))
    near, far = (cv2.imdecode(np.frombuffer(frames[i], np.uint8), cv2.IMREAD_COLOR) for i in (0, -1))
    assert near is not None
    assert far is not None
    batch = np.stack([letterbox, near[:, :, ::-1], far[:, :, ::-1]])
    counts = {}
    for version in (1, 2):
        run = prepare(onnx.load(built / "face_detector" / str(version) / "model.onnx"))
        result = run(image=batch)
        counts[version] = result["count"].tolist()
        assert result["scores"][0, 0] > 0.99
    assert counts == {1: [1, 1, 0], 2: [1, 1, 1]}

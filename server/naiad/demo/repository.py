"""Builds the demo's model repository: configs from the source tree or the wheel, ONNX files from code.

Each model appears at once: it is built in a hidden folder beside and renamed. The ONNX files carry a
fingerprint of what they were made from, by which the next build knows that nothing is to be done, and that a
folder may be replaced.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import AlreadyExistsError, InternalError, InvalidArgumentError
from naiad.demo.descriptor import build_add_sub, build_descriptor
from naiad.demo.graph import demo_module
from naiad.demo.mtcnn import MtcnnSettings, build_mtcnn
from naiad.demo.mtcnn_weights import NETS, weights_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    Progress = Callable[[str, int, int], None]

FINGERPRINT_KEY = "naiad.demo.fingerprint"
_CONFIG = "config.pbtxt"
_BUILDERS = (
    "graph",
    "descriptor",
    "mtcnn",
    "mtcnn_boxes",
    "mtcnn_nets",
    "mtcnn_pyramid",
    "mtcnn_weights",
    "repository",
)
# 12 levels serve a shorter side of 1200 pixels; the rest bounds the memory that a batch of 8 crowds can take.
FINE = MtcnnSettings(min_face_size=20, levels=12, max_candidates=4096, max_proposals=1024, max_faces=256)
"""The detector's version 2."""
COARSE = replace(FINE, min_face_size=60)
"""The detector's version 1."""


class _Model(NamedTuple):
    name: str
    versions: Mapping[int, Callable[[], onnx.ModelProto]]


_MODELS = (
    _Model("face_detector", {1: partial(build_mtcnn, COARSE), 2: partial(build_mtcnn, FINE)}),
    _Model("face_embedder", {1: build_descriptor}),
    _Model("add_sub", {1: build_add_sub}),
)


def build_repository(target: Path, *, progress: Progress | None = None) -> list[Path]:
    """Build the demo's models below `target`; those that are up to date are left alone.

    Args:
        target: the model repository; made if it does not exist. Other models in it are not touched.
        progress: called after each model version with its name (`face_detector/1`), how many are done, and
            how many there are.

    Returns:
        The folders of the models.

    Raises:
        InvalidArgumentError: `target` is a file or cannot be written to.
        AlreadyExistsError: a folder of a demo model's name holds something that this function did not make.
        UnavailableError: a package of the extra `demo` is missing.
    """
    _prepare(target)
    configs = _config_folder()
    total = sum(len(model.versions) for model in _MODELS)
    done = 0
    folders = []
    for model in _MODELS:
        config = (configs / model.name / _CONFIG).read_bytes()
        fingerprint = _fingerprint(config)
        folder = target / model.name
        current = _is_current(folder, model, fingerprint)
        if not current:
            _check_replaceable(folder)
            _build_model(folder, model, config, fingerprint)
        for version in model.versions:
            done += 1
            if progress is not None:
                progress(f"{model.name}/{version}", done, total)
        folders.append(folder)
    return folders


def _prepare(target: Path) -> None:
    """Make the folder and try to write into it."""
    if target.exists() and not target.is_dir():
        raise InvalidArgumentError(f"model repository '{target}' is a file, a folder is needed")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        raise InvalidArgumentError(
            f"model repository '{target}' cannot be written to: {error.strerror or error}"
        ) from error


def _config_folder() -> Path:
    """Where the committed configs are: inside the package when installed, at the root of a source tree."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "model_repository", here.parents[3] / "model_repository"):
        if all((folder / model.name / _CONFIG).is_file() for model in _MODELS):
            return folder
    raise InternalError(f"the demo models' configs are neither beside {here} nor in {here.parents[3]}")


def _fingerprint(config: bytes) -> str:
    """SHA-256 of all that a model is made from: its config, the code here, the weights, the onnx release."""
    digest = hashlib.sha256(config)
    here = Path(__file__).parent
    for name in _BUILDERS:
        digest.update((here / f"{name}.py").read_bytes())
    for net in NETS:
        digest.update(weights_file(net).read_bytes())
    digest.update(str(demo_module("onnx").__version__).encode())
    return digest.hexdigest()


def _is_current(folder: Path, model: _Model, fingerprint: str) -> bool:
    """Whether every file is there and was made from the same inputs."""
    return (folder / _CONFIG).is_file() and all(
        _read_fingerprint(folder / str(version) / "model.onnx") == fingerprint for version in model.versions
    )


def _read_fingerprint(path: Path) -> str | None:
    """The fingerprint that an ONNX file carries; None if it is missing, cut short or not one of ours."""
    if not path.is_file():
        return None
    decode_error: type[Exception] = demo_module("google.protobuf.message").DecodeError
    try:
        model: onnx.ModelProto = demo_module("onnx").load(path, load_external_data=False)
    except decode_error:
        return None
    return next((entry.value for entry in model.metadata_props if entry.key == FINGERPRINT_KEY), None)


def _check_replaceable(folder: Path) -> None:
    """A folder with a model that was not built here is somebody's: it is not replaced."""
    if folder.exists() and not folder.is_dir():
        raise AlreadyExistsError(f"'{folder}' is a file where the demo model's folder should be: remove it")
    for path in sorted(folder.glob("*/*")):
        if path.name != "model.onnx" or _read_fingerprint(path) is None:
            raise AlreadyExistsError(
                f"'{path}' was not made by the demo build: remove '{folder}' or choose another repository"
            )


def _build_model(folder: Path, model: _Model, config: bytes, fingerprint: str) -> None:
    """Write the whole model into a hidden folder beside, then put it in place."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{model.name}-") as scratch:
        fresh, replaced = Path(scratch, "new"), Path(scratch, "old")
        for version, build in model.versions.items():
            built = build()
            built.metadata_props.add(key=FINGERPRINT_KEY, value=fingerprint)
            path = fresh / str(version) / "model.onnx"
            path.parent.mkdir(parents=True)
            path.write_bytes(built.SerializeToString(deterministic=True))
        (fresh / _CONFIG).write_bytes(config)
        if folder.exists():
            shutil.copystat(folder, fresh)
            folder.rename(replaced)
        fresh.rename(folder)

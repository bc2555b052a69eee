"""What the owner of a broken model should do, from the step that failed and what was known by then."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.config.normalize import ONNX_BACKEND, ONNX_FILENAME, ONNX_PLATFORM
from naiad.config.reader import config_file
from naiad.config.runtime_keys import RUNTIME_KEYS
from naiad.config.support import FIELDS
from naiad.core.errors import NaiadError, UnsupportedError
from naiad.core.tensors import WILDCARD
from naiad.lifecycle.inspection import Problem, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import TensorSpec
    from naiad.repository.layout import ModelFolder

MAX_NAMED = 4
"""A sentence names this many tensors or files; the rest it counts."""

_UNKNOWN_FIELD = re.compile(r'has no field named "(\w+)"')


@dataclass(slots=True)
class Facts:
    """How far the inspection of a model, or of one of its versions, has come, and what it knows by now.

    `variant` is the `--model-config-name`.
    """

    folder: ModelFolder
    auto_complete: bool
    stage: Stage = Stage.CONFIG
    config: ModelConfig | None = None
    version: int | None = None
    file: Path | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    optional: frozenset[str] = frozenset()
    variant: str = ""

    @property
    def config_path(self) -> Path:
        """Where the model's config is or would be."""
        return config_file(self.folder.path, self.variant)


def explain(error: Exception, facts: Facts) -> Problem:
    """The problem that `error` is, at the stage that the inspection had reached."""
    if not isinstance(error, NaiadError):
        reason = f"{type(error).__name__}: {error}"
        return Problem(
            Stage.INTERNAL, reason, "this is a defect of Naiad: report it together with this model's folder"
        )
    advise = {
        Stage.CONFIG: _config,
        Stage.VERSIONS: _versions,
        Stage.FILE: _file,
        Stage.INSTANCES: _instances,
        Stage.GRAPH: _graph,
        Stage.FIT: _fit,
        Stage.ENSEMBLE: _ensemble,
        Stage.LABELS: _labels,
        Stage.VISION: _vision,
        Stage.EXPERIMENT: _experiment,
    }
    return Problem(facts.stage, error.message, advise[facts.stage](facts, error))


def fixed_tensors(
    inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec], optional: Iterable[str] = ()
) -> tuple[TensorSpec, ...]:
    """The tensors of a graph that rule out a batch dimension: their first dimension is not free."""
    required = [spec for spec in inputs if spec.name not in set(optional)]
    return tuple(spec for spec in (*required, *outputs) if not spec.shape or spec.shape[0] != WILDCARD)


def name_tensors(specs: tuple[TensorSpec, ...]) -> str:
    """Names and shapes for a sentence: `'data' [1,3,320,320], 'x' [] and 2 more`."""
    return _listed([f"'{spec.name}' {_bracketed(spec.shape)}" for spec in specs])


def _config(facts: Facts, error: NaiadError) -> str:
    path = facts.config_path
    if facts.config is not None and facts.config.backend != ONNX_BACKEND and facts.config.ensemble is None:
        return (
            f"Naiad serves ONNX models only: export the model to ONNX and write "
            f'backend: "{ONNX_BACKEND}" into {path}, or take the folder out of the repository'
        )
    if isinstance(error, UnsupportedError):
        return f"remove that field from {path}, or serve this model with Triton itself"
    if path.is_symlink() or path.exists():
        return _correct(facts, error.message)
    if not facts.auto_complete:
        return f"write {path}, or check without --disable-auto-complete-config"
    return f"put the ONNX file at {_first_file(facts)}, or write {path}"


def _correct(facts: Facts, message: str) -> str:
    """What to change in the config, as far as Triton's own wording gives it away."""
    path = facts.config_path
    if "directory name must equal model name" in message:
        return f'write name: "{facts.folder.name}" into {path}, leave name out, or rename the folder'
    if message.startswith(("unexpected platform type", "unexpected 'platform' and 'backend'")):
        return f'write platform: "{ONNX_PLATFORM}" into {path} and leave backend out'
    if "Could not determine backend" in message:
        return f'put the ONNX file at {_first_file(facts)}, or write platform: "{ONNX_PLATFORM}" into {path}'
    unknown = _UNKNOWN_FIELD.search(message)
    if unknown:
        names = {part for row in FIELDS for part in row.path.split(".")}
        nearest = difflib.get_close_matches(unknown[1], names, n=1)
        hint = f": did you mean {nearest[0]}?" if nearest else ", or remove the field"
        return f"correct the field's name in {path}{hint}"
    return f"correct {path}"


def _first_file(facts: Facts) -> Path:
    """Where the first version's model file belongs."""
    version = facts.folder.versions[0] if facts.folder.versions else 1
    return facts.folder.path / str(version) / ONNX_FILENAME


def _versions(facts: Facts, _: NaiadError) -> str:
    if facts.folder.versions:
        present = _listed([str(version) for version in facts.folder.versions])
        return (
            f"the version folders there are: {present}; add the one that is wanted or change version_policy"
        )
    advice = f"put the ONNX file at {facts.folder.path / '1' / ONNX_FILENAME}"
    return f"{advice}, or rename the ignored folders to whole numbers" if facts.folder.notes else advice


def _file(facts: Facts, _: NaiadError) -> str:
    filename = (facts.config.model_filename if facts.config else "") or ONNX_FILENAME
    folder = facts.folder.path / str(facts.version)
    try:
        there = sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".onnx")
    except OSError:
        return f"let the server read {folder}"
    if there:
        return f"rename one of the files there to {filename}, or set default_model_filename: {_listed(there)}"
    return f"put the ONNX file at {folder / filename}"


def _instances(facts: Facts, _: NaiadError) -> str:
    return f"correct instance_group, optimization or parameters in {facts.config_path}"


def _graph(facts: Facts, error: NaiadError) -> str:
    if isinstance(error, UnsupportedError):
        return (
            "export the model again with tensors as its inputs and outputs, and with operators and datatypes "
            "that the installed ONNX Runtime has"
        )
    return f"copy or export {facts.file} again; onnx.checker.check_model says more about a damaged file"


def _fit(facts: Facts, error: NaiadError) -> str:
    if any(key in error.message for key in RUNTIME_KEYS):
        return f"correct that parameter in {facts.config_path}, or remove it"
    if "naiad." in error.message:
        return _vision(facts, error)
    fixed = fixed_tensors(facts.inputs, facts.outputs, facts.optional)
    fixed = tuple(spec for spec in fixed if spec.shape is not None)  # an unknown rank fits any dims
    if fixed and facts.config is not None and facts.config.max_batch_size > 0:
        return (
            f"set max_batch_size: 0, or export the model with a free first dimension; "
            f"now it is fixed or absent in {name_tensors(fixed)}"
        )
    if not facts.auto_complete and facts.config is not None and not facts.config.inputs:
        return (
            f"list input and output in {facts.config_path}, or check without --disable-auto-complete-config"
        )
    return (
        f"make input and output in {facts.config_path} say what the graph has, "
        "or remove both lists to have them completed from the graph"
    )


def _ensemble(facts: Facts, error: NaiadError) -> str:
    if "are not available or ambiguous" in error.message:
        return (
            f"put these models into a repository that is served beside this one, or correct model_name in "
            f"{facts.config_path}"
        )
    if "whose required version" in error.message:
        return f"write model_version: -1 for the latest version into the step in {facts.config_path}"
    if "has no loaded version" in error.message:
        return "mend that model first"
    return f"correct ensemble_scheduling in {facts.config_path}, or the model that it names"


def _vision(facts: Facts, _: NaiadError) -> str:
    return f"correct the naiad.… parameters in {facts.config_path}, or remove them to serve tensors only"


def _experiment(facts: Facts, _: NaiadError) -> str:
    there = _listed([str(version) for version in facts.folder.versions])
    return (
        f"correct the experiment, or remove it: the version folders there are: {there}; "
        "naiad ab schema writes out what it may say"
    )


def _labels(facts: Facts, _: NaiadError) -> str:
    return (
        f"put that file, one class name a line, into {facts.folder.path}, or remove label_filename from "
        f"{facts.config_path}"
    )


def _listed(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _bracketed(shape: tuple[int, ...] | None) -> str:
    return "of unknown rank" if shape is None else f"[{','.join(map(str, shape))}]"

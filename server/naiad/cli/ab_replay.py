"""`naiad ab replay`: kept disagreements sent to both versions again, by NVIDIA's own client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import tritonclient.grpc as triton
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tritonclient.utils import InferenceServerException

from naiad.cli.check_text import printable
from naiad.cli.client_side import complain, progress, say
from naiad.config.complete import complete_ensemble_config
from naiad.config.domain import to_model_config
from naiad.core.errors import InvalidArgumentError, NaiadError, UnavailableError
from naiad.lifecycle.experiments.worst import kept_files, load
from naiad.lifecycle.loaded import vision_model
from naiad.vision.agreement import DetectionAgreement, EmbeddingAgreement, RankWindow, agree
from naiad.vision.agreement.detections import read_faces
from naiad.vision.agreement.numbers import numbers_of
from naiad.vision.detector import Detector

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array, Tensors
    from naiad.lifecycle.experiments.worst import Disagreement
    from naiad.lifecycle.loaded import VisionModel
    from naiad.vision.agreement import Agreement

_TIMEOUT_S = 60.0
# What is asked for is the server at this address: a proxy of the environment has no part in it.
_CHANNEL = [("grpc.enable_http_proxy", 0)]


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """What is to be done with kept disagreements.

    `server` is HOST:PORT of its gRPC service. `output` is where pictures with both versions' faces are
    written, None for nowhere. A disagreement above `max_disagreement` makes the exit code 1.
    """

    server: str
    output: Path | None = None
    max_disagreement: float | None = None


class _Model(NamedTuple):
    config: ModelConfig
    vision: VisionModel | None


class _Replayed(NamedTuple):
    """A kept disagreement and how far both versions agree now."""

    path: Path
    kept: Disagreement
    now: Agreement


def run_replay(job: ReplayJob, place: Path) -> int:
    """Send each kept request to both of its versions again, and print how far they agreed then and do now.

    Args:
        job: what to do.
        place: a folder of kept disagreements, or one file of it.

    Returns:
        The exit code: 1 if a request failed or the versions disagree too much, else 0.

    Raises:
        InvalidArgumentError: nothing is kept there, or pictures cannot be written where they should.
        UnavailableError: nobody answers.
    """
    paths = kept_files(place)
    if job.output is not None:
        _make(job.output)
    replayed, gone = [], 0
    url = job.server.removeprefix("grpc://")
    with (
        triton.InferenceServerClient(url, channel_args=_CHANNEL) as client,
        progress("Requests", len(paths)) as done,
    ):
        _check_live(client, job.server)
        replay = _Replay(client, job)
        for path in paths:
            try:
                replayed.append(replay.run(path))
            except (InferenceServerException, NaiadError) as error:
                if place.is_dir() and not path.exists():
                    gone += 1  # a shadow at work has put a worse one in its place since the folder was listed
                    continue
                reason = _reason(error)
                complain(reason if str(path) in reason else f"{path}: {reason}")
            done()
    _print(replayed)
    return (
        0
        if replayed and len(replayed) == len(paths) - gone and _is_within(replayed, job.max_disagreement)
        else 1
    )


@dataclass(slots=True)
class _Replay:
    """The work of one run: what was asked of the server is asked once."""

    client: Any
    job: ReplayJob
    _models: dict[tuple[str, int], _Model] = field(default_factory=dict)
    _windows: dict[tuple[str, int, int], RankWindow] = field(default_factory=dict)

    def run(self, path: Path) -> _Replayed:
        """One kept request.

        Raises:
            InferenceServerException: a version refuses it.
            NaiadError: the file cannot be read, or pictures not be written.
        """
        kept = load(path)
        model = self._model(kept.model, kept.baseline_version)
        baseline, candidate = (
            self._infer(kept, model.config, version)
            for version in (kept.baseline_version, kept.candidate_version)
        )
        versions = (kept.model, kept.baseline_version, kept.candidate_version)
        window = self._windows.setdefault(versions, RankWindow())
        now = agree(
            model.vision,
            model.config,
            baseline,
            candidate,
            kept.inputs,
            window=window,
            same_space=kept.same_space,
        )
        if self.job.output is not None and isinstance(now, DetectionAgreement):
            _draw(self.job.output, path.stem, kept, model, (baseline, candidate))
        return _Replayed(path, kept, now)

    def _model(self, name: str, version: int) -> _Model:
        """The model's config as the server tells it, and what pictures for it go through."""
        if (name, version) not in self._models:
            told = self.client.get_model_config(name, str(version), client_timeout=_TIMEOUT_S)
            # What the server tells is complete: as for an ensemble, no graph is needed to read it.
            config = complete_ensemble_config(to_model_config(told.config))
            self._models[name, version] = _Model(config, vision_model(config))
        return self._models[name, version]

    def _infer(self, kept: Disagreement, config: ModelConfig, version: int) -> dict[str, Array]:
        """A version's answer: the outputs that were kept of the baseline's."""
        datatypes = {tensor.name: tensor.datatype for tensor in config.inputs}
        inputs = []
        for name, array in kept.inputs.items():
            if name not in datatypes:
                raise InvalidArgumentError(f"model '{kept.model}' has no input '{name}' any more")
            tensor = triton.InferInput(name, list(array.shape), datatypes[name].value)
            inputs.append(tensor.set_data_from_numpy(numbers_of(array, datatypes[name])))
        outputs = [triton.InferRequestedOutput(name) for name in kept.baseline_outputs]
        result = self.client.infer(
            kept.model, inputs, model_version=str(version), outputs=outputs, client_timeout=_TIMEOUT_S
        )
        return {name: result.as_numpy(name) for name in kept.baseline_outputs}


def _check_live(client: Any, server: str) -> None:
    try:
        client.is_server_live(client_timeout=_TIMEOUT_S)
    except InferenceServerException as error:
        raise UnavailableError(
            f"no server answers at {server} ({error.message()}): name another one with --server"
        ) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgumentError(f"cannot make the folder {folder}: {error.strerror}") from None


def _draw(
    folder: Path, stem: str, kept: Disagreement, model: _Model, answers: tuple[Tensors, Tensors]
) -> None:
    from naiad.cli.ab_pictures import write_pictures  # noqa: PLC0415  # others have no use for OpenCV's fonts

    assert isinstance(model.vision, Detector)
    assert model.config.vision is not None
    settings = model.config.vision.input
    found = {
        version: read_faces(model.vision, model.config, outputs, kept.inputs)
        for version, outputs in zip((kept.baseline_version, kept.candidate_version), answers, strict=True)
    }
    write_pictures(folder, stem, settings, kept.inputs[settings.tensor], found)


def _reason(error: InferenceServerException | NaiadError) -> str:
    return str(error.message() if isinstance(error, InferenceServerException) else error.message)


def _is_within(replayed: list[_Replayed], limit: float | None) -> bool:
    return limit is None or all(each.now.disagreement <= limit for each in replayed)


def _print(replayed: list[_Replayed]) -> None:
    console = Console()
    rows = [
        (
            printable(each.path.name),
            printable(f"{each.kept.model} {each.kept.baseline_version}|{each.kept.candidate_version}"),
            printable(each.kept.request_id),
            _figures(each.kept.agreement),
            _figures(each.now),
        )
        for each in replayed
    ]
    if not console.is_terminal:  # a pipe: one line a file, never wrapped
        for name, versions, request, then, now in rows:
            say(f"{name}: {versions}{f', request {request}' if request else ''}; then {then}; now {now}")
        return
    table = Table("file", "versions", "request", "then", "now", title="Disagreement, the worst first")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _figures(agreement: Agreement) -> str:
    """The disagreement, and what it comes from."""
    if isinstance(agreement, DetectionAgreement):
        parts = f"faces {agreement.baseline}|{agreement.candidate}, {agreement.matched} matched"
        if agreement.matched:
            parts += f", IoU {agreement.mean_iou:.3f}, score {agreement.score_shift:+.3f}"
    elif isinstance(agreement, EmbeddingAgreement):
        rank = "" if agreement.rank_agreement is None else f", rank {agreement.rank_agreement:.3f}"
        parts = f"cosine {agreement.mean_cosine:.4f}, norm x{agreement.norm_ratio:.3f}{rank}"
    else:
        parts = (
            f"{agreement.mismatched} of {agreement.values} values, by up to {agreement.max_difference:.3g}"
        )
    return f"{agreement.disagreement:.4f} ({parts})"

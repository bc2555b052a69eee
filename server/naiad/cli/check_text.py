"""An inspection as text: the rows of each model, then plain lines for a pipe or a table for a terminal."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from naiad.config.model_config import InstanceKind
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, RenderableType

    from naiad.config.vision_config import InputConfig, VisionConfig
    from naiad.core.tensors import TensorSpec
    from naiad.lifecycle.inspection import (
        EngineReport,
        ExperimentReport,
        Inspection,
        InstancesReport,
        ModelReport,
        Problem,
        TensorReport,
        VersionPlan,
        VersionReport,
    )
    from naiad.vision.recognise import Proposal

MAX_ROWS = 24
"""A row names this many tensors, sentences or versions; `--format json` has them all."""
MAX_CHARACTERS = 1_000
"""Longer texts, such as an engine's list of every name it knows, are cut."""

_STYLES = {"problem": "red", "what to do": "yellow", "not honoured": "yellow", "fallback": "yellow"}
_OK = "ok"
_BROKEN = "BROKEN"


class Row(NamedTuple):
    """A label and its lines."""

    label: str
    lines: tuple[str, ...]


class Block(NamedTuple):
    """A title, whether all is well below it, and its rows."""

    title: str
    ok: bool
    rows: tuple[Row, ...]


def plain_text(inspection: Inspection) -> str:
    """The whole report in lines that are neither wrapped nor coloured, as for a pipe."""
    lines = [_engine_text(inspection.engine)]
    for block in _blocks(inspection):
        lines += ["", *plain_block(block)]
    return "\n".join([*lines, "", _summary(inspection), ""])


def plain_block(block: Block) -> list[str]:
    """A block in lines that are neither wrapped nor coloured."""
    lines = [f"{block.title}: {_OK if block.ok else _BROKEN}"]
    width = max((len(row.label) for row in block.rows), default=0)
    for row in block.rows:
        labels = [row.label, *[""] * (len(row.lines) - 1)]
        lines += [f"  {label:{width}}  {line}" for label, line in zip(labels, row.lines, strict=True)]
    return lines


def print_terminal(inspection: Inspection, console: Console) -> None:
    """The whole report for a reader at a terminal, wrapped to its width."""
    console.print(Text(_engine_text(inspection.engine), style="dim"))
    for block in _blocks(inspection):
        console.print()
        console.print(render_block(block))
    if len(inspection.models) > 1:
        console.print()
        console.print(_overview(inspection.models))
    console.print()
    console.print(Text(_summary(inspection), style="bold green" if inspection.ok else "bold red"))


def printable(text: str) -> str:
    """The text on one line without control characters or broken UTF-8, which a folder's name may hold."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\n", " ")
    safe = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in safe)
    return safe if len(safe) <= MAX_CHARACTERS else f"{safe[:MAX_CHARACTERS]}… ({len(safe)} characters)"


def _blocks(inspection: Inspection) -> Iterator[Block]:
    for repository in inspection.repositories:
        if repository.problem or repository.notes:
            rows = make_rows(*_problem(repository.problem), ("note", repository.notes))
            title = f"repository {printable(repository.path)}"
            yield Block(title, repository.problem is None, rows)
    for model in inspection.models:
        yield from _model_blocks(model)


def make_rows(*pairs: tuple[str, Iterable[str]]) -> tuple[Row, ...]:
    """Rows without the empty ones, their texts safe to print."""
    rows = ((label, [printable(line) for line in lines if line]) for label, lines in pairs)
    return tuple(Row(label, _limited(lines)) for label, lines in rows if lines)


def _limited(lines: Sequence[str]) -> tuple[str, ...]:
    more = len(lines) - MAX_ROWS
    return (*lines[:MAX_ROWS], f"… and {more} more (--format json)") if more > 0 else tuple(lines)


def _problem(problem: Problem | None) -> tuple[tuple[str, Iterable[str]], ...]:
    return (("problem", [problem.reason]), ("what to do", [problem.advice])) if problem else ()


def _model_rows(model: ModelReport) -> tuple[Row, ...]:
    return make_rows(
        *_problem(model.problem),
        ("folder", [model.path or ""]),
        ("versions", [_versions_text(model)]),
        *_experiment_rows(model.experiment),
        ("not honoured", model.warnings),
        ("note", model.notes),
    )


def _experiment_rows(experiment: ExperimentReport | None) -> tuple[tuple[str, Iterable[str]], ...]:
    if experiment is None:
        return ()
    lines = experiment.plan.explanation if experiment.plan else [experiment.source]
    return (("experiment", lines), *_problem(experiment.problem))


def _versions_text(model: ModelReport) -> str:
    if model.version_policy is None:
        return f"{_numbers(model.versions_found)} found" if model.versions_found else ""
    inspected = tuple(version.version for version in model.versions)
    added = () if model.experiment is None else model.experiment.versions_added
    selected = tuple(number for number in inspected if number not in added)
    ignored = tuple(number for number in model.versions_found if number not in inspected)
    parts = [f"{_numbers(selected)} selected by the version policy ({model.version_policy})"]
    parts += [f"{_numbers(added)} for the experiment"] if added else []
    parts += [f"{_numbers(ignored)} ignored"] if ignored else []
    parts += [f"{_numbers(model.versions_missing)} missing"] if model.versions_missing else []
    return "; ".join(parts)


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(_limited([str(number) for number in numbers]))


def _model_blocks(model: ModelReport) -> Iterator[Block]:
    """One block for a model, and further ones only if its versions differ from each other."""
    name = printable(model.name)
    groups = _alike_versions(model)
    if len(groups) == 1:
        rows = (*_model_rows(model), *_version_rows(groups[0][0], model))
        yield Block(name, model.ok, rows)
        return
    yield Block(name, model.ok, _model_rows(model))
    for version, numbers in groups:
        title = f"{name}, version{'s' * (len(numbers) > 1)} {_numbers(numbers)}"
        yield Block(title, version.problem is None, _version_rows(version, model))


def _alike_versions(model: ModelReport) -> list[tuple[VersionReport, list[int]]]:
    """The versions, those together that are alike in all but number and path."""
    groups: dict[VersionReport, tuple[VersionReport, list[int]]] = {}
    for version in model.versions:
        alike = replace(version, version=0, file=None)
        groups.setdefault(alike, (version, []))[1].append(version.version)
    return list(groups.values())


def _version_rows(version: VersionReport, model: ModelReport) -> tuple[Row, ...]:
    if version.plan is not None:
        return _plan_rows(version.plan, model)
    return make_rows(
        *_problem(version.problem),
        ("graph inputs", [_spec_text(spec) for spec in version.graph_inputs]),
        ("graph outputs", [_spec_text(spec) for spec in version.graph_outputs]),
    )


def _plan_rows(plan: VersionPlan, model: ModelReport) -> tuple[Row, ...]:
    batched = plan.batching.max_batch_size > 0
    return make_rows(
        ("config", [_config_text(plan, model)]),
        ("inputs", [tensor_text(tensor, batched=batched) for tensor in plan.inputs]),
        ("outputs", [tensor_text(tensor, batched=batched) for tensor in plan.outputs]),
        (
            "not served",
            [f"graph output '{name}': the config does not list it" for name in plan.unserved_outputs],
        ),
        ("batching", [_capital(plan.batching.explanation)]),
        ("instances", [instances_text(plan.instances)]),
        ("layout", [plan.instances.layout] if plan.instances.layout else []),
        ("runs on", [", then ".join(plan.execution_providers)]),
        ("fallback", plan.fallbacks),
        ("vision", _vision_lines(plan.vision)),
        ("could be", _proposal_lines(plan.proposals)),
        ("not honoured", plan.warnings),
        ("note", plan.notes),
    )


def _config_text(plan: VersionPlan, model: ModelReport) -> str:
    if model.config_file is None:
        return "no config.pbtxt: taken from the graph and the defaults"
    # A variant, configs/NAME.pbtxt, is told with its folder.
    name = os.path.relpath(model.config_file, model.path) if model.path else model.config_file
    completed = f", from the graph: {', '.join(plan.completed)}" if plan.completed else ""
    return f"{name}{completed}"


def tensor_text(tensor: TensorReport, *, batched: bool) -> str:
    """Name, datatype and full shape."""
    sizes = [_size(size) for size in tensor.shape]
    if batched:
        sizes[0] = "batch"
    graph = ""
    if tensor.graph_shape is not None and tensor.graph_shape != tensor.shape:
        graph = f", in the graph [{', '.join(map(_size, tensor.graph_shape))}]"
    return f"{tensor.name}  {tensor.datatype}  [{', '.join(sizes)}]{graph}{', optional' * tensor.optional}"


def _spec_text(spec: TensorSpec) -> str:
    shape = "of unknown rank" if spec.shape is None else f"[{', '.join(map(_size, spec.shape))}]"
    return f"{spec.name}  {spec.datatype.value}  {shape}"


def _size(size: int) -> str:
    return "any" if size == WILDCARD else str(size)


def instances_text(instances: InstancesReport) -> str:
    """How many instances run where, and the threads of a session: the CPU's instances share one."""
    if not instances.groups:
        return "none of its own: its steps run on those of their models"
    places = []
    for group in instances.groups:
        passive = ", passive: they take no requests" * group.passive
        if group.kind is InstanceKind.GPU:
            places.append(f"{group.count} on each GPU of {_numbers(group.gpus)}, a session each{passive}")
        else:
            places.append(f"{group.count} on the CPU{', sharing one session' * (group.count > 1)}{passive}")
    threads = f"{instances.intra_op_threads} within an operator"
    if instances.inter_op_threads > 1:
        threads += f", {instances.inter_op_threads} across operators"
    return f"{'; '.join(places)}; threads of a session: {threads}"


def _vision_lines(vision: VisionConfig | None) -> list[str]:
    if vision is None:
        return []
    lines = []
    if vision.detect is not None:
        detect = vision.detect
        lines.append(
            f"detect with head {detect.head}: score ≥ {detect.score_threshold:g}, "
            f"NMS IoU {detect.nms_iou:g}, at most {detect.max_faces} faces"
        )
    if vision.embed is not None:
        embed = vision.embed
        length = "of length 1" if embed.normalize else "as the model gives it"
        lines.append(f"embed: alignment {embed.alignment.value}, vector '{embed.tensor}' {length}")
    if vision.accepts_encoded:
        lines.append(encoded_text(vision.input.tensor))
    return [*lines, _picture_text(vision.input)]


def encoded_text(tensor: str) -> str:
    """What is said of a model that accepts image files in place of that input's numbers."""
    return f"takes whole image files as BYTES of '{tensor}' too, from any Triton client"


def _proposal_lines(proposals: Sequence[Proposal]) -> list[str]:
    """The families that a model without vision settings may be of, and where its config's text is told."""
    lines = [f"{entry.family} ({entry.certainty.value}): {entry.evidence}" for entry in proposals]
    return [*lines, "the parameters for its config: naiad check --propose"] if lines else []


def _picture_text(picture: InputConfig) -> str:
    size = "any size" if picture.width is None else f"{picture.width}x{picture.height}"
    mean, scale = (_channels(values) for values in (picture.mean, picture.scale))
    return (
        f"picture to '{picture.tensor}': resize {picture.resize.value}, {size}, {picture.color.value}, "
        f"{picture.layout.value}, (pixel - {mean}) x {scale}"
    )


def _channels(values: tuple[float, ...]) -> str:
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _engine_text(engine: EngineReport) -> str:
    gpus = f", {engine.gpu_count} GPU(s)" if engine.gpu_count else ""
    warnings = "".join(f"\nwarning: {printable(sentence)}" for sentence in engine.warnings)
    return (
        f"ONNX Runtime {engine.onnxruntime} ({', '.join(engine.execution_providers)}{gpus}), "
        f"{engine.cpu_threads} CPU threads ({engine.cpu_threads_reason}){warnings}"
    )


def _summary(inspection: Inspection) -> str:
    broken = [printable(model.name) for model in inspection.models if not model.ok]
    unlisted = sum(entry.problem is not None for entry in inspection.repositories)
    total = len(inspection.models)
    if not total and not unlisted:
        return "0 models: nothing is broken, and nothing would be served"
    text = f"{total} model{'s' * (total != 1)}: {total - len(broken)} ok, {len(broken)} broken"
    text += f" ({', '.join(_limited(broken))})" if broken else ""
    return text + (f"; repositories that cannot be listed: {unlisted}" if unlisted else "")


def render_block(block: Block) -> RenderableType:
    """A block for a terminal."""
    title = Text.assemble((block.title, "bold"), "  ", (_OK, "green") if block.ok else (_BROKEN, "bold red"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for row in block.rows:
        grid.add_row(row.label, Text("\n".join(row.lines), style=_STYLES.get(row.label, "")))
    return Group(title, Padding(grid, (0, 0, 0, 2)))


def _overview(models: Sequence[ModelReport]) -> Table:
    """One line a model."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("model", "state", "versions", "batching", "instances", "vision"):
        table.add_column(column, overflow="fold")
    for model in models:
        state = Text(_OK, "green") if model.ok else Text(_BROKEN, "bold red")
        plan = next((version.plan for version in model.versions if version.plan), None)
        versions = _numbers([version.version for version in model.versions])
        table.add_row(Text(printable(model.name)), state, versions, *_cells(plan))
    return table


def _cells(plan: VersionPlan | None) -> tuple[str, str, str]:
    if plan is None:
        return ("", "", "")
    batching = plan.batching
    size = f", up to {batching.max_batch_size}" if batching.max_batch_size else ""
    vision = plan.vision
    task = vision.task.value + (f", {vision.detect.head}" if vision.detect else "") if vision else ""
    return (f"{batching.merging.value}{size}", str(plan.instances.count), task)

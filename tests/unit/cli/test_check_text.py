"""Text of an inspection: safe to print, complete, and grouped."""

from __future__ import annotations

import io

from rich.console import Console

from naiad.cli.check_text import MAX_ROWS, plain_text, print_terminal, printable
from naiad.config.model_config import InstanceGroup, InstanceKind
from naiad.lifecycle.inspection import (
    BatchingReport,
    EngineReport,
    Inspection,
    InstancesReport,
    Merging,
    ModelReport,
    Problem,
    RepositoryReport,
    Stage,
    TensorReport,
    VersionPlan,
    VersionReport,
)

ENGINE = EngineReport("1.0", ("CPUExecutionProvider",), 0, 2, "a test", True, 4, ("mind the gap",))


def plan(*groups: InstanceGroup, outputs: int = 1, inter: int = 1) -> VersionPlan:
    tensors = tuple(TensorReport(f"out{index}", "FP32", (-1, 4), (-1, -1), False) for index in range(outputs))
    batching = BatchingReport(Merging.DYNAMIC, 8, (8,), 0, 0, (), "merged")
    instances = InstancesReport(groups or (InstanceGroup("g", InstanceKind.CPU, 1),), 1, 2, inter)
    return VersionPlan((), tensors, (), (), batching, instances, ("X", "Y"), (), None, (), ())


def inspection(*versions: VersionReport, name: str = "m", notes: tuple[str, ...] = ()) -> Inspection:
    model = ModelReport(
        name, "/r/m", "/r/m/config.pbtxt", "all", (1, 2, 3), (9,), versions=versions, notes=notes
    )
    return Inspection(ENGINE, (RepositoryReport("/r", 1),), (model,))


def on_terminal(report: Inspection, width: int = 80) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system="standard")
    print_terminal(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_control_characters_broken_utf8_and_markup_are_made_harmless() -> None:
    report = inspection(name="a\x1b[31m\udcff\n[bold]b")
    shown = plain_text(report)
    assert r"a\x1b[31m\udcff [bold]b" in shown
    assert "\x1b[31m\\udcff" not in on_terminal(report)
    assert "[bold]b" in on_terminal(report)


def test_a_very_long_text_is_cut_and_its_length_told() -> None:
    assert printable("x" * 5_000).endswith("x… (5000 characters)")


def test_versions_that_are_alike_are_described_once_and_a_different_one_by_itself() -> None:
    problem = Problem(Stage.GRAPH, "damaged", "repair it")
    report = inspection(
        VersionReport(1, "/r/m/1/model.onnx", plan(), None),
        VersionReport(2, "/r/m/2/model.onnx", None, problem),
        VersionReport(3, "/r/m/3/model.onnx", plan(), None),
    )
    text = plain_text(report)
    assert "m, versions 1, 3: ok" in text
    assert "m, version 2: BROKEN" in text
    assert text.count("batching") == 1


def test_versions_found_selected_ignored_and_missing_are_told_apart() -> None:
    text = plain_text(inspection(VersionReport(3, None, plan(), None)))
    assert "3 selected by the version policy (all); 1, 2 ignored; 9 missing" in text


def test_a_shape_that_differs_from_the_graph_shows_both() -> None:
    text = plain_text(inspection(VersionReport(3, None, plan(), None)))
    assert "out0  FP32  [batch, 4], in the graph [any, any]" in text


def test_a_model_with_hundreds_of_outputs_stays_readable() -> None:
    text = plain_text(inspection(VersionReport(1, None, plan(outputs=MAX_ROWS + 5), None)))
    assert f"out{MAX_ROWS - 1} " in text
    assert f"out{MAX_ROWS} " not in text
    assert "… and 5 more (--format json)" in text


def test_instances_on_gpus_and_the_cpu_are_counted_apart() -> None:
    groups = (InstanceGroup("a", InstanceKind.GPU, 2, (0, 1)), InstanceGroup("b", InstanceKind.CPU, 3))
    text = plain_text(inspection(VersionReport(1, None, plan(*groups, inter=2), None)))
    assert "2 on each GPU of 0, 1, a session each; 3 on the CPU, sharing one session" in text
    assert "threads of a session: 2 within an operator, 2 across operators" in text
    assert "runs on    X, then Y" in text


def test_the_terminal_gets_the_same_facts_in_colour_and_within_its_width() -> None:
    report = inspection(VersionReport(1, None, None, Problem(Stage.GRAPH, "word " * 60, "repair it")))
    shown = on_terminal(report, width=60)
    assert "\x1b[" in shown
    assert "repair it" in shown
    assert "warning: mind the gap" in shown
    plain = io.StringIO()
    print_terminal(report, Console(file=plain, width=60))
    assert max(len(line) for line in plain.getvalue().splitlines()) <= 60


def test_a_repository_is_mentioned_only_if_there_is_something_to_say() -> None:
    silent = inspection(VersionReport(1, None, plan(), None))
    assert "repository" not in plain_text(silent)
    problem = Problem(Stage.REPOSITORY, "not there", "name another")
    broken = Inspection(ENGINE, (RepositoryReport("/x", 0, problem),), ())
    assert "repository /x: BROKEN" in plain_text(broken)
    assert "0 models: 0 ok, 0 broken; repositories that cannot be listed: 1" in plain_text(broken)
    assert not broken.ok

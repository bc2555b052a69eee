"""A model's scheduling as rows of text, planned or as it went: for a pipe and for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.cli.check_text import Block, encoded_text, instances_text, make_rows, printable, tensor_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from naiad.cli.explain_live import LiveModel, LiveVersion
    from naiad.lifecycle.inspection import ModelReport, Problem, VersionPlan, VersionReport
    from naiad.scheduling.explain import SchedulingReport

    Pair = tuple[str, Iterable[str]]


def planned_block(model: ModelReport, version: VersionReport | None, max_queue_size: int) -> Block:
    """What a server would do with a version, or why it would not load it.

    Args:
        model: the model's inspection.
        version: one of its versions; None if none could be looked at.
        max_queue_size: the server's limit.
    """
    name = printable(model.name)
    if version is None:
        return Block(name, model.ok, make_rows(*_problem(model.problem)))
    title = f"{name}, version {version.version}"
    if version.plan is None:
        return Block(title, version.problem is None, make_rows(*_problem(version.problem)))
    rows = make_rows(*_planned(version.plan, max_queue_size), ("not honoured", model.warnings))
    return Block(title, version.problem is None, rows)


def live_block(model: LiveModel, version: LiveVersion) -> Block:
    """What a server does with a version, and how it went since it was loaded."""
    return Block(
        f"{printable(model.name)}, version {version.version}, at {printable(model.url)}",
        ok=True,
        rows=make_rows(
            ("images", [encoded_text(version.encoded_input)] if version.encoded_input else []),
            *_scheduling(version.scheduling, None),
            ("filled up", _buckets(version.batch_buckets)),
            ("instances", version.instances),
            ("runs on", [", then ".join(version.execution_providers)]),
            ("why there", version.fallbacks),
            *_figures(version),
        ),
    )


def _problem(problem: Problem | None) -> Iterator[Pair]:
    if problem is not None:
        yield "problem", [problem.reason]
        yield "what to do", [problem.advice]


def _planned(plan: VersionPlan, max_queue_size: int) -> Iterator[Pair]:
    batched = plan.batching.max_batch_size > 0
    yield "inputs", [tensor_text(tensor, batched=batched) for tensor in plan.inputs]
    yield "outputs", [tensor_text(tensor, batched=batched) for tensor in plan.outputs]
    if plan.vision is not None and plan.vision.accepts_encoded:
        yield "images", [encoded_text(plan.vision.input.tensor)]
    if plan.scheduling is not None:
        yield from _scheduling(plan.scheduling, max_queue_size)
    yield "filled up", _buckets(plan.batch_buckets)
    yield "instances", [instances_text(plan.instances)]
    yield "layout", [plan.instances.layout] if plan.instances.layout else []
    yield "each", [f"{each.name} on {each.execution_provider}" for each in plan.instances.active]
    yield "runs on", [", then ".join(plan.execution_providers)]
    yield "why there", plan.fallbacks or [plan.instances.placement]
    yield "note", plan.notes


def _scheduling(report: SchedulingReport, max_queue_size: int | None) -> Iterator[Pair]:
    limit = (
        "the server's --max-queue-size" if max_queue_size is None else f"{max_queue_size} (--max-queue-size)"
    )
    yield "scheduler", [report.scheduler]
    yield "batch axis", [report.batch_axis]
    yield "merged", [report.merged]
    yield "sizes", [report.sizes]
    yield "delay", [report.delay]
    yield "queue", [f"at most {limit} requests wait for the version", *report.queue]
    yield "a run starts", [f"{reason.name}: {reason.meaning}" for reason in report.reasons]


def _buckets(sizes: tuple[int, ...]) -> list[str]:
    if not sizes:
        return []
    return [f"on the GPU, batches run at the next of {', '.join(map(str, sizes))} batch items"]


def _figures(version: LiveVersion) -> Iterator[Pair]:
    yield (
        "requests",
        [f"{version.requests} answered, {version.failures} failed, {version.batch_items} batch items"],
    )
    if not version.runs:
        yield "runs", ["none yet"]
        return
    yield "runs", [f"{version.runs}, {version.items_per_run:.2f} batch items each"]
    yield (
        "a request",
        [f"waits {version.queue_us:.0f} µs and is computed in {version.compute_us:.0f} µs, on average"],
    )
    yield (
        "by size",
        [
            f"{size.batch_size}: {size.runs} runs ({size.share:.0%}), {size.compute_us:.0f} µs each"
            for size in version.sizes
        ],
    )
    yield (
        "by reason",
        [f"{each.reason}: {each.runs} runs ({each.share:.0%}), {each.meaning}" for each in version.reasons],
    )

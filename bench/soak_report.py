"""What a soak leaves behind: tables on the terminal, all samples as JSON, and a picture of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from bench.plot import write_text
from bench.soak_fit import MEBIBYTE, Verdict, settled, slope, steps_of
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

_BYTES = {
    "rss": "resident",
    "anonymous": "resident, anonymous",
    "pss": "proportional",
    "heap_used": "glibc's heaps, in use",
    "heap_free": "glibc's heaps, free",
}
_COUNTS = {"threads": "threads", "fds": "open files", "python_blocks": "Python's blocks"}
_WIDTH, _PANEL, _MARGIN, _LEFT = 1000, 190, 30, 90
_INK, _FAINT, _LINE = (40, 40, 40), (200, 200, 200), (170, 110, 40)  # BGR


def report(
    console: Console,
    output: Path,
    *,
    about: dict[str, Any],
    settings: dict[str, Any],
    samples: Sequence[dict[str, Any]],
    verdicts: Sequence[Verdict],
) -> None:
    """Write `soak.json` and `soak.png`, print figures and verdicts."""
    content = {
        "machine": about,
        "settings": settings,
        "verdicts": [asdict(each) for each in verdicts],
        "samples": list(samples),
    }
    (output / "soak.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    caption = f"{about['cpu']}, {about['cpus']} CPUs, onnxruntime {about['packages']['onnxruntime']}"
    write_soak_plot(output / "soak.png", samples, caption)
    console.print(_figures(samples))
    if about.get("calls"):
        console.print(_calls(about["calls"]))
    for name in ("grown_types", "grown_lines"):
        if about.get(name):
            console.print(f"{name.replace('_', ' ')}, since a quarter of the run:", about[name])
    console.print(_verdicts(verdicts))
    console.print(f"{caption}; load average before the run {about['load_average_before']:.2f}")
    console.print(f"{output / 'soak.json'}, {output / 'soak.png'}", soft_wrap=True)


def _figures(samples: Sequence[dict[str, Any]]) -> Table:
    kept = settled(samples)
    steps, unit = steps_of(kept)
    table = Table(title=f"{len(samples)} samples, {samples[-1]['reloads']} reloads", title_justify="left")
    table.add_column("figure")
    for name in ("first", "after a quarter", "last", "largest", f"grows {unit}", "95 % interval"):
        table.add_column(name, justify="right")
    for key, name in (_BYTES | _COUNTS).items():
        if key not in samples[0]:
            continue
        scale, places = (MEBIBYTE, 1) if key in _BYTES else (1, 0)
        values = [each[key] / scale for each in samples]
        found = slope(steps, [each[key] / scale for each in kept])
        grows = (
            ("", "") if found is None else (f"{found.value:+.2f}", f"{found.low:+.2f} to {found.high:+.2f}")
        )
        shown = (values[0], kept[0][key] / scale, values[-1], max(values))
        suffix = ", MiB" if key in _BYTES else ""
        table.add_row(f"{name}{suffix}", *(f"{value:,.{places}f}" for value in shown), *grows)
    return table


def _calls(calls: dict[str, dict[str, int]]) -> Table:
    table = Table(title="Calls by how they ended", title_justify="left")
    for name in ("caller", "answered", "otherwise"):
        table.add_column(name, justify="right" if name == "answered" else "left")
    for kind, ended in calls.items():
        others = ", ".join(f"{status} {count:,}" for status, count in ended.items() if status != "answered")
        table.add_row(kind, f"{ended.get('answered', 0):,}", others)
    return table


def _verdicts(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="Verdict", title_justify="left")
    for name in ("what", "found", "wanted", "verdict"):
        table.add_column(name)
    words = {True: "pass", False: "FAIL", None: "cannot tell: run longer"}
    for each in verdicts:
        table.add_row(each.name, each.found, each.wanted, words[each.passed])
    return table


def write_soak_plot(path: Path, samples: Sequence[dict[str, Any]], caption: str) -> None:
    """Write a PNG with a panel a figure over the time, the number of reloads below."""
    panels = [(key, name) for key, name in (_BYTES | _COUNTS).items() if key in samples[0]]
    canvas = np.full((_PANEL * len(panels) + 3 * _MARGIN, _WIDTH, 3), 255, np.uint8)
    write_text(canvas, caption, _LEFT, 22, 0.5)
    seconds = np.array([each["seconds"] for each in samples])
    for index, (key, name) in enumerate(panels):
        scale = MEBIBYTE if key in _BYTES else 1
        values = np.array([each[key] / scale for each in samples])
        unit = ", MiB" if key in _BYTES else ""
        _draw_panel(canvas, _MARGIN + _PANEL * index, f"{name}{unit}", seconds, values)
    end = f"{seconds[-1] / 60:.1f} minutes, {samples[-1]['reloads']} reloads"
    write_text(canvas, end, _WIDTH - 300, canvas.shape[0] - 20, 0.45)
    cv2.imwrite(str(path), canvas)


def _draw_panel(canvas: np.ndarray, top: int, name: str, seconds: np.ndarray, values: np.ndarray) -> None:
    """A line over the time, its scale from the least to the largest value."""
    low, high = float(values.min()), float(values.max())
    bottom, height = top + _PANEL - 20, _PANEL - 50
    x = _LEFT + (_WIDTH - _LEFT - _MARGIN) * seconds / max(float(seconds[-1]), 1e-9)
    y = bottom - height * (values - low) / max(high - low, 1e-9)
    cv2.rectangle(canvas, (_LEFT, bottom - height), (_WIDTH - _MARGIN, bottom), _FAINT, 1)
    points = np.stack([x, y], axis=1).round().astype(np.int32)
    cv2.polylines(
        canvas, [points.reshape(-1, 1, 2)], isClosed=False, color=_LINE, thickness=1, lineType=cv2.LINE_AA
    )
    write_text(canvas, name, _LEFT, bottom - height - 6, 0.45)
    write_text(canvas, f"{high:,.0f}", 10, bottom - height + 8, 0.4)
    write_text(canvas, f"{low:,.0f}", 10, bottom, 0.4)

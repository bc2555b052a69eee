"""Our families on experiments: what they show, and what they leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.telemetry.metrics import AsideView
from naiad.telemetry.metrics.naiad import naiad_families
from naiad.telemetry.metrics.view import VERDICTS

if TYPE_CHECKING:
    from naiad.telemetry.metrics import ExperimentView


def samples(*views: ExperimentView, aside: AsideView | None = None) -> dict[tuple[str, ...], float]:
    """Each sample's value by its name and the values of its labels, without those on the server."""
    families = naiad_families((), (), experiments=views, aside=aside, version="1", started_s=0.0)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith(("naiad_experiment", "naiad_shadow", "naiad_aside"))
    }


def test_each_version_tells_what_became_of_its_requests(experiment: ExperimentView) -> None:
    shown = samples(experiment)
    outcomes = {
        key[2:]: value for key, value in shown.items() if key[0] == "naiad_experiment_requests_total" if value
    }
    assert outcomes == {
        ("2", "success"): 7,
        ("2", "failed"): 1,
        ("2", "callers_fault"): 2,
        ("2", "cancelled"): 3,
    }
    assert shown["naiad_experiment_requests_total", "m", "1", "failed"] == 0
    assert shown["naiad_experiment_share", "m", "1"] == 0.9


def test_latencies_are_quantiles_with_a_count_and_no_sum(experiment: ExperimentView) -> None:
    name = "naiad_experiment_latency_seconds"
    latencies = {key: value for key, value in samples(experiment).items() if key[0].startswith(name)}
    assert latencies == {
        (f"{name}_count", "m", "1"): 0,
        (f"{name}_count", "m", "2"): 7,
        (name, "m", "2", "0.5"): 0.004,
        (name, "m", "2", "0.9"): 0.005,
        (name, "m", "2", "0.99"): 0.25,
    }


def test_what_is_not_known_has_no_series(experiment: ExperimentView) -> None:
    shown = samples(experiment)
    for name, value in (("empty_ratio", 0.125), ("faces", 1.5), ("score", 0.75), ("norm", 12.5)):
        assert shown[f"naiad_experiment_{name}", "m", "2"] == value
        assert (f"naiad_experiment_{name}", "m", "1") not in shown


def test_a_verdict_is_one_of_all(experiment: ExperimentView) -> None:
    shown = samples(experiment)
    verdicts = {name: shown["naiad_experiment_verdict", "m", "2", name] for name in VERDICTS}
    assert verdicts == {name: int(name == "holding") for name in VERDICTS}
    assert ("naiad_experiment_verdict", "m", "1", "holding") not in shown


def test_decisions_are_counted_by_kind_and_by_whom(experiment: ExperimentView) -> None:
    shown = samples(experiment)
    assert shown["naiad_experiment_decisions_total", "m", "roll_back", "guard"] == 1
    assert shown["naiad_experiment_decisions_total", "m", "resume", "person"] == 2


def test_a_shadow_tells_how_far_it_agrees(experiment: ExperimentView) -> None:
    shown = samples(experiment)
    assert {key[1:]: value for key, value in shown.items() if key[0] == "naiad_shadow_requests_total"} == {
        ("m", "2", "compared"): 5,
        ("m", "2", "failed"): 1,
        ("m", "2", "skipped"): 4,
    }
    figures = [
        shown[f"naiad_shadow_{name}", "m", "2"]
        for name in ("missed_ratio", "extra_ratio", "cosine", "mismatch_ratio")
    ]
    assert figures == [0.25, 0.0, 0.96, 0.002]


def test_an_experiment_without_a_shadow_shows_none(experiment: ExperimentView) -> None:
    shown = samples(experiment._replace(shadow=None))
    assert not [key for key in shown if key[0].startswith("naiad_shadow")]


def test_the_process_aside_is_shown_once_there_is_one() -> None:
    assert samples(aside=AsideView(1.5, 2, 3)) == {
        ("naiad_aside_cpu_seconds_total",): 1.5,
        ("naiad_aside_starts_total",): 2,
        ("naiad_aside_pending",): 3,
    }
    assert not samples()

"""Our own families: what they count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from naiad.runtime.tensorrt.build import BuildState
from naiad.telemetry.metrics import EngineView, ModelState, RoomView, StreamsView, VersionState
from naiad.telemetry.metrics.exposition import write
from naiad.telemetry.metrics.naiad import naiad_families
from naiad.telemetry.metrics.view import ENGINE_STATES
from naiad.telemetry.statistics import FailureReason, RefusalReason, VersionStatistics
from naiad.telemetry.streams import ModelStreams

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.telemetry.metrics import VersionView

    MakeView = Callable[..., VersionView]
    RunBatch = Callable[[VersionStatistics, int], None]


MODELS = (ModelState("changed", 3, is_change_refused=True),)


def samples(*views: VersionView, states: tuple[VersionState, ...] = ()) -> dict[str, float]:
    """Each sample's value by `name label=value …`, without model and version."""
    families = naiad_families(views, states, MODELS, version="1.2.3", started_s=5.0)
    text, _ = write([], families, "")
    return {
        " ".join(
            [sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))]
        ): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_latencies_are_histograms_in_seconds(view: MakeView, run_batch: RunBatch) -> None:
    """Requests count each for themselves, the compute phases once a batch."""
    counted = VersionStatistics()
    run_batch(counted, 3)
    shown = samples(view(statistics=counted))
    version = "model=m version=1"
    assert shown[f"naiad_request_duration_seconds_count {version}"] == 3
    assert shown[f"naiad_request_duration_seconds_sum {version}"] == 0.024
    assert shown[f"naiad_request_duration_seconds_bucket le=0.005 {version}"] == 0
    assert shown[f"naiad_request_duration_seconds_bucket le=0.01 {version}"] == 3
    assert shown[f"naiad_request_duration_seconds_bucket le=+Inf {version}"] == 3
    assert shown[f"naiad_queue_duration_seconds_sum {version}"] == 0.006
    assert shown[f"naiad_compute_infer_duration_seconds_count {version}"] == 1
    assert shown[f"naiad_compute_infer_duration_seconds_sum {version}"] == 0.004
    assert shown[f"naiad_compute_input_duration_seconds_sum {version}"] == 0.001
    assert shown[f"naiad_compute_output_duration_seconds_sum {version}"] == 0.001


def test_batch_sizes_are_a_histogram_whose_sum_is_the_items(view: MakeView, run_batch: RunBatch) -> None:
    counted = VersionStatistics()
    for size in (1, 3, 3, 200):
        run_batch(counted, size)
    shown = samples(view(statistics=counted))
    sizes = [
        shown[f"naiad_batch_size_bucket le={bound} model=m version=1"] for bound in (1.0, 2.0, 4.0, 128.0)
    ]
    assert sizes == [1, 1, 3, 3]
    assert shown["naiad_batch_size_count model=m version=1"] == 4
    assert shown["naiad_batch_size_sum model=m version=1"] == 207


def test_every_outcome_and_refusal_is_counted_apart(view: MakeView, run_batch: RunBatch) -> None:
    counted = VersionStatistics()
    run_batch(counted, 2)
    for reason in FailureReason:
        counted.record_failure(1, reason)
    counted.record_refused(RefusalReason.QUEUE_FULL)
    shown = samples(view(statistics=counted))
    outcomes = {
        key.split()[2].removeprefix("outcome="): value
        for key, value in shown.items()
        if key.startswith("naiad_requests_total")
    }
    assert outcomes == {"success": 2, "expired": 1, "cancelled": 1, "failed": 1, "other": 1}
    assert shown["naiad_requests_refused_total model=m reason=queue_full version=1"] == 1
    assert shown["naiad_requests_refused_total model=m reason=stopping version=1"] == 0
    assert shown["naiad_requests_refused_total model=m reason=deadline version=1"] == 0


def test_wasted_work_is_told_in_seconds_and_in_batch_items(view: MakeView) -> None:
    counted = VersionStatistics()
    counted.record_wasted(2, 500_000_000)
    counted.record_wasted(1, 250_000_000)
    counted.record_terminated()
    shown = samples(view(statistics=counted))
    assert shown["naiad_wasted_compute_seconds_total model=m version=1"] == 0.75
    assert shown["naiad_wasted_batch_items_total model=m version=1"] == 3
    assert shown["naiad_terminated_runs_total model=m version=1"] == 1


def test_gauges_tell_the_moment(view: MakeView) -> None:
    states = (VersionState("m", 1, True), VersionState("broken", None, False))
    shown = samples(view(queued=4, busy=1), states=states)
    assert shown["naiad_queue_size model=m version=1"] == 4
    assert shown["naiad_instances model=m version=1"] == 2
    assert shown["naiad_instances_busy model=m version=1"] == 1
    assert shown["naiad_model_load_duration_seconds model=m version=1"] == 1.5
    assert shown["naiad_model_ready model=m version=1"] == 1
    assert shown["naiad_model_ready model=broken version="] == 0
    assert shown["naiad_model_load_failures_total model=changed"] == 3
    assert shown["naiad_model_change_refused model=changed"] == 1
    assert shown["naiad_start_time_seconds"] == 5.0
    assert any(key.endswith("version=1.2.3") for key in shown if key.startswith("naiad_build_info"))


def test_metric_tags_are_labels_here_too(view: MakeView) -> None:
    assert "naiad_queue_size _team=a model=m version=1" in samples(view(tags={"team": "a"}))


def test_an_engines_state_is_one_of_all_and_its_seconds_are_told(view: MakeView) -> None:
    shown = samples(view(engine=EngineView("building", 42.5)))
    states = {
        name: shown[f"naiad_tensorrt_engine_state model=m state={name} version=1"] for name in ENGINE_STATES
    }
    assert states == {name: int(name == "building") for name in ENGINE_STATES}
    assert shown["naiad_tensorrt_engine_duration_seconds model=m version=1"] == 42.5


def test_a_version_without_an_engine_has_no_series_of_one(view: MakeView) -> None:
    assert not [name for name in samples(view()) if "tensorrt" in name]


def test_the_states_are_those_that_a_build_has() -> None:
    """The table of metrics lies below the builds and cannot ask them."""
    assert list(ENGINE_STATES) == [state.value for state in BuildState]


def test_frames_of_streams_are_counted_by_what_became_of_them() -> None:
    counted = ModelStreams(open=2, answered=7, failed=1, dropped={"superseded": 5, "too_old": 3}, abandoned=2)
    counted.ages.add(40_000_000)
    families = naiad_families(
        (),
        (),
        streams=[StreamsView("m", counted)],
        rooms=[RoomView("m", 3, 1, 4)],
        version="1",
        started_s=0.0,
    )
    shown = {
        (
            sample.name,
            *(sample.labels[key] for key in ("outcome", "version", "le") if key in sample.labels),
        ): (sample.value)
        for family in families
        for sample in family.samples
        if sample.name.startswith("naiad_stream")
    }
    assert shown["naiad_streams",] == 2
    outcomes = {key[1]: value for key, value in shown.items() if key[0] == "naiad_stream_frames_total"}
    assert outcomes == {"answered": 7, "failed": 1, "superseded": 5, "too_old": 3, "abandoned": 2}
    assert shown["naiad_stream_frames_at_work", "3"] == 1
    assert shown["naiad_stream_room", "3"] == 4
    assert shown["naiad_stream_frame_age_seconds_bucket", "0.025"] == 0
    assert shown["naiad_stream_frame_age_seconds_bucket", "0.05"] == 1
    assert shown["naiad_stream_frame_age_seconds_sum",] == 0.04

"""Faces of two answers: who is whose partner, what counts, and answers that cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agreement import PICTURES, SIDE, FoundFace, answer, detector, pictures

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.config.vision_config import DetectConfig, Task, VisionConfig
from naiad.core.datatypes import DataType
from naiad.vision.agreement import DetectionAgreement, TensorAgreement, agree, signs
from naiad.vision.agreement.detections import MARGIN, overlaps
from naiad.vision.detector import Detector

THREE = (FoundFace(20, 20), FoundFace(100, 100, score=0.8), FoundFace(200, 50, side=60, score=0.7))


def compared(
    baseline: tuple[FoundFace, ...], candidate: tuple[FoundFace, ...], threshold: float = 0.5
) -> DetectionAgreement:
    vision, config = detector(threshold)
    found = agree(vision, config, answer(baseline), answer(candidate), pictures(1))
    assert isinstance(found, DetectionAgreement)
    return found


def test_an_answer_agrees_with_itself_in_full() -> None:
    assert compared(THREE, THREE) == DetectionAgreement(3, 3, 3, 1.0, 0.0, 0.0, 0.0)


def test_pictures_without_faces_agree() -> None:
    assert compared((), ()) == DetectionAgreement(0, 0, 0, 0.0, None, 0.0, 0.0)


def test_a_face_that_only_the_baseline_has_is_missed_and_one_that_only_the_candidate_has_is_extra() -> None:
    missed = compared(THREE, THREE[:2])
    assert (missed.baseline, missed.candidate, missed.matched) == (3, 2, 2)
    assert missed.disagreement == pytest.approx(1 / 3)
    extra = compared(THREE[:2], THREE)
    assert (extra.baseline, extra.candidate, extra.matched) == (2, 3, 2)
    assert extra.disagreement == pytest.approx(1 / 3)


def test_moved_boxes_and_landmarks_and_scores_are_told_in_their_units() -> None:
    """A box of 40 pixels moved by 4 to the right: IoU 36/44, and the landmarks move 4 of the eyes' 16 pixels."""
    found = compared((FoundFace(20, 20),), (FoundFace(24, 20, score=0.8),))
    assert found.matched == 1
    assert found.mean_iou == pytest.approx(36 / 44)
    assert found.landmark_error == pytest.approx(4 / 16)
    assert found.score_shift == pytest.approx(-0.1)
    assert found.disagreement == pytest.approx(1 - 36 / 44)


def test_a_box_that_overlaps_by_less_than_half_is_another_face() -> None:
    found = compared((FoundFace(20, 20),), (FoundFace(36, 20),))
    assert (found.matched, found.disagreement) == (0, 1.0)
    assert found.landmark_error is None


def test_each_face_has_one_partner_even_where_the_nearest_is_taken() -> None:
    """Two overlapping faces: the first come must not take what leaves the other one without a partner."""
    pair = (FoundFace(100, 100), FoundFace(108, 100, score=0.8))
    moved = (FoundFace(106, 100), FoundFace(116, 100, score=0.8))
    assert compared(pair, moved).matched == 2


def test_a_lone_face_near_the_threshold_does_not_count() -> None:
    sure, doubtful = (
        FoundFace(200, 200, score=0.5 + 1.1 * MARGIN),
        FoundFace(200, 200, score=0.5 + 0.9 * MARGIN),
    )
    assert compared((*THREE, doubtful), THREE) == compared(THREE, THREE)
    assert compared(THREE, (*THREE, doubtful)) == compared(THREE, THREE)
    assert compared((*THREE, sure), THREE).baseline == 4
    assert compared(THREE, (*THREE, sure)).candidate == 4


def test_a_face_near_the_threshold_with_a_partner_counts() -> None:
    found = compared((FoundFace(20, 20, score=0.51),), (FoundFace(20, 20, score=0.52),))
    assert (found.baseline, found.candidate, found.matched) == (1, 1, 1)


def test_a_threshold_near_one_leaves_faces_that_count() -> None:
    assert compared((FoundFace(20, 20, score=0.995),), (), threshold=0.98).baseline == 1


def test_a_face_from_the_side_has_a_unit_all_the_same() -> None:
    """Both eyes in one place would make any error endless; the unit is a quarter of the box then."""
    vision, config = detector()
    mine, theirs = answer((FoundFace(20, 20),)), answer((FoundFace(20, 20, landmarks_off=2),))
    for each in (mine, theirs):
        each["landmarks"][0, 0, 1] = each["landmarks"][0, 0, 0]
    found = agree(vision, config, mine, theirs, pictures(1))
    assert isinstance(found, DetectionAgreement)
    assert found.landmark_error == pytest.approx(2 / 10)


def test_a_batch_is_the_sum_of_its_pictures() -> None:
    vision, config = detector()
    mine = (THREE, (), THREE[:1], THREE)
    theirs = (THREE[1:], THREE[:1], (FoundFace(22, 20, score=0.6),), THREE)
    together = agree(vision, config, answer(*mine), answer(*theirs), pictures(4))
    alone = [compared(left, right) for left, right in zip(mine, theirs, strict=True)]
    assert isinstance(together, DetectionAgreement)
    for name in ("baseline", "candidate", "matched"):
        assert getattr(together, name) == sum(getattr(each, name) for each in alone)
    weighted = sum(each.mean_iou * each.matched for each in alone)
    assert together.mean_iou == pytest.approx(weighted / together.matched)
    shift = sum(each.score_shift * each.matched for each in alone)
    assert together.score_shift == pytest.approx(shift / together.matched)


def test_of_two_boxes_in_one_place_the_one_of_the_nearer_score_is_matched() -> None:
    """Whichever answer comes first: with the other one the shift, or the count, would depend on it."""
    mine = (FoundFace(20, 20, score=1.0),)
    theirs = (FoundFace(20, 20, score=1.0), FoundFace(20, 20, score=0.75))
    assert compared(mine, theirs).score_shift == compared(theirs, mine).score_shift == 0


@given(st.data())
def test_who_is_the_baseline_changes_nothing_but_signs(data: st.DataObject) -> None:
    faces = st.lists(
        st.builds(
            FoundFace,
            st.floats(0, 250),
            st.floats(0, 250),
            st.floats(20, 60),
            st.floats(0.5, 1, width=32),
            st.just(0.0),
        ),
        max_size=5,
    ).map(tuple)
    mine, theirs = data.draw(faces), data.draw(faces)
    one, other = compared(mine, theirs), compared(theirs, mine)
    assert (one.baseline, one.candidate, one.matched) == (other.candidate, other.baseline, other.matched)
    assert one.mean_iou == pytest.approx(other.mean_iou)
    assert one.score_shift == pytest.approx(-other.score_shift)
    assert one.disagreement == pytest.approx(other.disagreement)
    assert 0 <= one.disagreement <= 1
    assert one.matched <= min(one.baseline, one.candidate)


def boxes_model() -> tuple[Detector, ModelConfig]:
    """Finished rows of box, score, one landmark and class, without a batch dimension."""
    inputs = (TensorConfig(PICTURES, DataType.FP32, (3, SIDE, SIDE)),)
    outputs = (TensorConfig("rows", DataType.FP32, (-1, 8)),)
    _, config = detector()
    assert config.vision is not None
    vision = VisionConfig(Task.DETECT, config.vision.input, DetectConfig("boxes", 0.5, 0.45, 100))
    return Detector(vision, inputs, outputs), ModelConfig("b", 0, inputs, outputs, vision=vision)


def test_classes_have_no_partners_in_each_other() -> None:
    vision, config = boxes_model()
    row = [20.0, 20.0, 60.0, 60.0, 0.9, 30.0, 30.0]
    picture = {PICTURES: np.zeros((3, SIDE, SIDE), np.float32)}
    mine = {"rows": np.array([[*row, 3.0]], np.float32)}
    same = agree(vision, config, mine, mine, picture)
    other = agree(vision, config, mine, {"rows": np.array([[*row, 4.0]], np.float32)}, picture)
    assert isinstance(same, DetectionAgreement)
    assert isinstance(other, DetectionAgreement)
    assert (same.matched, same.landmark_error) == (1, 0.0)
    assert (other.matched, other.disagreement) == (0, 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("name", ["boxes", "scores", "landmarks"])
def test_a_candidate_of_garbage_disagrees_and_raises_nothing(name: str, value: float) -> None:
    vision, config = detector()
    spoiled = answer(THREE)
    spoiled[name][:] = value
    found = agree(vision, config, answer(THREE), spoiled, pictures(1))
    assert isinstance(found, DetectionAgreement)
    assert found.baseline == 3
    if np.isfinite(value):
        assert signs(vision, config, spoiled, pictures(1)).is_finite
    else:
        assert found.disagreement == 1
        assert not signs(vision, config, spoiled, pictures(1)).is_finite


def test_one_number_that_is_not_finite_is_a_disagreement_of_one_if_it_is_the_candidates_alone() -> None:
    vision, config = detector()
    spoiled = answer(THREE)
    spoiled["scores"][0, -1] = np.nan  # of no face
    assert agree(vision, config, answer(THREE), spoiled, pictures(1)).disagreement == 1
    assert agree(vision, config, spoiled, answer(THREE), pictures(1)).disagreement == 0
    assert agree(vision, config, spoiled, spoiled, pictures(1)).disagreement == 0


def test_a_candidate_that_the_head_cannot_read_has_no_faces_and_disagrees() -> None:
    vision, config = detector()
    good = answer(THREE)
    texts = np.full(good["scores"].shape, b"no", np.object_)
    for broken in ({}, good | {"boxes": np.zeros((1, 3), np.float32)}, good | {"scores": texts}):
        found = agree(vision, config, good, broken, pictures(1))
        assert isinstance(found, DetectionAgreement)
        assert (found.baseline, found.candidate, found.disagreement) == (3, 0, 1)


def test_a_baseline_that_was_asked_for_some_outputs_only_is_compared_as_tensors() -> None:
    vision, config = detector()
    some = {"scores": answer(THREE)["scores"]}
    assert agree(vision, config, some, answer(THREE), pictures(1)) == TensorAgreement(8, 0, 0.0, 0.0)
    told = signs(vision, config, some, pictures(1))
    assert (told.task, told.rows, told.detections, told.is_finite) == ("tensors", 1, None, True)


def test_an_answer_shows_its_faces_and_the_mean_of_the_best_scores() -> None:
    vision, config = detector()
    told = signs(vision, config, answer(THREE, (), (FoundFace(1, 1, score=0.6),)), pictures(3))
    assert (told.task, told.rows, told.detections, told.norm, told.is_finite) == ("detect", 3, 4, None, True)
    assert told.top_score == pytest.approx((0.9 + 0.6) / 2)


def test_an_answer_without_faces_has_no_best_score() -> None:
    vision, config = detector()
    told = signs(vision, config, answer((), ()), pictures(2))
    assert (told.detections, told.top_score, told.is_finite) == (0, None, True)


def test_an_answer_that_cannot_be_read_is_not_finite() -> None:
    vision, config = detector()
    told = signs(vision, config, answer(THREE) | {"count": np.array([[99]], np.int32)}, pictures(1))
    assert (told.task, told.detections, told.is_finite) == ("detect", None, False)


def test_boxes_without_area_overlap_nothing() -> None:
    flat = np.array([[5, 5, 5, 5], [0, 0, 10, 10]], np.float32)
    np.testing.assert_array_equal(overlaps(flat, flat), [[0, 0], [0, 1]])

"""Which faces are embedded again, and which embedding each face of a stream is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clips import clip_faces, onnx_session
from support.tracks import faces

from naiad.core.errors import InternalError
from naiad.vision.alignment import align, l2_normalize
from naiad.vision.track_embeddings import TrackEmbeddings
from naiad.vision.tracks import Tracker

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.vision.arrays import Floats, Pixels
    from naiad.vision.detections import Detections
    from naiad.vision.track_embeddings import Choice


class Stream:
    """Tracks and embeddings together; what is embedded of a face is the frame's number."""

    def __init__(self, **tracker: Any) -> None:
        self.tracker, self.embeddings, self.frame = Tracker(**tracker), TrackEmbeddings(), -1

    def choose(self, found: Detections, limit: int | None = None) -> Choice:
        self.frame += 1
        ids = self.tracker.update(found)
        return self.embeddings.choose(ids, found, frame_id=self.frame, live=self.tracker.ids, limit=limit)

    def absorb(self, choice: Choice) -> list[int | None]:
        """The frames that the faces' embeddings were made of."""
        vectors = np.full((len(choice.indices), 1), choice.frame_id, np.float32)
        found = self.embeddings.absorb(choice, vectors)
        assert all(made is None or made.vector[0] == made.frame_id for made in found)
        return [made and made.frame_id for made in found]

    def frames(self, found: Detections, limit: int | None = None) -> list[int | None]:
        return self.absorb(self.choose(found, limit))


def test_a_face_that_stays_is_embedded_once_and_reused_from_then_on() -> None:
    stream = Stream()
    assert [stream.frames(faces((100, 100))) for _ in range(50)] == [[0]] * 50
    assert (stream.embeddings.embedded, stream.embeddings.reused) == (1, 49)


def test_a_vector_of_another_space_is_made_anew_and_never_given_out() -> None:
    """Frames of two versions may be at work at once, and one of the old version come back after the new one."""
    tracker, embeddings = Tracker(), TrackEmbeddings()

    def choose(frame: int, space: str) -> Choice:
        found = faces((100, 100), (300, 100))
        return embeddings.choose(tracker.update(found), found, frame_id=frame, live=tracker.ids, space=space)

    def absorb(choice: Choice) -> list[Any]:
        made = embeddings.absorb(choice, np.full((len(choice.indices), 1), choice.frame_id, np.float32))
        assert all(each is None or each.space == choice.space for each in made)
        return [each and each.frame_id for each in made]

    assert absorb(choose(0, "old")) == [0, 0]
    late, new, old_again = choose(1, "old"), choose(2, "new"), choose(3, "old")
    assert [len(each.indices) for each in (late, new, old_again)] == [0, 2, 2]
    assert [absorb(each) for each in (late, new, old_again)] == [[0, 0], [2, 2], [3, 3]]
    failed = choose(4, "new")
    assert embeddings.absorb(failed, None) == [None, None]
    assert absorb(choose(5, "new")) == [5, 5]


def test_each_face_has_the_embedding_of_its_own_track_whatever_the_order() -> None:
    stream = Stream()
    assert stream.frames(faces((100, 100))) == [0]
    assert stream.frames(faces((300, 100), (100, 100))) == [1, 0]
    assert stream.frames(faces((100, 100), (300, 100))) == [0, 1]


def test_a_face_that_is_seen_much_better_is_embedded_again_and_a_worse_one_is_not() -> None:
    stream = Stream()
    assert stream.frames(faces((100, 100), score=0.6)) == [0]
    assert stream.frames(faces((100, 100), score=0.66)) == [0]  # 1.21 times as good
    assert stream.frames(faces((100, 100), score=0.7)) == [2]  # 1.36 times
    assert stream.frames(faces((100, 100), score=0.5)) == [2]
    assert stream.frames(faces((100, 100), score=0.75)) == [2]


def test_a_track_that_jumped_is_embedded_again_because_it_may_be_another_face() -> None:
    stream = Stream()
    for _ in range(3):
        stream.frames(faces((100, 100), score=0.9))
    assert stream.frames(faces((118, 100), score=0.6)) == [3]
    assert stream.tracker.next_id == 2


@pytest.mark.parametrize(("missing", "expected"), [(3, 0), (4, 6)])
def test_a_track_that_was_missing_for_long_is_embedded_again(missing: int, expected: int) -> None:
    stream = Stream()
    stream.frames(faces((100, 100)))
    stream.frames(faces((100, 100)))
    for _ in range(missing):
        stream.frames(faces())
    assert stream.frames(faces((100, 100))) == [expected]
    assert stream.tracker.next_id == 2


def test_frames_at_work_at_once_embed_a_face_once() -> None:
    stream = Stream()
    choices = [stream.choose(faces((100, 100))) for _ in range(4)]
    assert [choice.indices.tolist() for choice in choices] == [[0], [], [], []]
    assert [stream.absorb(choice) for choice in choices] == [[0]] * 4


def test_a_face_whose_embedding_failed_has_none_and_is_tried_again() -> None:
    stream = Stream()
    assert stream.embeddings.absorb(stream.choose(faces((100, 100))), None) == [None]
    assert stream.frames(faces((100, 100))) == [1]
    both = stream.choose(faces((100, 100), (300, 100), (500, 100)))
    found = stream.embeddings.absorb(both, [None, np.array([2.0], np.float32)])
    assert [made and made.frame_id for made in found] == [1, None, 2]
    assert (stream.embeddings.embedded, stream.embeddings.reused) == (2, 1)


def test_a_doubtful_track_whose_embedding_failed_does_not_keep_the_old_one() -> None:
    """It may be of another person."""
    stream = Stream()
    stream.frames(faces((100, 100)))
    assert stream.embeddings.absorb(stream.choose(faces((118, 100))), None) == [None]


def test_no_more_than_the_limit_are_embedded_a_frame_and_all_have_their_turn() -> None:
    stream = Stream()
    crowd = faces(*((100 * index, 100) for index in range(5)))
    assert stream.frames(crowd, limit=2) == [0, 0, None, None, None]
    assert stream.frames(crowd, limit=2) == [0, 0, 1, 1, None]
    assert stream.frames(crowd, limit=2) == [0, 0, 1, 1, 2]
    assert stream.frames(crowd, limit=0) == [0, 0, 1, 1, 2]


def test_faces_without_an_embedding_come_before_those_that_could_have_a_better_one() -> None:
    stream = Stream()
    stream.frames(faces((100, 100), score=0.5))
    assert stream.frames(faces((100, 100), (300, 100), score=0.9), limit=1) == [0, 1]
    assert stream.frames(faces((100, 100), (300, 100), score=0.9), limit=1) == [2, 1]


def test_ended_tracks_are_forgotten_but_not_before_their_last_frame_is_answered() -> None:
    stream = Stream(max_missed=0)
    stream.frames(faces((100, 100)))
    seen, gone = stream.choose(faces((100, 100))), stream.choose(faces())
    assert stream.absorb(seen) == [0]
    assert stream.absorb(gone) == []
    assert len(stream.embeddings) == 0


def test_faces_beyond_the_tracks_that_are_kept_are_embedded_and_forgotten() -> None:
    stream = Stream(max_tracks=2)
    crowd = faces(*((100 * index, 100) for index in range(3)))
    assert stream.frames(crowd) == [0] * 3
    assert len(stream.embeddings) == 2
    assert stream.frames(crowd) == [0, 0, 1]


def test_a_face_of_score_0_is_embedded_once_too() -> None:
    stream = Stream()
    assert [stream.frames(faces((100, 100), score=0.0)) for _ in range(3)] == [[0]] * 3


def test_vectors_for_other_faces_than_the_chosen_are_refused() -> None:
    stream = Stream()
    choice = stream.choose(faces((100, 100)))
    with pytest.raises(InternalError, match="2 vectors came for 1 chosen faces"):
        stream.embeddings.absorb(choice, [None, None])


PLACES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(20, 80)), max_size=6, unique_by=lambda place: place[0]
)


@given(st.lists(PLACES, max_size=20), st.integers(0, 3))
def test_whoever_comes_and_goes_each_face_has_an_embedding_of_its_track_and_the_counts_add_up(
    frames: list[list[tuple[int, int]]], max_missed: int
) -> None:
    stream, total = Stream(max_missed=max_missed), 0
    embedded: set[tuple[int | None, int]] = set()
    for places in frames:
        choice = stream.choose(faces(*((200.0 * place, 100.0, side) for place, side in places)))
        embedded |= {(choice.frame_id, track) for track in choice.ids[choice.indices].tolist()}
        made = stream.absorb(choice)
        assert all((frame, track) in embedded for frame, track in zip(made, choice.ids.tolist(), strict=True))
        total += len(places)
        assert stream.embeddings.embedded + stream.embeddings.reused == total
        assert len(stream.embeddings) <= len(stream.tracker.ids)


_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)


class Embedder:
    """MobileFaceNet, fed as its project does."""

    def __init__(self, assets: Path) -> None:
        self._session = onnx_session(assets / "models" / "mobilefacenet_128_dynamic.onnx")

    def vectors(self, image: Pixels, found: Detections) -> Floats:
        assert found.landmarks is not None
        if not len(found):
            return np.empty((0, 128), np.float32)
        crops = np.stack([align(image, points)[..., ::-1] for points in found.landmarks]).astype(np.float32)
        crops = (crops - _MEAN) / _DEVIATION
        (vectors,) = self._session.run(None, {"input0": crops.transpose(0, 3, 1, 2)})
        return l2_normalize(vectors)


@pytest.mark.assets
def test_of_a_clip_nine_of_ten_embeddings_are_saved_and_those_reused_are_as_near_to_the_person(
    assets: Path,
) -> None:
    """Every third frame, about 150 faces. A fresh embedding is no truth either: both are held against a mean."""
    embedder, tracker, embeddings = Embedder(assets), Tracker(), TrackEmbeddings()
    pairs: dict[int, list[tuple[Floats, Floats]]] = {}
    for index, (image, found) in enumerate(clip_faces(assets, "short_hamilton_clip.mp4", every=3)):
        fresh = embedder.vectors(image, found)
        ids = tracker.update(found)
        choice = embeddings.choose(ids, found, frame_id=index, live=tracker.ids)
        given_out = embeddings.absorb(choice, fresh[choice.indices])
        for track, made, own in zip(ids.tolist(), given_out, fresh, strict=True):
            assert made is not None
            pairs.setdefault(track, []).append((made.vector, own))
    assert embeddings.reused / (embeddings.reused + embeddings.embedded) > 0.85
    long = [np.array(pair) for pair in pairs.values() if len(pair) >= 20]
    means = [l2_normalize(pair[:, 1].mean(axis=0)) for pair in long]
    reused = np.concatenate([pair[:, 0] @ mean for pair, mean in zip(long, means, strict=True)])
    fresh_ones = np.concatenate([pair[:, 1] @ mean for pair, mean in zip(long, means, strict=True)])
    assert reused.mean() > fresh_ones.mean() - 0.1


@pytest.mark.assets
def test_a_cut_that_puts_another_face_in_the_same_place_costs_one_embedding_and_mixes_nobody_up(
    assets: Path,
) -> None:
    """After the clip's second cut the singer's track is a listener's: his embedding is his own at once."""
    embedder, tracker, embeddings = Embedder(assets), Tracker(), TrackEmbeddings()
    cosines = []
    for index, (image, found) in enumerate(
        clip_faces(assets, "short_hamilton_clip.mp4", start=200, stop=225)
    ):
        fresh = embedder.vectors(image, found)
        choice = embeddings.choose(tracker.update(found), found, frame_id=index, live=tracker.ids)
        given_out = embeddings.absorb(choice, fresh[choice.indices])
        if index >= 11:
            cosines += [float(made.vector @ own) for made, own in zip(given_out, fresh, strict=True) if made]
    assert len(cosines) > 50
    assert min(cosines) > 0.5

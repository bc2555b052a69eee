"""The folder of the worst disagreements: what is kept, what goes, and that nothing read from it is run."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import stat
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.lifecycle.experiments import kept as kept_file
from naiad.lifecycle.experiments import worst
from naiad.lifecycle.experiments.worst import Disagreement, WorstDisagreements, kept_files, load
from naiad.vision.agreement import TensorAgreement

if TYPE_CHECKING:
    from pathlib import Path

AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
GIVEN = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def agreement(disagreement: float) -> TensorAgreement:
    return TensorAgreement(10, 3, 0.25, disagreement)


def found(disagreement: float, size: int = 10, **changes: Any) -> Disagreement:
    """A disagreement whose tensors do not get smaller by packing."""
    rng = np.random.default_rng(round(disagreement * 1e6))
    fields: dict[str, Any] = {
        "model": "m",
        "baseline_version": 1,
        "candidate_version": 2,
        "agreement": agreement(disagreement),
        "at": AT,
        "inputs": {"x": rng.normal(size=size).astype(np.float32)},
        "baseline_outputs": {"y": rng.normal(size=3)},
        "candidate_outputs": {"y": rng.normal(size=3)},
    }
    return Disagreement(**(fields | changes))


def kept(folder: Path) -> list[float]:
    """The disagreements of the files of a folder, the worst first."""
    return [load(path).agreement.disagreement for path in kept_files(folder)]


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    texts = np.array([[b"", b"cat\x00"], ["ä".encode(), b"x" * 300]], np.object_)
    inputs = {
        "../odd name/0": np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::-1],
        "texts": texts,
        "none": np.empty((0, 4), np.float16),
        "flag": np.array(True),
    }
    given_one = found(
        0.5, inputs=inputs, request_id="r\n1", experiment="e", same_space=False, candidate_outputs={}
    )
    path = WorstDisagreements(tmp_path / "a" / "b", 5).offer(given_one)
    assert path is not None
    back = load(path)
    for name in (
        "model",
        "baseline_version",
        "candidate_version",
        "agreement",
        "at",
        "request_id",
        "experiment",
    ):
        assert getattr(back, name) == getattr(given_one, name)
    assert back.same_space is False
    assert list(back.inputs) == list(inputs)
    for name, array in inputs.items():
        assert back.inputs[name].dtype == array.dtype
        np.testing.assert_array_equal(back.inputs[name], array)
    np.testing.assert_array_equal(back.baseline_outputs["y"], given_one.baseline_outputs["y"])
    assert back.candidate_outputs == {}


def test_a_file_is_for_its_owner_and_opens_with_numpy_alone(tmp_path: Path) -> None:
    path = WorstDisagreements(tmp_path / "kept", 5).offer(found(0.5))
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with np.load(path, allow_pickle=False) as archive:
        assert archive["inputs_0"].shape == (10,)
        assert json.loads(archive[kept_file.META])["agreement"]["task"] == "tensors"


@pytest.mark.parametrize("nothing", [{"folder": None, "keep": 5}, {"keep": 0}])
def test_nothing_is_kept_unless_it_is_asked_for(nothing: dict[str, Any], tmp_path: Path) -> None:
    folder = WorstDisagreements(**({"folder": tmp_path / "kept"} | nothing))
    assert not folder.would_keep(agreement(1))
    assert folder.offer(found(1)) is None
    folder.clear()
    assert list(tmp_path.iterdir()) == []


@GIVEN
@given(st.lists(st.integers(0, 1000), max_size=12), st.integers(1, 4))
def test_the_worst_stay_in_whatever_order_they_come(
    tmp_path_factory: pytest.TempPathFactory, parts: list[int], keep: int
) -> None:
    place = tmp_path_factory.mktemp("kept")
    folder = WorstDisagreements(place, keep)
    for part in parts:
        asked = folder.would_keep(agreement(part / 1000))
        assert (folder.offer(found(part / 1000)) is not None) == asked
    expected = sorted((part / 1000 for part in parts if part), reverse=True)[:keep]
    assert [load(each.path).agreement.disagreement for each in folder.kept] == expected
    assert len(list(place.iterdir())) == len(expected)


def test_full_agreement_is_no_disagreement(tmp_path: Path) -> None:
    assert WorstDisagreements(tmp_path, 5).offer(found(0)) is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_from_before_counts(tmp_path: Path) -> None:
    before = WorstDisagreements(tmp_path, 3)
    for disagreement in (0.2, 0.9, 0.5):
        before.offer(found(disagreement))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "tmpabc.part").write_text("half a file")
    after = WorstDisagreements(tmp_path, 2)
    assert kept(tmp_path) == [0.9, 0.5]
    assert not after.would_keep(agreement(0.4))
    after.offer(found(0.6))
    assert kept(tmp_path) == [0.9, 0.6]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".npz") == ["notes.txt"]


def test_bytes_are_bounded_and_the_worse_one_is_never_given_up_for_a_better(tmp_path: Path) -> None:
    folder = WorstDisagreements(tmp_path, 100, max_bytes=24_000)
    assert folder.offer(found(0.2, size=2_000)) is not None
    assert folder.offer(found(0.5, size=2_000)) is not None
    assert folder.offer(found(0.4, size=6_000)) is None  # there is room beside none that is worse
    assert kept(tmp_path) == [0.5, 0.2]
    assert folder.offer(found(0.6, size=3_000)) is not None
    assert kept(tmp_path) == [0.6, 0.5]
    assert folder.offer(found(0.9, size=9_000)) is None
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 24_000
    assert all(path.suffix == ".npz" for path in tmp_path.iterdir())


def test_all_can_be_removed(tmp_path: Path) -> None:
    folder = WorstDisagreements(tmp_path, 3)
    folder.offer(found(0.2))
    folder.clear()
    assert (folder.kept, list(tmp_path.iterdir())) == ((), [])
    assert folder.offer(found(0.1)) is not None


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match=f"cannot use the folder .*{tmp_path}/file"):
        WorstDisagreements(tmp_path / "file", 3)
    folder = WorstDisagreements(tmp_path / "kept", 3)
    (tmp_path / "kept").rmdir()
    with pytest.raises(UnavailableError, match=f"cannot write to the folder .*{tmp_path}/kept"):
        folder.offer(found(0.5))


def test_a_place_without_kept_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="holds no kept disagreements"):
        kept_files(tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"cannot read .*gone\.npz: No such file"):
        load(kept_files(tmp_path / "gone.npz")[0])


def rewritten(path: Path, member: str, data: bytes) -> Path:
    """The archive with other contents of one member."""
    target = path.with_name("changed.npz")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, data if name == member else old.read(name))
    return target


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self._path), "w"))


def test_no_pickle_is_opened(tmp_path: Path) -> None:
    path = WorstDisagreements(tmp_path / "kept", 5).offer(found(0.5))
    assert path is not None
    stream = io.BytesIO()
    np.save(stream, np.array([Trap(tmp_path / "sprung")], np.object_), allow_pickle=True)
    for data in (stream.getvalue(), pickle.dumps(Trap(tmp_path / "sprung"))):
        (tmp_path / "sprung").unlink(missing_ok=True)
        with pytest.raises(InvalidArgumentError, match="is no kept disagreement"):
            load(rewritten(path, "inputs_0.npy", data))
        assert not (tmp_path / "sprung").exists()


def header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("member", "data"),
    [
        ("meta.json", b""),
        ("meta.json", b"[]"),
        ("meta.json", b"{}"),
        ("meta.json", b'{"format": 2}'),
        ("meta.json", b" " * 2_000_000),
        ("inputs_0.npy", b""),
        ("inputs_0.npy", header((10,)) + bytes(39)),
        ("inputs_0.npy", header((11,)) + bytes(44)),
        ("inputs_0.npy", header((1 << 50,))),
    ],
)
def test_what_is_no_kept_disagreement_is_refused_by_name(member: str, data: bytes, tmp_path: Path) -> None:
    path = WorstDisagreements(tmp_path, 5).offer(found(0.5))
    assert path is not None
    with pytest.raises(InvalidArgumentError, match=r"changed\.npz is no kept disagreement"):
        load(rewritten(path, member, data))


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = WorstDisagreements(tmp_path, 5).offer(found(0.5))
    assert path is not None
    monkeypatch.setattr(kept_file, "MAX_UNPACKED_BYTES", 500)
    monkeypatch.setattr(worst, "MAX_UNPACKED_BYTES", 500)
    with pytest.raises(InvalidArgumentError, match=r"unpacks to \d+ bytes, more than 500"):
        load(path)
    assert WorstDisagreements(tmp_path / "other", 5).offer(found(0.5, size=500)) is None


@GIVEN
@given(st.data())
def test_a_damaged_file_is_refused_or_read_and_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("kept")
    path = WorstDisagreements(place, 5).offer(found(0.5))
    assert path is not None
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.sampled_from([len(whole), len(whole) // 2]))])
    with contextlib.suppress(InvalidArgumentError):
        load(path)

"""Where the repositories lie, and what in them is a link that may lead elsewhere tomorrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.repository.places import read_places

if TYPE_CHECKING:
    from pathlib import Path


def test_roots_and_links_to_models_and_versions_are_places(tmp_path: Path) -> None:
    root, store = tmp_path / "models", tmp_path / "store"
    (root / "plain" / "1").mkdir(parents=True)
    (store / "1").mkdir(parents=True)
    (root / "linked").symlink_to(store)
    (root / "plain" / "2").symlink_to(store / "1")
    (root / "dangling").symlink_to(tmp_path / "nowhere")
    (root / "plain" / "file").symlink_to(__file__)
    places = read_places([root, tmp_path / "missing"])
    assert set(places) == {root, root / "linked", root / "plain" / "2"}
    assert places[root / "linked"][1] == store.stat().st_ino


def test_a_link_that_leads_elsewhere_is_another_place(tmp_path: Path) -> None:
    root = tmp_path / "models"
    for folder in (root, tmp_path / "blue", tmp_path / "green"):
        folder.mkdir()
    (root / "m").symlink_to(tmp_path / "blue")
    before = read_places([root])
    assert read_places([root]) == before
    (root / "m").unlink()
    (root / "m").symlink_to(tmp_path / "green")
    assert read_places([root]) != before

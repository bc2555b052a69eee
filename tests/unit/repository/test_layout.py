"""What a scan finds on a real disk, and where a version's graph lies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from naiad.config.model_config import InstanceGroup, InstanceKind, ModelConfig
from naiad.core.errors import InvalidArgumentError, NotFoundError, UnavailableError
from naiad.repository.layout import (
    DUPLICATE,
    find_folder,
    level_hint,
    looks_like_model,
    model_file,
    read_folder,
    scan,
)

if TYPE_CHECKING:
    from pathlib import Path


def _config(filename: str = "model.onnx", groups: tuple[InstanceGroup, ...] = ()) -> ModelConfig:
    return ModelConfig("m", 0, (), (), model_filename=filename, instance_groups=groups)


def _folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def test_models_come_sorted_with_their_versions_in_numeric_order(tmp_path: Path) -> None:
    _folder(tmp_path, "b/2", "b/10", "b/1", "a", "c/0")
    (tmp_path / "README.md").touch()
    found = scan([tmp_path])
    assert [(folder.name, folder.versions) for folder in found.models] == [
        ("a", ()),
        ("b", (1, 2, 10)),
        ("c", (0,)),
    ]
    assert found.models[1].path == tmp_path / "b"
    assert found.problems == {}
    assert not any(folder.notes for folder in found.models)


def test_folders_that_are_no_versions_are_ignored_with_a_note_each(tmp_path: Path) -> None:
    names = ("01", "1abc", "-1", "1.0", "²", "9" * 20, "extra")
    silent = ("warmup", "initial_state", "configs", ".cache")
    _folder(tmp_path / "m", "1", *names, *silent)
    (tmp_path / "m" / "7").touch()
    folder = read_folder(tmp_path / "m")
    assert folder.versions == (1,)
    assert len(folder.notes) == len(names)
    assert any("'01'" in note and "leading zeros" in note for note in folder.notes)
    assert any("'1abc'" in note and "not a whole number" in note for note in folder.notes)
    assert any("9999" in note and "above 9223372036854775807" in note for note in folder.notes)


def test_folders_of_the_file_system_and_of_tools_are_no_models(tmp_path: Path) -> None:
    """Every ext4 volume has a lost+found; a model that fails would keep the server from starting."""
    _folder(tmp_path, "lost+found", ".git/objects", ".ipynb_checkpoints", "m/1")
    assert [folder.name for folder in scan([tmp_path]).models] == ["m"]


def test_hidden_folders_are_models_as_in_triton(tmp_path: Path) -> None:
    _folder(tmp_path, ".hidden/1", "m/1")
    found = scan([tmp_path])
    assert [folder.name for folder in found.models] == [".hidden", "m"]
    assert found.problems == {}


def test_one_model_is_found_by_its_name(tmp_path: Path) -> None:
    _folder(tmp_path, "one/m/1", "one/m/3", "two/n/1")
    (tmp_path / "one" / "file").touch()
    roots = [tmp_path / "one", tmp_path / "two"]
    assert find_folder(roots, "m").versions == (1, 3)
    assert find_folder(roots, "n").path == tmp_path / "two" / "n"
    for name in ("gone", "file"):
        with pytest.raises(NotFoundError, match=f"model '{name}' is not in .*one, .*two"):
            find_folder(roots, name)


@pytest.mark.parametrize("name", ["", ".", "..", "m/1", "../one/m", "/etc", "m\0"])
def test_a_name_that_is_no_folders_name_is_never_looked_up(tmp_path: Path, name: str) -> None:
    _folder(tmp_path, "one/m/1")
    with pytest.raises(NotFoundError, match="is not the name of a model folder"):
        find_folder([tmp_path / "one"], name)


def test_one_model_that_is_there_twice_or_has_an_endless_name_is_refused(tmp_path: Path) -> None:
    _folder(tmp_path, "one/m/1", "two/m/1")
    with pytest.raises(UnavailableError, match=f"{DUPLICATE}: .*one/m, .*two/m"):
        find_folder([tmp_path / "one", tmp_path / "two"], "m")
    with pytest.raises(InvalidArgumentError, match="File name too long"):
        find_folder([tmp_path / "one"], "x" * 300)


def test_a_name_in_two_repositories_is_a_problem_and_in_neither_a_model(tmp_path: Path) -> None:
    _folder(tmp_path, "one/m/1", "one/a/1", "two/m/2", "two/b/1")
    found = scan([tmp_path / "one", tmp_path / "two"])
    assert [folder.name for folder in found.models] == ["a", "b"]
    assert found.problems == {"m": DUPLICATE} == {"m": "model appears in two or more repositories"}


def test_one_repository_named_twice_is_one_repository(tmp_path: Path) -> None:
    _folder(tmp_path, "one/m/1")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    found = scan([tmp_path / "one", tmp_path / "one" / ".", tmp_path / "link"])
    assert [folder.name for folder in found.models] == ["m"]


def test_a_missing_repository_or_a_file_in_its_place_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, why in (("gone", "No such file"), ("file", "Not a directory")):
        with pytest.raises(InvalidArgumentError, match=rf"{name} \(--model-repository\): {why}"):
            scan([tmp_path / name])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_repository_is_refused_and_an_unreadable_model_is_a_problem(tmp_path: Path) -> None:
    _folder(tmp_path, "closed", "open/m/1", "open/n/1")
    (tmp_path / "closed").chmod(0)
    (tmp_path / "open" / "m").chmod(0)
    with pytest.raises(InvalidArgumentError, match="Permission denied"):
        scan([tmp_path / "closed"])
    found = scan([tmp_path / "open"])
    assert [folder.name for folder in found.models] == ["n"]
    assert "Permission denied" in found.problems["m"]


def test_a_name_that_no_client_could_send_is_a_problem(tmp_path: Path) -> None:
    try:
        os.mkdir(os.fsencode(tmp_path) + b"/\xff")  # noqa: PTH102  # pathlib takes no bytes
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    found = scan([tmp_path])
    assert found.models == ()
    assert list(found.problems.values()) == ["the folder's name is not UTF-8 text"]


def test_the_model_file_is_the_configs_or_lies_in_the_directory_of_that_name(tmp_path: Path) -> None:
    _folder(tmp_path / "m", "1", "2/model.onnx", "3/sub")
    for name in ("1/net.onnx", "2/model.onnx/model.onnx", "3/sub/net.onnx"):
        (tmp_path / "m" / name).touch()
    folder = read_folder(tmp_path / "m")
    assert model_file(folder, 1, _config("net.onnx")) == folder.path / "1" / "net.onnx"
    assert model_file(folder, 2, _config("")) == folder.path / "2" / "model.onnx" / "model.onnx"
    assert model_file(folder, 3, _config("sub/net.onnx")) == folder.path / "3" / "sub" / "net.onnx"


def test_a_symlinked_model_file_is_found(tmp_path: Path) -> None:
    """Stores such as mounted config maps and model caches keep the bytes elsewhere."""
    _folder(tmp_path, "m/1", "store")
    (tmp_path / "store" / "blob").touch()
    (tmp_path / "m" / "1" / "model.onnx").symlink_to(tmp_path / "store" / "blob")
    folder = read_folder(tmp_path / "m")
    assert model_file(folder, 1, _config()) == folder.path / "1" / "model.onnx"


@pytest.mark.parametrize(
    ("groups", "instance"),
    [((), "m_0"), ((InstanceGroup("m_0", InstanceKind.CPU, 1),), "m_0_0")],
)
def test_an_absent_model_file_is_reported_in_tritons_words(
    tmp_path: Path, groups: tuple[InstanceGroup, ...], instance: str
) -> None:
    folder = read_folder(_folder(tmp_path, "m/1") / "m")
    with pytest.raises(UnavailableError) as caught:
        model_file(folder, 1, _config(groups=groups))
    path = tmp_path / "m" / "1" / "model.onnx"
    assert caught.value.message == f"unable to find '{path}' for model instance '{instance}'"


@pytest.mark.parametrize("name", ["../2/model.onnx", "/etc/passwd", "a/../../b.onnx", "model\0.onnx"])
def test_a_filename_that_leads_out_of_the_version_is_refused(tmp_path: Path, name: str) -> None:
    folder = read_folder(_folder(tmp_path, "m/1") / "m")
    with pytest.raises(
        InvalidArgumentError, match=r"default_model_filename of model 'm' is .* must stay inside"
    ):
        model_file(folder, 1, _config(name))


def test_a_filename_too_long_for_the_disk_is_a_domain_error(tmp_path: Path) -> None:
    folder = read_folder(_folder(tmp_path, "m/1") / "m")
    with pytest.raises(UnavailableError, match="File name too long"):
        model_file(folder, 1, _config("x" * 300))


def test_a_root_that_is_a_loop_of_links_is_an_error_that_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidArgumentError, match="--model-repository"):
        scan([tmp_path / "loop"])


def test_a_root_at_the_wrong_level_is_told_from_which_folder_to_serve(tmp_path: Path) -> None:
    """One level too deep, two, one too high; a repository itself gets no hint."""
    _folder(tmp_path, "zoo/golden/m/1", "zoo/.git/m/1", "zoo/docs")
    model = tmp_path / "zoo" / "golden" / "m"
    (model / "1" / "model.onnx").touch()
    golden = tmp_path / "zoo" / "golden"
    assert level_hint(golden) == ""
    assert level_hint(model).endswith(f"the model repository is its parent, {golden}")
    assert level_hint(model / "1").endswith(f"the model repository is two folders above, {golden}")
    assert level_hint(tmp_path / "zoo").endswith(f"a level below: the model repository is {golden}")
    assert level_hint(tmp_path / "zoo" / "docs") == ""
    assert level_hint(tmp_path / "gone") == ""


def test_several_repositories_below_a_root_are_counted(tmp_path: Path) -> None:
    _folder(tmp_path, *(f"{name}/m/1" for name in "abcde"))
    assert level_hint(tmp_path).endswith(
        f"the model repositories are {tmp_path}/a, {tmp_path}/b, {tmp_path}/c and 2 more"
    )


def test_a_config_makes_a_model_folder_and_models_may_be_called_by_numbers(tmp_path: Path) -> None:
    _folder(tmp_path, "m", "numbers/1/1", "numbers/2/1", "versions/1", "versions/2")
    (tmp_path / "m" / "config.pbtxt").touch()
    assert looks_like_model(tmp_path / "m")
    assert looks_like_model(tmp_path / "versions")
    assert not looks_like_model(tmp_path / "numbers")
    assert level_hint(tmp_path / "numbers") == ""


def test_a_loose_model_file_is_told_how_models_lie(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    assert level_hint(tmp_path) == "model.onnx lies in it: a model is a folder, NAME/1/model.onnx"


def test_versions_without_the_marker_are_passed_over_and_named(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "m" / str(number)).mkdir(parents=True)
    (tmp_path / "m" / "1" / ".ready").touch()
    for found in (scan([tmp_path], marker=".ready").models[0], find_folder([tmp_path], "m", marker=".ready")):
        assert (found.versions, found.unmarked) == ((1,), (2,))
        assert found.notes == (
            "passed over version 2 of model 'm': it holds no file .ready yet (--repository-ready-marker)",
        )

"""Filling: backend fields come from each other and the folder, defaults are those Triton shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from naiad.config.messages import parse_text
from naiad.config.normalize import fill_backend, fill_defaults
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "filename"),
    [
        ('platform: "onnxruntime_onnx"', None),
        ('backend: "onnxruntime"', None),
        ('default_model_filename: "model.onnx"', None),
        ("", "model.onnx"),
    ],
)
def test_any_one_sign_of_onnx_fills_the_other_fields(
    text: str, filename: str | None, model_folder: Callable[..., Path]
) -> None:
    message = parse_text(text, "here")
    fill_backend(message, model_folder(None, filename=filename))
    filled = (message.name, message.backend, message.platform, message.default_model_filename)
    assert filled == ("model", "onnxruntime", "onnxruntime_onnx", "model.onnx")


def test_a_given_filename_stays(model_folder: Callable[..., Path]) -> None:
    message = parse_text('backend: "onnxruntime" default_model_filename: "net.onnx"', "here")
    fill_backend(message, model_folder(None))
    assert message.default_model_filename == "net.onnx"


def test_other_folders_are_not_taken_for_versions(model_folder: Callable[..., Path]) -> None:
    """`01` and `configs` sort before and after `1`; only `1` counts, and it is empty."""
    folder = model_folder(None, filename=None)
    for name in ("01", "configs"):
        (folder / name).mkdir()
        (folder / name / "model.onnx").touch()
    with pytest.raises(InvalidArgumentError, match="Could not determine backend for model 'model'"):
        fill_backend(parse_text("", "here"), folder)


def test_a_dotted_name_names_a_custom_backend_as_in_triton(model_folder: Callable[..., Path]) -> None:
    message = parse_text("", "here")
    fill_backend(message, model_folder(None, name="model.identity", filename=None))
    assert (message.backend, message.default_model_filename) == ("identity", "model.identity")


def test_a_missing_model_folder_is_a_domain_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot list model folder"):
        fill_backend(parse_text("", "here"), tmp_path / "gone")


def test_defaults_are_filled_once_and_given_values_stay() -> None:
    message = parse_text(
        'name: "m" max_batch_size: 8 dynamic_batching {} instance_group [{}, {name: "mine"}] '
        "optimization { input_pinned_memory { enable: false } }",
        "here",
    )
    fill_defaults(message)
    first = message.SerializeToString(deterministic=True)
    assert message.version_policy.latest.num_versions == 1
    assert list(message.dynamic_batching.preferred_batch_size) == [8]
    assert [group.name for group in message.instance_group] == ["m_0", "mine"]
    assert not message.optimization.input_pinned_memory.enable
    assert message.optimization.output_pinned_memory.enable
    fill_defaults(message)
    assert message.SerializeToString(deterministic=True) == first


def test_no_preferred_size_is_made_up_without_batching() -> None:
    message = parse_text('name: "m" dynamic_batching {}', "here")
    fill_defaults(message)
    assert not message.dynamic_batching.preferred_batch_size

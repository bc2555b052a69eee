"""A config that comes by RPC cannot make the server read or write files that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from naiad.config.reader import config_file, parse_config_override, parse_model_config
from naiad.core.errors import InvalidArgumentError, NaiadError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").touch()
    return folder


def _accelerator(side: str, name: str, key: str, value: str) -> str:
    entry = f'{{"name": "{name}", "parameters": {{"{key}": "{value}"}}}}'
    return f'{{"optimization": {{"execution_accelerators": {{"{side}": [{entry}]}}}}}}'


@pytest.mark.parametrize(
    ("side", "name", "key"),
    [
        ("gpu_execution_accelerator", "tensorrt", "trt_extra_plugin_lib_paths"),
        ("gpu_execution_accelerator", "tensorrt", "trt_engine_cache_path"),
        ("gpu_execution_accelerator", "tensorrt", "trt_timing_cache_path"),
        ("gpu_execution_accelerator", "tensorrt", "trt_ep_context_file_path"),
        ("gpu_execution_accelerator", "tensorrt", "trt_dump_subgraphs"),
        ("gpu_execution_accelerator", "tensorrt", "int8_calibration_table_name"),
        ("cpu_execution_accelerator", "openvino", "cache_dir"),
        ("cpu_execution_accelerator", "openvino", "load_config"),
    ],
)
def test_parameters_that_name_files_are_for_the_repository_only(
    model_dir: Path, side: str, name: str, key: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"parameter '{key}' of execution accelerator '{name}'"):
        parse_config_override(_accelerator(side, name, key, "/tmp/x"), model_dir)


def test_other_parameters_are_taken(model_dir: Path) -> None:
    text = _accelerator("gpu_execution_accelerator", "tensorrt", "precision_mode", "FP16")
    config = parse_config_override(text, model_dir)
    assert config.gpu_accelerators[0].parameters == {"precision_mode": "FP16"}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('{"name": "other"}', InvalidArgumentError, "directory name must equal model name"),
        ('{"platform": "onnxruntime_onyx"}', InvalidArgumentError, "unexpected platform type"),
        ('{"max_batch_size": -1}', InvalidArgumentError, "must be non-negative"),
        (
            '{"output": [{"name": "O", "data_type": "TYPE_FP32", "dims": [1], "label_filename": "../../x"}]}',
            UnsupportedError,
            "is outside model directory",
        ),
    ],
)
def test_an_override_is_checked_like_a_file(
    model_dir: Path, text: str, error: type[NaiadError], message: str
) -> None:
    with pytest.raises(error, match=message):
        parse_config_override(text, model_dir)


def test_an_override_is_used_instead_of_the_file_and_filled_from_the_folder(model_dir: Path) -> None:
    (model_dir / "config.pbtxt").write_text("max_batch_size: 3 dynamic_batching {}")
    config = parse_config_override('{"max_batch_size": "16"}', model_dir)
    assert (config.name, config.backend, config.max_batch_size) == ("m", "onnxruntime", 16)
    assert config.dynamic_batching is None


def test_a_variant_is_read_where_there_is_one(model_dir: Path) -> None:
    (model_dir / "config.pbtxt").write_text("max_batch_size: 3")
    (model_dir / "configs").mkdir()
    (model_dir / "configs" / "big.pbtxt").write_text("max_batch_size: 30")
    assert config_file(model_dir, "big") == model_dir / "configs" / "big.pbtxt"
    assert parse_model_config(model_dir, variant="big").max_batch_size == 30
    assert parse_model_config(model_dir, variant="small").max_batch_size == 3
    assert parse_model_config(model_dir).max_batch_size == 3

"""Reads a model's `config.pbtxt`: parse, fill from the folder, normalise, validate."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from naiad.config.domain import to_model_config
from naiad.config.json_config import parse_json
from naiad.config.messages import CONFIG_FILENAME, read_file
from naiad.config.normalize import ONNX_BACKEND, fill_backend, fill_defaults
from naiad.config.override_checks import check_override
from naiad.config.parameters import list_unread, validate_parameters
from naiad.config.runtime_keys import check_switches
from naiad.config.support import check_refused, list_unhonoured
from naiad.config.validate import validate_config, validate_instance_groups
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.config.messages import Message
    from naiad.config.model_config import ModelConfig

VARIANTS_FOLDER = "configs"


def read_model_config(model_dir: Path, *, auto_complete: bool = True) -> ModelConfig:
    """The config of the model in `model_dir`, checked as far as that needs no graph.

    The same as `parse_model_config` and then `check_loadable`.

    Args:
        model_dir: the model's folder in the repository; its name is the model's name.
        auto_complete: whether a model without `config.pbtxt` is legal.

    Returns:
        a config whose inputs and outputs may still be empty; `complete_model_config` fills them.

    Raises:
        InvalidArgumentError: the file or a value in it is wrong; syntax errors name line and column.
        UnsupportedError: the config asks for what would be served wrongly here.
    """
    config = parse_model_config(model_dir, auto_complete=auto_complete)
    check_loadable(config)
    return config


def parse_model_config(
    model_dir: Path, *, auto_complete: bool = True, variant: str = "", any_backend: bool = False
) -> ModelConfig:
    """The config as Triton accepts it when it looks at the repository, before it tries to load the model.

    Triton hides an error of this stage behind `failed to load 'X', failed to poll from model repository`
    and shows one of `check_loadable` as it is, which is why the two can be called apart.

    Args:
        model_dir: the model's folder in the repository; its name is the model's name.
        auto_complete: whether a model without a config file is legal.
        variant: `configs/VARIANT.pbtxt` is read in place of `config.pbtxt` if there is such a file.
        any_backend: whether it is all the same whose model it is, because another server runs it.

    Raises:
        InvalidArgumentError: the file or a value in it is wrong; syntax errors name line and column.
        UnsupportedError: a label file lies outside the model's folder.
    """
    message = read_file(config_file(model_dir, variant), missing_ok=auto_complete)
    if any_backend and not (message.backend or message.platform or message.default_model_filename):
        message.backend = ONNX_BACKEND
    return config_from_message(message, model_dir)


def config_file(model_dir: Path, variant: str = "") -> Path:
    """Where the model's config is or would be: its `variant` if there is one, else `config.pbtxt`."""
    special = model_dir / VARIANTS_FOLDER / f"{variant}.pbtxt"
    return special if variant and os.path.lexists(special) else model_dir / CONFIG_FILENAME


def parse_config_override(text: str, model_dir: Path) -> ModelConfig:
    """The config that a load request brings along as JSON, at the stage of `parse_model_config`.

    Args:
        text: protobuf JSON with the field names of `config.pbtxt`.
        model_dir: the model's folder, from which the backend fields are filled.

    Raises:
        InvalidArgumentError: it is no such JSON, or a value in it is wrong.
        UnsupportedError: it names files or code of the server's machine.
    """
    message = parse_json(text)
    check_override(message)
    return config_from_message(message, model_dir)


def config_from_message(message: Message, model_dir: Path) -> ModelConfig:
    """The config that `message` means for the model in `model_dir`. Changes `message`.

    Raises:
        InvalidArgumentError: a value in it is wrong.
        UnsupportedError: a label file lies outside the model's folder.
    """
    warnings = list_unhonoured(message)
    fill_backend(message, model_dir)
    fill_defaults(message)
    validate_config(message, model_dir.name)
    config = to_model_config(message)
    return replace(config, warnings=(*warnings, *list_unread(config.parameters)), folder=model_dir)


def check_loadable(config: ModelConfig, *, any_backend: bool = False) -> None:
    """Check what Triton finds out only when it loads the model, graph and devices aside.

    Args:
        config: as it was parsed.
        any_backend: as in `parse_model_config`.

    Raises:
        InvalidArgumentError: another backend's model, or a wrong instance group or parameter.
        UnsupportedError: the config asks for what would be served wrongly here.
    """
    check_refused(config.message)
    if config.backend != ONNX_BACKEND and config.ensemble is None and not any_backend:
        raise InvalidArgumentError(
            f"unable to find backend library for backend '{config.backend}', "
            "try specifying runtime on the model configuration."
        )
    validate_instance_groups(config.message)
    validate_parameters(config.parameters, config.name)
    check_switches(config)

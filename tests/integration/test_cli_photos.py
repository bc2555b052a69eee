"""`naiad detect` and `naiad embed` with a whole server that has several models for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from support.repositories import add_model
from support.servers import address, server
from support.vision_models import DETECTOR_CONFIG, EMBEDDER_CONFIG, brightness_detector, color_embedder
from typer.testing import CliRunner

from naiad.cli.main import app
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: object) -> Any:
    """The command's result; what it raises is raised."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


async def test_one_error_names_the_detectors_to_choose_from_before_any_photo_is_sent(tmp_path: Path) -> None:
    repository, photo = tmp_path / "models", tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.full((64, 64, 3), 51, np.uint8))
    add_model(repository, "first", brightness_detector(), DETECTOR_CONFIG)
    add_model(repository, "second", brightness_detector(), DETECTOR_CONFIG)
    add_model(repository, "embedder", color_embedder(), EMBEDDER_CONFIG)
    async with server(repository) as running:
        for command in ("detect", "embed"):
            with pytest.raises(
                InvalidArgumentError,
                match=r"^model_name is empty and there are 2 detectors: first, second \(",
            ):
                await asyncio.to_thread(run, command, photo, photo, "--server", address(running))
            result = await asyncio.to_thread(
                run, command, photo, photo, "--server", address(running), "--model", "second"
            )
            assert result.exit_code == 0, result.output
            assert result.stderr.startswith("2 photos, 2 faces, 0 failed in ")
        with pytest.raises(InvalidArgumentError, match=r"nowhere.*see --model\)$"):
            await asyncio.to_thread(run, "detect", photo, "--server", address(running), "--model", "nowhere")

"""The engine's profile of a model that an operator named is there when the model has gone, and of no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.onnx_models import add_sub
from support.runtime import save

from naiad.config.complete import complete_model_config
from naiad.config.reader import parse_model_config
from naiad.config.server_config import server_config
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.loader import load_version
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.profiling import Profiles, profile_notes
from naiad.runtime.providers import CPU
from naiad.runtime.threads import CpuBudget

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import TensorSpec


def complete(
    config: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    optional_inputs: Collection[str],
) -> ModelConfig:
    return complete_model_config(
        config,
        inputs,
        outputs,
        optional_inputs=optional_inputs,
        default_max_batch_size=4,
        auto_complete=True,
    )


def run_and_unload(folder: Path, profiles: Profiles) -> None:
    version = folder / "adds" / "1"
    version.mkdir(parents=True)
    loaded = load_version(
        save(add_sub(), version),
        parse_model_config(version.parent, auto_complete=True),
        environment=OrtEnvironment("1", (CPU,)),
        budget=CpuBudget(2, "test"),
        complete=complete,
        profiles=profiles,
    )
    ones = np.ones((1, 16), np.int32)
    loaded.sessions[0].run({"INPUT0": ones, "INPUT1": ones}, ["OUTPUT0"])
    loaded.close()
    loaded.close()


def test_the_profile_of_a_named_model_is_written_on_unload(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    run_and_unload(tmp_path, Profiles(tmp_path / "profiles", frozenset({"adds"})))
    [written] = (tmp_path / "profiles").iterdir()  # the instances on the CPU share a session
    assert written.name.startswith("adds-1-adds_0")
    events = json.loads(written.read_text(encoding="utf-8"))
    operators = {event["args"]["op_name"] for event in events if "op_name" in event.get("args", {})}
    assert {"Add", "Sub"} <= operators


def test_no_other_model_is_profiled(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    run_and_unload(tmp_path, Profiles(tmp_path / "profiles", frozenset({"subtracts"})))
    assert list((tmp_path / "profiles").iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"--profile-directory=\S+/missing: it is not an existing"):
        server_config({"model_repository": [tmp_path], "profile_directory": f"{tmp_path}/missing"}, {})


def test_what_is_profiled_says_so_and_where(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path, frozenset({"adds"}))
    assert profile_notes(None, "adds") == profile_notes(profiles, "subtracts") == ()
    (sentence,) = profile_notes(profiles, "adds")
    assert str(tmp_path) in sentence

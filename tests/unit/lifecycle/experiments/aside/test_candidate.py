"""A version as the process aside has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto
from support.aside import written
from support.onnx_models import identity
from support.runtime import config

from naiad.config.ensemble_config import EnsembleScheduling
from naiad.config.model_config import InstanceGroup, InstanceKind
from naiad.config.reader import config_from_message
from naiad.config.sequence_config import SequenceBatching
from naiad.core.errors import UnsupportedError
from naiad.core.tensors import ModelKey
from naiad.lifecycle.experiments.aside.candidate import Candidate, config_aside
from naiad.lifecycle.loading import RepositoryLoader
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.threads import CpuBudget

if TYPE_CHECKING:
    from pathlib import Path

RESHAPED = """
max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 6 ] reshape { shape: [ 2, 3 ] } } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 3, 2 ] reshape { shape: [ 2, 3 ] } } ]
parameters { key: "intra_op_thread_count" value { string_value: "7" } }
parameters { key: "session.intra_op.allow_spinning" value { string_value: "1" } }
instance_group [ { count: 5 kind: KIND_CPU } ]
"""


def test_requests_are_placed_and_answers_shaped_as_the_server_does(tmp_path: Path) -> None:
    folder, read = written(tmp_path, "m", {3: identity(TensorProto.FLOAT, ["N", 2, 3])}, RESHAPED)
    environment = OrtEnvironment.detect()
    loader = RepositoryLoader(environment, CpuBudget(1, ""), auto_complete=True, default_max_batch_size=4)
    model = loader.load(folder, 3, config_aside(read))
    candidate = Candidate(ModelKey("m", 3), model)
    values = np.arange(12, dtype=np.float32).reshape(2, 6)
    ran = candidate.run({"INPUT0": values}, {"OUTPUT0": values, "none of its": values})
    candidate.close()
    np.testing.assert_array_equal(ran.outputs["OUTPUT0"], values.reshape(2, 3, 2))
    assert list(ran.outputs) == ["OUTPUT0"]
    assert ran.took_ms > 0
    layout = model.version.layout
    assert (len(layout.instances), layout.intra_op_threads, layout.spins) == (1, 1, False)


def test_a_gpu_is_used_only_where_the_config_names_it() -> None:
    """It knows no idle class: what runs there takes time from the primary."""
    automatic = config(instance_groups=(InstanceGroup("m_0", InstanceKind.AUTO, 2),))
    named = config(instance_groups=(InstanceGroup("g", InstanceKind.GPU, 2, (1, 2)),))
    assert [group.kind for group in config_aside(config()).instance_groups] == [InstanceKind.CPU]
    assert [group.kind for group in config_aside(automatic).instance_groups] == [InstanceKind.CPU]
    assert config_aside(named).instance_groups == (InstanceGroup("g", InstanceKind.GPU, 1, (1,)),)


def test_models_whose_requests_say_nothing_alone_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="keeps state"):
        config_aside(config(sequence_batching=SequenceBatching()))
    with pytest.raises(UnsupportedError, match="ensemble"):
        config_aside(config(ensemble=EnsembleScheduling(())))


def test_a_config_survives_its_way_as_a_message(tmp_path: Path) -> None:
    """As read, and completed, which is what the process aside gets of a version that it only reads."""
    folder, read = written(tmp_path, "m", {3: identity(TensorProto.FLOAT, ["N", 2, 3])}, RESHAPED)
    environment = OrtEnvironment.detect()
    loader = RepositoryLoader(environment, CpuBudget(1, ""), auto_complete=True, default_max_batch_size=4)
    loaded = loader.load(folder, 3, read).version
    loaded.close()
    for each in (read, loaded.config):
        message = type(each.message)()
        message.ParseFromString(each.message.SerializeToString())
        arrived = config_from_message(message, folder.path)
        assert replace(arrived, warnings=(), message=None) == replace(each, warnings=(), message=None)

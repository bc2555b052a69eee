"""Where batches run: an instance on the CPU is one place, one on a GPU has a place a lane and closes them all."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from support.gpu import HostDriver
from support.onnx_models import add_sub
from support.runtime import config, cpu_session

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.runtime import places
from naiad.runtime.cuda.lanes import open_lanes
from naiad.runtime.layout import Instance
from naiad.runtime.places import RunPlace, run_places
from naiad.runtime.providers import CPU, CUDA

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from naiad.runtime.onnx_session import OnnxSession

CONFIG: ModelConfig = config(
    max_batch_size=4,
    inputs=tuple(TensorConfig(name, DataType.INT32, (16,)) for name in ("INPUT0", "INPUT1")),
    outputs=tuple(TensorConfig(name, DataType.INT32, (16,)) for name in ("OUTPUT0", "OUTPUT1")),
)


def never(instance: Instance, _opened: ExitStack, *, graphs: bool) -> OnnxSession:
    raise AssertionError(f"{instance.name} is not to be opened again, graphs={graphs}")


def places_of(
    opened: ExitStack, notes: dict[str, None], *pairs: tuple[Instance, OnnxSession]
) -> list[RunPlace]:
    return list(run_places(pairs, CONFIG, reopen=never, opened=opened, notes=notes))


def test_an_instance_on_the_cpu_is_one_place_and_a_passive_one_is_none(tmp_path: Path) -> None:
    session = cpu_session(add_sub(), tmp_path, CONFIG)
    instances = [Instance("m_0", None), Instance("m_1", None), Instance("spare", None, passive=True)]
    with ExitStack() as opened:
        found = places_of(opened, {}, *((instance, session) for instance in instances))
    assert found == [RunPlace("m_0", session, CPU), RunPlace("m_1", session, CPU)]


def test_an_instance_on_a_gpu_has_a_place_a_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = HostDriver()
    monkeypatch.setattr(places, "open_lanes", partial(open_lanes, load=lambda _: driver))
    session = cpu_session(add_sub(), tmp_path, CONFIG)
    session.providers = (CUDA, CPU)
    notes: dict[str, None] = {}
    with ExitStack() as opened:
        found = places_of(opened, notes, (Instance("m_0", 0), session))
        assert [(place.instance, place.provider) for place in found] == [("m_0", CUDA)] * 2
        ones = np.ones((3, 16), np.int32)
        for place in found:
            outputs = place.session.run({"INPUT0": ones, "INPUT1": ones}, ["OUTPUT0"])
            assert (outputs["OUTPUT0"] == 2).all()
        assert driver.held
    assert driver.held == {}


def test_a_gpu_that_turned_out_not_to_be_used_has_the_cpus_place(tmp_path: Path) -> None:
    session = cpu_session(add_sub(), tmp_path, CONFIG)
    with ExitStack() as opened:
        assert places_of(opened, {}, (Instance("m_0", 0), session)) == [RunPlace("m_0", session, CPU)]

"""One thread, one piece of work at a time, ended when told to; a shared session's other runs go on."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto
from support.onnx_models import identity, looping
from support.runtime import cpu_session
from support.sessions import DoublingSession

from naiad.core.errors import CancelledError, InvalidArgumentError
from naiad.runtime.instance import ModelInstance
from naiad.runtime.onnx_session import OnnxSession
from naiad.runtime.session import InstanceSessions, TerminableSession

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from naiad.core.tensors import Array
    from naiad.runtime.session import Session


def feeds(count: int) -> dict[str, Array]:
    return {"INPUT0": np.zeros((1, 1), np.float32), "COUNT": np.array([[count]])}


FOR_EVER = 2**62


async def run(
    instance: ModelInstance[dict[str, Array]], work: Callable[[Session], dict[str, Array]]
) -> dict[str, Array]:
    """The work's result, or what it raised."""
    told: asyncio.Future[dict[str, Array]] = asyncio.get_running_loop().create_future()

    def done(_: object, outcome: dict[str, Array] | BaseException) -> None:
        if isinstance(outcome, BaseException):
            told.set_exception(outcome)
        else:
            told.set_result(outcome)

    instance.submit(work, done)
    return await told


def loop_for(count: int, began: threading.Event | None = None) -> Callable[[Session], dict[str, Array]]:
    def work(session: Session) -> dict[str, Array]:
        if began is not None:
            began.set()
        return session.run(feeds(count), ["OUTPUT0"])

    return work


async def test_a_run_without_an_end_is_ended_and_the_next_one_is_right(tmp_path: Path) -> None:
    instance: ModelInstance[dict[str, Array]] = ModelInstance(
        "m_0", cpu_session(looping(), tmp_path), asyncio.get_running_loop()
    )
    began = threading.Event()
    running = asyncio.create_task(run(instance, loop_for(FOR_EVER, began)))
    await asyncio.to_thread(began.wait)
    assert instance.terminate()
    with pytest.raises(CancelledError, match="nobody waited"):
        await running
    assert (await run(instance, loop_for(5)))["OUTPUT0"].tolist() == [[5]]
    instance.close()


async def test_work_that_is_ended_before_its_thread_took_it_does_not_run(tmp_path: Path) -> None:
    instance: ModelInstance[dict[str, Array]] = ModelInstance(
        "m_0", cpu_session(looping(), tmp_path), asyncio.get_running_loop()
    )
    hold = threading.Event()

    def held(session: Session) -> dict[str, Array]:
        hold.wait()
        return session.run(feeds(FOR_EVER), ["OUTPUT0"])

    running = asyncio.create_task(run(instance, held))
    await asyncio.sleep(0)
    assert instance.terminate()
    hold.set()
    with pytest.raises(CancelledError):
        await running
    instance.close()


async def test_instances_of_one_session_end_only_their_own_runs(tmp_path: Path) -> None:
    session = cpu_session(looping(), tmp_path)
    loop = asyncio.get_running_loop()
    left: ModelInstance[dict[str, Array]] = ModelInstance("m_0", session, loop)
    right: ModelInstance[dict[str, Array]] = ModelInstance("m_1", session, loop)
    began = threading.Event()
    endless = asyncio.create_task(run(left, loop_for(FOR_EVER, began)))
    await asyncio.to_thread(began.wait)
    finite = asyncio.create_task(run(right, loop_for(200_000)))
    await asyncio.sleep(0)
    assert left.terminate()
    with pytest.raises(CancelledError):
        await endless
    assert (await finite)["OUTPUT0"].tolist() == [[200_000]]
    for instance in (left, right):
        instance.close()


async def test_an_idle_instance_and_an_engine_without_an_end_say_no(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    idle: ModelInstance[dict[str, Array]] = ModelInstance("m_0", cpu_session(looping(), tmp_path), loop)
    assert not idle.terminate()
    plain: ModelInstance[dict[str, Array]] = ModelInstance("m_1", DoublingSession(), loop)
    hold = threading.Event()

    def held(session: Session) -> dict[str, Array]:
        hold.wait()
        return session.run({"INPUT0": np.ones((1, 2), np.float32)}, ["OUTPUT0"])

    running = asyncio.create_task(run(plain, held))
    await asyncio.sleep(0)
    assert not plain.terminate()
    hold.set()
    assert (await running)["OUTPUT0"].tolist() == [[2, 2]]
    for instance in (idle, plain):
        instance.close()


def test_a_run_that_fails_by_itself_is_a_failure_and_no_cancellation(tmp_path: Path) -> None:
    own = cpu_session(looping(), tmp_path).for_instance()
    with pytest.raises(InvalidArgumentError, match="Invalid rank for input: COUNT"):
        own.run(feeds(1) | {"COUNT": np.zeros(1, np.int64)}, ["OUTPUT0"])


@pytest.mark.parametrize("elem_type", [TensorProto.BFLOAT16, TensorProto.STRING])
def test_every_way_into_the_engine_can_be_ended(tmp_path: Path, elem_type: int) -> None:
    """Text and BF16 do not go the plain way."""
    session = cpu_session(identity(elem_type, ["N"]), tmp_path)
    values = np.array([b"a"], dtype=np.object_) if elem_type == TensorProto.STRING else np.ones(1, np.uint16)
    own = session.for_instance()
    own.terminate()
    with pytest.raises(CancelledError):
        own.run({"INPUT0": values}, ["OUTPUT0"])
    own.rearm()
    assert own.run({"INPUT0": values}, ["OUTPUT0"])["OUTPUT0"].tolist() == values.tolist()
    assert session.run({"INPUT0": values}, ["OUTPUT0"])["OUTPUT0"].tolist() == values.tolist()


def test_the_engines_session_is_what_instances_ask_for(tmp_path: Path) -> None:
    """The seam is told by its methods: a name that changes on one side only would end nothing, silently."""
    session = cpu_session(looping(), tmp_path)
    assert isinstance(session, OnnxSession)
    assert isinstance(session, InstanceSessions)
    assert isinstance(session.for_instance(), TerminableSession)
    assert not isinstance(DoublingSession(), InstanceSessions | TerminableSession)

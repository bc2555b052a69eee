"""Sequence models for tests: their configs, a session that shows what it was given, requests, ONNX graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper
from support.onnx_models import info, model
from support.sessions import GatedSession

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.config.sequence_config import (
    ControlConfig,
    ControlKind,
    DirectStrategy,
    OldestStrategy,
    SequenceBatching,
    StateConfig,
)
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import InferRequest, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from naiad.core.tensors import Array, InferResponse, Tensors

INT32 = DataType.INT32
POISON = -13
"""An INPUT that makes a run fail."""

CONTROLS = (
    ControlConfig("START", ControlKind.START, INT32),
    ControlConfig("END", ControlKind.END, INT32),
    ControlConfig("READY", ControlKind.READY, INT32),
    ControlConfig("CORRID", ControlKind.CORRID, DataType.UINT64),
)
SUM = StateConfig("SUM_IN", "SUM_OUT", INT32, (1,))


def sequence_config(
    strategy: DirectStrategy | OldestStrategy | None = None,
    *,
    max_batch_size: int = 4,
    dims: tuple[int, ...] = (1,),
    **fields: Any,
) -> ModelConfig:
    """Model `m`: INPUT INT32 `dims` to OUTPUT, all four controls; `fields` go to its SequenceBatching."""
    values: dict[str, Any] = {"controls": CONTROLS, "strategy": strategy or DirectStrategy()}
    return ModelConfig(
        name="m",
        max_batch_size=max_batch_size,
        inputs=(TensorConfig("INPUT", INT32, dims),),
        outputs=(TensorConfig("OUTPUT", INT32, dims),),
        sequence_batching=SequenceBatching(**(values | fields)),
    )


def item(
    sequence_id: int | str, value: int, flags: str = "", *, width: int = 1, **fields: Any
) -> InferRequest:
    """A request of a sequence; `flags` has S for START and E for END."""
    array = np.full((1, width), value, dtype=np.int32)
    return InferRequest(
        "m",
        None,
        {"INPUT": array},
        request_id=f"{sequence_id}:{value}",
        sequence_id=sequence_id,
        sequence_start="S" in flags,
        sequence_end="E" in flags,
        **fields,
    )


def value_of(response: InferResponse) -> int:
    """The OUTPUT of a request that `item` made."""
    assert list(response.outputs) == ["OUTPUT"]
    assert len(response.outputs["OUTPUT"]) == 1
    return int(response.outputs["OUTPUT"].flat[0])


class Row(NamedTuple):
    """What a run was given in one row."""

    value: int
    start: int
    end: int
    ready: int
    corrid: Any


EMPTY = Row(0, 0, 0, 0, 0)


class SequenceSession(GatedSession):
    """OUTPUT = INPUT, or with a SUM_IN their sum, which is SUM_OUT too; remembers the rows of each run."""

    def __init__(self, *, gated: bool = True) -> None:
        super().__init__()
        self.runs: list[list[Row]] = []
        if not gated:
            self.open()

    def inputs(self) -> Sequence[TensorSpec]:
        """Not asked for by schedulers."""
        return ()

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Wait for the gate, remember, add; fails on POISON."""
        values = inputs["INPUT"]
        columns = (inputs.get(name) for name in ("START", "END", "READY", "CORRID"))
        flat = [np.zeros(len(values), int) if column is None else column.reshape(-1) for column in columns]
        rows = zip(values[:, 0].tolist(), *(column.tolist() for column in flat), strict=True)
        self.runs.append([Row(*row) for row in rows])
        super().run({"INPUT0": values}, ())
        if (values == POISON).any():
            raise InvalidArgumentError("the graph does not take this value")
        total: Array = np.add(values, inputs["SUM_IN"]) if "SUM_IN" in inputs else values
        return {name: total.copy() for name in outputs}


CONTROL_INPUTS = """
    control_input [
      { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
      { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] },
      { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] },
      { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_%s } ] }
    ]
"""
IO = """
  input [ { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
  output [ { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""


def dyna_sequence(corrid: int = TensorProto.UINT64) -> onnx.ModelProto:
    """Triton's example: OUTPUT = (INPUT + START + END * CORRID) * READY, all INT32 `[N, 1]`."""
    dims: list[int | str | None] = ["N", 1]
    names = ("INPUT", "START", "END", "READY")
    return model(
        [
            helper.make_node("Cast", ["CORRID"], ["id"], to=TensorProto.INT32),
            helper.make_node("Mul", ["END", "id"], ["at_end"]),
            helper.make_node("Add", ["INPUT", "START"], ["started"]),
            helper.make_node("Add", ["started", "at_end"], ["sum"]),
            helper.make_node("Mul", ["sum", "READY"], ["OUTPUT"]),
        ],
        [*(info(name, TensorProto.INT32, dims) for name in names), info("CORRID", corrid, dims)],
        [info("OUTPUT", TensorProto.INT32, dims)],
    )


def accumulate() -> onnx.ModelProto:
    """OUTPUT = SUM_OUT = INPUT + SUM_IN, all INT32 `[N, 1]`: the state is the sum so far."""
    dims: list[int | str | None] = ["N", 1]
    return model(
        [
            helper.make_node("Add", ["INPUT", "SUM_IN"], ["SUM_OUT"]),
            helper.make_node("Identity", ["SUM_OUT"], ["OUTPUT"]),
        ],
        [info(name, TensorProto.INT32, dims) for name in ("INPUT", "SUM_IN")],
        [info(name, TensorProto.INT32, dims) for name in ("OUTPUT", "SUM_OUT")],
    )


def lasting() -> onnx.ModelProto:
    """OUTPUT = INPUT, INT32 `[N, 1]`, after 2,000 turns of a loop for each of INPUT: about 2 ms."""
    dims: list[int | str | None] = ["N", 1]
    turn = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["value", "zero"], ["sum"]),
        ],
        "turn",
        [
            info("index", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("value", TensorProto.INT32, dims),
        ],
        [info("go_on", TensorProto.BOOL, []), info("sum", TensorProto.INT32, dims)],
    )
    return model(
        [
            helper.make_node("Cast", ["INPUT"], ["count"], to=TensorProto.INT64),
            helper.make_node("Mul", ["count", "each"], ["turns"]),
            helper.make_node("Squeeze", ["turns"], ["trips"]),
            helper.make_node("Loop", ["trips", "", "INPUT"], ["OUTPUT"], body=turn),
        ],
        [info("INPUT", TensorProto.INT32, dims)],
        [info("OUTPUT", TensorProto.INT32, dims)],
        [
            helper.make_tensor("each", TensorProto.INT64, [], [2_000]),
            helper.make_tensor("zero", TensorProto.INT32, [], [0]),
        ],
    )


STATE = """
    state [ { input_name: "SUM_IN" output_name: "SUM_OUT" data_type: TYPE_INT32 dims: [ 1 ] %s } ]
"""

"""What a new version may not change without being asked to: what callers send and get, and that it is finite."""

from __future__ import annotations

from typing import Any

import pytest
from support.model_control import doubling_config

from naiad.config.model_config import TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.acceptance import check_finite, check_interface, list_differences
from naiad.runtime.warmup import Outcome, WarmupReport, WarmupRun

OLD = doubling_config()


def tensor(name: str = "INPUT0", **fields: Any) -> TensorConfig:
    values: dict[str, Any] = {"name": name, "datatype": DataType.FP32, "dims": (2,)}
    return TensorConfig(**(values | fields))


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({}, ()),
        ({"max_batch_size": 8}, ()),
        ({"max_batch_size": 2}, ("max_batch_size is 2, was 4",)),
        ({"inputs": (tensor(dims=(3, -1)),)}, ("input 'INPUT0' has dims [3,-1], had [2]",)),
        ({"inputs": (tensor(datatype=DataType.UINT8),)}, ("input 'INPUT0' is TYPE_UINT8, was TYPE_FP32",)),
        ({"inputs": (tensor(optional=True),)}, ("input 'INPUT0' may be left out now",)),
        ({"inputs": (tensor(), tensor("MORE"))}, ("input 'MORE' is new",)),
        ({"outputs": (tensor("SCORES"),)}, ("output 'OUTPUT0' is missing", "output 'SCORES' is new")),
        ({"inputs": (tensor(reshape=(1, 2)),)}, ()),  # the graph's business, not the callers'
    ],
)
def test_each_difference_is_named(changes: dict[str, Any], differences: tuple[str, ...]) -> None:
    assert list_differences(doubling_config(**changes), OLD) == differences


def test_the_order_of_tensors_is_no_difference() -> None:
    both = (tensor("A"), tensor("B"))
    assert not list_differences(doubling_config(inputs=both), doubling_config(inputs=both[::-1]))


def test_another_interface_is_refused_with_the_way_to_allow_it() -> None:
    new = doubling_config(inputs=(tensor(dims=(3,)),))
    with pytest.raises(InvalidArgumentError) as refused:
        check_interface(3, new, serving=2, served=OLD, allowed=False)
    assert str(refused.value) == (
        "version 3 of model 'm' has another interface than version 2, which serves: input 'INPUT0' has dims "
        "[3], had [2]. Requests that name no version would meet it. To allow it set the parameter "
        "naiad.allow_interface_change to true in config.pbtxt, or start with --allow-interface-change"
    )


@pytest.mark.parametrize(
    ("parameters", "allowed"), [({}, True), ({"naiad.allow_interface_change": "true"}, False)]
)
def test_another_interface_that_is_allowed_is_told(parameters: dict[str, str], allowed: bool) -> None:
    new = doubling_config(max_batch_size=1, parameters=parameters)
    told = check_interface(3, new, serving=2, served=OLD, allowed=allowed)
    assert told == "max_batch_size is 1, was 4"


def report(*broken: str, batch_size: int = 1, sample: str = "") -> WarmupReport:
    samples = (Outcome(sample, f"sample '{sample}'", broken),) if sample else ()
    runs = () if sample else (WarmupRun(batch_size, (("INPUT0", (batch_size, 2)),), 10, broken),)
    return WarmupReport(runs, samples=samples)


def test_nan_where_a_version_that_serves_was_finite_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^version 3 of model 'm' answers the warm-up") as refused:
        check_finite(3, OLD, report("OUTPUT0"), serving={1: report(), 2: report("OUTPUT0")})
    assert "zeros for INPUT0 [1, 2] with NaN or infinity in 'OUTPUT0', version 1, which" in str(refused.value)
    with pytest.raises(InvalidArgumentError, match="sample 'photo'"):
        check_finite(3, OLD, report("OUTPUT0", sample="photo"), serving={1: report(sample="photo")})


@pytest.mark.parametrize(
    "serving",
    [{}, {1: report("OUTPUT0")}, {1: report(batch_size=2)}, {1: report(sample="photo")}],
    ids=["nothing serves", "it did too", "another batch", "another sample"],
)
def test_nan_that_nothing_speaks_against_is_told(serving: dict[int, WarmupReport]) -> None:
    """Some graphs honestly answer zeros so."""
    told = check_finite(3, OLD, report("OUTPUT0"), serving=serving)
    assert told == "zeros for INPUT0 [1, 2]: 'OUTPUT0'"


def test_nan_may_be_allowed() -> None:
    allowing = doubling_config(parameters={"naiad.allow_not_finite": "true"})
    assert check_finite(3, allowing, report("OUTPUT0"), serving={1: report()})


def test_finite_answers_are_nothing_to_tell() -> None:
    assert check_finite(3, OLD, report(), serving={1: report("OUTPUT0")}) == ""

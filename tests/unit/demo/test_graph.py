"""Expressions become the nodes they read like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from naiad.core.errors import UnavailableError
from naiad.demo.graph import GraphBuilder, demo_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.demo.graph import Output


def test_operators_compute_what_numpy_computes(prepare: Callable[..., Any]) -> None:
    graph = GraphBuilder()
    x = graph.input("x", np.float32, ["N", 3])
    value = (2.0 * x - 1.0) / (x + 3.0) * x
    result = prepare(graph.model({"y": (10.0 - value, np.float32, ["N", 3])}, doc=""))
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = 10 - (2 * data - 1) / (data + 3) * data
    np.testing.assert_allclose(result(x=data)["y"], expected, rtol=1e-6)


def test_reverse_first_and_split_take_the_named_entries(prepare: Callable[..., Any]) -> None:
    graph = GraphBuilder()
    x = graph.input("x", np.int64, ["N", 5])
    left, right = x.reverse(1).split([2, 3], axis=1)
    short = right.first(np.array([1]), 1)
    outputs: dict[str, Output] = {"left": (left, np.int64, ["N", 2]), "short": (short, np.int64, ["N", 1])}
    result = prepare(graph.model(outputs, doc=""))(x=np.array([[1, 2, 3, 4, 5]]))
    assert result["left"].tolist() == [[5, 4]]
    assert result["short"].tolist() == [[3]]


def test_equal_constants_are_stored_once_and_different_dtypes_apart() -> None:
    graph = GraphBuilder()
    assert graph.constant(1.0).name == graph.constant(1.0).name
    assert graph.constant(1.0).name != graph.constant(1).name
    assert graph.constant(np.zeros(2)).name != graph.constant(np.zeros((1, 2))).name


def test_a_missing_package_is_reported_with_the_extra_that_brings_it() -> None:
    with pytest.raises(UnavailableError, match=r"'no_such_package'.*pip install 'naiad\[demo\]'"):
        demo_module("no_such_package.part")

"""The installed weights are found and arranged, and wrong ones are refused."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from naiad.core.errors import InternalError, UnavailableError
from naiad.demo import mtcnn_weights
from naiad.demo.mtcnn_weights import NETS, load_weights, weights_file


@pytest.mark.parametrize("net", NETS)
def test_layers_fit_together(net: str) -> None:
    """Each layer takes as many channels as the one before gives."""
    weights = load_weights(net)
    channels = 3
    for layer in weights.hidden:
        dense = layer.weight.ndim == 2
        taken = layer.weight.shape[0 if dense else 1]
        assert taken in {channels, channels * 9}
        channels = layer.bias.size
        assert layer.slope is not None
        assert layer.slope.shape == layer.bias.shape == (channels,)
    assert [head.bias.size for head in weights.heads] == ([4, 10, 2] if net == "onet" else [4, 2])


def test_tensorflow_is_not_imported() -> None:
    """The package itself cannot be imported without it."""
    load_weights("pnet")
    assert "tensorflow" not in sys.modules
    assert "mtcnn" not in sys.modules


def test_the_first_dense_layer_takes_channels_first() -> None:
    """Keras' entry (width 1, height 2, channel 5) is NCHW's (channel 5, height 2, width 1)."""
    keras = np.zeros((576, 1), np.float32)
    keras[(1 * 3 + 2) * 64 + 5] = 1
    assert np.flatnonzero(mtcnn_weights._to_onnx(keras)).tolist() == [(5 * 3 + 2) * 3 + 1]


def test_arrays_of_another_release_are_refused() -> None:
    arrays = [np.zeros(1, np.float32)] * 13
    with pytest.raises(InternalError, match=r"layer 0 is float32 \(1,\).*\(3, 3, 3, 10\)"):
        mtcnn_weights._arrange("pnet", arrays, Path("pnet.lz4"))
    with pytest.raises(InternalError, match="holds 2 arrays"):
        mtcnn_weights._arrange("pnet", arrays[:2], Path("pnet.lz4"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> NoReturn:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(UnavailableError, match=r"'mtcnn'.*pip install 'naiad\[demo\]'"):
        weights_file("pnet")

"""The space of an embedder's vectors: another for all that makes other vectors, the same for all else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.vision import make_input

from naiad.config.ensemble_config import EnsembleScheduling, EnsembleStep
from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.config.vision_config import (
    Alignment,
    ColorOrder,
    DetectConfig,
    EmbedConfig,
    Layout,
    Resize,
    Task,
    VisionConfig,
)
from naiad.core.datatypes import DataType
from naiad.lifecycle.embedding_space import UNVERIFIED, composed_weights, embedding_space

if TYPE_CHECKING:
    from naiad.config.vision_config import InputConfig

WEIGHTS = "00112233445566778899aabbccddeeff"


def config(
    embed: EmbedConfig | None = None, input_config: InputConfig | None = None, **changes: Any
) -> ModelConfig:
    vision = VisionConfig(
        Task.EMBED,
        input_config or make_input(width=112, height=112),
        embed=embed or EmbedConfig(Alignment.ARCFACE, normalize=False, tensor="embedding"),
    )
    settings: dict[str, Any] = {
        "name": "faces",
        "max_batch_size": 8,
        "inputs": (TensorConfig("input", DataType.FP32, (3, 112, 112)),),
        "outputs": (TensorConfig("embedding", DataType.FP32, (512,)),),
        "vision": vision,
    }
    return ModelConfig(**(settings | changes))


def space(**changes: Any) -> str:
    return embedding_space(config(**changes), 1, WEIGHTS)


def test_the_hash_is_what_it_was_in_the_release_before() -> None:
    """Whole indices of vectors carry it: another value here makes all of them useless."""
    assert space() == "cecc781a806d320664f99e74fdbb4b44"


@pytest.mark.parametrize(
    "changed",
    [
        {"input_config": make_input(width=160, height=160)},
        {"input_config": make_input(width=112, height=112, resize=Resize.STRETCH)},
        {"input_config": make_input(width=112, height=112, pad=1)},
        {"input_config": make_input(width=112, height=112, color=ColorOrder.RGB)},
        {"input_config": make_input(width=112, height=112, layout=Layout.NHWC)},
        {"input_config": make_input(width=112, height=112, mean=(127.5, 127.5, 127.5))},
        {"input_config": make_input(width=112, height=112, scale=(1.0, 1.0, 1.0 + 1e-7))},
        {"embed": EmbedConfig(Alignment.NONE, normalize=False, tensor="embedding")},
        {"embed": EmbedConfig(Alignment.ARCFACE, normalize=False, tensor="features")},
    ],
)
def test_whatever_makes_other_vectors_makes_another_space(changed: dict[str, Any]) -> None:
    assert space(**changed) != space()


def test_other_weights_make_another_space() -> None:
    assert embedding_space(config(), 1, WEIGHTS[::-1]) != space()


def test_what_leaves_directions_as_they_are_leaves_the_space() -> None:
    """Lengths, batches, names and numbers of versions: the same weights twice are one space."""
    same = config(
        embed=EmbedConfig(Alignment.ARCFACE, normalize=True, tensor="embedding"),
        name="other",
        max_batch_size=1,
    )
    assert embedding_space(same, 7, WEIGHTS) == space()


def test_what_is_no_embedder_has_none() -> None:
    assert embedding_space(config(vision=None), 1, WEIGHTS) == ""
    detector = VisionConfig(Task.DETECT, make_input(), detect=DetectConfig("yunet", 0.5, 0.4, 10))
    assert embedding_space(config(vision=detector), 1, WEIGHTS) == ""


def test_unseen_weights_make_a_space_of_names_that_says_so() -> None:
    """Another for another version, name, tensor or way to prepare faces; the same for all replicas."""
    unseen = embedding_space(config(), 1, "")
    assert unseen == embedding_space(config(), 1, "")
    assert unseen.startswith(UNVERIFIED)
    tensors = (TensorConfig("embedding", DataType.FP32, (128,)),)
    others = {
        embedding_space(config(), 2, ""),
        embedding_space(config(name="other"), 1, ""),
        embedding_space(config(outputs=tensors), 1, ""),
        embedding_space(config(input_config=make_input(width=112, height=112, pad=1)), 1, ""),
    }
    assert len(others | {unseen}) == 5


def test_an_ensemble_computes_with_what_its_steps_do() -> None:
    """Empty if the weights of one of them are not known."""
    step = EnsembleStep("a", -1, {"x": "input"}, {"y": "between"})
    ensemble = config(ensemble=EnsembleScheduling((step,)))
    assert composed_weights(ensemble, ["1" * 32]) != composed_weights(ensemble, ["2" * 32])
    other = config(ensemble=EnsembleScheduling((replace(step, outputs={"y": "elsewhere"}),)))
    assert composed_weights(ensemble, ["1" * 32]) != composed_weights(other, ["1" * 32])
    assert composed_weights(ensemble, ["1" * 32, ""]) == ""

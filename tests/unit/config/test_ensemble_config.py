"""`ensemble_scheduling`: what it means, what Triton refuses of it alone and beside its models, in its words."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.ensembles import ensemble_config, ensemble_text, plain_config, step, tensors

from naiad.config.complete import complete_ensemble_config
from naiad.config.ensemble_checks import LEAF, Extent, check_composition, check_extent, extent_over
from naiad.config.messages import new_message
from naiad.config.reader import parse_model_config, read_model_config
from naiad.config.validate_ensemble import validate_ensemble
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from naiad.config.model_config import ModelConfig

A = ("a", {"IN": "given"}, {"OUT": "middle"})
B = ("b", {"IN": "middle"}, {"OUT": "end"})
TEXT = ensemble_text(A, B, reads=["given"], writes=["end"], scheduling="max_inflight_requests: 3")


def test_the_block_becomes_steps(model_folder: Callable[..., Path]) -> None:
    config = read_model_config(model_folder(TEXT))
    assert config.ensemble is not None
    assert [each.model_name for each in config.ensemble.steps] == ["a", "b"]
    assert [each.model_version for each in config.ensemble.steps] == [-1, -1]
    assert config.ensemble.steps[0].inputs == {"IN": "given"}
    assert config.ensemble.steps[1].outputs == {"OUT": "end"}
    assert config.ensemble.max_inflight_requests == 3
    assert config.ensemble.model_names == ("a", "b")
    assert (config.platform, config.backend, config.warnings) == ("ensemble", "", ())


def test_a_step_without_a_version_asks_for_version_0(model_folder: Callable[..., Path]) -> None:
    """Triton's default of the field, which surprises everyone: -1 is the latest."""
    config = read_model_config(model_folder(TEXT.replace("model_version: -1", "")))
    assert config.ensemble is not None
    assert config.ensemble.steps[0].model_version == 0


def test_the_shown_config_has_what_triton_fills_in_and_nothing_of_instances(
    model_folder: Callable[..., Path],
) -> None:
    read = read_model_config(model_folder(TEXT))
    message = complete_ensemble_config(read).message
    assert message.HasField("model_transaction_policy")
    assert message.version_policy.latest.num_versions == 1
    assert not message.instance_group
    assert not message.HasField("optimization")
    assert not read.message.HasField("model_transaction_policy")  # the one that was read stays as it was


def one(reads: str, writes: str, more: str = "", model: str = "a") -> str:
    """Step text with raw maps."""
    maps = "".join(
        f'{kind} {{ key: "{pair.split("=")[0]}" value: "{pair.split("=")[1]}" }} '
        for kind, pairs in (("input_map", reads), ("output_map", writes))
        for pair in pairs.split()
    )
    return f'step {{ model_name: "{model}" {maps} {more} }}'


def config_text(*steps: str, reads: str = "given", writes: str = "end", more: str = "") -> str:
    lines = ['platform: "ensemble"', more]
    for side, names in (("input", reads), ("output", writes)):
        lines += [f'{side} {{ name: "{name}" data_type: TYPE_FP32 dims: [ 4 ] }}' for name in names.split()]
    return "\n".join([*lines, f"ensemble_scheduling {{ {' '.join(steps)} }}"])


GOOD = one("IN=given", "OUT=end")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'platform: "ensemble"',
            "ensemble scheduling must be set for ensemble model whose platform is ensemble",
        ),
        (
            config_text(GOOD, more='backend: "python"'),
            "Ensemble model 'model' must have platform type 'ensemble' and empty backend type",
        ),
        (
            config_text(GOOD).replace('platform: "ensemble"', 'platform: "onnxruntime_onnx"'),
            "ensemble scheduling cannot be set for model 'model' whose platform is not ensemble",
        ),
        (config_text(), "must specify 'step' for ensemble 'model'"),
        (config_text(*[GOOD] * 1_001), "ensemble 'model' has 1001 steps, at most 1000 are served"),
        (
            config_text(GOOD, more="instance_group {}"),
            "instance group should not be specified for ensemble 'model'",
        ),
        (
            config_text(GOOD, more="optimization {}"),
            "optimization should not be specified for ensemble 'model'",
        ),
        (
            config_text(GOOD, more='model_warmup { name: "w" batch_size: 1 }'),
            "model_warmup can not be specified for ensemble 'model'",
        ),
        (
            config_text(one("A=given", "B=end", model="")),
            "must specify 'model_name' in step 0 of ensemble 'model'",
        ),
        (config_text(GOOD, one("", "B=x")), "must specify 'input_map' in step 1 of ensemble 'model'"),
        (config_text(one("A=given", "")), "must specify 'output_map' in step 0 of ensemble 'model'"),
        (
            config_text(GOOD, one("IN=given", "OUT=end")),
            "ensemble tensor 'end' can appear in an output map only once for ensemble 'model' step 1",
        ),
        (
            config_text(GOOD, reads="given more"),
            "ensemble input 'more' for ensemble model' is not used",
        ),
        (
            config_text(GOOD, writes="end more"),
            "ensemble output 'more' for ensemble model' is not used",
        ),
        (
            config_text(GOOD, one("IN=nowhere", "OUT=more"), writes="end more"),
            "output 'more' for ensemble 'model' is not written: at least one of its depending tensors, "
            "'nowhere', is not connected",
        ),
        (
            config_text(one("A=given B=y", "O=x"), one("A=x", "O=y P=end")),
            "output 'end' for ensemble 'model' is not written: at least one of its depending tensors, ",
        ),
        (
            config_text(one("IN=given", "OUT=end MORE=dead")),
            "ensemble tensor 'dead' is unused in ensemble 'model'",
        ),
        (
            config_text(GOOD, one("IN=nowhere", "OUT=dead")),
            "ensemble tensor 'dead' is unused in ensemble 'model'",
        ),
        (
            config_text(one("IN=given", "OUT=end"), one("IN=end", "OUT=given")),
            "ensemble input 'given' of ensemble 'model' is in an output map too",
        ),
        (
            config_text(one("IN=given", "OUT=end", model="../x")),
            "invalid model name '../x' in step 0 of ensemble 'model', model name must not contain path",
        ),
        (config_text(one("IN=given", "OUT=end", model="..")), "invalid model name '..' in step 0"),
    ],
)
def test_what_cannot_work_whatever_the_models_is_refused(
    text: str, message: str, model_folder: Callable[..., Path]
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_model_config(model_folder(text))
    assert caught.value.message.startswith(message)


CHAIN = ensemble_config(
    "E",
    ("given",),
    ("end",),
    step("a", {"IN": "given"}, {"OUT": "x"}),
    step("b", {"IN": "x"}, {"OUT": "end"}),
)


def changed(name: str, **changes: object) -> ModelConfig:
    return plain_config(name, **changes)  # type: ignore[arg-type]  # a test's shorthand


def other_type(name: str) -> ModelConfig:
    config = plain_config(name)
    return replace(config, inputs=(replace(config.inputs[0], datatype=DataType.INT32),))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (changed("a"), changed("b")),
        (changed("a", max_batch_size=0), changed("b")),  # batches are bridged
        (changed("a", max_batch_size=9), changed("b", max_batch_size=0)),
        (changed("a", outputs=tensors("OUT", dims=(-1,))), changed("b")),  # seen when a request has it
        (changed("a", max_batch_size=0, outputs=tensors("OUT", dims=(-1, 2))), changed("b")),
        (changed("a"), changed("b", inputs=(*tensors("IN"), replace(tensors("X")[0], optional=True)))),
    ],
)
def test_models_that_fit_may_be_chained(first: ModelConfig, second: ModelConfig) -> None:
    check_composition(CHAIN, [first, second])


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            changed("a", max_batch_size=3),
            changed("b"),
            "ensemble E allows maximum batch size 4, but it contains model a which only allows maximum batch "
            "size to be 3",
        ),
        (
            changed("a"),
            changed("b", inputs=tensors("OTHER")),
            "in ensemble E, ensemble tensor x is mapping to non-existing input IN in model b",
        ),
        (
            changed("a"),
            changed("b", inputs=tensors("IN", "MORE")),
            "in ensemble E, input MORE in model b is not mapped to any ensemble tensors",
        ),
        (
            changed("a", outputs=tensors("OTHER")),
            changed("b"),
            "in ensemble E, ensemble tensor x is mapped from non-existing output OUT in model a",
        ),
        (
            changed("a"),
            other_type("b"),
            "in ensemble E, ensemble tensor x: inconsistent data type: TYPE_FP32 is inferred from model a while "
            "TYPE_INT32 is inferred from model b",
        ),
        (
            other_type("a"),
            changed("b"),
            "in ensemble E, ensemble tensor given: inconsistent data type: TYPE_FP32 is inferred from model E "
            "while TYPE_INT32 is inferred from model a",
        ),
        (
            changed("a"),
            changed("b", inputs=tensors("IN", dims=(16, 16))),
            "in ensemble E, ensemble tensor x: inconsistent shape: [-1,2] is inferred from model a while "
            "[-1,16,16] is inferred from model b",
        ),
    ],
)
def test_models_that_do_not_fit_are_named(first: ModelConfig, second: ModelConfig, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_composition(CHAIN, [first, second])
    assert caught.value.message == message


def test_the_ensembles_reshape_is_what_its_models_see() -> None:
    inputs = (replace(CHAIN.inputs[0], dims=(1, 2), reshape=(2,)),)
    check_composition(replace(CHAIN, inputs=inputs), [changed("a"), changed("b")])
    with pytest.raises(InvalidArgumentError, match="inconsistent shape"):
        check_composition(
            replace(CHAIN, inputs=(replace(inputs[0], reshape=None),)), [changed("a"), changed("b")]
        )


def test_a_step_that_makes_much_of_much_costs_memory_for_each_and_not_for_each_pair() -> None:
    size = 2_000
    message = new_message()
    message.name, message.platform = "E", "ensemble"
    made = message.ensemble_scheduling.step.add(model_name="m")
    for index in range(size):
        message.input.add(name=f"a{index}")
        message.output.add(name=f"b{index}")
        made.input_map[f"I{index}"], made.output_map[f"O{index}"] = f"a{index}", f"b{index}"
    tracemalloc.start()
    try:
        validate_ensemble(message)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2_000 * size, "each pair would take 16 bytes: 64 MB"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([Extent(31, 1), LEAF], None),
        ([Extent(1, 999), LEAF], None),
        ([LEAF, Extent(32, 1)], "ensemble 'E' has ensembles nested 33 deep, at most 32 are served"),
        (
            [Extent(1, 500), Extent(2, 501)],
            "ensemble 'E' has 1001 steps, those of the ensembles in it included, at most 1000 are served",
        ),
    ],
)
def test_ensembles_in_ensembles_are_bounded_in_depth_and_in_steps(
    models: list[Extent], message: str | None
) -> None:
    extent = extent_over(models)
    if message is None:
        check_extent("E", extent)
        return
    with pytest.raises(InvalidArgumentError) as caught:
        check_extent("E", extent)
    assert caught.value.message == message

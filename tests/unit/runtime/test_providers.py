"""Providers follow instance kind and accelerators, and what cannot be had is said."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.runtime import config

from naiad.config.model_config import Accelerator, InstanceGroup, InstanceKind
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.providers import CPU, CUDA, OPENVINO, TENSORRT, ProviderPlan, plan_providers

CPU_BUILD = ("AzureExecutionProvider", CPU)
GPU_BUILD = (TENSORRT, CUDA, CPU)


def group(kind: InstanceKind) -> tuple[InstanceGroup, ...]:
    return (InstanceGroup("", kind, 1),)


def on_cpu_build(**fields: object) -> ProviderPlan:
    return plan_providers(config(**fields), available=CPU_BUILD, gpu_count=0)


def on_gpu_build(gpus: int = 1, **fields: object) -> ProviderPlan:
    return plan_providers(config(**fields), available=GPU_BUILD, gpu_count=gpus)


def test_cpu_build_runs_on_the_cpu_without_complaint() -> None:
    plan = on_cpu_build()
    assert plan.names == (CPU,)
    assert plan.fallbacks == ()
    assert not plan.on_gpu


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (InstanceKind.AUTO, (CUDA, CPU)),
        (InstanceKind.GPU, (CUDA, CPU)),
        (InstanceKind.CPU, (CPU,)),
        (InstanceKind.MODEL, (CPU,)),
    ],
)
def test_kind_decides_on_a_gpu_machine(kind: InstanceKind, names: tuple[str, ...]) -> None:
    assert on_gpu_build(instance_groups=group(kind)).names == names


def test_no_group_is_auto() -> None:
    assert on_gpu_build().names == (CUDA, CPU)
    assert on_gpu_build(gpus=0).names == (CPU,)


def test_tensorrt_comes_before_cuda_on_the_same_device() -> None:
    accelerated = config(gpu_accelerators=(Accelerator("tensorrt", {"precision_mode": "FP16"}),))
    plan = plan_providers(accelerated, available=GPU_BUILD, gpu_count=2, gpu=1)
    assert plan.names == (TENSORRT, CUDA, CPU)
    assert plan.providers[0].options == {"device_id": "1", "trt_fp16_enable": "True"}
    assert plan.providers[1].options["device_id"] == "1"
    assert plan.gpu_count == 2


def test_gpu_asked_of_a_cpu_build_says_what_to_install() -> None:
    plan = on_cpu_build(instance_groups=group(InstanceKind.GPU))
    assert plan.names == (CPU,)
    assert plan.wanted == (CUDA, CPU)
    assert len(plan.fallbacks) == 1
    assert "install naiad[gpu]" in plan.fallbacks[0]


def test_gpu_asked_where_none_is_visible_says_so() -> None:
    (sentence,) = on_gpu_build(gpus=0, instance_groups=group(InstanceKind.GPU)).fallbacks
    assert "no GPU is visible" in sentence


def test_tensorrt_asked_without_it_keeps_cuda() -> None:
    accelerated = config(gpu_accelerators=(Accelerator("tensorrt"),))
    plan = plan_providers(accelerated, available=(CUDA, CPU), gpu_count=1)
    assert plan.names == (CUDA, CPU)
    (sentence,) = plan.fallbacks
    assert TENSORRT in sentence
    assert "naiad[tensorrt]" in sentence


def test_tensorrt_asked_of_a_cpu_build_is_one_sentence_with_one_cure() -> None:
    (sentence,) = on_cpu_build(gpu_accelerators=(Accelerator("tensorrt"),)).fallbacks
    assert sentence == (
        f"{TENSORRT} and {CUDA} are not used by 'm': "
        "this onnxruntime has neither: install naiad[tensorrt] in place of naiad[cpu]"
    )


def test_tensorrt_asked_where_no_gpu_is_visible_is_one_sentence() -> None:
    (sentence,) = on_gpu_build(gpus=0, gpu_accelerators=(Accelerator("tensorrt"),)).fallbacks
    assert sentence.startswith(f"{TENSORRT} and {CUDA} are not used by 'm': no GPU is visible: ")


def test_tensorrt_without_cuda_is_left_out_too() -> None:
    """CUDA serves until an engine is built, and runs what the engine leaves."""
    accelerated = config(gpu_accelerators=(Accelerator("tensorrt"),))
    plan = plan_providers(accelerated, available=GPU_BUILD, gpu_count=1, broken={CUDA: "libcudnn is missing"})
    assert plan.names == (CPU,)
    assert [sentence.split(" ")[0] for sentence in plan.fallbacks] == [TENSORRT, CUDA]
    assert "CUDA, which serves until its engine is built, is not there" in plan.fallbacks[0]


def test_a_plan_without_one_provider_keeps_the_others_and_what_was_said() -> None:
    plan = on_gpu_build(gpu_accelerators=(Accelerator("tensorrt"),))
    assert plan.without(TENSORRT).names == (CUDA, CPU)
    assert plan.without(TENSORRT).fallbacks == plan.fallbacks
    assert plan.find(CUDA) is plan.providers[1]
    assert plan.find(OPENVINO) is None


def test_gpu_accelerator_on_cpu_instances_is_not_silent() -> None:
    plan = on_gpu_build(instance_groups=group(InstanceKind.CPU), gpu_accelerators=(Accelerator("tensorrt"),))
    assert plan.names == (CPU,)
    assert "its instances run on the CPU" in plan.fallbacks[0]


def test_a_provider_that_failed_before_is_left_out_with_its_reason() -> None:
    plan = plan_providers(config(), available=GPU_BUILD, gpu_count=1, broken={CUDA: "libcudnn is missing"})
    assert plan.names == (CPU,)
    assert plan.gpu_count == 0
    assert "libcudnn is missing" in plan.fallbacks[0]


def test_openvino_on_the_cpu() -> None:
    accelerated = config(cpu_accelerators=(Accelerator("openvino", {"num_streams": "2"}),))
    plan = plan_providers(accelerated, available=(OPENVINO, CPU), gpu_count=0)
    assert plan.names == (OPENVINO, CPU)
    assert plan.providers[0].options == {"num_streams": "2"}
    missing = plan_providers(accelerated, available=CPU_BUILD, gpu_count=0)
    assert missing.names == (CPU,)
    assert OPENVINO in missing.fallbacks[0]


@pytest.mark.parametrize("field", ["gpu_accelerators", "cpu_accelerators"])
def test_unknown_accelerator_gets_tritons_text(field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^unknown Execution Accelerator 'warp' is requested$"):
        on_cpu_build(**{field: (Accelerator("warp"),)})


def test_a_wrong_parameter_is_refused_even_where_there_is_no_gpu() -> None:
    with pytest.raises(InvalidArgumentError, match="unknown parameter 'x'"):
        on_cpu_build(gpu_accelerators=(Accelerator("tensorrt", {"x": "1"}),))


def test_device_id_of_the_accelerator_loses_to_the_group_aloud() -> None:
    plan = on_gpu_build(gpu_accelerators=(Accelerator("cuda", {"device_id": "3"}),))
    assert plan.providers[0].options["device_id"] == "0"
    assert "device_id=3 is not used" in plan.fallbacks[0]


def test_planning_works_without_the_engine() -> None:
    """A client or a check may plan where no ONNX Runtime is installed."""
    program = (
        "import sys; sys.modules['onnxruntime'] = None; "
        "import naiad.runtime.providers, naiad.runtime.layout, naiad.runtime.loader; print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "ok"

"""Which execution providers a model's sessions are asked for, in order, and what had to be left out. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from naiad.config.model_config import InstanceKind
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.provider_options import cuda_options
from naiad.runtime.tensorrt.options import tensorrt_options

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from naiad.config.model_config import Accelerator, ModelConfig

TENSORRT: Final = "TensorrtExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
OPENVINO: Final = "OpenVINOExecutionProvider"
CPU: Final = "CPUExecutionProvider"

GPU_PROVIDERS: Final = frozenset({TENSORRT, CUDA})

_GPU_ACCELERATORS = frozenset({"tensorrt", "cuda"})
_CPU_ACCELERATORS = frozenset({"openvino"})
_INSTALL = {
    TENSORRT: "install naiad[tensorrt]",
    CUDA: "install naiad[gpu] in place of naiad[cpu]",
    OPENVINO: "install naiad[openvino] in place of naiad[cpu]",
}


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider and the options it is created with."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderPlan:
    """The providers to create a session with, first choice first; the CPU is always the last.

    `wanted` are the names that the config asks for, `fallbacks` one sentence for each reason why some cannot
    be had: what is missing and who can do something about it. `gpu_count` are the visible GPUs, 0 when none
    is used.
    """

    providers: tuple[Provider, ...]
    wanted: tuple[str, ...]
    fallbacks: tuple[str, ...]
    gpu_count: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The providers' names, in order."""
        return tuple(provider.name for provider in self.providers)

    @property
    def on_gpu(self) -> bool:
        """Whether the first choice runs on a GPU."""
        return self.providers[0].name in GPU_PROVIDERS

    def find(self, name: str) -> Provider | None:
        """The provider of that name, or None."""
        return next((provider for provider in self.providers if provider.name == name), None)

    def without(self, name: str) -> ProviderPlan:
        """The same plan without that provider."""
        return replace(self, providers=tuple(each for each in self.providers if each.name != name))


@dataclass(frozen=True, slots=True)
class _Machine:
    """What there is to choose from; `broken` maps providers that failed before to the reason."""

    available: Collection[str]
    gpu_count: int
    broken: Mapping[str, str]

    def obstacle(self, provider: str) -> str | None:
        """Why the provider cannot be had, or None."""
        if provider in self.broken:
            return self.broken[provider]
        if provider not in self.available:
            return f"this onnxruntime does not have it: {_INSTALL[provider]}"
        if provider in GPU_PROVIDERS and self.gpu_count < 1:
            return "no GPU is visible: check the driver, CUDA_VISIBLE_DEVICES and the container's devices"
        return None

    def obstacles(self, providers: Iterable[str]) -> dict[str, str | None]:
        """Why each of them cannot be had, or None. Where one cure is for two, both have the same reason."""
        found = {provider: self.obstacle(provider) for provider in providers}
        if not found.get(CUDA) or TENSORRT not in found:
            return found
        if not GPU_PROVIDERS & {*self.available, *self.broken}:
            neither = f"this onnxruntime has neither: {_INSTALL[TENSORRT]} in place of naiad[cpu]"
            return found | {TENSORRT: neither, CUDA: neither}
        without_cuda = "CUDA, which serves until its engine is built, is not there"
        return found | {TENSORRT: found[TENSORRT] or without_cuda}


def plan_providers(
    config: ModelConfig,
    *,
    available: Sequence[str],
    gpu_count: int,
    gpu: int | None = None,
    kind: InstanceKind | None = None,
    broken: Mapping[str, str] | None = None,
) -> ProviderPlan:
    """Choose the providers for a model, or for one of its instances.

    Args:
        config: its instance groups, accelerators and deprecated CUDA parameters are read.
        available: the providers that the installed engine has.
        gpu_count: how many GPUs are visible.
        gpu: the GPU to run on; the first one if None.
        kind: plan for an instance of this kind instead of the whole model.
        broken: providers that could not be created before, with the reason.

    Raises:
        InvalidArgumentError: an accelerator, or one of its parameters, is unknown.
        UnsupportedError: a parameter is understood and deliberately not offered.
    """
    machine = _Machine(available, gpu_count, broken or {})
    device = gpu or 0
    gpu_candidates = tuple(_gpu_candidates(config, device))
    cpu_candidates = tuple(_cpu_candidates(config))
    kinds = {kind} if kind else {group.kind for group in config.instance_groups} or {InstanceKind.AUTO}
    on_gpu = _wants_gpu(config, kinds, machine)
    candidates = gpu_candidates if on_gpu else cpu_candidates
    obstacles = machine.obstacles(provider.name for provider in candidates)
    kept = tuple(provider for provider in candidates if obstacles[provider.name] is None)
    fallbacks = list(_not_used(config.name, obstacles))
    if on_gpu:
        fallbacks += _device_conflicts(config, device)
    elif config.gpu_accelerators:
        fallbacks.append(
            f"the gpu_execution_accelerator of '{config.name}' is not used: its instances run on the CPU"
        )
    return ProviderPlan(
        providers=(*kept, Provider(CPU)),
        wanted=(*(provider.name for provider in candidates), CPU),
        fallbacks=tuple(fallbacks),
        gpu_count=gpu_count if any(provider.name in GPU_PROVIDERS for provider in kept) else 0,
    )


def _not_used(model: str, obstacles: Mapping[str, str | None]) -> Iterator[str]:
    """One sentence for each reason: who reads two believes that two things must be mended."""
    for reason in dict.fromkeys(why for why in obstacles.values() if why):
        names = [name for name, why in obstacles.items() if why == reason]
        yield f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} not used by '{model}': {reason}"


def _wants_gpu(config: ModelConfig, kinds: Collection[InstanceKind], machine: _Machine) -> bool:
    if InstanceKind.GPU in kinds:
        return True
    # An AUTO group goes to a GPU where there is one; naming a GPU accelerator is asking for one.
    usable = machine.gpu_count > 0 and CUDA in machine.available
    return InstanceKind.AUTO in kinds and (usable or bool(config.gpu_accelerators))


def _gpu_candidates(config: ModelConfig, gpu: int) -> Iterator[Provider]:
    """TensorRT if asked for, then CUDA, which runs what TensorRT leaves."""
    accelerators = _by_name(config.gpu_accelerators, _GPU_ACCELERATORS)
    if "tensorrt" in accelerators:
        yield Provider(TENSORRT, tensorrt_options(accelerators["tensorrt"].parameters, gpu=gpu))
    cuda = accelerators["cuda"].parameters if "cuda" in accelerators else {}
    yield Provider(CUDA, cuda_options(cuda, config.parameters, gpu=gpu))


def _cpu_candidates(config: ModelConfig) -> Iterator[Provider]:
    for accelerator in _by_name(config.cpu_accelerators, _CPU_ACCELERATORS).values():
        yield Provider(OPENVINO, dict(accelerator.parameters))


def _by_name(accelerators: Sequence[Accelerator], known: Collection[str]) -> dict[str, Accelerator]:
    for accelerator in accelerators:
        if accelerator.name not in known:
            raise InvalidArgumentError(f"unknown Execution Accelerator '{accelerator.name}' is requested")
    return {accelerator.name: accelerator for accelerator in accelerators}


def _device_conflicts(config: ModelConfig, gpu: int) -> Iterator[str]:
    for accelerator in config.gpu_accelerators:
        named = accelerator.parameters.get("device_id", str(gpu))
        if accelerator.name == "cuda" and named != str(gpu):
            yield f"the CUDA parameter device_id={named} is not used: the instance group chose GPU {gpu}"

"""The GPUs that CUDA sees, read through NVML; nothing where there is no driver, no GPU or no library."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU now; None for what its driver does not tell. Energy counts from the meter's first reading."""

    uuid: str
    utilization: float | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    power_usage_watts: float | None
    power_limit_watts: float | None
    energy_joules: float | None


class GpuMeter:
    """Reads the GPUs in CUDA's order. Used by one thread at a time; closed once."""

    def __init__(self, visible: str | None = None) -> None:
        """Open NVML.

        Args:
            visible: what `CUDA_VISIBLE_DEVICES` says; by default the process's own.
        """
        self._nvml, self._gpus = _open(os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible)
        self._energy_start = {uuid: self._energy_mj(handle) for uuid, handle in self._gpus}

    @property
    def uuids(self) -> tuple[str, ...]:
        """The GPUs' identities, in CUDA's order."""
        return tuple(uuid for uuid, _ in self._gpus)

    def read(self) -> tuple[GpuReading, ...]:
        """Every GPU now."""
        return tuple(self._read(uuid, handle) for uuid, handle in self._gpus)

    def close(self) -> None:
        """Let NVML go. Safe to call twice."""
        if self._nvml is not None:
            self._ask(self._nvml.nvmlShutdown)
        self._nvml, self._gpus = None, ()

    def _read(self, uuid: str, handle: Any) -> GpuReading:
        nvml = self._nvml
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        usage_mw = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        limit_mw = self._ask(nvml.nvmlDeviceGetPowerManagementLimit, handle)
        energy_mj, start_mj = self._energy_mj(handle), self._energy_start[uuid]
        return GpuReading(
            uuid=uuid,
            utilization=None if rates is None else rates.gpu / 100,
            memory_total_bytes=None if memory is None else memory.total,
            memory_used_bytes=None if memory is None else memory.used,
            power_usage_watts=None if usage_mw is None else usage_mw / 1_000,
            power_limit_watts=None if limit_mw is None else limit_mw / 1_000,
            energy_joules=None if None in (energy_mj, start_mj) else (energy_mj - start_mj) / 1_000,
        )

    def _energy_mj(self, handle: Any) -> Any:
        return self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption, handle)

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """NVML's answer, or None where this GPU has none."""
        try:
            return question(*arguments)
        except self._nvml.NVMLError:
            return None


def _open(visible: str | None) -> tuple[Any, tuple[tuple[str, Any], ...]]:
    """NVML and (uuid, handle) of each GPU that CUDA sees; (None, ()) without one."""
    try:
        nvml = import_module("pynvml")  # by name: it has no types, and need not be installed
    except ImportError:
        return None, ()
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        uuids = [nvml.nvmlDeviceGetUUID(handle) for handle in handles]
    except nvml.NVMLError as error:
        log.debug("no GPU metrics", reason=str(error))
        return None, ()
    return nvml, tuple((uuids[index], handles[index]) for index in visible_gpus(visible, uuids))


def visible_gpus(visible: str | None, uuids: Sequence[str]) -> list[int]:
    """The driver's indices of the GPUs that CUDA sees, in CUDA's order.

    Args:
        visible: `CUDA_VISIBLE_DEVICES`: indices or the beginnings of UUIDs; None for every GPU. As CUDA does
            it, what follows the first entry that fits no GPU is not seen.
        uuids: every GPU of the machine, in the driver's order.
    """
    if visible is None:
        return list(range(len(uuids)))
    found: list[int] = []
    for text in visible.split(","):
        entry = text.strip()
        if entry.isdecimal():
            matches = [int(entry)] if int(entry) < len(uuids) else []
        else:
            matches = [index for index, uuid in enumerate(uuids) if entry and uuid.startswith(entry)]
        if len(matches) != 1:
            break
        found += matches
    return found

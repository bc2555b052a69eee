"""Readings of the machine, at most one in each interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.telemetry.metrics.cpu import CpuMeter, CpuReading
from naiad.telemetry.metrics.gpu import GpuMeter, GpuReading

if TYPE_CHECKING:
    from naiad.telemetry.metrics.settings import MetricsSettings


@dataclass(frozen=True, slots=True)
class MachineReading:
    """The CPU, or None where it is not shown, and each GPU; `gpu_uuids` in CUDA's order."""

    cpu: CpuReading | None = None
    gpus: tuple[GpuReading, ...] = ()
    gpu_uuids: tuple[str, ...] = ()


class MachineMeter:
    """Reads what the settings allow. Reading may block for milliseconds: give it a thread, one at a time."""

    def __init__(self, settings: MetricsSettings) -> None:
        self._interval_ns = settings.interval_ms * 1_000_000
        self._cpu = CpuMeter() if settings.allow_cpu_metrics else None
        self._gpu = GpuMeter() if settings.allow_gpu_metrics else None
        self._reading = MachineReading()
        self._read_ns: int | None = None

    def read(self, now_ns: int) -> MachineReading:
        """What is so now, or was less than an interval ago."""
        if self._read_ns is None or now_ns - self._read_ns >= self._interval_ns:
            self._read_ns = now_ns
            self._reading = MachineReading(
                cpu=self._cpu.read() if self._cpu else None,
                gpus=self._gpu.read() if self._gpu else (),
                gpu_uuids=self._gpu.uuids if self._gpu else (),
            )
        return self._reading

    def close(self) -> None:
        """Let the GPU's library go. Safe to call twice."""
        if self._gpu is not None:
            self._gpu.close()

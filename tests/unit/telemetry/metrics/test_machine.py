"""The machine's CPU, memory and GPUs, as far as it tells."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from naiad.telemetry.metrics.cpu import CpuMeter, CpuReading
from naiad.telemetry.metrics.gpu import GpuMeter, GpuReading, visible_gpus
from naiad.telemetry.metrics.machine import MachineMeter, MachineReading
from naiad.telemetry.metrics.settings import MetricsSettings

if TYPE_CHECKING:
    from pathlib import Path

MEMINFO = "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n"
UUIDS = ["GPU-aaa", "GPU-bbb", "GPU-bcc"]


def write_stat(proc: Path, ticks: str) -> None:
    (proc / "stat").write_text(f"cpu  {ticks}\ncpu0 {ticks}\n")


def test_utilization_is_that_since_the_reading_before(tmp_path: Path) -> None:
    """User, nice, system, interrupts and stolen time are busy; idle and waiting for disks are not."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    write_stat(tmp_path, "100 0 100 800 0 0 0 0 0 0")
    meter = CpuMeter(tmp_path)
    write_stat(tmp_path, "110 5 105 850 20 3 3 4 99 0")
    assert meter.read() == CpuReading(0.3, 1_024_000, 614_400)
    assert meter.read() == CpuReading(0.0, 1_024_000, 614_400)


@pytest.mark.parametrize(
    ("stat", "meminfo"),
    [
        ("nothing", MEMINFO),
        ("cpu 1 2 3", MEMINFO),
        ("cpu a b c d e f g h", MEMINFO),
        ("cpu 1 1 1 1 1 1 1 1", "x"),
    ],
)
def test_what_cannot_be_read_is_not_shown(tmp_path: Path, stat: str, meminfo: str) -> None:
    assert CpuMeter(tmp_path / "absent").read() is None
    (tmp_path / "stat").write_text(stat)
    (tmp_path / "meminfo").write_text(meminfo)
    assert CpuMeter(tmp_path).read() is None


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_this_machine_can_be_read() -> None:
    reading = CpuMeter().read()
    assert reading is not None
    assert 0 <= reading.utilization <= 1
    assert 0 < reading.memory_used_bytes < reading.memory_total_bytes


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("2,0", [2, 0]),
        (" GPU-a , 1", [0, 1]),
        ("0,7,1", [0]),
        ("-1,0", []),
        ("GPU-b", []),  # two begin like that
        ("NoDevFiles", []),
    ],
)
def test_the_gpus_are_those_that_cuda_sees(visible: str | None, expected: list[int]) -> None:
    assert visible_gpus(visible, UUIDS) == expected


class FakeNvml(ModuleType):
    """The few questions that are asked, over two GPUs of which the second does not know its power."""

    class NVMLError(Exception):
        """What every question may raise."""

    def __init__(self, *, driver: bool = True) -> None:
        super().__init__("pynvml")
        self._driver = driver
        self.energy_mj = 5_000
        self.open = False

    def nvmlInit(self) -> None:  # noqa: N802  # NVML's names, here and below
        if not self._driver:
            raise self.NVMLError("Driver Not Loaded")
        self.open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return UUIDS[handle]

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=50)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(total=80, used=20)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        if handle:
            raise self.NVMLError("Not Supported")
        return 123_400

    def nvmlDeviceGetPowerManagementLimit(self, handle: int) -> int:  # noqa: N802
        return 700_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        if handle:
            raise self.NVMLError("Not Supported")
        return self.energy_mj


def test_the_library_answers_the_questions_that_are_asked() -> None:
    """The stand-in above asks nothing that the real library does not have."""
    nvml = pytest.importorskip("pynvml")
    assert [name for name in vars(FakeNvml) if name.startswith("nvml") and not hasattr(nvml, name)] == []
    assert issubclass(nvml.NVMLError, Exception)


def test_gpus_are_read_in_units_of_one_and_energy_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    meter = GpuMeter()
    nvml.energy_mj += 2_500
    assert meter.uuids == ("GPU-bbb", "GPU-aaa")
    assert meter.read() == (
        GpuReading("GPU-bbb", 0.5, 80, 20, None, 700.0, None),
        GpuReading("GPU-aaa", 0.5, 80, 20, 123.4, 700.0, 2.5),
    )
    meter.close()
    meter.close()
    assert not nvml.open
    assert meter.read() == ()


@pytest.mark.parametrize("nvml", [None, FakeNvml(driver=False)], ids=["no library", "no driver"])
def test_without_a_gpu_there_is_nothing_and_no_error(
    monkeypatch: pytest.MonkeyPatch, nvml: ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    meter = GpuMeter()
    assert (meter.read(), meter.uuids) == ((), ())
    meter.close()


def test_the_machine_is_read_at_most_once_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    meter = MachineMeter(MetricsSettings(allow_cpu_metrics=False, interval_ms=10))

    def joules(now_ns: int) -> float | None:
        return meter.read(now_ns).gpus[0].energy_joules

    assert joules(0) == 0
    nvml.energy_mj += 1_000
    assert [joules(9_999_999), joules(10_000_000)] == [0, 1]
    meter.close()


def test_what_is_not_allowed_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    meter = MachineMeter(MetricsSettings(allow_cpu_metrics=False, allow_gpu_metrics=False))
    assert meter.read(0) == MachineReading()
    meter.close()

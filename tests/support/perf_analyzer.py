"""Triton's own load generator, taken from where it was last published: a wheel of tritonclient.

The wheel's libraries are not those of this machine: `libb64` comes from Debian, `libcudart` from the CUDA runtime's
wheel. All three are unpacked beside each other once and kept.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

KEPT = Path(__file__).parents[2] / "build" / "perf_analyzer"
WHEELS = {
    "tritonclient==2.41.0": "manylinux1_x86_64",
    "nvidia-cuda-runtime-cu12==12.9.79": "manylinux2014_x86_64",
}
LIBRARY = "libb64-0d"


class NotThereError(Exception):
    """It could not be fetched; the text says why."""


@dataclass(frozen=True)
class Report:
    """What one run printed and measured."""

    output: str
    inferences_per_second: float


def perf_analyzer() -> PerfAnalyzer:
    """The program, fetched if it is not there yet.

    Raises:
        NotThereError: this machine cannot fetch or run it.
    """
    program = KEPT / "perf_analyzer"
    if not program.exists():
        if sys.platform != "linux" or os.uname().machine != "x86_64" or not shutil.which("dpkg-deb"):
            raise NotThereError("perf_analyzer is there for x86-64 Debian only")
        _fetch()
    return PerfAnalyzer(program)


class PerfAnalyzer:
    """Runs it."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self.environment = {"LD_LIBRARY_PATH": str(KEPT), "PATH": os.environ["PATH"]}

    def command(self, *arguments: str) -> list[str]:
        """The whole command line, to be run in `environment`."""
        return [str(self._program), *arguments]

    def run(self, *arguments: str, results: Path) -> Report:
        """Run it to its end; AssertionError with its output if it fails."""
        done = subprocess.run(
            self.command(*arguments, "-f", str(results)),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"perf_analyzer {' '.join(arguments)}: {done.stdout}"
        with results.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return Report(done.stdout, float(rows[0]["Inferences/Second"]))


def _fetch() -> None:
    work = KEPT.with_name("perf_analyzer.part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for wheel, platform in WHEELS.items():
        _command(
            work,
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary=:all:",
            f"--platform={platform}",
            wheel,
        )
    _command(work, "apt-get", "download", "-qq", LIBRARY)
    for path in work.glob("*.deb"):
        _command(work, "dpkg-deb", "-x", path.name, "deb")
    for path in work.glob("*.whl"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(work / "wheels")
    for pattern in (
        "deb/usr/lib/*/libb64.so.0d",
        "wheels/nvidia/cuda_runtime/lib/libcudart.so.12",
        "wheels/*.data/data/bin/perf_analyzer",
    ):
        found = next(work.glob(pattern), None)
        if found is None:
            raise NotThereError(f"{pattern} is not in what was fetched")
        shutil.move(found, work / found.name)
    (work / "perf_analyzer").chmod(0o755)
    shutil.rmtree(work / "wheels")
    shutil.rmtree(work / "deb")
    for path in (*work.glob("*.whl"), *work.glob("*.deb")):
        path.unlink()
    shutil.rmtree(KEPT, ignore_errors=True)
    work.rename(KEPT)


def _command(folder: Path, *command: str) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotThereError(f"{command[0]}: {error}") from None
    if done.returncode:
        raise NotThereError(f"{' '.join(command)}: {done.stdout[-500:]}")

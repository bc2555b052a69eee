"""The servers of a run behind one face: started beside each other, idle but for the one that is measured."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import tritonclient.grpc as triton
from bench.meter import tree
from bench.peer_repositories import write_mlserver_models, write_triton_repository
from bench.peers import MLSERVER, TRITON
from bench.processes import ROOT, Server
from bench.results import OURS
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from naiad.core.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from bench.cases import Case, Wire

    Outputs = dict[str, list[dict[str, Any]]]

_START_LIMIT_S = 120.0
_STOP_LIMIT_S = 20.0
_CALL_LIMIT_S = 30.0
EMPTY = "empty grpc.aio"
OVER_GRPCIO = f"{OURS} over grpc.aio"
"""The same server with gRPC's own transport."""
EMPTY_CASES = ("add_sub", "identity")
"""What the empty server answers: the smallest requests and the largest."""
EVERY_WIRE: frozenset[Wire] = frozenset({"unary", "stream", "shared memory", "frames"})


class Target(Protocol):
    """A server that runs; `pid` is the process whose tree does the work."""

    name: str
    address: str
    wires: frozenset[Wire]

    def serves(self, case: Case) -> bool:
        """Whether it has the case's model, and takes its kind of requests."""
        ...

    @property
    def pid(self) -> int:
        """The server's first process."""
        ...

    def ended(self) -> str:
        """Why it is not there any more; nothing while it runs."""
        ...

    def pause(self) -> None:
        """Stop its processes where they are: some servers keep CPUs busy while nobody asks them anything."""
        ...

    def resume(self) -> None:
        """Let it go on."""
        ...


class NaiadTarget:
    """`naiad serve` with its default settings but for the flags given, and shared memory regions allowed."""

    wires = EVERY_WIRE

    def __init__(self, repository: Path, log_file: Path, *flags: str, name: str = OURS) -> None:
        self.name = name
        ports = ["--http-port=0", "--metrics-port=0", "--metrics-address=127.0.0.1"]
        self._server = Server(repository, log_file, *ports, "--allow-client-shm=true", *flags)

    def __enter__(self) -> Self:
        self.address = self._server.__enter__().address
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()  # who is stopped hears no other signal
        self._server.__exit__()

    def serves(self, case: Case) -> bool:
        """Every case."""
        return case.wire in self.wires

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._server.pid

    def ended(self) -> str:
        """Why it is not there any more."""
        return self._server.ended()

    def pause(self) -> None:
        """Stop the process where it is."""
        _signal_tree(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        _signal_tree(self.pid, signal.SIGCONT)


class Peer:
    """Another server, in a session of its own so that its workers can be ended with it."""

    def __init__(
        self,
        name: str,
        wires: set[Wire],
        log_file: Path,
        command: list[str],
        *,
        environment: dict[str, str],
        models: list[str],
        port: int,
    ) -> None:
        self.name = name
        self.wires = frozenset(wires)
        self.address = f"127.0.0.1:{port}"
        self._log_file = log_file
        self._models = models
        self._command = command
        self._environment = environment

    def __enter__(self) -> Self:
        """Start it and wait until every model is ready.

        Raises:
            UnavailableError: it ended, or took too long. It is stopped then.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NAIAD_")}
        with self._log_file.open("w") as log:
            self._process = subprocess.Popen(
                self._command,
                env=kept | self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()  # who is stopped hears no other signal
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Workers outlive a server that crashed.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def serves(self, case: Case) -> bool:
        """Whether it has the case's model, and takes its kind of requests."""
        return case.wire in self.wires and case.model in self._models

    @property
    def pid(self) -> int:
        """The server's first process."""
        return self._process.pid

    def ended(self) -> str:
        """Why it is not there any more."""
        code = self._process.poll()
        return "" if code is None else f"ended with exit code {code}: see {self._log_file.name}"

    def pause(self) -> None:
        """Stop its processes where they are."""
        _signal_tree(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        _signal_tree(self.pid, signal.SIGCONT)

    def _wait_until_ready(self) -> None:
        limit = time.monotonic() + _START_LIMIT_S
        with triton.InferenceServerClient(self.address) as client:
            while not self._ready(client):
                if self.ended():
                    raise UnavailableError(f"{self.name} {self.ended()}")
                if time.monotonic() > limit:
                    raise UnavailableError(f"{self.name} was not ready in {_START_LIMIT_S:.0f} s")
                time.sleep(0.2)

    def _ready(self, client: triton.InferenceServerClient) -> bool:
        try:
            return client.is_server_live() and all(client.is_model_ready(name) for name in self._models)
        except InferenceServerException:
            return False


def triton_peer(folder: Path, log_file: Path, cases: list[Case], outputs: Outputs, instances: int) -> Peer:
    """Triton as the wheel of nvidia-pytriton brings it, with its Python backend.

    Raises:
        UnavailableError: the wheel has no backend for its environment's Python.
    """
    packages = TRITON.site_packages
    triton_folder = packages / "pytriton" / "tritonserver"
    write_triton_repository(folder / "repository", cases, outputs, instances)
    backends = _triton_backend(folder / "backends" / "python", triton_folder)
    grpc_port, http_port, metrics_port = _free_ports(3)
    host = "127.0.0.1"
    command = [
        str(triton_folder / "bin" / "tritonserver"),
        f"--model-repository={folder / 'repository'}",
        f"--backend-directory={backends}",
        f"--cache-directory={triton_folder / 'caches'}",
        *(f"--{kind}-address={host}" for kind in ("grpc", "http", "metrics")),
        f"--grpc-port={grpc_port}",
        f"--http-port={http_port}",
        f"--metrics-port={metrics_port}",
        "--pinned-memory-pool-byte-size=0",
        "--allow-gpu-metrics=false",
    ]
    environment = {
        "PATH": f"{TRITON.python.parent}{os.pathsep}{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    return Peer(
        "Triton",
        {"unary", "stream", "shared memory"},
        log_file,
        command,
        environment=environment,
        models=_names(cases),
        port=grpc_port,
    )


def _triton_backend(folder: Path, triton_folder: Path) -> Path:
    """The backend's folder put together from the wheel's parts; gives the folder of all backends."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = triton_folder / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise UnavailableError(f"Triton's Python backend is not there for Python {version}")
    folder.mkdir(parents=True)
    shutil.copyfile(stub, folder / stub.name)
    (folder / stub.name).chmod(0o755)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        (folder / name).symlink_to(triton_folder / "backends" / "python" / name)
    return folder.parent


def mlserver_peer(folder: Path, log_file: Path, cases: list[Case], outputs: Outputs, instances: int) -> Peer:
    """MLServer with a runtime of ours: one process, as many runs at once as there are instances."""
    grpc_port, http_port, metrics_port = _free_ports(3)
    ports = {"grpc_port": grpc_port, "http_port": http_port, "metrics_port": metrics_port}
    write_mlserver_models(folder / "models", cases, outputs, instances, ports)
    scripts = ROOT / "bench" / "peer_models"
    command = [str(MLSERVER.python), str(scripts / "mlserver_main.py"), str(folder / "models")]
    return Peer(
        "MLServer",
        {"unary"},
        log_file,
        command,
        environment={"PYTHONPATH": str(scripts)},
        models=_names(cases),
        port=grpc_port,
    )


def empty_peer(folder: Path, log_file: Path, cases: list[Case], naiad: Target) -> Peer:
    """A `grpc.aio` server that answers small and large requests with fixed bytes: see `bench.empty`."""
    folder.mkdir()
    chosen = [case for case in cases if case.wire == "unary" and case.key in EMPTY_CASES]
    for case in chosen:
        (folder / f"{case.model}.request").write_bytes(_message(case))
    (port,) = _free_ports(1)
    command = [sys.executable, "-m", "bench.empty", naiad.address, str(port), str(folder)]
    return Peer(
        EMPTY,
        {"unary"},
        log_file,
        command,
        environment={"PYTHONPATH": str(ROOT)},
        models=_names(chosen),
        port=port,
    )


def _message(case: Case) -> bytes:
    """The case's first request, serialized."""
    message = service_pb2.ModelInferRequest(model_name=case.model)
    for name, array in case.requests()[0].items():
        message.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    return bytes(message.SerializeToString())


def _names(cases: list[Case]) -> list[str]:
    return sorted({case.model for case in cases})


def _signal_tree(pid: int, number: signal.Signals) -> None:
    for each in tree(pid):
        with suppress(ProcessLookupError):
            os.kill(each, number)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listened on just now; all are held until the last one is found."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def check_answer(address: str, case: Case, expected: Path) -> str:
    """What is wrong with a server's answer to the case's request; nothing if it is what bare gave."""
    inputs = []
    for name, array in case.requests()[0].items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    with triton.InferenceServerClient(address) as client, np.load(expected) as wanted:
        try:
            result = client.infer(case.model, inputs, client_timeout=_CALL_LIMIT_S)
        except InferenceServerException as error:
            return f"no answer: {error.message()}"[:200]
        for name, array in wanted.items():
            received = result.as_numpy(name)
            if received is None or received.size != array.size:
                return f"a wrong answer: output '{name}' has not {array.size} values"
            if not np.allclose(received.ravel(), array.ravel(), rtol=1e-3, atol=1e-3):
                return f"a wrong answer: output '{name}' differs"
    return ""


def executions(address: str, case: Case) -> tuple[int, int]:
    """(requests, executions) of the case's model that the server has counted, over all versions."""
    with triton.InferenceServerClient(address) as client:
        rows = client.get_inference_statistics(case.model, client_timeout=_CALL_LIMIT_S).model_stats
    return sum(row.inference_count for row in rows), sum(row.execution_count for row in rows)

"""Which calls of Triton's protocol are served: every RPC and every HTTP endpoint, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CallState(Enum):
    """What becomes of a call."""

    SERVED = "served"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class CallSupport:
    """One row: an RPC, or methods and path of an endpoint; `note` says what is worth knowing of it."""

    name: str
    note: str = ""
    state: CallState = CallState.SERVED


_SHM = "needs --allow-client-shm"
_CONTROL = "needs --model-control-mode=explicit"

RPCS: tuple[CallSupport, ...] = (
    CallSupport("ServerLive"),
    CallSupport("ServerReady", "ready means loaded and warm"),
    CallSupport("ModelReady", "an unknown model is not ready, which is no error"),
    CallSupport("ServerMetadata"),
    CallSupport("ModelMetadata"),
    CallSupport("ModelInfer"),
    CallSupport("ModelStreamInfer", "answers in the order of the requests"),
    CallSupport("ModelConfig", "the completed config, with what the model really runs on as naiad.runtime.…"),
    CallSupport("ModelStatistics"),
    CallSupport("RepositoryIndex"),
    CallSupport("RepositoryModelLoad", _CONTROL),
    CallSupport("RepositoryModelUnload", _CONTROL),
    CallSupport("SystemSharedMemoryStatus", _SHM),
    CallSupport("SystemSharedMemoryRegister", _SHM),
    CallSupport("SystemSharedMemoryUnregister", _SHM),
    CallSupport("CudaSharedMemoryStatus", _SHM),
    CallSupport("CudaSharedMemoryRegister", f"{_SHM} and a GPU"),
    CallSupport("CudaSharedMemoryUnregister", _SHM),
    CallSupport("TraceSetting"),
    CallSupport("LogSettings"),
)
"""Every RPC of `inference.GRPCInferenceService`."""

HTTP_ENDPOINTS: tuple[CallSupport, ...] = (
    CallSupport("GET /v2"),
    CallSupport("GET /v2/health/live"),
    CallSupport("GET /v2/health/ready"),
    CallSupport("GET /v2/models/M[/versions/V]/ready"),
    CallSupport("GET /v2/models/M[/versions/V]"),
    CallSupport("GET /v2/models/M[/versions/V]/config"),
    CallSupport("GET /v2/models/M[/versions/V]/stats"),
    CallSupport("GET /v2/models/stats"),
    CallSupport("POST /v2/models/M[/versions/V]/infer", "JSON and binary tensor data, gzip and deflate"),
    CallSupport(
        "POST /v2/models/M[/versions/V]/generate", "for language models; use infer", CallState.REFUSED
    ),
    CallSupport(
        "POST /v2/models/M[/versions/V]/generate_stream", "for language models; use infer", CallState.REFUSED
    ),
    CallSupport("POST /v2/repository/index"),
    CallSupport("POST /v2/repository/models/M/load", _CONTROL),
    CallSupport("POST /v2/repository/models/M/unload", _CONTROL),
    CallSupport("GET /v2/systemsharedmemory[/region/N]/status", _SHM),
    CallSupport("POST /v2/systemsharedmemory/region/N/register", _SHM),
    CallSupport("POST /v2/systemsharedmemory[/region/N]/unregister", _SHM),
    CallSupport("GET /v2/cudasharedmemory[/region/N]/status", _SHM),
    CallSupport("POST /v2/cudasharedmemory/region/N/register", f"{_SHM} and a GPU"),
    CallSupport("POST /v2/cudasharedmemory[/region/N]/unregister", _SHM),
    CallSupport("GET, POST /v2[/models/M]/trace/setting"),
    CallSupport("GET, POST /v2/logging"),
)
"""Every endpoint of Triton's HTTP/REST protocol; what is in brackets may be left out."""

"""tritonserver's flags that are no settings here: refused, accepted with a warning, or renamed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from naiad.config.settings.kinds import parse_boolean


class FlagState(Enum):
    """What becomes of a flag that is no setting here."""

    REFUSED = "refused"
    WITHOUT_EFFECT = "accepted, without effect"
    RENAMED = "deprecated"


@dataclass(frozen=True, slots=True)
class OtherFlag:
    """One row: a flag of tritonserver, with its dashes, and what becomes of it.

    `note` says why, and of a refused flag what to do instead. `default` is tritonserver's own: giving it
    changes nothing, so nothing is said. `boolean` flags may stand alone. A renamed flag is
    `entry.format(value)` of the flag `renamed`.
    """

    name: str
    state: FlagState
    note: str
    default: str | None = None
    boolean: bool = False
    renamed: str = ""
    entry: str = "{}"

    def is_default(self, value: str) -> bool:
        """Whether the value is tritonserver's own, so that it changes nothing."""
        if not self.boolean:
            return self.default is not None and value.strip().lower() == self.default
        try:
            return bool(parse_boolean(value)) is (self.default == "true")
        except ValueError:
            return False


def _refused(name: str, note: str, default: str | None = None, *, boolean: bool = False) -> OtherFlag:
    return OtherFlag(name, FlagState.REFUSED, note, default, boolean)


def _without_effect(name: str, note: str, default: str | None = None, *, boolean: bool = False) -> OtherFlag:
    return OtherFlag(name, FlagState.WITHOUT_EFFECT, note, default, boolean)


def _renamed(name: str, renamed: str, entry: str = "{}", default: str | None = None) -> OtherFlag:
    use = renamed if entry == "{}" else f"{renamed} {entry.format('VALUE')}"
    return OtherFlag(name, FlagState.RENAMED, f"the same as {use}", default, renamed=renamed, entry=entry)


_POOL = "sizes a pool of tritonserver's own; memory is taken as it is needed and kept warm"
_HANDLERS = "calls are handled on one event loop; --cpu-threads bounds the threads that run models"
_SAGEMAKER = "belongs to --allow-sagemaker, which is refused"
_VERTEX = "belongs to --allow-vertex-ai, which is refused"

OTHER_FLAGS: tuple[OtherFlag, ...] = (
    # Names of old for what is a setting here.
    _renamed("--model-store", "--model-repository"),
    _renamed("--trace-file", "--trace-config", "triton,file={}"),
    _renamed("--trace-level", "--trace-config", "level={}"),
    _renamed("--trace-rate", "--trace-config", "rate={}"),
    _renamed("--trace-count", "--trace-config", "count={}"),
    _renamed("--trace-log-frequency", "--trace-config", "triton,log-frequency={}"),
    _renamed("--response-cache-byte-size", "--cache-config", "local,size={}", "0"),
    # What a client would see, and that is not done.
    _refused(
        "--model-namespacing",
        "models are named across all repositories: give models of the same name different folder names",
        "false",
        boolean=True,
    ),
    _refused(
        "--repoagent-directory",
        "repository agents are code that may replace the files that are loaded: run such a step before "
        "the models are put into the repository",
        "/opt/tritonserver/repoagents",
    ),
    _refused(
        "--host-policy",
        "instances are not bound to cores or NUMA nodes one by one: bind the whole server with taskset or "
        "numactl, it counts the cores that it may use",
    ),
    _refused(
        "--model-load-gpu-limit",
        "a load is not refused by the GPU memory in use: set gpu_mem_limit in the model's parameters",
    ),
    _refused(
        "--allow-sagemaker",
        "SageMaker's endpoints are not served: put a proxy for /ping and /invocations in front of "
        "/v2/health/ready and the model's infer endpoint",
        "false",
        boolean=True,
    ),
    _refused(
        "--allow-vertex-ai",
        "Vertex AI's endpoints are not served: put a proxy for AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE in "
        "front of /v2/health/ready and the model's infer endpoint",
        "false",
        boolean=True,
    ),
    # How tritonserver itself is built; answers are the same without.
    _without_effect("--http-thread-count", _HANDLERS, "8"),
    _without_effect("--grpc-infer-thread-count", _HANDLERS, "2"),
    _without_effect("--grpc-infer-allocation-pool-size", _POOL, "8"),
    _without_effect("--grpc-max-response-pool-size", _POOL, "2147483647"),
    _without_effect(
        "--buffer-manager-thread-count", "batches are filled by the instance that runs them", "0"
    ),
    _without_effect("--pinned-memory-pool-byte-size", _POOL, "268435456"),
    _without_effect("--cuda-memory-pool-byte-size", _POOL),
    _without_effect("--cuda-virtual-address-size", "states grow in ordinary memory"),
    _without_effect(
        "--min-supported-compute-capability", "every GPU that the installed ONNX Runtime can use is used"
    ),
    _without_effect("--enable-peer-access", "tensors do not move between GPUs", "true", boolean=True),
    _without_effect(
        "--backend-directory",
        "the engine is the ONNX Runtime that is installed, no backend library is loaded",
        "/opt/tritonserver/backends",
    ),
    _without_effect("--cache-directory", "no cache library is loaded", "/opt/tritonserver/caches"),
    _without_effect("--sagemaker-port", _SAGEMAKER, "8080"),
    _without_effect("--sagemaker-safe-port-range", _SAGEMAKER),
    _without_effect("--sagemaker-thread-count", _SAGEMAKER, "8"),
    _without_effect("--vertex-ai-port", _VERTEX, "8080"),
    _without_effect("--vertex-ai-thread-count", _VERTEX, "8"),
    _without_effect("--vertex-ai-default-model", _VERTEX),
)
"""Every flag of tritonserver that is no field of `ServerConfig`."""

OTHER_FLAGS_BY_NAME = {row.name: row for row in OTHER_FLAGS}

"""The calls, each from its route and body to its reply; but for inference, see `infer.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError, UnavailableError, UnsupportedError
from naiad.services.http import messages
from naiad.services.http.infer import model_generate, model_infer
from naiad.services.http.json_text import NestingError
from naiad.services.http.reply import JSON, Reply, json_reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from naiad.services.http.call import Call

    Endpoint = Callable[[Call], Awaitable[Reply]]


async def server_live(call: Call) -> Reply:
    """200, or 400; 503 when the server ends."""
    return _probe(call, is_good=call.triton.server_live())


async def server_ready(call: Call) -> Reply:
    """200, or 400; 503 when the server ends."""
    return _probe(call, is_good=call.triton.server_ready())


def _probe(call: Call, *, is_good: bool) -> Reply:
    if call.is_draining:
        raise UnavailableError("Server exiting")
    return Reply(200 if is_good else 400)


async def model_ready(call: Call) -> Reply:
    """200, or 400 with the reason."""
    if not call.triton.model_ready(*call.route.names):
        raise InvalidArgumentError("Model version not ready")
    return Reply()


async def server_metadata(call: Call) -> Reply:
    """Name, version, extensions."""
    return json_reply(messages.to_json(call.triton.server_metadata()))


async def model_metadata(call: Call) -> Reply:
    """Inputs, outputs, versions."""
    name, version = call.route.names
    metadata = call.triton.model_metadata(pb.ModelMetadataRequest(name=name, version=version))
    return json_reply(messages.to_json(metadata))


async def model_config(call: Call) -> Reply:
    """The config in force."""
    name, version = call.route.names
    config = call.triton.model_config(pb.ModelConfigRequest(name=name, version=version)).config
    return json_reply(messages.to_json(config))


async def model_stats(call: Call) -> Reply:
    """Statistics of one version, one model or all."""
    name, version = call.route.names
    statistics = call.triton.model_statistics(pb.ModelStatisticsRequest(name=name, version=version))
    return json_reply(messages.to_json(statistics))


async def repository_index(call: Call) -> Reply:
    """An array of every known version."""
    (repository,) = call.route.names
    _check_repository(repository)
    try:
        body = await call.json(allow_empty=True)
    except NestingError as error:
        # The one thing that the body may say is `ready`, and that is nothing which nests.
        raise InvalidArgumentError(f"Invalid value for 'ready': expected a boolean ({error})") from None
    index = await call.triton.repository_index(messages.index_request(repository, body))
    return json_reply([messages.to_json(model, defaults=False) for model in index.models])


async def repository_load(call: Call) -> Reply:
    """Load a model; nothing in the answer."""
    repository, model = call.route.names
    _check_repository(repository)
    await call.triton.load(messages.load_request(repository, model, await call.json(allow_empty=True)))
    return Reply(headers=[JSON])


async def repository_unload(call: Call) -> Reply:
    """Unload a model; nothing in the answer."""
    repository, model = call.route.names
    _check_repository(repository)
    await call.triton.unload(messages.unload_request(repository, model, await call.json(allow_empty=True)))
    return Reply(headers=[JSON])


def _check_repository(repository: str) -> None:
    if repository:
        raise UnsupportedError("'repository_name' specification is not supported")


async def system_memory_status(call: Call) -> Reply:
    """An array of the regions of system shared memory."""
    request = pb.SystemSharedMemoryStatusRequest(name=call.route.names[0])
    regions = call.triton.system_shared_memory_status(request).regions
    return json_reply([messages.to_json(regions[name]) for name in sorted(regions)])


async def system_memory_register(call: Call) -> Reply:
    """Map a region; nothing in the answer."""
    request = messages.system_register_request(call.route.names[0], await call.json(allow_empty=False))
    call.triton.system_shared_memory_register(request)
    return Reply(headers=[JSON])


async def system_memory_unregister(call: Call) -> Reply:
    """Unmap a region, or all; nothing in the answer."""
    request = pb.SystemSharedMemoryUnregisterRequest(name=call.route.names[0])
    call.triton.system_shared_memory_unregister(request)
    return Reply(headers=[JSON])


async def cuda_memory_status(call: Call) -> Reply:
    """An array of the regions of GPU memory."""
    request = pb.CudaSharedMemoryStatusRequest(name=call.route.names[0])
    regions = call.triton.cuda_shared_memory_status(request).regions
    return json_reply([messages.to_json(regions[name]) for name in sorted(regions)])


async def cuda_memory_register(call: Call) -> Reply:
    """Open a region; nothing in the answer."""
    request = messages.cuda_register_request(call.route.names[0], await call.json(allow_empty=False))
    call.triton.cuda_shared_memory_register(request)
    return Reply(headers=[JSON])


async def cuda_memory_unregister(call: Call) -> Reply:
    """Close a region, or all; nothing in the answer."""
    request = pb.CudaSharedMemoryUnregisterRequest(name=call.route.names[0])
    call.triton.cuda_shared_memory_unregister(request)
    return Reply(headers=[JSON])


async def trace(call: Call) -> Reply:
    """The trace settings, of one model or all; changed first by a POST."""
    body = await call.json(allow_empty=False) if call.method == "POST" else {}
    response = call.triton.trace_setting(messages.trace_request(call.route.names[0], body))
    return json_reply(messages.trace_json(response))


async def logging(call: Call) -> Reply:
    """The log settings; changed first by a POST."""
    body = await call.json(allow_empty=False) if call.method == "POST" else {}
    return json_reply(messages.log_json(call.triton.log_settings(messages.log_request(body))))


ENDPOINTS: Mapping[str, Endpoint] = {
    "server_live": server_live,
    "server_ready": server_ready,
    "server_metadata": server_metadata,
    "model_ready": model_ready,
    "model_metadata": model_metadata,
    "model_config": model_config,
    "model_stats": model_stats,
    "model_infer": model_infer,
    "model_generate": model_generate,
    "model_generate_stream": model_generate,
    "repository_index": repository_index,
    "repository_load": repository_load,
    "repository_unload": repository_unload,
    "system_memory_status": system_memory_status,
    "system_memory_register": system_memory_register,
    "system_memory_unregister": system_memory_unregister,
    "cuda_memory_status": cuda_memory_status,
    "cuda_memory_register": cuda_memory_register,
    "cuda_memory_unregister": cuda_memory_unregister,
    "trace": trace,
    "logging": logging,
}
"""The endpoints by the names that `routes.py` gives them."""

"""Coverage-guided fuzzing of the way from a message to the tensors of a request."""

from __future__ import annotations

import math
import sys
from contextlib import ExitStack

import atheris
from fuzz.models import MODELS
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

with atheris.instrument_imports(include=["naiad"]):
    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.datatypes import DataType
    from naiad.core.errors import NaiadError
    from naiad.services.contents import bind_contents
    from naiad.services.conversion import check_declared, parse_version, to_domain
    from naiad.services.parameters import read_parameters
    from naiad.services.shared_memory.regions import Regions

CONFIGS = [
    ModelConfig(
        name=model.name,
        max_batch_size=8 if model.is_batched else 0,
        inputs=tuple(TensorConfig(name, DataType(datatype), dims) for name, datatype, dims in model.inputs),
        outputs=tuple(TensorConfig(name, DataType.FP32, (1,)) for name in model.outputs),
    )
    for model in MODELS
]
REGIONS = Regions(allow_client_shm=True)


def one_input(data: bytes) -> None:
    """The first byte chooses the model, and whether the rest is a message or one tensor's data."""
    if not data:
        return
    config = CONFIGS[data[0] % len(CONFIGS)]
    message = _message(config, data[1:]) if data[0] & 0x80 else _parsed(data[1:])
    if message is None:
        return
    try:
        parse_version(message.model_version)
        parameters = read_parameters(message.parameters)
        outputs = check_declared(message, config)
        with ExitStack() as leases:
            contents = bind_contents(message, None, REGIONS, leases)
            request = to_domain(message, config, parameters, outputs, contents, deadline_ns=None)
    except NaiadError:
        return
    for tensor in message.inputs:
        array = request.inputs[tensor.name]
        assert array.shape == tuple(tensor.shape)
        assert array.size == math.prod(tensor.shape)


def _parsed(data: bytes) -> pb.ModelInferRequest | None:
    try:
        return pb.ModelInferRequest.FromString(data)
    except DecodeError:
        return None


def _message(config: ModelConfig, data: bytes) -> pb.ModelInferRequest:
    """A sound declaration with shapes of the first bytes, and the rest as every input's data."""
    message = pb.ModelInferRequest(model_name=config.name)
    given = atheris.FuzzedDataProvider(data)
    for spec in config.inputs:
        batch = [given.ConsumeIntInRange(0, 9)] if config.max_batch_size else []
        dims = [given.ConsumeIntInRange(-1, 20) if dim == -1 else dim for dim in spec.dims]
        message.inputs.add(name=spec.name, datatype=spec.datatype.value, shape=batch + dims)
    raw = given.ConsumeBytes(given.remaining_bytes())
    message.raw_input_contents.extend([raw] * len(config.inputs))
    return message


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
